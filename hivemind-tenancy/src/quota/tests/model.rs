//! Whatever is done in whatever order, and lost halfway: the ledgers are what a naive model says, and never over.

use std::collections::BTreeMap;

use hivemind_core::ErrorKind;
use hivemind_core::resources::ResourceName;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::quota::{QuotaRequest, QuotaScope, RequestAttributes, ScopedQuota, TenantQuota, WhenOver};

const TENANTS: usize = 5;
const NO_LIMIT: i128 = i128::MAX;

#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    max: Option<u64>,
    guaranteed: u64,
    borrowing: Option<u64>,
    lending: Option<u64>,
    jobs: Option<u64>,
}

#[derive(Debug, Clone)]
enum Act {
    Reserve { id: u8, cpu: u64, lasts: Option<u64> },
    Resize { id: u8, cpu: u64 },
    Commit { id: u8 },
    Abort { id: u8 },
    Release { id: u8 },
    Expire,
    Repair,
    Move { below: Option<Index> },
    Limit { rules: Rules, flag: bool },
}

#[derive(Debug, Clone)]
struct Step {
    tenant: Index,
    act: Act,
    /// Seconds that pass first.
    wait: u64,
    /// Whether whoever decides crashes before the commit.
    crash: bool,
}

/// The reference: every live reservation, added up anew at each question.
#[derive(Debug, Clone, Default)]
struct Model {
    parents: [Option<usize>; TENANTS],
    rules: [Rules; TENANTS],
    live: BTreeMap<(usize, u8), (u64, Option<u64>)>,
}

type Answer = std::result::Result<(), ErrorKind>;

impl Model {
    fn chain(&self, at: usize) -> Vec<usize> {
        std::iter::successors(Some(at), |at| self.parents[*at]).collect()
    }

    /// Usage, load, and usage by jobs, at and below a tenant.
    fn taken(&self, at: usize) -> [i128; 3] {
        let own = self.live.iter().filter(|((tenant, _), _)| *tenant == at);
        let mut sum = [0; 3];
        for ((_, id), (cpu, _)) in own {
            sum[0] += i128::from(*cpu);
            sum[1] += i128::from(*cpu);
            sum[2] += if id % 2 == 0 { i128::from(*cpu) } else { 0 };
        }
        for child in (0..TENANTS).filter(|child| self.parents[*child] == Some(at)) {
            let below = self.taken(child);
            let rules = self.rules[child];
            let held = rules.guaranteed - rules.lending.unwrap_or(rules.guaranteed);
            sum[0] += below[0];
            sum[1] += below[1].max(i128::from(held));
            sum[2] += below[2];
        }
        sum
    }

    fn limits(&self, at: usize) -> [i128; 3] {
        let rules = self.rules[at];
        let limit = |limit: Option<u64>| limit.map_or(NO_LIMIT, i128::from);
        let own = match (self.parents[at], rules.borrowing) {
            (None, _) => NO_LIMIT,
            (Some(_), None) => limit(rules.max),
            (Some(_), Some(more)) => limit(rules.max).min(i128::from(rules.guaranteed + more)),
        };
        [own, limit(rules.max), limit(rules.jobs)]
    }

    fn within(&self, at: usize) -> bool {
        self.taken(at).iter().zip(self.limits(at)).all(|(taken, limit)| *taken <= limit)
    }

    /// Whether nothing at or above `at` rises above a limit in `next`.
    fn fits(&self, next: &Self, at: &[usize]) -> bool {
        at.iter().all(|at| {
            let (before, after) = (self.taken(*at), next.taken(*at));
            let mut all = before.iter().zip(after).zip(next.limits(*at));
            all.all(|((before, after), limit)| after <= limit || after <= *before)
        })
    }

    fn charge(&mut self, at: usize, id: u8, cpu: u64, deadline: Option<u64>) -> Answer {
        let mut next = self.clone();
        next.live.insert((at, id), (cpu, deadline));
        if !self.fits(&next, &self.chain(at)) {
            return Err(ErrorKind::QuotaExceeded);
        }
        *self = next;
        Ok(())
    }

    fn act(&mut self, at: usize, act: &Act, now: u64) -> Answer {
        match act {
            Act::Reserve { id, cpu, lasts } => match self.live.get(&(at, *id)) {
                Some((_, Some(deadline))) if *deadline <= now => {
                    let mut swept = self.clone();
                    swept.live.remove(&(at, *id));
                    swept.act(at, act, now)?;
                    *self = swept;
                    Ok(())
                }
                Some((held, deadline)) if held == cpu && (deadline.is_none() || lasts.is_some()) => Ok(()),
                Some(_) => Err(ErrorKind::AlreadyExists),
                None => self.charge(at, *id, *cpu, lasts.map(|lasts| now + lasts)),
            },
            Act::Resize { id, cpu } => match self.live.get(&(at, *id)).copied() {
                Some((_, deadline)) => self.charge(at, *id, *cpu, deadline),
                None => Err(ErrorKind::NotFound),
            },
            Act::Commit { id } => match self.live.get_mut(&(at, *id)) {
                Some((_, deadline)) if deadline.is_none_or(|deadline| deadline > now) => {
                    *deadline = None;
                    Ok(())
                }
                _ => Err(ErrorKind::NotFound),
            },
            Act::Abort { id } => match self.live.get(&(at, *id)) {
                Some((_, None)) => Err(ErrorKind::Conflict),
                _ => {
                    self.live.remove(&(at, *id));
                    Ok(())
                }
            },
            Act::Release { id } => {
                self.live.remove(&(at, *id));
                Ok(())
            }
            Act::Expire => {
                self.live.retain(|(tenant, _), (_, deadline)| {
                    *tenant != at || deadline.is_none_or(|deadline| deadline > now)
                });
                Ok(())
            }
            Act::Repair => Ok(()),
            Act::Move { below } => self.graft(at, below.as_ref().map(|below| below.index(TENANTS))),
            Act::Limit { rules, flag } => self.limit(at, *rules, *flag),
        }
    }

    fn graft(&mut self, at: usize, below: Option<usize>) -> Answer {
        if below.is_some_and(|below| self.chain(below).contains(&at)) {
            return Err(ErrorKind::Invalid);
        }
        let mut next = self.clone();
        next.parents[at] = below;
        let mut fits = self.fits(&next, &next.chain(at));
        if self.parents[at].is_none() && below.is_some() {
            fits &= next.within(at);
        }
        if !fits {
            return Err(ErrorKind::QuotaExceeded);
        }
        *self = next;
        Ok(())
    }

    fn limit(&mut self, at: usize, rules: Rules, flag: bool) -> Answer {
        let mut next = self.clone();
        next.rules[at] = rules;
        if !self.fits(&next, &self.chain(at)[1..]) || (!flag && !next.within(at)) {
            return Err(ErrorKind::QuotaExceeded);
        }
        *self = next;
        Ok(())
    }
}

fn spec(rules: Rules) -> QuotaSpec {
    let mut rule = QuotaRule::default().with_guaranteed(rules.guaranteed);
    (rule.max, rule.borrowing_limit, rule.lending_limit) = (rules.max, rules.borrowing, rules.lending);
    let spec = cpu(rule);
    match rules.jobs {
        Some(jobs) => {
            let scope = QuotaScope::everything().with_kind("job");
            spec.with_scoped("jobs", ScopedQuota::new(scope).with_limit(ResourceName::Cpu, jobs))
        }
        None => spec,
    }
}

/// The same by the real decisions.
fn stage(view: &Snapshot, txn: &mut Txn, all: &[TenantRef], ctx: &TenantContext, act: &Act) -> Result<()> {
    let quota = TenantQuota;
    match act {
        Act::Reserve { id: number, cpu, lasts } => {
            let kind = if number % 2 == 0 { "job" } else { "service" };
            let mut request =
                QuotaRequest::new(id(number), amount(*cpu, 0)).with_attributes(RequestAttributes::new(kind));
            request.deadline = lasts.map(|lasts| at(ctx.at().unwrap().as_secs() + lasts));
            quota.stage_request(view, txn, ctx, &request)
        }
        Act::Resize { id: number, cpu } => quota.stage_resize(view, txn, ctx, &id(number), &amount(*cpu, 0)),
        Act::Commit { id: number } => quota.stage_commit(view, txn, ctx, &id(number)),
        Act::Abort { id: number } => quota.stage_abort(view, txn, ctx, &id(number)).map(|_| ()),
        Act::Release { id: number } => quota.stage_release(view, txn, ctx, &id(number)).map(|_| ()),
        Act::Expire => quota.stage_expire(view, txn, ctx, ctx.at().unwrap()).map(|_| ()),
        Act::Repair => quota.stage_repair(view, txn, ctx).map(|drift| assert_eq!(drift, None)),
        Act::Move { below } => {
            let below = below.as_ref().map(|below| &all[below.index(TENANTS)]);
            let old = tenants()?.require(view, txn, &key(&ctx.tenant().id)?)?;
            crate::quota::stage_reparent(view, txn, ctx, &old, below)?;
            tenants()?.update(txn, &old, &Tenant { parent: below.cloned(), ..(*old.value).clone() })
        }
        Act::Limit { rules, flag } => {
            let when = if *flag { WhenOver::Flag } else { WhenOver::Refuse };
            quota.stage_set_quota(view, txn, ctx, &spec(*rules), when).map(|_| ())
        }
    }
}

fn rules() -> impl Strategy<Value = Rules> {
    let some = |most| prop::option::of(0u64..most);
    (some(30u64), 0u64..8, some(10), some(8), prop::option::weighted(0.3, 0u64..15)).prop_map(
        |(max, guaranteed, borrowing, lending, jobs)| Rules {
            max: max.map(|max| max.max(guaranteed)),
            guaranteed,
            borrowing,
            lending: lending.map(|lending| lending.min(guaranteed)),
            jobs,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 0u8..4;
    let act = prop_oneof![
        8 => (id(), 0u64..12, prop::option::of(1u64..6)).prop_map(|(id, cpu, lasts)| Act::Reserve { id, cpu, lasts }),
        2 => (id(), 0u64..16).prop_map(|(id, cpu)| Act::Resize { id, cpu }),
        2 => id().prop_map(|id| Act::Commit { id }),
        1 => id().prop_map(|id| Act::Abort { id }),
        2 => id().prop_map(|id| Act::Release { id }),
        1 => Just(Act::Expire),
        1 => Just(Act::Repair),
        3 => prop::option::weighted(0.8, any::<Index>()).prop_map(|below| Act::Move { below }),
        3 => (rules(), prop::bool::weighted(0.3)).prop_map(|(rules, flag)| Act::Limit { rules, flag }),
    ];
    (any::<Index>(), act, 0u64..2, prop::bool::weighted(0.1)).prop_map(|(tenant, act, wait, crash)| Step {
        tenant,
        act,
        wait,
        crash,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_order_of_everything_is_as_the_model_says(steps in prop::collection::vec(step(), 0..60)) {
        let world = World::default();
        let all: Vec<_> = (0..TENANTS).map(|n| world.tenant(&format!("t{n}"), None)).collect();
        let (mut model, mut now, mut flagged) = (Model::default(), 0, false);
        for Step { tenant, act, wait, crash } in steps {
            now += wait;
            let tenant = tenant.index(TENANTS);
            let ctx = world.ctx(&all[tenant]).with_time(at(now));
            let (view, mut txn) = (world.view(), Txn::new());
            let done = stage(&view, &mut txn, &all, &ctx, &act).map_err(|e| e.kind());
            let mut next = model.clone();
            prop_assert_eq!(done, next.act(tenant, &act, now), "{:?} {:?} {:?}", tenant, act, model);
            if crash {
                continue;
            }
            flagged |= matches!(act, Act::Limit { flag: true, .. });
            model = next;
            if done.is_ok() {
                block_on(world.store.commit(&txn)).unwrap();
            }
            let view = world.view();
            for (number, tenant) in all.iter().enumerate() {
                let ctx = world.ctx(tenant);
                let drift = TenantQuota.recount(&view, &ctx).unwrap();
                prop_assert!(drift.is_none(), "{:?}", drift);
                let [usage, load, jobs] = model.taken(number);
                let taken = drift.ledger.taken(&ResourceName::Cpu);
                prop_assert_eq!((taken.usage, taken.load), (usage, load));
                if model.rules[number].jobs.is_some() {
                    let counted = drift.ledger.scoped.get("jobs").cloned().unwrap_or_default();
                    let counted = counted.used.cpu().as_millis() + counted.reserved.cpu().as_millis();
                    prop_assert_eq!(i128::from(counted), jobs);
                }
                // Only who was told that a limit is below what is taken may be over it.
                prop_assert!(flagged || model.within(number));
                prop_assert_eq!(TenantQuota.over_quota(&view, &ctx).unwrap().is_none(), model.within(number));
            }
        }
    }
}
