//! The adapters that every host has: memory, system clock, threads.

mod clock;
#[cfg(feature = "etcd")]
mod etcd;
mod ids;
mod memory_audit;
mod memory_keys;
mod memory_store;
mod mvcc;
mod noop;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "sealed-keys")]
mod sealed_keys;
mod thread_runtime;
#[cfg(feature = "tokio")]
mod tokio_runtime;

pub use clock::{ManualClock, SystemClock};
#[cfg(feature = "etcd")]
pub use etcd::{EtcdCandidate, EtcdOptions, EtcdStore};
#[cfg(feature = "testkit")]
pub(crate) use ids::split_mix;
pub use ids::{SeededIds, SequenceIds, SystemIds};
pub use memory_audit::MemoryAudit;
pub use memory_keys::MemoryKeys;
pub use memory_store::MemoryStore;
pub use noop::NoopRecorder;
#[cfg(feature = "redb")]
pub use redb::{Durability, RedbCheck, RedbOptions, RedbStore};
#[cfg(feature = "sealed-keys")]
pub use sealed_keys::SealedKeys;
pub use thread_runtime::{ThreadRuntime, block_on};
#[cfg(feature = "tokio")]
pub use tokio_runtime::TokioRuntime;
