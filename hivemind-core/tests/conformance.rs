//! Our own stores pass the suite that everybody else's must pass.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hivemind_core::conformance::state_store::{CASES, Fixture, run_all, run_case};
use hivemind_core::store::Limits;
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, everywhere};
use hivemind_core::{MemoryStore, StateStore, block_on};

#[test]
fn the_memory_store_passes_under_every_runtime() {
    everywhere(|| async { run_all(|| async { Arc::new(MemoryStore::new()) }).await.assert_passed() });
}

/// Says which case runs, so that one that waits for ever can be named.
#[test]
fn the_memory_store_passes_case_by_case() {
    let mut names = CASES.iter();
    let report = block_on(run_all(|| {
        println!("case {}", names.next().unwrap().0);
        async { Arc::new(MemoryStore::new()) }
    }));
    report.assert_passed();
}

#[test]
fn the_memory_store_passes_with_other_limits() {
    for limits in [Limits::new(16, 8_192, 4_096), Limits::new(100_000, usize::MAX, usize::MAX)] {
        let report = block_on(run_all(|| async { Arc::new(MemoryStore::with_limits(limits)) }));
        report.assert_passed();
    }
}

#[test]
fn a_faulty_store_without_faults_passes() {
    let report = block_on(run_all(|| async {
        Arc::new(FaultyStore::new(Arc::new(MemoryStore::new()), FaultPlan::new(1)))
    }));
    report.assert_passed();
}

#[test]
fn a_store_with_latency_passes() {
    for seed in 0..5 {
        let sim = Sim::new(seed);
        let longest = std::time::Duration::from_millis(20);
        let report = sim.run(run_all(|| async {
            let plan = FaultPlan::new(seed).with_latency(sim.runtime(), std::time::Duration::ZERO..=longest);
            Arc::new(FaultyStore::new(Arc::new(MemoryStore::new()), plan))
        }));
        report.unwrap().assert_passed();
    }
}

#[test]
fn every_case_has_a_name_of_its_own_and_runs_alone() {
    let names: BTreeSet<_> = CASES.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), CASES.len());
    for name in names {
        assert_eq!(block_on(run_case(name, Arc::new(MemoryStore::new()))), Ok(()), "{name}");
    }
    let unknown = block_on(run_case("no_such_case", Arc::new(MemoryStore::new())));
    assert!(unknown.unwrap_err().to_string().contains("no_such_case"));
}

#[test]
fn a_store_that_is_not_empty_is_refused() {
    let used: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    let report = block_on(run_all(|| async { Arc::clone(&used) }));
    assert!(!report.failed.is_empty());
}

#[test]
fn a_guard_lives_as_long_as_its_case() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let (alive, made) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let report = block_on(run_all(|| async {
        assert_eq!(alive.fetch_add(1, Ordering::Relaxed), 0, "the guard before is still there");
        made.fetch_add(1, Ordering::Relaxed);
        Fixture::new(Arc::new(MemoryStore::new()), Counted(Arc::clone(&alive)))
    }));
    report.assert_passed();
    assert_eq!((alive.load(Ordering::Relaxed), made.load(Ordering::Relaxed)), (0, CASES.len()));
}
