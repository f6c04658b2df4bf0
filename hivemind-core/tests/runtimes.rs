//! The same behaviour under every runtime: tokio on one thread and on many, smol, and a bare `block_on`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hivemind_core::store::{Guard, Key, Prefix, Revision, Txn};
use hivemind_core::testkit::{context, everywhere, everywhere_with};
use hivemind_core::{
    Candidate, ManualClock, MemoryStore, Mirror, MirrorFeed, Once, SeededIds, Standing, StateStore,
    Timestamp, transact,
};

fn key(name: &str) -> Key {
    Key::new([name]).unwrap()
}

#[test]
fn a_body_runs_once_under_each_runtime() {
    let runs = Arc::new(AtomicU32::new(0));
    everywhere(|| {
        let runs = Arc::clone(&runs);
        async move {
            runs.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(runs.load(Ordering::Relaxed), 4);
}

#[test]
fn a_failure_names_the_runtime() {
    let mut run = 0;
    let failure = catch_unwind(std::panic::AssertUnwindSafe(|| {
        everywhere(|| {
            run += 1;
            let run = run;
            async move { assert!(run != 3, "the third fails") }
        });
    }));
    let message = failure.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(*message, "under smol: the third fails");
}

#[test]
fn the_given_runtime_sleeps_and_spawns() {
    everywhere_with(|runtime| async move {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let (mirror, mut feed) = mirror_of(Arc::clone(&store)).await;
        let beside = Arc::clone(&runtime);
        runtime.spawn(Box::pin(async move {
            beside.sleep(Duration::from_millis(1)).await;
            let mut txn = Txn::new();
            txn.put(key("a"), "spawned");
            store.commit(&txn).await.unwrap();
        }));
        feed.catch_up(Revision::new(1)).await.unwrap();
        assert_eq!(mirror.view().get(&key("a")).unwrap().value, "spawned");
    });
}

async fn mirror_of(store: Arc<dyn StateStore>) -> (Mirror, MirrorFeed) {
    Mirror::open(store, Prefix::ROOT).await.unwrap()
}

#[test]
fn a_mirror_follows_a_store_that_others_write() {
    everywhere_with(|runtime| async move {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let (mirror, feed) = mirror_of(Arc::clone(&store)).await;
        let (theirs, done) = (Arc::clone(&runtime), mirror.clone());
        let last = Revision::new(50);
        runtime.spawn(Box::pin(async move {
            feed.run(theirs, Duration::from_millis(1), done.reached(last)).await;
        }));
        let writers = Arc::clone(&store);
        runtime.spawn(Box::pin(async move {
            for n in 0..50 {
                let mut txn = Txn::new();
                txn.put(key(&n.to_string()), "x");
                writers.commit(&txn).await.unwrap();
            }
        }));
        mirror.reached(last).await;
        assert_eq!(mirror.view().len(), 50);
    });
}

#[test]
fn requests_of_many_tasks_each_happen_once() {
    everywhere_with(|runtime| async move {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let (mirror, feed) = mirror_of(Arc::clone(&store)).await;
        let counter = key("counter");
        // Each of 8 requests is sent twice, at the same time.
        for n in 0..16 {
            let (store, counter) = (Arc::clone(&store), counter.clone());
            runtime.spawn(Box::pin(async move {
                let ctx = context("acme", &format!("r{}", n / 2));
                let once = Once::new(&ctx, "add", Timestamp::EPOCH).unwrap();
                while transact(&*store, &once, &[Prefix::ROOT], |view, txn| {
                    let old = view.get(&counter);
                    txn.guard(&counter, old.map_or(Guard::Absent, |old| Guard::Unchanged(old.mod_revision)))?;
                    let count = old.map_or(0, |old| old.value.len()) + 1;
                    txn.put(counter.clone(), vec![b'|'; count]);
                    Ok(())
                })
                .await
                .is_err()
                {}
            }));
        }
        let (theirs, done) = (Arc::clone(&runtime), mirror.clone());
        let last = Revision::new(8);
        runtime.spawn(Box::pin(async move {
            feed.run(theirs, Duration::from_millis(1), done.reached(last)).await;
        }));
        mirror.reached(last).await;
        assert_eq!(mirror.view().get(&counter).unwrap().value, "||||||||");
    });
}

#[test]
fn an_election_has_one_leader_and_fences_the_old_one() {
    everywhere(|| async {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ManualClock::default()));
        let (lease, ids) = (Duration::from_secs(10), SeededIds::new(1));
        let election = "controller".parse().unwrap();
        let mut candidates = Vec::new();
        for name in ["a", "b"] {
            let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
            let name = name.parse().unwrap();
            candidates.push(Candidate::new(&election, name, lease, store, clock, &ids).unwrap());
        }
        let Standing::Leader(old) = candidates[0].tick().await.unwrap() else { panic!("a leads") };
        assert!(matches!(candidates[1].tick().await.unwrap(), Standing::Follower { .. }));
        clock.advance(lease);
        assert!(matches!(candidates[1].tick().await.unwrap(), Standing::Leader(_)));
        let mut txn = Txn::new();
        old.fence(&mut txn).unwrap();
        txn.put(key("x"), "stale");
        assert!(store.commit(&txn).await.is_err());
    });
}
