//! A restore goes on after a crash at any call, copes with a bad day, and leaves strangers' data alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use hivemind_backup::*;
use hivemind_core::store::{Limits, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore, until_crash};
use hivemind_core::*;
use support::*;

/// A chain of two backups, and the state it holds.
fn chain() -> (World, BackupId, State) {
    let world = World::new();
    for n in 0..40_u8 {
        world.put(key(&format!("k/{n:02}")), vec![n; usize::from(n)]);
    }
    let full = block_on(world.manager.full(&ctx(), &BackupOptions::default())).unwrap();
    let mut state = contents(&world.store);
    state.retain(|key, _| key.as_bytes().last() != Some(&b'3'));
    state.insert(key("a"), Vec::new());
    world.set(&state);
    let last = block_on(world.manager.incremental(&ctx(), &full.id, &BackupOptions::default())).unwrap();
    (world, last.id, state)
}

fn small() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::with_limits(Limits::new(8, 1_500_000, 1 << 20)))
}

#[test]
fn a_crash_at_any_call_is_survived() {
    let (world, id, state) = chain();
    let who = ctx();
    let mut finished = false;
    for (at, seed) in (1..200).flat_map(|at| (0..4).map(move |seed| (at, seed))) {
        let disk = small();
        let first = FaultyStore::new(disk.clone(), FaultPlan::new(seed).with_crash_at(at));
        let restore = world.manager.restore(&who, &id, Arc::new(first.clone()), Timestamp::EPOCH);
        finished |= block_on(until_crash(&first, restore)).is_ok();
        let target: Arc<dyn StateStore> = disk;
        let again = block_on(world.manager.restore(&ctx(), &id, target.clone(), Timestamp::EPOCH));
        assert_eq!(contents(&target), state, "crash at call {at}, seed {seed}");
        // Only a restore whose very last commit happened finds its target full.
        if let Err(e) = again {
            assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        }
        if finished && seed == 3 {
            assert!(at > 5, "a restore makes more calls than that");
            return;
        }
    }
    panic!("the restore never came to its end");
}

#[test]
fn a_bad_day_is_survived() {
    let (world, id, state) = chain();
    for seed in 0..300 {
        let target: Arc<dyn StateStore> = small();
        let store = Arc::new(FaultyStore::new(target.clone(), FaultPlan::rough(seed)));
        for _ in 0..50 {
            match block_on(world.manager.restore(&ctx(), &id, store.clone(), Timestamp::EPOCH)) {
                Ok(_) => break,
                Err(e) if e.kind() == ErrorKind::AlreadyExists => break,
                Err(_) => {}
            }
        }
        assert_eq!(contents(&target), state, "seed {seed}");
    }
}

#[test]
fn a_target_in_use_is_refused_untouched() {
    let (world, id, _) = chain();
    let before = block_on(world.store.revision()).unwrap();
    let error =
        block_on(world.manager.restore(&ctx(), &id, world.store.clone(), Timestamp::EPOCH)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(block_on(world.store.revision()).unwrap(), before);
}

#[test]
fn a_stranger_who_writes_meanwhile_is_not_overwritten() {
    let (world, id, _) = chain();
    let who = ctx();
    let disk = small();
    let first = FaultyStore::new(disk.clone(), FaultPlan::new(0).with_crash_at(5));
    let restore = world.manager.restore(&who, &id, Arc::new(first.clone()), Timestamp::EPOCH);
    assert!(block_on(until_crash(&first, restore)).is_err());
    let mut txn = Txn::new();
    txn.put(key("k/39"), "mine");
    block_on(disk.commit(&txn)).unwrap();
    let error = block_on(world.manager.restore(&ctx(), &id, disk.clone(), Timestamp::EPOCH)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(block_on(disk.get(&key("k/39"), None)).unwrap().unwrap().value, "mine");
    // And a store that is half restored is not backed up.
    let half = World::of(disk, Arc::new(MemoryBackups::new()), "prod");
    let error = block_on(half.manager.full(&ctx(), &BackupOptions::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[test]
fn differences_are_found_and_named() {
    let (one, two) = (World::new(), World::new());
    for (world, name, value) in [(&one, "a", 1), (&one, "b", 1), (&two, "b", 2), (&two, "c", 1)] {
        world.put(key(name), vec![value]);
    }
    let at = block_on(one.store.revision()).unwrap();
    let found = block_on(compare(&one.store, at, &two.store, at)).unwrap().unwrap();
    assert_eq!((found.only_first, found.only_second, found.other_value), (1, 1, 1));
    assert_eq!(found.keys, [key("a"), key("b"), key("c")]);
    assert_eq!(block_on(compare(&one.store, at, &one.store, at)).unwrap(), None);
}
