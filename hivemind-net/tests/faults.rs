//! Addresses under conflicts, lost replies, failures and crashes: exactly once, and nothing leaks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::store::{Conflict, Prefix};
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, until_crash};
use hivemind_core::{
    Clock, Effect, ErrorKind, Generation, ManualClock, MemoryStore, NodeId, Principal, Result, StateStoreExt,
    TenantContext, TenantRef, WorkloadId, block_on,
};
use hivemind_net::manager::Observation;
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

/// Repeats a request, under its own id, until it is answered: by success, or by a refusal, which is final.
async fn settle<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    loop {
        match call().await {
            Err(e)
                if e.effect() == Effect::Unknown
                    || e.kind() == ErrorKind::Unavailable
                    || e.detail::<Conflict>().is_some() => {}
            settled => return settled,
        }
    }
}

/// What may be refused because somebody else's request came first: never anything else.
fn only(kinds: &[ErrorKind], outcome: Result<()>) {
    if let Err(e) = outcome {
        assert!(kinds.contains(&e.kind()), "{e}");
    }
}

fn node(number: usize) -> NodeId {
    format!("n{number}").parse().unwrap()
}

/// Node subnets of two addresses, so that nodes have several, and borrow.
fn small() -> NetworkConfig {
    let config =
        NetworkConfig::dual_stack("10.0.0.0/27".parse().unwrap(), "fd00::/62".parse().unwrap()).unwrap();
    config.node_prefix(hivemind_net::addr::IpFamily::V4, 31).unwrap()
}

fn drained() -> NetworkConfig {
    let config = small().with_network("10.0.1.0/27".parse().unwrap()).unwrap();
    config.draining("10.0.0.0/27".parse().unwrap(), true).unwrap()
}

/// A tenant's workloads: one moves and stays, one moves and comes back, one ends, one ends and may come back.
async fn live(ipam: &IpamManager, clock: &dyn Clock, writer: usize) {
    use ErrorKind::{Conflict, Denied, NotFound};
    for number in 0..4 {
        let workload: WorkloadId = format!("w{writer}-{number}").parse().unwrap();
        let id = |what: &str| ctx(&format!("{what}{writer}-{number}"));
        let on = |at: usize| vec![(workload.clone(), node(at))];
        let (first, second, wanted) = (id("a"), id("b"), on(number % 2));
        let mut given = settle(|| ipam.assign(&first, &wanted)).await;
        if given.as_ref().is_err_and(|e| e.kind() == Denied) {
            let elsewhere = on(2);
            given = settle(|| ipam.assign(&second, &elsewhere)).await;
        }
        let given = given.unwrap();
        let lease = &given[&workload];
        let (begin, end, from, to) = (id("m"), id("e"), node(number % 2), node(2));
        match number {
            0 | 1 => {
                only(
                    &[Conflict, Denied, NotFound],
                    settle(|| ipam.transfer(&begin, &workload, (&from, &to))).await,
                );
                let ended = if number == 0 {
                    settle(|| ipam.transferred(&end, &workload, &to)).await
                } else {
                    settle(|| ipam.transfer_back(&end, &workload)).await
                };
                only(&[Conflict, NotFound], ended);
            }
            2 => only(&[NotFound], settle(|| ipam.release(&end, &given)).await),
            _ => {
                let until = clock.now().after(Duration::from_secs(1));
                only(&[NotFound], settle(|| ipam.keep(&end, (&workload, lease), until)).await);
            }
        }
    }
}

/// The operator loses a node and takes back what it had, drains a network, and sweeps.
async fn operate(ipam: &IpamManager, writer: usize) {
    let id = |what: String| ctx(&format!("{what}-{writer}"));
    let (lost, drain, back) = (id("lost".into()), id("drain".into()), id("back".into()));
    let (config, gone) = (drained(), node(1));
    settle(|| ipam.node_lost(&lost, &gone)).await.unwrap();
    only(&[], settle(|| ipam.update_pool(&drain, &config)).await);
    for batch in 0.. {
        let request = id(format!("reclaim{batch}"));
        let reclaimed = settle(|| ipam.reclaim(&request, &gone, Duration::ZERO)).await;
        match reclaimed {
            Ok(reclaimed) if reclaimed.more => {}
            Ok(_) => break,
            // The other operator has let it return already.
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
                break;
            }
        }
    }
    settle(|| ipam.node_back(&back, &gone)).await.unwrap();
    for batch in 0.. {
        let request = id(format!("sweep{batch}"));
        if !settle(|| ipam.sweep(&request)).await.unwrap().more {
            break;
        }
    }
}

/// One actor in three lives, of which two end in a crash; how many calls the last one took.
async fn lives(
    disk: Arc<MemoryStore>,
    (clock, runtime): (Arc<dyn Clock>, Arc<dyn hivemind_core::Runtime>),
    (seed, actor): (u64, usize),
) -> u64 {
    let which = seed * 10 + u64::try_from(actor).unwrap();
    for life in 0..3u64 {
        let plan = FaultPlan::rough(which * 10 + life);
        let plan = plan.with_latency(runtime.clone(), Duration::ZERO..=Duration::from_millis(20));
        // Each call of the shortest life is one that a crash hits, in some seed.
        let plan = if life < 2 { plan.with_crash_at(1 + (which * 7 + life * 31) % CALLS) } else { plan };
        let store = Arc::new(FaultyStore::new(disk.clone(), plan));
        let ipam = IpamManager::new(store.clone(), clock.clone());
        let lived = until_crash(&store, async {
            let (pool, config) = (ctx("pool"), small());
            settle(|| ipam.create_pool(&pool, config.clone())).await.unwrap();
            if actor < 2 { live(&ipam, &*clock, actor).await } else { operate(&ipam, actor).await }
        });
        if lived.await.is_ok() {
            return store.counts().calls;
        }
    }
    panic!("the last life does not crash");
}

const CALLS: u64 = 60;

/// What is left is what the tenant runs, once observations and time have taken the rest back.
fn nothing_leaks(disk: &Arc<MemoryStore>, now: hivemind_core::Timestamp, seed: u64) {
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_nanos(now.as_nanos()));
    let ipam = IpamManager::new(disk.clone(), clock.clone());
    let view = || block_on(disk.snapshot(&[Prefix::ROOT])).unwrap();
    let check = || {
        let all = ipam.all_leases(&view(), &ctx("check")).unwrap();
        let addresses: Vec<IpAddr> = all.iter().flat_map(|(_, lease)| lease.addresses()).collect();
        let distinct: BTreeSet<_> = addresses.iter().collect();
        assert_eq!(distinct.len(), addresses.len(), "seed {seed}: an address has two owners");
        let held: BTreeSet<_> = all.iter().map(|(workload, _)| workload.clone()).collect();
        let report = ipam.audit(&view(), &ctx("check"), &held).unwrap();
        assert!(report.is_clean(), "seed {seed}: {report:?}");
        all
    };
    // Kept leases are let go by time alone.
    clock.advance(Duration::from_secs(60));
    let mut requests = 0;
    let mut next = || {
        requests += 1;
        ctx(&format!("end-{requests}"))
    };
    check();
    while block_on(ipam.sweep(&next())).unwrap().more {}
    let before = check();
    let running: BTreeSet<_> =
        before.iter().map(|(w, _)| w.clone()).filter(|w| w.as_str().ends_with("-0")).collect();
    let mut leaked = BTreeSet::new();
    for _ in 0..2 {
        clock.advance(Duration::from_secs(1));
        let seen = running.iter().fold(Observation::new(clock.now()), |seen, w| seen.with(w.clone(), []));
        loop {
            let told = block_on(ipam.reconcile(&next(), &seen)).unwrap();
            leaked.extend(told.leaked);
            if !told.more {
                break;
            }
        }
    }
    let named: BTreeSet<_> = before.iter().map(|(w, _)| w.clone()).filter(|w| leaked.contains(w)).collect();
    assert_eq!(before.len(), running.len() + named.len(), "seed {seed}: a leak that nobody names");
    for (workload, lease) in check() {
        assert!(running.contains(&workload), "seed {seed}");
        block_on(ipam.release(&next(), &[(workload, lease)].into())).unwrap();
    }
    clock.advance(Duration::from_secs(60));
    while block_on(ipam.sweep(&next())).unwrap().more {}
    let usage = ipam.usage(&view(), &ctx("check")).unwrap();
    assert_eq!((usage.v4.subnets, usage.v4.addresses, usage.v4.cooling), (0, 0, 0), "seed {seed}");
    assert_eq!((usage.v6.subnets, usage.v6.addresses, usage.v6.cooling), (0, 0, 0), "seed {seed}");
    // The drained network can go, then the pool, then the tenant: no record is left.
    let shrunk = drained().without_network("10.0.0.0/27".parse().unwrap()).unwrap();
    block_on(ipam.update_pool(&next(), &shrunk)).unwrap();
    block_on(ipam.delete_pool(&next(), &"default".parse().unwrap())).unwrap();
    while block_on(ipam.forget(&next())).unwrap() {}
    let view = view();
    let left: Vec<_> =
        view.scan(&Prefix::new(["net"]).unwrap()).map(|record| record.key.to_string()).collect();
    assert!(left.is_empty(), "seed {seed}: {left:?}");
}

#[test]
fn pitfall_01_reclaims_sweeps_moves_and_drains_go_on_after_a_crash_at_any_call() {
    let mut most = 0;
    for seed in 0..200 {
        let sim = Sim::new(seed);
        let disk = Arc::new(MemoryStore::new());
        let tasks: Vec<_> = (0..4)
            .map(|actor| sim.spawn(lives(disk.clone(), (sim.clock(), sim.runtime()), (seed, actor))))
            .collect();
        let calls = sim.run(async {
            let mut calls = 0;
            for task in tasks {
                calls = calls.max(task.await);
            }
            calls
        });
        most = most.max(calls.unwrap());
        nothing_leaks(&disk, sim.clock().now(), seed);
    }
    assert!(most >= CALLS / 2, "lives are long enough to be hit: {most}");
}
