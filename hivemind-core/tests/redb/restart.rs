//! What is there after a restart is what was there before: compared with the memory store at every revision.

use std::sync::Arc;

use hivemind_core::store::{Event, Guard, Key, Prefix, Revision, Txn};
use hivemind_core::{ErrorKind, MemoryStore, RedbStore, StateStore, WatchStream, block_on};
use proptest::prelude::*;

use crate::{commit, shown};

#[derive(Debug, Clone)]
enum Step {
    /// Puts or deletes, each perhaps under a guard.
    Commit(Vec<(u8, Option<u8>, u8)>),
    /// Compacts so many revisions back from the newest.
    Compact(u64),
    Reopen,
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0u8..6, prop::option::weighted(0.7, any::<u8>()), 0u8..4);
    prop_oneof![
        8 => prop::collection::vec(write, 1..4).prop_map(Step::Commit),
        1 => (0u64..6).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Snapshot),
    ]
}

fn key(n: u8) -> Key {
    Key::new(["k".to_owned(), n.to_string()]).unwrap()
}

fn txn(writes: &[(u8, Option<u8>, u8)], newest: Revision) -> Txn {
    let mut txn = Txn::new();
    for (name, value, guard) in writes {
        match value {
            Some(value) => txn.put(key(*name), vec![*value; usize::from(*value) % 40]),
            None => txn.delete(key(*name)),
        }
        let guard = match guard {
            0 => Guard::Absent,
            1 => Guard::Exists,
            2 => Guard::Unchanged(newest),
            _ => continue,
        };
        let _ = txn.guard(&key(*name), guard);
    }
    txn
}

/// What a watch has to tell up to `end`, in words.
fn told(store: &dyn StateStore, from: Revision, end: Revision) -> Result<Vec<String>, ErrorKind> {
    if from > end {
        return Ok(Vec::new());
    }
    let mut watch: WatchStream = block_on(store.watch(&Prefix::ROOT, from)).map_err(|e| e.kind())?;
    let (mut words, mut at) = (Vec::new(), Revision::ZERO);
    while at < end {
        let batch = block_on(std::future::poll_fn(|context| watch.as_mut().poll_next(context)));
        let batch = batch.unwrap().map_err(|e| e.kind())?;
        at = batch.revision;
        words.extend(batch.events.iter().map(|event| match event {
            Event::Put(record) => format!("{at} {record:?}"),
            Event::Delete(key) => format!("{at} -{key}"),
        }));
    }
    Ok(words)
}

fn same(model: &dyn StateStore, store: &dyn StateStore) -> Result<(), TestCaseError> {
    let newest = block_on(model.revision()).unwrap();
    prop_assert_eq!(block_on(store.revision()).unwrap(), newest);
    for at in 0..=newest.as_u64() {
        let at = Revision::new(at);
        let (expected, found) = (shown(model, Some(at)), shown(store, Some(at)));
        prop_assert_eq!(found.map_err(|e| e.to_string()), expected.map_err(|e| e.to_string()));
        prop_assert_eq!(told(store, at.next(), newest), told(model, at.next(), newest));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_is_the_memory_store_that_survives(steps in prop::collection::vec(step(), 1..25)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        let (model, mut store) = (MemoryStore::new(), RedbStore::open(&path).unwrap());
        for (number, step) in steps.iter().enumerate() {
            let newest = block_on(model.revision()).unwrap();
            match step {
                Step::Commit(writes) => {
                    let txn = txn(writes, newest);
                    let (expected, found) = (block_on(model.commit(&txn)), block_on(store.commit(&txn)));
                    prop_assert_eq!(found.map_err(|e| e.to_string()), expected.map_err(|e| e.to_string()));
                }
                Step::Compact(back) => {
                    let at = Revision::new(newest.as_u64().saturating_sub(*back));
                    block_on(model.compact(at)).unwrap();
                    block_on(store.compact(at)).unwrap();
                }
                Step::Reopen => {
                    drop(store);
                    store = RedbStore::open(&path).unwrap();
                }
                Step::Snapshot => {
                    let copy = directory.path().join(format!("copy-{number}"));
                    block_on(store.snapshot(&copy)).unwrap();
                    same(&model, &RedbStore::open(&copy).unwrap())?;
                    let checked = RedbStore::check(&copy).unwrap();
                    prop_assert_eq!(checked.newest, newest);
                    prop_assert_eq!(checked.records, shown(&model, None).unwrap().len());
                }
            }
        }
        drop(store);
        same(&model, &RedbStore::open(&path).unwrap())?;
    }
}

#[test]
fn a_watch_goes_on_after_a_restart_without_gap_or_repeat() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let mut heard = Vec::new();
    for life in 0..5u64 {
        let store = RedbStore::open(&path).unwrap();
        let from = Revision::new(life * 10 - life.min(1) * 3 + 1);
        for n in 0..10 {
            commit(&store, "a", &(life * 10 + n).to_string()).unwrap();
        }
        // Three transactions of the life before have not been heard yet; three of this one are left.
        let end = Revision::new(life * 10 + 7);
        heard.extend(told(&store, from, end).unwrap());
    }
    let revisions: Vec<u64> =
        heard.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(revisions, (1..=47).collect::<Vec<_>>());
}

#[test]
fn many_writers_at_once_lose_nothing() {
    const WRITERS: u64 = 8;
    const TIMES: u64 = 50;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let store = Arc::new(RedbStore::open(&path).unwrap());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = Arc::clone(&store);
            scope.spawn(move || {
                for n in 0..TIMES {
                    // A counter of all, and a record of each.
                    loop {
                        let old = block_on(store.get(&key(0), None)).unwrap();
                        let mut txn = Txn::new();
                        let guard = old.as_ref().map_or(Guard::Absent, |r| Guard::Unchanged(r.mod_revision));
                        txn.guard(&key(0), guard).unwrap();
                        let count =
                            old.map_or(0, |r| std::str::from_utf8(&r.value).unwrap().parse().unwrap());
                        txn.put(key(0), (count + 1u64).to_string());
                        txn.put(Key::new([format!("{writer}-{n}")]).unwrap(), "");
                        match block_on(store.commit(&txn)) {
                            Ok(_) => break,
                            Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict),
                        }
                    }
                }
            });
        }
    });
    let before = shown(&*store, None).unwrap();
    assert_eq!(block_on(store.revision()).unwrap().as_u64(), WRITERS * TIMES);
    assert_eq!(before.len() as u64, WRITERS * TIMES + 1);
    drop(store);
    assert_eq!(shown(&RedbStore::open(&path).unwrap(), None).unwrap(), before);
}
