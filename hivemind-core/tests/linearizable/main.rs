//! Clients of real stores, recorded and judged: good stores pass, and each broken one is caught.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod store;

use std::sync::{Arc, Barrier};

use hivemind_core::store::{Guard, Key, Prefix, Revision, ScanRequest, Txn};
use hivemind_core::testkit::linearizable::{History, Recorded, Report, Violation, check};
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, SimRng};
use hivemind_core::{MemoryStore, StateStore, block_on};

use self::store::{Broken, Bug};

const CLIENTS: usize = 8;

fn key(n: u64) -> Key {
    Key::new(["k".to_owned(), n.to_string()]).unwrap()
}

/// One of the things that clients do, with a value that nobody else writes.
async fn act(store: &dyn StateStore, rng: &mut SimRng, value: String) {
    let at = key(rng.below(5));
    let mut txn = Txn::new();
    match rng.below(10) {
        0..3 => return drop(store.get(&at, None).await),
        3 => return drop(store.scan(&ScanRequest::new(Prefix::new(["k"]).unwrap())).await),
        4 => return drop(store.revision().await),
        5 => txn.delete(at),
        6 => {
            txn.put(at, value.clone());
            txn.put(key(rng.below(5)), value);
        }
        // Read, decide, and commit under guard, as managers do.
        _ => {
            let Ok(found) = store.get(&at, None).await else { return };
            let guard = found.map_or(Guard::Absent, |found| Guard::Unchanged(found.mod_revision));
            txn.guard(&at, guard).unwrap();
            txn.put(at, value);
        }
    }
    drop(store.commit(&txn).await);
}

async fn client(store: Recorded, client: usize, mut rng: SimRng, times: usize) {
    for n in 0..times {
        act(&store, &mut rng, format!("{client}-{n}")).await;
    }
}

/// What eight threads see of the store.
fn on_threads(store: &Arc<dyn StateStore>, seed: u64, times: usize) -> History {
    let (history, start) = (History::new(), Barrier::new(CLIENTS));
    let mut rng = SimRng::new(seed);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let recorded = Recorded::new(Arc::clone(store), &history, number);
            let (rng, start) = (rng.fork(), &start);
            scope.spawn(move || {
                start.wait();
                block_on(client(recorded, number, rng, times));
            });
        }
    });
    history
}

/// What eight tasks see of the store, in an order that the seed decides.
fn simulated(store: &Arc<dyn StateStore>, seed: u64, times: usize) -> History {
    let (history, sim) = (History::new(), Sim::new(seed));
    let mut rng = sim.rng();
    let task = |number| {
        let recorded = Recorded::new(Arc::clone(store), &history, number);
        sim.spawn(client(recorded, number, rng.fork(), times))
    };
    let tasks: Vec<_> = (0..CLIENTS).map(task).collect();
    sim.run(async {
        for task in tasks {
            task.await;
        }
    })
    .unwrap();
    history
}

fn broken(bug: Bug) -> Arc<dyn StateStore> {
    Arc::new(Broken::new(Arc::new(MemoryStore::new()), bug))
}

#[track_caller]
fn good(history: &History) -> Report {
    check(history).unwrap_or_else(|violation| panic!("{violation}"))
}

/// That the check found something, and did not just give up.
#[track_caller]
fn caught(history: &History) {
    let violation = check(history).unwrap_err();
    assert!(!matches!(violation, Violation::Undecided { .. }), "{violation}");
}

#[test]
fn the_memory_store_is_linearizable_on_threads() {
    good(&on_threads(&(Arc::new(MemoryStore::new()) as Arc<dyn StateStore>), 1, 1_000));
    // Threads give way between calls, so that calls overlap on one core too.
    let history = on_threads(&broken(Bug::None), 1, 1_000);
    let report = good(&history);
    assert_eq!(report.order.len(), history.operations().len());
    assert!(!report.order.is_sorted(), "no calls overlapped");
}

#[test]
fn a_faulty_store_is_linearizable_all_the_same() {
    for seed in 0..20 {
        let rough = FaultPlan::rough(seed).with_conflicts(0);
        let plan = rough.with_lost_replies(20_000).with_lost_requests(20_000);
        let store: Arc<dyn StateStore> = Arc::new(FaultyStore::new(broken(Bug::None), plan));
        good(&simulated(&store, seed, 150));
    }
}

#[test]
fn a_store_that_invents_conflicts_is_not_linearizable() {
    let plan = FaultPlan::new(1).with_conflicts(100_000);
    let store: Arc<dyn StateStore> = Arc::new(FaultyStore::new(broken(Bug::None), plan));
    caught(&simulated(&store, 1, 100));
}

#[test]
fn each_bug_that_breaks_linearizability_is_caught() {
    for seed in 0..5 {
        good(&simulated(&broken(Bug::None), seed, 100));
        for bug in Bug::ALL {
            println!("{bug:?}, seed {seed}");
            caught(&simulated(&broken(bug), seed, 100));
        }
    }
}

#[test]
fn a_broken_store_is_caught_on_threads() {
    caught(&on_threads(&broken(Bug::StaleReads), 1, 300));
}

#[test]
fn a_client_that_goes_away_leaves_its_commit_pending() {
    let (store, history) = (broken(Bug::None), History::new());
    let recorded = Recorded::new(Arc::clone(&store), &history, 1);
    let mut txn = Txn::new();
    txn.put(key(1), "1");
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut commit = Box::pin(recorded.commit(&txn));
    assert!(commit.as_mut().poll(&mut context).is_pending());
    drop(commit);
    assert_eq!(history.operations()[0].completed, None);
    block_on(recorded.get(&key(1), None)).unwrap();
    assert_eq!(good(&history).order, [1]);
    assert_eq!(block_on(store.revision()).unwrap(), Revision::ZERO);
}
