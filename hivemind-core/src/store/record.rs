//! What a store holds and tells: records, revisions, scans, watch batches.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Key, Prefix};

/// The number of a committed transaction: each gets the next one. Zero is before the first.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(u64);

impl Revision {
    /// Before the first transaction.
    pub const ZERO: Self = Self(0);

    /// The revision of that number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revision({})", self.0)
    }
}

/// A key with its value as of some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Bytes,
    /// The transaction that last put it.
    pub mod_revision: Revision,
    /// The transaction that created it, since it last did not exist.
    pub create_revision: Revision,
}

impl Record {
    /// The record of `key`, created at `create_revision` and last put at `mod_revision`.
    pub fn new(key: Key, value: Bytes, mod_revision: Revision, create_revision: Revision) -> Self {
        Self { key, value, mod_revision, create_revision }
    }
}

/// What to scan: the records below a prefix, in key order, page by page.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanRequest {
    /// Which keys.
    pub prefix: Prefix,
    /// As of which revision; `None` is the newest.
    pub at: Option<Revision>,
    /// Only keys after this one: the last of the page before.
    pub after: Option<Key>,
    /// At most so many records; `None` leaves it to the adapter. Zero counts as one.
    pub limit: Option<usize>,
}

impl ScanRequest {
    /// All records below `prefix`, at the newest revision.
    pub fn new(prefix: Prefix) -> Self {
        Self { prefix, at: None, after: None, limit: None }
    }

    /// As of `revision`.
    #[must_use]
    pub fn at(mut self, revision: Revision) -> Self {
        self.at = Some(revision);
        self
    }

    /// Only keys after `key`.
    #[must_use]
    pub fn after(mut self, key: Key) -> Self {
        self.after = Some(key);
        self
    }

    /// At most `limit` records.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// One page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanPage {
    /// The revision that the page shows; ask for the next page at the same one.
    pub revision: Revision,
    /// The records, in key order.
    pub records: Vec<Record>,
    /// Whether there are records after the last one.
    pub more: bool,
}

impl ScanPage {
    /// A page as of `revision`.
    pub fn new(revision: Revision, records: Vec<Record>, more: bool) -> Self {
        Self { revision, records, more }
    }
}

/// What happened to one key in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a key is put or deleted")]
pub enum Event {
    /// The key has this record now.
    Put(Record),
    /// The key is gone.
    Delete(Key),
}

impl Event {
    /// The key it happened to.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(record) => &record.key,
            Self::Delete(key) => key,
        }
    }
}

/// What one transaction did below a watched prefix; never a part of a transaction.
///
/// A batch without events is a bookmark: everything up to its revision has been delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchBatch {
    /// The transaction, or how far the watch has come.
    pub revision: Revision,
    /// What it did, in key order; empty for a bookmark.
    pub events: Vec<Event>,
}

impl WatchBatch {
    /// What the transaction `revision` did.
    pub fn new(revision: Revision, events: Vec<Event>) -> Self {
        Self { revision, events }
    }
}

/// The revision asked for has been compacted away. Detail of an [`Expired`](crate::ErrorKind::Expired) error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {asked} has been compacted; the oldest there is, is {oldest}: start again from a new scan")]
#[non_exhaustive]
pub struct Compacted {
    /// What was asked for.
    pub asked: Revision,
    /// The oldest revision that can be scanned.
    pub oldest: Revision,
}

impl Compacted {
    /// `asked` is gone, `oldest` is there.
    pub fn new(asked: Revision, oldest: Revision) -> Self {
        Self { asked, oldest }
    }
}

/// The revision asked for has not been committed yet. Detail of an [`Invalid`](crate::ErrorKind::Invalid) error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {asked} is in the future; the newest is {newest}")]
#[non_exhaustive]
pub struct FutureRevision {
    /// What was asked for.
    pub asked: Revision,
    /// The newest revision.
    pub newest: Revision,
}

impl FutureRevision {
    /// `asked` is later than `newest`.
    pub fn new(asked: Revision, newest: Revision) -> Self {
        Self { asked, newest }
    }
}
