//! An error that says "not started" is true, also when an earlier attempt of the same call may have happened.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::sync::Arc;

use hivemind_core::store::{Key, Revision};
use hivemind_core::testkit::{FaultPlan, FaultyStore, context};
use hivemind_core::{Effect, MemoryStore, Once, StateStore, Timestamp, block_on, transact};

#[test]
fn an_error_that_says_not_started_is_true() {
    let mut wrong = Vec::new();
    for seed in 0..2000 {
        let disk = MemoryStore::new();
        let plan = FaultPlan::new(seed)
            .with_lost_replies(300_000)
            .with_lost_requests(100_000)
            .with_unavailable(200_000)
            .with_conflicts(100_000)
            .with_read_failures(100_000);
        let store = FaultyStore::new(Arc::new(disk.clone()), plan);
        let once = Once::new(&context("acme", "r1"), "op", Timestamp::EPOCH).unwrap();
        let outcome = block_on(transact(&store, &once, &[], |_, txn| {
            txn.put(Key::new(["a"]).unwrap(), "x");
            Ok(())
        }));
        if let Err(e) = outcome
            && e.effect() == Effect::NotStarted
            && block_on(disk.revision()).unwrap() > Revision::ZERO
        {
            wrong.push((seed, e.to_string()));
        }
    }
    assert!(wrong.is_empty(), "{} {:?}", wrong.len(), &wrong[..3.min(wrong.len())]);
}
