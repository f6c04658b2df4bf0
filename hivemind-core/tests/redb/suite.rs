//! The suite that every adapter passes.

use std::sync::Arc;

use hivemind_core::conformance::state_store::{CASES, Fixture, run_all};
use hivemind_core::store::{Key, Txn};
use hivemind_core::testkit::everywhere;
use hivemind_core::{Durability, RedbOptions, RedbStore, StateStore, block_on};

fn fixture(options: &RedbOptions) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = options.open(directory.path().join("state.redb")).unwrap();
    Fixture::new(Arc::new(store), directory)
}

#[test]
fn the_embedded_store_passes_under_every_runtime() {
    everywhere(|| async { run_all(|| async { fixture(&RedbOptions::new()) }).await.assert_passed() });
}

#[test]
fn the_embedded_store_passes_with_deferred_durability() {
    let options = RedbOptions::new().with_durability(Durability::Deferred);
    block_on(run_all(|| async { fixture(&options) })).assert_passed();
}

#[test]
fn a_reopened_store_passes() {
    let mut names = CASES.iter();
    let report = block_on(run_all(|| {
        println!("case {}", names.next().unwrap().0);
        async { used_before() }
    }));
    report.assert_passed();
}

fn used_before() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    // Used, emptied and compacted before: revisions go on from there.
    let used = RedbStore::open(&path).unwrap();
    crate::commit(&used, "a", "1").unwrap();
    let mut txn = Txn::new();
    txn.delete(Key::new(["a"]).unwrap());
    let end = block_on(used.commit(&txn)).unwrap();
    block_on(used.compact(end)).unwrap();
    drop(used);
    Fixture::new(Arc::new(RedbStore::open(&path).unwrap()), directory)
}
