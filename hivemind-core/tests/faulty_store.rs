//! The faulty store: each kind of fault happens, is counted, and says the truth about its effect.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::store::{Conflict, Guard, Key, Prefix, Revision, ScanRequest, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, until_crash};
use hivemind_core::{Effect, ErrorKind, MemoryStore, StateStore, WatchStream, block_on};

const ALWAYS: u32 = 1_000_000;

fn key(name: &str) -> Key {
    Key::new([name]).unwrap()
}

fn put(name: &str) -> Txn {
    let mut txn = Txn::new();
    txn.put(key(name), "x");
    txn
}

fn create(name: &str) -> Txn {
    let mut txn = put(name);
    txn.guard(&key(name), Guard::Absent).unwrap();
    txn
}

fn faulty(plan: FaultPlan) -> (MemoryStore, FaultyStore) {
    let inner = MemoryStore::new();
    (inner.clone(), FaultyStore::new(Arc::new(inner), plan))
}

fn newest(store: &MemoryStore) -> u64 {
    block_on(store.revision()).unwrap().as_u64()
}

async fn next(watch: &mut WatchStream) -> Option<hivemind_core::Result<Revision>> {
    std::future::poll_fn(|context| Pin::as_mut(watch).poll_next(context))
        .await
        .map(|item| item.map(|batch| batch.revision))
}

#[test]
fn a_spurious_conflict_names_a_guarded_key_and_changes_nothing() {
    let (inner, store) = faulty(FaultPlan::new(1).with_conflicts(ALWAYS));
    let mut txn = create("b");
    txn.put(key("a"), "not guarded");
    let error = block_on(store.commit(&txn)).unwrap_err();
    let conflict = error.detail::<Conflict>().unwrap();
    assert_eq!(
        (error.kind(), error.effect(), &conflict.key),
        (ErrorKind::Conflict, Effect::NotStarted, &key("b"))
    );
    assert!(!Guard::Absent.holds(conflict.found), "the state it tells must explain the conflict");
    assert_eq!((newest(&inner), store.counts().conflicts), (0, 1));

    block_on(store.commit(&put("a"))).unwrap();
    assert_eq!(store.counts().conflicts, 1, "without a guard there is nothing to conflict with");
}

#[test]
fn unavailable_means_nothing_was_started() {
    let (inner, store) = faulty(FaultPlan::new(1).with_unavailable(ALWAYS));
    let error = block_on(store.commit(&put("a"))).unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotStarted));
    assert!(block_on(store.compact(Revision::ZERO)).is_err());
    assert_eq!((newest(&inner), store.counts().unavailable), (0, 2));
}

#[test]
fn a_lost_reply_happened_and_a_lost_request_did_not_and_neither_is_known() {
    let (inner, store) = faulty(FaultPlan::new(1).with_lost_replies(ALWAYS));
    let error = block_on(store.commit(&put("a"))).unwrap_err();
    assert_eq!((error.kind(), error.effect(), newest(&inner)), (ErrorKind::Unavailable, Effect::Unknown, 1));
    assert_eq!(store.counts().lost_replies, 1);

    let (inner, store) = faulty(FaultPlan::new(1).with_lost_requests(ALWAYS));
    let error = block_on(store.commit(&put("a"))).unwrap_err();
    assert_eq!((error.kind(), error.effect(), newest(&inner)), (ErrorKind::Unavailable, Effect::Unknown, 0));
    assert_eq!(store.counts().lost_requests, 1);
}

#[test]
fn reads_fail() {
    let (_, store) = faulty(FaultPlan::new(1).with_read_failures(ALWAYS));
    block_on(async {
        let errors = [
            store.revision().await.unwrap_err(),
            store.get(&key("a"), None).await.unwrap_err(),
            store.scan(&ScanRequest::new(Prefix::ROOT)).await.unwrap_err(),
            store.watch(&Prefix::ROOT, Revision::ZERO).await.err().unwrap(),
        ];
        assert!(errors.iter().all(|e| e.kind() == ErrorKind::Unavailable));
        store.commit(&put("a")).await.unwrap();
    });
    assert_eq!((store.counts().read_failures, store.counts().calls), (4, 5));
}

#[test]
fn a_watch_breaks_off_or_ends_and_can_be_taken_up_again() {
    for (plan, failing) in [
        (FaultPlan::new(3).with_watch_failures(400_000), true),
        (FaultPlan::new(3).with_watch_ends(400_000), false),
    ] {
        let (inner, store) = faulty(plan);
        block_on(async {
            for _ in 0..20 {
                inner.commit(&put("a")).await.unwrap();
            }
            let (mut seen, mut broken) = (0, 0);
            while seen < 20 {
                let mut watch = store.watch(&Prefix::ROOT, Revision::new(seen + 1)).await.unwrap();
                loop {
                    match next(&mut watch).await {
                        Some(Ok(revision)) => {
                            seen += 1;
                            assert_eq!(revision.as_u64(), seen);
                            if seen == 20 {
                                break;
                            }
                        }
                        Some(Err(error)) => {
                            assert!(failing && error.kind() == ErrorKind::Unavailable);
                            assert!(next(&mut watch).await.is_none());
                            broken += 1;
                            break;
                        }
                        None => {
                            assert!(!failing);
                            broken += 1;
                            break;
                        }
                    }
                }
            }
            assert!(broken > 3, "{broken}");
            assert_eq!(store.counts().watch_failures + store.counts().watch_ends, broken);
        });
    }
}

#[test]
fn latency_is_slept_on_the_runtime_within_its_range() {
    let sim = Sim::new(1);
    let second = Duration::from_secs(1);
    let plan = FaultPlan::new(1).with_latency(sim.runtime(), second..=2 * second);
    let (_, store) = faulty(plan);
    let clock = sim.clock();
    let began = clock.now();
    sim.run(async { store.commit(&put("a")).await }).unwrap().unwrap();
    let took = clock.now().since(began);
    assert!((2 * second..=4 * second).contains(&took), "{took:?}");
}

#[test]
fn a_crash_happens_before_or_after_the_effect_and_nothing_returns_afterwards() {
    let mut before_and_after = [0, 0];
    for seed in 0..40 {
        let (inner, store) = faulty(FaultPlan::new(seed).with_crash_at(2));
        let life = async {
            store.commit(&put("a")).await.unwrap();
            store.commit(&put("b")).await.unwrap();
            panic!("a fatal call returned");
        };
        assert!(block_on(until_crash(&store, life)).is_err());
        assert!(store.is_crashed());
        block_on(store.crashed());
        before_and_after[usize::try_from(newest(&inner)).unwrap() - 1] += 1;
        // Later calls never return either, and take no effect.
        assert!(block_on(until_crash(&store, store.commit(&put("c")))).is_err());
        assert!(newest(&inner) <= 2);
        assert_eq!((store.counts().calls, store.counts().crashes), (2, 1));
    }
    assert!(before_and_after.iter().all(|&n| n > 5), "{before_and_after:?}");
}

#[test]
fn a_crash_ends_the_whole_process_also_a_task_that_sleeps() {
    let sim = Sim::new(1);
    let (_, store) = faulty(FaultPlan::new(1).with_crash_at(1));
    let (theirs, runtime) = (store.clone(), sim.runtime());
    let sleeper = sim
        .spawn(async move { until_crash(&theirs, runtime.sleep(Duration::from_secs(3600))).await.is_err() });
    let began = sim.clock().now();
    let outcome = sim.run(async {
        assert!(until_crash(&store, store.commit(&put("a"))).await.is_err());
        sleeper.await
    });
    assert_eq!((outcome, sim.clock().now()), (Ok(true), began));
}

#[test]
fn what_is_done_before_the_crash_is_done() {
    let (_, store) = faulty(FaultPlan::new(1).with_crash_at(2));
    let outcome = block_on(until_crash(&store, store.commit(&put("a"))));
    assert_eq!(outcome.unwrap().unwrap(), Revision::new(1));
}

#[test]
fn the_same_plan_gives_the_same_faults() {
    let faults = |seed| {
        let (_, store) = faulty(FaultPlan::rough(seed));
        let outcomes: Vec<_> = (0..200)
            .map(|n| block_on(store.commit(&create(&n.to_string()))).map_err(|e| (e.kind(), e.effect())))
            .collect();
        (outcomes, store.counts())
    };
    assert_eq!(faults(1), faults(1));
    assert_ne!(faults(1).0, faults(2).0);
}
