//! The model of the state store: keys, records, revisions, transactions, snapshots. No I/O, no clock, no async.
//!
//! The port is [`StateStore`](crate::StateStore); typed records are [`Collection`](crate::Collection)s.

mod key;
mod limits;
mod partial;
mod record;
mod snapshot;
mod txn;

pub use key::{InvalidKey, Key, MAX_KEY_LEN, Prefix};
pub use limits::{Limits, OverLimit};
pub use record::{Compacted, Event, FutureRevision, Record, Revision, ScanPage, ScanRequest, WatchBatch};
pub use snapshot::Snapshot;
pub use txn::{Conflict, Guard, Staged, Txn, Write};

pub(crate) use snapshot::Entry;
