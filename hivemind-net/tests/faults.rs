//! Addresses under conflicts, lost replies, failures and crashes: exactly once, and nothing leaks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hivemind_core::store::Prefix;
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, until_crash};
use hivemind_core::{
    Effect, ErrorKind, Generation, MemoryStore, NodeId, Principal, Result, StateStoreExt, TenantContext,
    TenantRef, WorkloadId,
};
use hivemind_net::{IpamManager, Lease, NetworkConfig};

const WRITERS: usize = 3;
const EACH: usize = 4;

fn ctx(request: &str) -> TenantContext {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    TenantContext::new(tenant, Principal::System("test".parse().unwrap()), request.parse().unwrap())
}

/// Repeats a request, under its own id, until its outcome is known.
async fn insist<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> T {
    loop {
        match call().await {
            Ok(value) => return value,
            Err(e) => assert!(
                e.effect() == Effect::Unknown
                    || matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Conflict),
                "{e}"
            ),
        }
    }
}

/// One writer: gives its workloads addresses on nodes that all writers share, and takes every second one back.
async fn write(ipam: &IpamManager, writer: usize) {
    for number in 0..EACH {
        let workload: WorkloadId = format!("w{writer}-{number}").parse().unwrap();
        let node: NodeId = format!("n{}", number % 2).parse().unwrap();
        let (assign, release) = (ctx(&format!("a{writer}-{number}")), ctx(&format!("r{writer}-{number}")));
        let wanted = [(workload, node)];
        let leases = insist(|| ipam.assign(&assign, &wanted)).await;
        if number % 2 == 1 {
            insist(|| ipam.release(&release, &leases)).await;
        }
    }
}

#[test]
fn pitfall_01_each_request_happens_once_and_no_address_leaks() {
    let mut faults = 0;
    for seed in 0..300 {
        let sim = Sim::new(seed);
        let disk = Arc::new(MemoryStore::new());
        let bare = IpamManager::new(disk.clone(), sim.clock());
        let config =
            NetworkConfig::dual_stack("10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()).unwrap();
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (disk, clock, config) = (disk.clone(), sim.clock(), config.clone());
                sim.spawn(async move {
                    // Two lives end in a crash, the third goes on to the end.
                    for life in 0..3u64 {
                        let plan = FaultPlan::rough(seed * 100 + u64::try_from(writer).unwrap() * 10 + life);
                        let plan =
                            if life < 2 { plan.with_crash_at(3 + seed % 17 * (life + 1)) } else { plan };
                        let store = Arc::new(FaultyStore::new(disk.clone(), plan));
                        let ipam = IpamManager::new(store.clone(), clock.clone());
                        let lived = until_crash(&store, async {
                            let pool = ctx("pool");
                            insist(|| ipam.create_pool(&pool, config.clone())).await;
                            write(&ipam, writer).await;
                        });
                        if lived.await.is_ok() {
                            return store.counts().lost_replies + store.counts().conflicts;
                        }
                    }
                    panic!("the last life does not crash");
                })
            })
            .collect();
        let injected = sim.run(async {
            let mut injected = 0;
            for task in tasks {
                injected += task.await;
            }
            injected
        });
        faults += injected.unwrap();

        let view = sim.run(disk.snapshot(&[Prefix::ROOT])).unwrap().unwrap();
        let all = bare.all_leases(&view, &ctx("check")).unwrap();
        let kept: BTreeSet<WorkloadId> = (0..WRITERS)
            .flat_map(|writer| (0..EACH).step_by(2).map(move |n| format!("w{writer}-{n}").parse().unwrap()))
            .collect();
        assert_eq!(all.len(), kept.len(), "seed {seed}");
        assert!(bare.audit(&view, &ctx("check"), &kept).unwrap().is_clean(), "seed {seed}");
        let addresses: BTreeSet<IpAddr> =
            all.iter().map(|(_, lease)| lease).flat_map(Lease::addresses).collect();
        assert_eq!(addresses.len(), 2 * kept.len(), "seed {seed}");
    }
    assert!(faults > 100, "{faults}");
}
