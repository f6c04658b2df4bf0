//! A mirror shows only states that were, never goes back, and catches up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hivemind_core::store::{Key, Prefix, Record, Revision, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, SimRng};
use hivemind_core::{MemoryStore, Mirror, Runtime, StateStore, StateStoreExt};

use crate::{SEEDS, pause, process};

/// What the mirrored prefix held as of each revision; the store itself forgets by compaction.
type Past = Arc<Mutex<BTreeMap<Revision, Vec<Record>>>>;

fn mirrored() -> Prefix {
    Prefix::new(["seen"]).unwrap()
}

async fn note(disk: &MemoryStore, past: &Past) {
    let (revision, records) = disk.scan_all(&mirrored(), None).await.unwrap();
    past.lock().unwrap().insert(revision, records);
}

/// Puts and deletes a few keys, inside the mirrored prefix and outside, and compacts now and then.
async fn write(disk: MemoryStore, past: Past, runtime: Arc<dyn Runtime>, mut rng: SimRng) {
    for n in 0..12 {
        let mut txn = Txn::new();
        for _ in 0..=rng.below(3) {
            let top = if rng.chance(700_000) { "seen" } else { "other" };
            let key = Key::new([top, &rng.below(5).to_string()]).unwrap();
            if rng.chance(300_000) { txn.delete(key) } else { txn.put(key, n.to_string()) }
        }
        let revision = disk.commit(&txn).await.unwrap();
        // No other task runs between a commit and its note: the inner store never waits.
        note(&disk, &past).await;
        if rng.chance(200_000) {
            disk.compact(revision).await.unwrap();
        }
        pause(&runtime, &mut rng, 80).await;
    }
}

/// Follows until `last`, comparing every state it shows with the past. How often it was disturbed.
async fn follow(
    store: FaultyStore,
    past: Past,
    runtime: Arc<dyn Runtime>,
    last: Arc<Mutex<Option<Revision>>>,
) -> u64 {
    let mut opened = None;
    while opened.is_none() {
        opened = Mirror::open(Arc::new(store.clone()), mirrored()).await.ok();
    }
    let (mirror, mut feed) = opened.unwrap();
    let mut before = Revision::ZERO;
    loop {
        let shown = {
            let view = mirror.view();
            (view.revision(), view.scan(&Prefix::ROOT).cloned().collect::<Vec<_>>())
        };
        assert_eq!(past.lock().unwrap().get(&shown.0), Some(&shown.1), "at {}", shown.0);
        assert!(shown.0 >= before, "it went back from {before} to {}", shown.0);
        before = shown.0;
        if last.lock().unwrap().is_some_and(|last| before >= last) {
            return store.counts().watch_failures + store.counts().watch_ends;
        }
        if feed.tick().await.is_err() {
            runtime.sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

fn simulate(seed: u64) -> u64 {
    let (sim, disk) = (Sim::new(seed), MemoryStore::new());
    let past: Past = Arc::new(Mutex::new(BTreeMap::from([(Revision::ZERO, Vec::new())])));
    let last = Arc::new(Mutex::new(None));
    let mut rng = sim.rng();
    let followers: Vec<_> = (0..2)
        .map(|_| {
            let inner: Arc<dyn StateStore> = Arc::new(disk.clone());
            let store = process(&sim.runtime(), &inner, &mut rng, &mut 0);
            sim.spawn(follow(store, Arc::clone(&past), sim.runtime(), Arc::clone(&last)))
        })
        .collect();
    let writers: Vec<_> =
        (0..2).map(|_| sim.spawn(write(disk.clone(), Arc::clone(&past), sim.runtime(), sim.rng()))).collect();
    sim.run(async {
        for writer in writers {
            writer.await;
        }
        // One more, so that a follower that sleeps already hears of the end.
        let mut txn = Txn::new();
        txn.put(Key::new(["other", "end"]).unwrap(), "");
        let end = disk.commit(&txn).await.unwrap();
        note(&disk, &past).await;
        *last.lock().unwrap() = Some(end);
        let mut disturbed = 0;
        for follower in followers {
            disturbed += follower.await;
        }
        disturbed
    })
    .unwrap_or_else(|stuck| panic!("{stuck}"))
}

#[test]
fn a_mirror_shows_only_states_that_were_and_catches_up() {
    let disturbed: u64 = (0..SEEDS).map(simulate).sum();
    assert!(disturbed > SEEDS, "{disturbed}");
}

#[test]
fn the_comparison_can_fail() {
    // A mirror of one store compared with the past of another.
    let (sim, disk) = (Sim::new(1), MemoryStore::new());
    let store = FaultyStore::new(Arc::new(disk.clone()), FaultPlan::new(1));
    let mut txn = Txn::new();
    txn.put(mirrored().key(["a"]).unwrap(), "");
    let past: Past = Arc::new(Mutex::new(BTreeMap::from([(Revision::new(1), Vec::new())])));
    let check = std::panic::AssertUnwindSafe(|| {
        sim.run(async {
            disk.commit(&txn).await.unwrap();
            follow(store, past, sim.runtime(), Arc::default()).await
        })
    });
    assert!(std::panic::catch_unwind(check).is_err());
}
