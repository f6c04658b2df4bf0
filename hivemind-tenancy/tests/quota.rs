//! What is charged never exceeds the limit, and is given back exactly once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::{World, admin, ctx};
use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::testkit::CountingStore;
use hivemind_core::{
    Clock, ErrorKind, Once, QuotaGate, ReservationId, Result, StateStore, StateStoreExt, block_on, transact,
};
use hivemind_tenancy::quota::RequestAttributes;
use hivemind_tenancy::{OverQuota, ResourceQuotas, TenantQuota, TenantSpec, TenantUpdate};
use proptest::prelude::*;

fn limits(cpu: u64, gpus: u64) -> ResourceQuotas {
    ResourceQuotas::default()
        .with_cpu_limit(MilliCpu::from_millis(cpu))
        .with_other("nvidia.com/gpu".parse().unwrap(), gpus)
}

fn amount(cpu: u64, gpus: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_millis(cpu)).with("nvidia.com/gpu".parse().unwrap(), gpus)
}

fn any() -> RequestAttributes {
    RequestAttributes::default()
}

fn id(number: u8) -> ReservationId {
    format!("r{number}").parse().unwrap()
}

#[test]
fn what_is_there_already_is_charged_whether_it_fits_or_not() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap()).with_quotas(limits(1000, 1)));
    let team = world.tenant(TenantSpec::new("team".parse().unwrap()).below(acme.tenant.clone()));
    let (ctx, above) = (ctx(&team.tenant, "r"), ctx(&acme.tenant, "r"));
    let settle = |number, cpu| {
        world.commit(|view, txn| TenantQuota.settle(view, txn, &ctx, &id(number), &amount(cpu, 0)))
    };
    let reserve = |number, cpu| {
        world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(number), &amount(cpu, 0)))
    };
    assert_eq!(settle(0, 1).unwrap_err().kind(), ErrorKind::NotFound);
    reserve(0, 600).unwrap();
    settle(0, 1500).unwrap();
    let used = |ctx| TenantQuota.usage(&world.view(), ctx).unwrap().used;
    assert_eq!((used(&ctx), used(&above)), (amount(1500, 0), amount(1500, 0)));
    let over = TenantQuota.over_quota(&world.view(), &above).unwrap();
    assert!(over.is_some_and(|over| over.in_full()[0].to_string().contains("short by 500m")));
    assert_eq!(reserve(1, 1).unwrap_err().kind(), ErrorKind::QuotaExceeded);
    settle(0, 900).unwrap();
    reserve(1, 100).unwrap();
    assert!(TenantQuota.drift(&world.view(), &above).unwrap().is_empty());
    world.commit(|view, txn| TenantQuota.release(view, txn, &ctx, &id(0))).unwrap();
    assert_eq!(used(&above), amount(100, 0));
}

#[test]
fn a_change_of_a_charge_reads_the_tenant_and_those_above_it_alone() {
    let costs = |others: u32| {
        let world = World::new();
        let acme = world.tenant(TenantSpec::new("acme".parse().unwrap()));
        let team = world.tenant(TenantSpec::new("team".parse().unwrap()).below(acme.tenant.clone()));
        let crowd = world.tenant(TenantSpec::new("crowd".parse().unwrap()));
        let (ctx, crowd) = (ctx(&team.tenant, "r"), common::ctx(&crowd.tenant, "r"));
        world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(0), &amount(1, 0))).unwrap();
        for batch in 0..others.div_ceil(100) {
            world
                .commit(|view, txn| {
                    (batch * 100..others.min(batch * 100 + 100)).try_for_each(|number| {
                        let id = format!("other{number}").parse().unwrap();
                        TenantQuota.reserve(view, txn, &crowd, &id, &amount(1, 0))
                    })
                })
                .unwrap();
        }
        let store = CountingStore::new(Arc::new(world.store.clone()));
        let commit = |decide: &(dyn Fn(&Snapshot, &mut Txn) -> Result<()> + Sync)| {
            let decided = block_on(store.decide(|view| {
                let mut txn = Txn::new();
                decide(view, &mut txn).map(|()| txn)
            }));
            block_on(store.commit(&decided.unwrap()?)).map(|_| store.take_read())
        };
        let settled = commit(&|view, txn| TenantQuota.settle(view, txn, &ctx, &id(0), &amount(2, 0)));
        let released = commit(&|view, txn| TenantQuota.release(view, txn, &ctx, &id(0)));
        let again = commit(&|view, txn| TenantQuota.release(view, txn, &ctx, &id(0)));
        assert_eq!(again.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(TenantQuota.usage(&world.view(), &ctx).unwrap().used, Resources::new());
        (settled.unwrap(), released.unwrap())
    };
    // The reservation, and of each of two tenants itself, its limits and its ledger.
    assert_eq!(costs(10), (7, 7));
    assert_eq!(costs(10_000), (7, 7));
}

#[test]
fn a_denial_lists_everything_that_is_short_and_changes_nothing() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap()).with_quotas(limits(1000, 1)));
    let ctx = ctx(&acme.tenant, "r");
    world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(0), &amount(600, 0))).unwrap();
    let before = block_on(world.store.revision()).unwrap();
    let error =
        world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(1), &amount(500, 3))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    let told: Vec<_> =
        error.detail::<OverQuota>().unwrap().in_full().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "cpu: limit 1, used 600m, reserved 0, asked 500m, short by 100m",
            "nvidia.com/gpu: limit 1, used 0, reserved 0, asked 3, short by 2",
        ]
    );
    assert_eq!(block_on(world.store.revision()).unwrap(), before);
    let view = world.view();
    let forecast = TenantQuota.what_if(&view, &Txn::new(), &ctx, &amount(500, 3), &any()).unwrap();
    assert_eq!(forecast.as_ref(), error.detail::<OverQuota>());
    assert_eq!(TenantQuota.what_if(&view, &Txn::new(), &ctx, &amount(400, 1), &any()).unwrap(), None);
}

#[test]
fn the_same_reservation_is_charged_once() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap()).with_quotas(limits(1000, 1)));
    let ctx = ctx(&acme.tenant, "r");
    for _ in 0..3 {
        world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(0), &amount(600, 0))).unwrap();
    }
    let other = world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(0), &amount(1, 0)));
    assert_eq!(other.unwrap_err().kind(), ErrorKind::AlreadyExists);
    world.commit(|view, txn| TenantQuota.release(view, txn, &ctx, &id(0))).unwrap();
    let again = world.commit(|view, txn| TenantQuota.release(view, txn, &ctx, &id(0)));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(TenantQuota.usage(&world.view(), &ctx).unwrap().used.is_zero());
}

#[test]
fn a_limit_lowered_meanwhile_makes_the_charge_conflict() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap()).with_quotas(limits(1000, 1)));
    let ctx = ctx(&acme.tenant, "r");
    let (view, mut txn) = (world.view(), Txn::new());
    TenantQuota.reserve(&view, &mut txn, &ctx, &id(0), &amount(600, 0)).unwrap();
    let lower = TenantUpdate::quotas(limits(100, 1));
    block_on(world.tenants.update(&admin("lower"), &acme.tenant.id, lower)).unwrap();
    assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_tenant_created_anew_owns_nothing_of_the_old_one() {
    let world = World::new();
    let old = world.tenant(TenantSpec::new("acme".parse().unwrap()));
    let ctx = ctx(&old.tenant, "r");
    world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(0), &amount(600, 0))).unwrap();
    let busy = block_on(world.tenants.delete(&admin("d1"), &old.tenant.id)).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    world.commit(|view, txn| TenantQuota.release(view, txn, &ctx, &id(0))).unwrap();
    block_on(world.tenants.delete(&admin("d2"), &old.tenant.id)).unwrap();
    let new =
        block_on(world.tenants.create(&admin("anew"), TenantSpec::new("acme".parse().unwrap()))).unwrap();
    assert_ne!(new.tenant, old.tenant);
    let stale = world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(1), &amount(1, 0)));
    assert_eq!(stale.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn replicas_that_decide_at_the_same_time_never_admit_too_much() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap()).with_quotas(limits(1000, 1)));
    let requests = (0..20u8).map(|number| {
        let (store, tenant, now) = (world.store.clone(), acme.tenant.clone(), world.clock.now());
        async move {
            let ctx = ctx(&tenant, &format!("r{number}"));
            let once = Once::new(&ctx, "reserve", now)?;
            let scope = [hivemind_tenancy::prefix()?];
            transact(&store, &once, &scope, |view, txn| {
                TenantQuota.reserve(view, txn, &ctx, &id(number), &amount(300, 0))
            })
            .await
        }
    });
    let outcomes = block_on(futures::future::join_all(requests));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    let usage = TenantQuota.usage(&world.view(), &ctx(&acme.tenant, "r")).unwrap();
    assert_eq!(usage.used, amount(900, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Reserve {
        tenant: u8,
        id: u8,
        cpu: u64,
        gpus: u64,
        lasts: Option<u64>,
    },
    Commit {
        tenant: u8,
        id: u8,
    },
    Release {
        tenant: u8,
        id: u8,
    },
    Expire {
        tenant: u8,
    },
    Wait {
        secs: u64,
    },
    /// Stage, and never commit.
    Drop {
        tenant: u8,
        id: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (tenant, id) = (0u8..2, 0u8..5);
    prop_oneof![
        4 => (tenant.clone(), id.clone(), 0u64..700, 0u64..2, prop::option::of(1u64..5))
            .prop_map(|(tenant, id, cpu, gpus, lasts)| Step::Reserve { tenant, id, cpu, gpus, lasts }),
        2 => (tenant.clone(), id.clone()).prop_map(|(tenant, id)| Step::Commit { tenant, id }),
        2 => (tenant.clone(), id.clone()).prop_map(|(tenant, id)| Step::Release { tenant, id }),
        1 => tenant.clone().prop_map(|tenant| Step::Expire { tenant }),
        1 => (0u64..3).prop_map(|secs| Step::Wait { secs }),
        1 => (tenant, id).prop_map(|(tenant, id)| Step::Drop { tenant, id }),
    ]
}

/// The reference: every live reservation, re-added at each question.
#[derive(Default)]
struct Model(BTreeMap<u8, (u64, u64, Option<u64>)>);

impl Model {
    fn total(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(cpu, gpus), one| (cpu + one.0, gpus + one.1))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn usage_is_the_sum_of_the_live_reservations_and_within_the_limit(steps in prop::collection::vec(step(), 0..40)) {
        let world = World::new();
        let contexts: Vec<_> = ["acme", "globex"].map(|name| {
            let spec = TenantSpec::new(name.parse().unwrap()).with_quotas(limits(1000, 2));
            ctx(&world.tenant(spec).tenant, "r")
        }).into();
        let mut models = [Model::default(), Model::default()];
        for step in steps {
            let now = world.clock.now();
            match step {
                Step::Reserve { tenant, id: number, cpu, gpus, lasts } => {
                    let (ctx, model) = (&contexts[usize::from(tenant)], &mut models[usize::from(tenant)]);
                    let deadline = lasts.map(|secs| now.after(Duration::from_secs(secs)));
                    let done = world.commit(|view, txn| match deadline {
                        Some(at) => TenantQuota.stage_reserve(view, txn, ctx, &id(number), &amount(cpu, gpus), at),
                        None => TenantQuota.reserve(view, txn, ctx, &id(number), &amount(cpu, gpus)),
                    });
                    let (total_cpu, total_gpus) = model.total();
                    let expected = match model.0.get(&number) {
                        // What may expire is not charged for good.
                        Some(held) if (held.0, held.1) == (cpu, gpus) && (held.2.is_none() || lasts.is_some()) => Ok(()),
                        Some(_) => Err(ErrorKind::AlreadyExists),
                        // What is not asked for cannot be short.
                        None if (cpu > 0 && total_cpu + cpu > 1000) || (gpus > 0 && total_gpus + gpus > 2) => {
                            Err(ErrorKind::QuotaExceeded)
                        }
                        None => {
                            model.0.insert(number, (cpu, gpus, deadline.map(|at| at.as_secs())));
                            Ok(())
                        }
                    };
                    prop_assert_eq!(done.map_err(|e| e.kind()), expected);
                }
                Step::Commit { tenant, id: number } => {
                    let (ctx, model) = (&contexts[usize::from(tenant)], &mut models[usize::from(tenant)]);
                    let ctx = ctx.clone().with_time(now);
                    let done = world.commit(|view, txn| TenantQuota.stage_commit(view, txn, &ctx, &id(number)));
                    let held = model.0.get_mut(&number);
                    let held = held.filter(|held| held.2.is_none_or(|deadline| deadline > now.as_secs()));
                    prop_assert_eq!(done.is_ok(), held.is_some());
                    if let Some(held) = held {
                        held.2 = None;
                    }
                }
                Step::Release { tenant, id: number } => {
                    let (ctx, model) = (&contexts[usize::from(tenant)], &mut models[usize::from(tenant)]);
                    let done = world.commit(|view, txn| TenantQuota.release(view, txn, ctx, &id(number)));
                    prop_assert_eq!(done.map_err(|e| e.kind()).err(), match model.0.remove(&number) {
                        Some(_) => None,
                        None => Some(ErrorKind::NotFound),
                    });
                }
                Step::Expire { tenant } => {
                    let (ctx, model) = (&contexts[usize::from(tenant)], &mut models[usize::from(tenant)]);
                    let done = world.commit(|view, txn| TenantQuota.stage_expire(view, txn, ctx, now)).unwrap();
                    let before = model.0.len();
                    model.0.retain(|_, held| held.2.is_none_or(|deadline| deadline > now.as_secs()));
                    prop_assert_eq!(done, before - model.0.len());
                }
                Step::Wait { secs } => world.clock.advance(Duration::from_secs(secs)),
                Step::Drop { tenant, id: number } => {
                    let (view, mut txn) = (world.view(), Txn::new());
                    let ctx = &contexts[usize::from(tenant)];
                    let _ = TenantQuota.reserve(&view, &mut txn, ctx, &id(number), &amount(1, 1));
                }
            }
            let view = world.view();
            for (ctx, model) in contexts.iter().zip(&models) {
                let drift = TenantQuota.recount(&view, ctx).unwrap();
                prop_assert!(drift.is_none(), "{:?}", drift);
                let all = drift.ledger.used.checked_add(&drift.ledger.reserved).unwrap();
                let (cpu, gpus) = model.total();
                prop_assert_eq!(all, amount(cpu, gpus));
                prop_assert!(cpu <= 1000 && gpus <= 2);
            }
        }
    }
}

/// Whoever asks for quota and for a place of a tenant that admits no work is told the same.
#[test]
fn quota_and_placement_refuse_a_suspended_tenant_alike() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap()));
    let node = hivemind_tenancy::Node::new("n1".parse().unwrap(), amount(9_000, 9));
    block_on(world.tenants.add_node(&admin("n1"), node)).unwrap();
    block_on(world.tenants.suspend(&admin("s"), &acme.tenant.id, None)).unwrap();
    let ctx = ctx(&acme.tenant, "r");
    let charged = world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(0), &amount(1, 0)));
    let work = hivemind_tenancy::placement::WorkloadRequest::new("web".parse().unwrap(), amount(1, 0));
    let work = [(work, "n1".parse().unwrap())];
    let placed = world.commit(|view, txn| world.tenants.stage_assign(view, txn, &ctx, &work).map(|_| ()));
    for refused in [charged, placed] {
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.kind(), refused.retry()),
            (ErrorKind::Conflict, hivemind_core::Retry::AfterChange)
        );
    }
}
