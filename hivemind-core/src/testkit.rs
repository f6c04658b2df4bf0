//! Tools for tests: a seeded simulator, a store that fails on purpose, one body under every runtime.
//!
//! | tool | for |
//! |---|---|
//! | [`Sim`] | runs tasks in virtual time; the seed decides who goes next, so that a failure can be replayed |
//! | [`FaultyStore`] | conflicts, lost replies, latency, broken watches and crashes in front of any store |
//! | [`CountingStore`] | how much is read of any store: costs that a test can compare |
//! | [`until_crash`] | one life of a process: runs until the store's crash and is gone then |
//! | [`context()`] | who asks, for which tenant, in which request |
//! | [`linearizable`] | records what concurrent clients were told, and finds out whether it can be true |
//! | [`everywhere()`] | the same test under tokio, smol and a bare `block_on` |
//!
//! Declared outside semantic versioning: a test kit grows with what must be tested.

mod context;
mod counting_store;
mod crash;
mod everywhere;
mod faulty_store;
mod faulty_watch;
pub mod linearizable;
mod plan;
mod rng;
mod sim;
mod sim_task;

pub use context::context;
pub use counting_store::CountingStore;
pub use crash::{Crashed, until_crash};
pub use everywhere::{SmolRuntime, everywhere, everywhere_with};
pub use faulty_store::FaultyStore;
pub use plan::{FaultCounts, FaultPlan};
pub use rng::SimRng;
pub use sim::{Sim, Stuck};
pub use sim_task::SimTask;
