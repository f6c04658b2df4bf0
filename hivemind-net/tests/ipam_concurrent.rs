//! Several replicas on one store: no address has two owners at any time, and replicas rarely meet.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::testkit::linearizable::{History, Recorded, check};
use hivemind_core::{
    ErrorKind, Generation, ManualClock, MemoryStore, NodeId, Principal, StateStore, StateStoreExt,
    TenantContext, TenantRef, WorkloadId, block_on,
};
use hivemind_net::addr::IpFamily;
use hivemind_net::{IpamManager, NetworkConfig};

const REPLICAS: usize = 4;

fn ctx(request: &str) -> TenantContext {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    TenantContext::new(tenant, Principal::System("test".parse().unwrap()), request.parse().unwrap())
}

fn workload(replica: usize, number: usize) -> WorkloadId {
    format!("w{replica}-{number}").parse().unwrap()
}

fn node(number: usize) -> NodeId {
    format!("n{number}").parse().unwrap()
}

fn manager(store: Arc<dyn StateStore>) -> IpamManager {
    IpamManager::new(store, Arc::new(ManualClock::default()))
}

fn small() -> NetworkConfig {
    let config =
        NetworkConfig::dual_stack("10.0.0.0/27".parse().unwrap(), "fd00::/123".parse().unwrap()).unwrap();
    let config = config.node_prefix(IpFamily::V4, 29).unwrap().node_prefix(IpFamily::V6, 125).unwrap();
    config.with_cooldown(Duration::ZERO)
}

/// When an address was known to be somebody's: from the answer until the release was asked for.
#[derive(Clone, Copy)]
struct Owned {
    from: u64,
    until: u64,
}

/// One replica: gives and takes on nodes that all replicas use.
fn live(ipam: &IpamManager, replica: usize, ticks: &AtomicU64, owned: &Mutex<BTreeMap<IpAddr, Vec<Owned>>>) {
    for number in 0..40 {
        let wanted = [(workload(replica, number), node(number % 3))];
        let assigned = block_on(ipam.assign(&ctx(&format!("a{replica}-{number}")), &wanted));
        let leases = match assigned {
            Ok(leases) => leases,
            Err(e) if matches!(e.kind(), ErrorKind::Exhausted | ErrorKind::Conflict) => continue,
            Err(e) => panic!("{e}"),
        };
        let from = ticks.fetch_add(1, Ordering::SeqCst);
        std::thread::yield_now();
        let until = if number % 8 == 7 { u64::MAX } else { ticks.fetch_add(1, Ordering::SeqCst) };
        for lease in leases.values() {
            assert!(lease.v4.is_some() && lease.v6.is_some());
            for address in lease.addresses() {
                owned.lock().unwrap().entry(address).or_default().push(Owned { from, until });
            }
        }
        if until < u64::MAX {
            let mut attempt = 0;
            while let Err(e) =
                block_on(ipam.release(&ctx(&format!("r{replica}-{number}-{attempt}")), &leases))
            {
                assert_eq!(e.kind(), ErrorKind::Conflict);
                attempt += 1;
            }
        }
    }
}

#[test]
fn pitfall_03_no_address_has_two_owners_at_any_time() {
    for seed in 0..4 {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        block_on(manager(Arc::clone(&store)).create_pool(&ctx("pool"), small())).unwrap();
        let before = block_on(store.snapshot(&[Prefix::ROOT])).unwrap();
        let history = History::starting_with(before.scan(&Prefix::ROOT).cloned());
        let start = Barrier::new(REPLICAS);
        let (ticks, owned) = (AtomicU64::new(seed), Mutex::new(BTreeMap::new()));
        std::thread::scope(|scope| {
            for replica in 0..REPLICAS {
                let ipam = manager(Arc::new(Recorded::new(Arc::clone(&store), &history, replica)));
                let (start, ticks, owned) = (&start, &ticks, &owned);
                scope.spawn(move || {
                    start.wait();
                    live(&ipam, replica, ticks, owned);
                });
            }
        });
        let mut uses = 0;
        for (address, mut spans) in owned.into_inner().unwrap() {
            uses += spans.len();
            spans.sort_by_key(|span| span.from);
            for pair in spans.windows(2) {
                assert!(pair[0].until < pair[1].from, "{address} has two owners");
            }
        }
        assert!(uses > 100, "{uses}");
        check(&history).unwrap_or_else(|violation| panic!("{violation}"));
        let (view, ipam) = (block_on(store.snapshot(&[Prefix::ROOT])).unwrap(), manager(Arc::clone(&store)));
        let running: BTreeSet<_> =
            ipam.all_leases(&view, &ctx("l")).unwrap().into_iter().map(|(w, _)| w).collect();
        assert!(
            running.iter().all(|w| w.as_str().split('-').nth(1).unwrap().parse::<usize>().unwrap() % 8 == 7)
        );
        assert!(ipam.audit(&view, &ctx("l"), &running).unwrap().is_clean());
    }
}

fn view(store: &MemoryStore) -> Snapshot {
    block_on(store.snapshot(&[Prefix::ROOT])).unwrap()
}

#[test]
fn replicas_that_serve_different_nodes_do_not_meet() {
    let store = MemoryStore::new();
    let ipam = manager(Arc::new(store.clone()));
    let config =
        NetworkConfig::dual_stack("10.0.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()).unwrap();
    block_on(ipam.create_pool(&ctx("pool"), config)).unwrap();
    for n in 0..4 {
        block_on(ipam.assign(&ctx(&format!("first{n}")), &[(workload(n, 0), node(n))])).unwrap();
    }
    // All decide on the same state; all commit.
    let seen = view(&store);
    let txns: Vec<_> = (0..4)
        .map(|n| {
            let mut txn = Txn::new();
            let many: Vec<_> = (1..20).map(|w| (workload(n, w), node(n))).collect();
            ipam.stage_assign(&seen, &mut txn, &ctx("r"), &many).unwrap();
            txn
        })
        .collect();
    assert!(txns.iter().all(|txn| block_on(store.commit(txn)).is_ok()));
    // The same workload on two nodes is one workload: the second is told to decide again.
    let seen = view(&store);
    let both: Vec<_> = (0..2)
        .map(|n| {
            let mut txn = Txn::new();
            ipam.stage_assign(&seen, &mut txn, &ctx("r"), &[(workload(9, 9), node(n))]).unwrap();
            txn
        })
        .collect();
    assert!(block_on(store.commit(&both[0])).is_ok());
    assert_eq!(block_on(store.commit(&both[1])).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn pitfall_07_a_node_subnet_costs_as_much_at_any_number_of_nodes() {
    let (store, mut costs) = (MemoryStore::new(), Vec::new());
    let ipam = manager(Arc::new(store.clone()));
    let config =
        NetworkConfig::dual_stack("10.0.0.0/8".parse().unwrap(), "fd00::/32".parse().unwrap()).unwrap();
    block_on(ipam.create_pool(&ctx("pool"), config)).unwrap();
    let pool = "default".parse().unwrap();
    let mut nodes = 0;
    for total in [1usize, 300, 3_000] {
        while nodes < total {
            // Few at a time, so that a transaction stays within its limits.
            let (seen, mut txn) = (view(&store), Txn::new());
            for _ in 0..100.min(total - nodes) {
                ipam.stage_node_subnets(&seen, &mut txn, &ctx("n"), (&pool, &node(nodes))).unwrap();
                nodes += 1;
            }
            block_on(store.commit(&txn)).unwrap();
        }
        let (seen, mut txn) = (view(&store), Txn::new());
        ipam.stage_node_subnets(&seen, &mut txn, &ctx("n"), (&pool, &node(999_999))).unwrap();
        let bytes: usize = txn
            .writes()
            .map(|(_, write)| match write {
                hivemind_core::store::Write::Put(value) => value.len(),
                hivemind_core::store::Write::Delete => 0,
            })
            .sum();
        costs.push((txn.guards().count(), txn.writes().count()));
        assert!(bytes < 12_000, "{bytes} bytes at {total} nodes");
    }
    assert!(costs.iter().all(|(guards, writes)| *guards <= 6 && *writes <= 5), "{costs:?}");
}
