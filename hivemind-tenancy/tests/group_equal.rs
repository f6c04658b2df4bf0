//! A group commit tells and leaves what the staged operations do one by one, with every kind of limit there is.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hivemind_core::resources::{MilliCpu, ResourceName, Resources};
use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim};
use hivemind_core::{
    Error, ErrorKind, MemoryStore, Principal, ReservationId, Result, StateStore, StateStoreExt,
    TenantContext, TenantRef, Timestamp, block_on,
};
use hivemind_tenancy::quota::{
    Budget, GroupCommit, PriorityRange, QuotaRule, QuotaScope, QuotaSpec, RateLimit, RequestAttributes,
    Returned, ScopedQuota, SoftLimit, TemporaryLimit, TemporaryLimits, WhenOver,
};
use hivemind_tenancy::{OverQuota, QuotaRequest, ResourceQuotas, TenantManager, TenantQuota, TenantSpec};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// The limits of one tenant; amounts are thousandths of a core, times are seconds.
#[derive(Debug, Clone)]
struct Limits {
    max: Option<u64>,
    guaranteed: Option<u64>,
    scoped: Option<u64>,
    required: bool,
    soft: Option<(u64, u64)>,
    budget: Option<u64>,
    until: Option<(u64, u64)>,
}

impl Limits {
    /// Whether what is decided together could be another thing than one by one.
    fn is_timed(&self) -> bool {
        self.soft.is_some()
            || self.budget.is_some()
            || self.until.is_some()
            || (self.required && self.scoped.is_some())
    }

    fn spec(&self) -> QuotaSpec {
        let cpu = ResourceName::Cpu;
        let mut rule = QuotaRule::default();
        rule.max = self.max;
        rule.guaranteed = self.guaranteed.unwrap_or(0).min(self.max.unwrap_or(u64::MAX));
        let mut spec = QuotaSpec::new().with_rule(cpu.clone(), rule);
        if let Some(limit) = self.scoped {
            let urgent = QuotaScope::everything().with_priority(PriorityRange::at_least(1));
            spec = spec.with_scoped("urgent", ScopedQuota::new(urgent).with_limit(cpu.clone(), limit));
        }
        if self.required {
            spec = spec.with_required(cpu.clone());
        }
        if let Some((limit, grace)) = self.soft {
            spec = spec.with_soft_limit(cpu.clone(), SoftLimit::new(limit, Duration::from_secs(grace)));
        }
        if let Some(unit_seconds) = self.budget {
            let budget = Budget::new(unit_seconds, Duration::from_secs(10), Timestamp::EPOCH).unwrap();
            spec = spec.with_budget(cpu.clone(), budget);
        }
        if let Some((until, limit)) = self.until {
            let limit = TemporaryLimit::until(Timestamp::from_secs(until), limit);
            spec = spec.with_temporary(TemporaryLimits::new().with(cpu, limit));
        }
        spec.with_rate("creates", RateLimit::new(5, Duration::from_secs(10)).unwrap())
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    let some = |range: std::ops::Range<u64>| option::of(range);
    let timed = prop_oneof![
        3 => Just((None, None, None)),
        1 => (option::of((0..20u64, 0..10u64)), option::of(1..60u64), option::of((0..20u64, 0..30u64))),
    ];
    (some(5..40), option::weighted(0.3, 0..10u64), some(0..15), proptest::bool::weighted(0.2), timed)
        .prop_map(|(max, guaranteed, scoped, required, (soft, budget, until))| Limits {
            max,
            guaranteed,
            scoped,
            required,
            soft,
            budget,
            until,
        })
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Release,
    Commit,
    Reserve { amount: u64, priority: i32, hold: Option<u64> },
}

/// What one caller asks for: of one of the tenants, under one of few ids, so many seconds into the flight.
#[derive(Debug, Clone)]
struct Op {
    tenant: usize,
    id: u8,
    after: u64,
    what: What,
}

/// What callers ask for at once.
#[derive(Debug, Clone)]
struct Flight {
    /// Seconds since the flight before.
    pause: u64,
    timeless: bool,
    group: usize,
    expire: bool,
    rate: bool,
    ops: Vec<Op>,
}

fn op() -> impl Strategy<Value = Op> {
    let reserve = (0..12u64, 0..3i32, option::weighted(0.5, 0..12u64));
    let what = prop_oneof![
        1 => Just(What::Release),
        1 => Just(What::Commit),
        4 => reserve.prop_map(|(amount, priority, hold)| What::Reserve { amount, priority, hold }),
    ];
    (0..3usize, 0..24u8, 0..3u64, what).prop_map(|(tenant, id, after, what)| Op { tenant, id, after, what })
}

fn flight(most: usize) -> impl Strategy<Value = Flight> {
    let flags = (proptest::bool::weighted(0.1), 0..2usize, proptest::bool::weighted(0.2), any::<bool>());
    (0..6u64, flags, vec(op(), 1..=most)).prop_map(|(pause, (timeless, group, expire, rate), ops)| Flight {
        pause,
        timeless,
        group,
        expire,
        rate,
        ops,
    })
}

/// A root and two tenants below it, on a disk of their own.
fn world(limits: &[Limits]) -> (Arc<MemoryStore>, Vec<TenantRef>) {
    let (sim, disk) = (Sim::new(1), Arc::new(MemoryStore::new()));
    let tenants = TenantManager::new(disk.clone(), sim.clock(), sim.ids());
    let operator = |id: &str| {
        let user = Principal::User("root".parse().unwrap());
        TenantContext::new(TenantRef::system(), user, id.parse().unwrap())
    };
    let mut all: Vec<TenantRef> = Vec::new();
    for (name, limits) in ["root", "red", "blue"].into_iter().zip(limits) {
        let mut spec = TenantSpec::new(name.parse().unwrap()).with_quotas(ResourceQuotas::default());
        spec.parent = all.first().cloned();
        let made = block_on(tenants.create(&operator(name), spec)).unwrap().tenant.clone();
        let set = format!("set-{name}");
        block_on(tenants.set_quota(&operator(&set), &made.id, limits.spec(), WhenOver::Flag))
            // What its parent cannot hold back it does not get, in either world.
            .or_else(|e| if e.kind() == ErrorKind::QuotaExceeded { Ok(Default::default()) } else { Err(e) })
            .unwrap();
        all.push(made);
    }
    (disk, all)
}

fn ctx(tenant: &TenantRef, at: Option<Timestamp>) -> TenantContext {
    let ctx =
        TenantContext::new(tenant.clone(), Principal::User("ada".parse().unwrap()), "r".parse().unwrap());
    at.map_or(ctx.clone(), |at| ctx.with_time(at))
}

fn id(op: &Op) -> ReservationId {
    format!("r{}", op.id).parse().unwrap()
}

fn request(op: &Op, start: Timestamp) -> QuotaRequest {
    let What::Reserve { amount, priority, hold } = op.what else { panic!("not a reservation") };
    let cpu = Resources::new().with_cpu(MilliCpu::from_millis(amount));
    let request =
        QuotaRequest::new(id(op), cpu).with_attributes(RequestAttributes::new("pod").with_priority(priority));
    match hold {
        Some(hold) => request.held_until(start.after(Duration::from_secs(hold))),
        None => request,
    }
}

/// What somebody is told, with all that is short.
fn told(answer: Result<Option<Returned>>) -> String {
    match answer {
        Ok(returned) => format!("{returned:?}"),
        Err(e) => format!("{:?} {e} {:?}", e.kind(), e.detail::<OverQuota>()),
    }
}

/// One staged operation in a transaction of its own.
fn alone<T>(disk: &MemoryStore, decide: impl Fn(&Snapshot, &mut Txn) -> Result<T>) -> Result<T> {
    let view = block_on(disk.snapshot(&[Prefix::ROOT]))?;
    let mut txn = Txn::new();
    let value = decide(&view, &mut txn)?;
    block_on(disk.commit(&txn))?;
    Ok(value)
}

fn one_by_one(
    disk: &MemoryStore,
    tenant: &TenantRef,
    op: &Op,
    at: Option<Timestamp>,
    start: Timestamp,
) -> String {
    let (ctx, id) = (ctx(tenant, at), id(op));
    let quota = TenantQuota;
    told(alone(disk, |view, txn| match &op.what {
        What::Release => quota.stage_release(view, txn, &ctx, &id).map(Some),
        What::Commit => quota.stage_commit(view, txn, &ctx, &id).map(|()| None),
        What::Reserve { .. } => quota.stage_request(view, txn, &ctx, &request(op, start)).map(|()| None),
    }))
}

async fn grouped(
    group: &GroupCommit,
    tenant: &TenantRef,
    op: &Op,
    at: Option<Timestamp>,
    start: Timestamp,
) -> String {
    let (ctx, id) = (ctx(tenant, at), id(op));
    let mut doubtful = false;
    loop {
        let answer = match &op.what {
            What::Release => group.release(&ctx, &id).await.map(Some),
            What::Commit => group.commit(&ctx, &id).await.map(|()| None),
            What::Reserve { .. } => group.reserve(&ctx, request(op, start)).await.map(|()| None),
        };
        match answer {
            Err(e) if passes(&e) => doubtful = true,
            // It was given back at the first time, of which no reply came.
            Ok(Some(Returned::Already)) if doubtful => return "doubtful".to_owned(),
            answer => return told(answer),
        }
    }
}

fn passes(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Conflict)
}

/// The order in which a group takes what waits at once: what is given back, what is put in use, what is new.
fn in_order(limits: &[Limits], flight: &Flight, time: impl Fn(&Op) -> Option<Timestamp>) -> Vec<usize> {
    let timed = |op: &Op| limits[0].is_timed() || limits[op.tenant].is_timed();
    let mut order: Vec<usize> = (0..flight.ops.len()).collect();
    // By name, as the tenants are sorted there.
    let rank = |op: &Op| [2, 1, 0][op.tenant];
    order.sort_by_key(|at| {
        let op = &flight.ops[*at];
        let when = time(op).filter(|_| timed(op));
        match op.what {
            What::Release => (0, false, when, rank(op)),
            What::Commit => (1, false, None, rank(op)),
            What::Reserve { .. } if timed(op) => (2, true, when, rank(op)),
            What::Reserve { .. } => (2, false, None, rank(op)),
        }
    });
    order
}

fn kind(what: &What) -> u8 {
    match what {
        What::Release => 0,
        What::Commit => 1,
        What::Reserve { .. } => 2,
    }
}

fn compare(limits: &[Limits], flights: &[Flight], faults: Option<u64>) {
    let ((one, tenants), (other, same)) = (world(limits), world(limits));
    assert_eq!(tenants, same);
    let ids = Sim::new(2).ids();
    let store: Arc<dyn StateStore> = match faults {
        Some(seed) => Arc::new(FaultyStore::new(other.clone(), FaultPlan::rough(seed))),
        None => other.clone(),
    };
    let groups = ["a", "b"].map(|name| GroupCommit::new(store.clone(), &*ids, name).unwrap());
    let mut now = Timestamp::from_secs(1);
    for flight in flights {
        now = now.after(Duration::from_secs(flight.pause));
        let mut flight = flight.clone();
        // Which of two that ask for the same is first, nobody knows.
        let mut seen = BTreeSet::new();
        flight.ops.retain(|op| seen.insert((op.tenant, op.id, kind(&op.what))));
        for tenant in &tenants {
            let by = ctx(tenant, Some(now));
            for disk in [&one, &other] {
                // What takes the place of a hold that is over is decided last, and has a test of its own.
                let renews = flight.ops.iter().any(|op| kind(&op.what) == 2);
                let last = now.after(Duration::from_secs(if renews { 3 } else { 0 }));
                if flight.expire || renews {
                    alone(disk, |view, txn| TenantQuota.stage_expire(view, txn, &by, last)).unwrap();
                }
                if flight.rate {
                    let _ = alone(disk, |view, txn| TenantQuota.stage_rate(view, txn, &by, "creates", 1));
                }
            }
        }
        let time = |op: &Op| (!flight.timeless).then(|| now.after(Duration::from_secs(op.after)));
        let mut expected = vec![String::new(); flight.ops.len()];
        for at in in_order(limits, &flight, time) {
            let op = &flight.ops[at];
            expected[at] = one_by_one(&one, &tenants[op.tenant], op, time(op), now);
        }
        let group = &groups[flight.group];
        let all = flight.ops.iter().map(|op| grouped(group, &tenants[op.tenant], op, time(op), now));
        let found = block_on(join_all(all));
        for ((op, found), expected) in flight.ops.iter().zip(found).zip(expected) {
            assert!(
                found == expected || found == "doubtful",
                "{op:?}\n   group: {found}\n   alone: {expected}"
            );
        }
        let views = [&one, &other].map(|disk| block_on(disk.snapshot(&[Prefix::ROOT])).unwrap());
        for tenant in &tenants {
            let [expected, found] = [0, 1].map(|n| TenantQuota.usage(&views[n], &ctx(tenant, None)).unwrap());
            assert_eq!(found, expected, "usage of {tenant}");
            assert!(TenantQuota.drift(&views[1], &ctx(tenant, None)).unwrap().is_empty());
        }
    }
}

fn tree() -> impl Strategy<Value = Vec<Limits>> {
    vec(limits(), 3)
}

proptest! {
    #[test]
    fn many_at_once_are_told_what_each_alone_would_be(limits in tree(), flights in vec(flight(12), 1..8)) {
        compare(&limits, &flights, None);
    }

    #[test]
    fn whatever_fails_each_is_told_what_it_would_be(
        limits in tree(),
        flights in vec(flight(1), 1..24),
        seed in any::<u64>(),
    ) {
        compare(&limits, &flights, Some(seed));
    }
}

#[test]
fn an_id_whose_hold_is_over_is_free_again_unless_what_is_asked_does_not_fit() {
    let of = |max| Limits {
        max,
        guaranteed: None,
        scoped: None,
        required: false,
        soft: None,
        budget: None,
        until: None,
    };
    let limits = [of(Some(10)), of(None), of(None)];
    let ((one, tenants), (other, _)) = (world(&limits), world(&limits));
    let group = GroupCommit::new(other.clone(), &*Sim::new(2).ids(), "a").unwrap();
    let at = Timestamp::from_secs;
    let reserve =
        |id, amount, hold| Op { tenant: 1, id, after: 0, what: What::Reserve { amount, priority: 0, hold } };
    let asked = [
        (1, reserve(0, 4, Some(2))),
        (5, reserve(0, 6, None)),
        (5, reserve(1, 4, Some(1))),
        (9, reserve(1, 5, None)),
    ];
    let mut denied = 0;
    for (now, op) in asked {
        let (now, tenant) = (at(now), &tenants[1]);
        let expected = one_by_one(&one, tenant, &op, Some(now), now);
        assert_eq!(block_on(grouped(&group, tenant, &op, Some(now), now)), expected, "{op:?}");
        denied += usize::from(expected.starts_with("QuotaExceeded"));
        let usage = [&one, &other].map(|disk| {
            let view = block_on(disk.snapshot(&[Prefix::ROOT])).unwrap();
            TenantQuota.usage(&view, &ctx(tenant, None)).unwrap()
        });
        assert_eq!(usage[0], usage[1], "{op:?}");
    }
    assert_eq!(denied, 1, "6 and 5 do not fit into 10");
}
