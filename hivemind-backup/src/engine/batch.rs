//! How a restore is cut into transactions, and how far it came. No I/O, no clock, no async.

use bytes::Bytes;
use hivemind_core::store::{Guard, Key, Limits, MAX_KEY_LEN, Prefix, Revision, Txn};
use hivemind_core::{BackupId, Collection, Error, Result, Stored, Timestamp, encode};
use serde::{Deserialize, Serialize};

/// How far a restore came: the record that makes it resumable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Which backup is restored.
    pub(crate) backup: BackupId,
    /// When the restore was begun.
    pub(crate) started: Timestamp,
    /// The last key that is there; `None` before the first.
    pub(crate) after: Option<Key>,
}

impl Stored for Position {
    const KIND: &'static str = "restore position";
}

/// Room for the marker's record: its own key twice, and a key as a list of numbers.
const MARKER_BYTES: usize = 2 * 128 + 4 * MAX_KEY_LEN + 512;

/// Where the markers of restores are.
pub(crate) fn markers() -> Result<Collection<Position>> {
    let prefix = Prefix::new(["backup", "restore"]);
    Ok(Collection::new(prefix.map_err(|e| Error::internal("restore", e.to_string()))?))
}

/// Where the marker of `id` is.
pub(crate) fn marker_key(id: &BackupId) -> Result<Key> {
    markers()?.key([id.as_str()]).map_err(|e| Error::internal("restore", e.to_string()))
}

/// Records that are restored in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    records: Vec<(Key, Bytes)>,
    bytes: usize,
}

impl Batch {
    pub(crate) fn last(&self) -> Option<&Key> {
        self.records.last().map(|(key, _)| key)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The transaction that writes the records and moves the marker, or removes it with the `last` batch.
    ///
    /// Guards: nobody moved the marker, and no key is there yet.
    pub(crate) fn txn(&self, position: &Position, marker_at: Revision, last: bool) -> Result<Txn> {
        let (mut txn, marker) = (Txn::new(), marker_key(&position.backup)?);
        txn.guard(&marker, Guard::Unchanged(marker_at))?;
        for (key, value) in &self.records {
            txn.guard(key, Guard::Absent)?;
            txn.put(key.clone(), value.clone());
        }
        if last {
            txn.delete(marker);
        } else {
            let after = self.last().or(position.after.as_ref()).cloned();
            txn.put(marker, encode(&Position { after, ..position.clone() })?);
        }
        Ok(txn)
    }
}

/// Cuts records into batches that a store takes.
#[derive(Debug)]
pub(crate) struct Batcher {
    limits: Limits,
    open: Batch,
}

impl Batcher {
    pub(crate) fn new(limits: Limits) -> Result<Self> {
        if limits.max_ops < 2 || limits.max_txn_bytes <= MARKER_BYTES {
            return Err(Error::invalid(
                "restore",
                "the target's limits leave no room for a record and a marker",
            ));
        }
        Ok(Self { limits, open: Batch::default() })
    }

    /// Adds a record; gives the batch before it, if it had no more room.
    ///
    /// # Errors
    /// The record alone is too large for the target.
    pub(crate) fn push(&mut self, key: Key, value: Bytes) -> Result<Option<Batch>> {
        let bytes = 2 * key.as_bytes().len() + value.len();
        let room = self.limits.max_txn_bytes - MARKER_BYTES;
        if value.len() > self.limits.max_value_bytes || bytes > room {
            let message = format!("the record {key} has {bytes} bytes, more than the target takes");
            return Err(Error::invalid("restore", message));
        }
        let full = self.open.bytes + bytes > room || self.open.len() + 1 >= self.limits.max_ops;
        let done = full.then(|| std::mem::take(&mut self.open));
        self.open.bytes += bytes;
        self.open.records.push((key, value));
        Ok(done)
    }

    pub(crate) fn finish(self) -> Batch {
        self.open
    }
}
