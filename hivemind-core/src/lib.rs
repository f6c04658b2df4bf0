//! The shared words and ports of Hivemind.
//!
//! Every crate of the suite speaks in these terms: validated [ids](TenantId), [`labels`], [`resources`], the
//! [`TenantContext`] that every operation takes, one [`Error`], and one port behind which all state lives, the
//! [`StateStore`]. The crate pulls in no async runtime and does no I/O of its own.
//!
//! Decisions are pure functions of a [`Snapshot`](store::Snapshot) that *stage* what they read and want written into a
//! [`Txn`](store::Txn). The host commits it once, so that everything a request decided becomes true together:
//!
//! ```
//! use hivemind_core::store::{Prefix, Txn};
//! use hivemind_core::{Collection, ErrorKind, MemoryStore, StateStore, StateStoreExt, Stored, block_on};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Seats { free: u32 }
//! impl Stored for Seats {
//!     const KIND: &'static str = "seats";
//! }
//!
//! # block_on(async {
//! let store = MemoryStore::new();
//! let seats = Collection::<Seats>::new(Prefix::new(["seats"])?);
//! let key = seats.key(["hall-1"])?;
//!
//! let mut txn = Txn::new();
//! seats.create(&store.snapshot(&[Prefix::ROOT]).await?, &mut txn, key.clone(), &Seats { free: 1 })?;
//! store.commit(&txn).await?;
//!
//! // Two clerks decide on the same snapshot; the second to commit is told to decide again.
//! let view = store.snapshot(&[Prefix::ROOT]).await?;
//! let sell = |txn: &mut Txn| -> hivemind_core::Result<()> {
//!     let hall = seats.require(&view, txn, &key)?;
//!     seats.update(txn, &hall, &Seats { free: hall.free - 1 })
//! };
//! let (mut first, mut second) = (Txn::new(), Txn::new());
//! sell(&mut first)?;
//! sell(&mut second)?;
//! store.commit(&first).await?;
//! assert_eq!(store.commit(&second).await.unwrap_err().kind(), ErrorKind::Conflict);
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! | feature | adds |
//! |---|---|
//! | `etcd` | `EtcdStore`, the state store in etcd, and `EtcdCandidate`, leader election by its leases |
//! | `jiff` | conversions between [`Timestamp`] and calendar time |
//! | `redb` | `RedbStore`: the state store in one file on one machine |
//! | `mock` | `mockall` mocks of every port, in `mock` |
//! | `sealed-keys` | `SealedKeys`: a key management service in one sealed file |
//! | `testkit` | conformance suites, a fault-injecting store, a deterministic simulator, a linearizability checker |
//! | `tokio` | `TokioRuntime` |

mod adapters;
mod collection;
#[cfg(feature = "testkit")]
pub mod conformance;
mod context;
mod election;
mod error;
mod files;
mod id;
pub mod labels;
mod mirror;
mod ports;
mod progress;
mod requests;

pub mod resources;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
mod text_type;
mod time;
mod trace;
mod worker;

#[cfg(feature = "sealed-keys")]
pub use adapters::SealedKeys;
#[cfg(feature = "tokio")]
pub use adapters::TokioRuntime;
#[cfg(feature = "redb")]
pub use adapters::{Durability, RedbCheck, RedbOptions, RedbStore};
#[cfg(feature = "etcd")]
pub use adapters::{EtcdCandidate, EtcdOptions, EtcdStore};
pub use adapters::{
    ManualClock, MemoryAudit, MemoryKeys, MemoryStore, NoopRecorder, SeededIds, SequenceIds, SystemClock,
    SystemIds, ThreadRuntime, block_on,
};
pub use async_trait::async_trait;
pub use collection::{Collection, Stamped, Stored, decode, encode};
pub use context::{Actor, Principal, TenantContext};
pub use election::{Candidate, Leadership, Standing};
pub use error::{Effect, Error, ErrorKind, Result, Retry};
pub use files::{publish_file, sync_directory};
pub use id::*;
pub use mirror::{Mirror, MirrorChange, MirrorFeed, MirrorView};
pub use ports::*;
pub use progress::{OpToken, Pending, Progress};
pub use requests::{Answered, Once, forget_requests, transact};
pub use time::Timestamp;
pub use trace::{InvalidTraceParent, InvalidTraceState, TraceContext, TraceState};
pub use worker::Worker;

/// `mockall` mocks of every port, for an integrator's own unit tests.
#[cfg(feature = "mock")]
pub mod mock {
    pub use crate::ports::mock::*;
}
