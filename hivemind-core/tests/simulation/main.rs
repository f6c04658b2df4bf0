//! What must hold whatever goes wrong, over hundreds of seeds: conflicts, lost replies, latency, crashes, restarts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod elections;
mod mirrors;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use hivemind_core::testkit::{FaultPlan, FaultyStore, SimRng};
use hivemind_core::{Runtime, StateStore};

/// How many schedules each test sees.
const SEEDS: u64 = 600;

/// One process: a rough connection to `disk`, and, as long as `crashes` are left, a crash to come.
fn process(
    runtime: &Arc<dyn Runtime>,
    disk: &Arc<dyn StateStore>,
    rng: &mut SimRng,
    crashes: &mut u32,
) -> FaultyStore {
    let slowest = Duration::from_millis(1 + rng.below(50));
    let mut plan =
        FaultPlan::rough(rng.next_u64()).with_latency(Arc::clone(runtime), Duration::ZERO..=slowest);
    if *crashes > 0 {
        *crashes -= 1;
        plan = plan.with_crash_at(1 + rng.below(25));
    }
    FaultyStore::new(Arc::clone(disk), plan)
}

/// Waits up to `millis`.
async fn pause(runtime: &Arc<dyn Runtime>, rng: &mut SimRng, millis: u64) {
    runtime.sleep(Duration::from_millis(rng.below(millis))).await;
}
