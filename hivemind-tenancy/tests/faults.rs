//! Quotas under conflicts, lost replies, failures and crashes: never too much, never lost, given back exactly once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::sync::Arc;

use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::store::Prefix;
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, until_crash};
use hivemind_core::{
    Effect, ErrorKind, MemoryStore, Once, Principal, QuotaGate, ReservationId, Result, StateStore,
    StateStoreExt, TenantContext, TenantRef, Timestamp, transact,
};
use hivemind_tenancy::{ResourceQuotas, TenantManager, TenantQuota, TenantSpec};

const WRITERS: u64 = 3;

fn ctx(tenant: &TenantRef, request: &str) -> TenantContext {
    TenantContext::new(tenant.clone(), Principal::User("ada".parse().unwrap()), request.parse().unwrap())
}

/// Repeats a request, under its own id, until its outcome is known: done, or denied.
async fn insist<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Option<T> {
    loop {
        match call().await {
            Ok(value) => return Some(value),
            Err(e) if e.kind() == ErrorKind::QuotaExceeded => return None,
            Err(e) => assert!(
                e.effect() == Effect::Unknown
                    || matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Conflict),
                "{e}"
            ),
        }
    }
}

fn amount(cores: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(cores))
}

/// Charges a core four times, and gives the first back; returns how much it holds in the end.
async fn write(store: &dyn StateStore, tenant: &TenantRef, writer: u64, now: Timestamp) -> u64 {
    let scope = [hivemind_tenancy::prefix().unwrap()];
    let mut held = Vec::new();
    for number in 0..4 {
        let ctx = ctx(tenant, &format!("c{writer}-{number}"));
        let id: ReservationId = format!("r{writer}-{number}").parse().unwrap();
        let once = Once::new(&ctx, "charge", now).unwrap();
        let charged = insist(|| {
            transact(store, &once, &scope, |view, txn| TenantQuota.reserve(view, txn, &ctx, &id, &amount(1)))
        });
        if charged.await.is_some() {
            held.push(id);
        }
    }
    if let Some(id) = held.first() {
        let ctx = ctx(tenant, &format!("g{writer}"));
        let once = Once::new(&ctx, "give-back", now).unwrap();
        insist(|| transact(store, &once, &scope, |view, txn| TenantQuota.release(view, txn, &ctx, id))).await;
    }
    u64::try_from(held.len().saturating_sub(1)).unwrap()
}

#[test]
fn usage_is_what_is_held_and_within_the_limit_whatever_fails() {
    let mut injected = 0;
    for seed in 0..300 {
        let sim = Sim::new(seed);
        let disk = Arc::new(MemoryStore::new());
        let tenants = TenantManager::new(disk.clone(), sim.clock(), sim.ids());
        let five = ResourceQuotas::default().with_cpu_limit(MilliCpu::from_cores(5));
        let spec = TenantSpec::new("acme".parse().unwrap()).with_quotas(five);
        let admin = ctx(&TenantRef::system(), "create");
        let tenant = sim.run(tenants.create(&admin, spec)).unwrap().unwrap().tenant;
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (disk, tenant, clock) = (disk.clone(), tenant.clone(), sim.clock());
                sim.spawn(async move {
                    for life in 0..3 {
                        let plan = FaultPlan::rough(seed * 100 + writer * 10 + life);
                        let plan =
                            if life < 2 { plan.with_crash_at(2 + seed % 13 * (life + 1)) } else { plan };
                        let store = Arc::new(FaultyStore::new(disk.clone(), plan));
                        let now = clock.now();
                        if let Ok(held) = until_crash(&store, write(&*store, &tenant, writer, now)).await {
                            return (held, store.counts().lost_replies + store.counts().conflicts);
                        }
                    }
                    panic!("the last life does not crash");
                })
            })
            .collect();
        let told = sim.run(async {
            let mut told = Vec::new();
            for task in tasks {
                told.push(task.await);
            }
            told
        });
        let told = told.unwrap();
        injected += told.iter().map(|(_, faults)| faults).sum::<u64>();

        let view = sim.run(disk.snapshot(&[Prefix::ROOT])).unwrap().unwrap();
        let drift = TenantQuota.recount(&view, &ctx(&tenant, "check")).unwrap();
        assert!(drift.is_none(), "seed {seed}: {drift:?}");
        let used = drift.ledger.used.cpu();
        assert!(used <= MilliCpu::from_cores(5), "seed {seed}");
        // A denial on the way may come from a charge that was given back later; what was answered is what is held.
        let held = told.iter().map(|(held, _)| held).sum();
        assert_eq!(used, MilliCpu::from_cores(held), "seed {seed}");
    }
    assert!(injected > 100, "{injected}");
}
