//! A transaction being staged: what a decision read, as guards, and what it wants written.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use bytes::Bytes;

use super::{Key, Revision};
use crate::{Error, ErrorKind, Result};

/// What must hold of a key for a transaction to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "every adapter must check every guard")]
pub enum Guard {
    /// The key does not exist.
    Absent,
    /// The key exists.
    Exists,
    /// The key exists and was last put by this transaction.
    Unchanged(Revision),
}

impl Guard {
    /// Whether it holds for a key last put at `found`, or absent.
    pub fn holds(self, found: Option<Revision>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Exists => found.is_some(),
            Self::Unchanged(at) => found == Some(at),
        }
    }

    /// The guard that means both, if both can hold.
    fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (a, b) if a == b => Some(a),
            (Self::Exists, Self::Unchanged(at)) | (Self::Unchanged(at), Self::Exists) => {
                Some(Self::Unchanged(at))
            }
            _ => None,
        }
    }
}

/// What a transaction does to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a key is put or deleted")]
pub enum Write {
    /// Gives the key this value.
    Put(Bytes),
    /// Removes the key; a missing key is fine.
    Delete,
}

/// What a transaction will have made of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a key is put, deleted, or left alone")]
pub enum Staged<'a> {
    /// The transaction puts this value.
    Put(&'a Bytes),
    /// The transaction deletes the key.
    Deleted,
    /// The transaction does not write the key.
    Untouched,
}

/// Guards and writes that become true together or not at all.
///
/// Several decisions stage into one `Txn`; a later one sees what an earlier one staged. The host commits it once.
///
/// ```
/// use hivemind_core::store::{Guard, Key, Txn};
///
/// let mut txn = Txn::new();
/// txn.guard(&Key::new(["leader"])?, Guard::Absent)?;
/// txn.put(Key::new(["leader"])?, "node-1");
/// assert_eq!((txn.guards().count(), txn.writes().count()), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    guards: BTreeMap<Key, Guard>,
    writes: BTreeMap<Key, Write>,
}

impl Txn {
    /// An empty transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands that `guard` hold of `key` when the transaction is committed.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it contradicts an earlier guard: two decisions saw different states.
    pub fn guard(&mut self, key: &Key, guard: Guard) -> Result<()> {
        match self.guards.entry(key.clone()) {
            Slot::Vacant(slot) => {
                slot.insert(guard);
            }
            Slot::Occupied(mut slot) => match slot.get().and(guard) {
                Some(both) => *slot.get_mut() = both,
                None => {
                    let detail = Conflict { key: key.clone(), found: None };
                    return Err(Error::of(ErrorKind::Conflict, "guard", detail));
                }
            },
        }
        Ok(())
    }

    /// Gives `key` a value, whatever was staged for it before.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.writes.insert(key, Write::Put(value.into()));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Key) {
        self.writes.insert(key, Write::Delete);
    }

    /// What has been staged for `key` so far.
    pub fn staged(&self, key: &Key) -> Staged<'_> {
        match self.writes.get(key) {
            Some(Write::Put(value)) => Staged::Put(value),
            Some(Write::Delete) => Staged::Deleted,
            None => Staged::Untouched,
        }
    }

    /// The guards, in key order.
    pub fn guards(&self) -> impl ExactSizeIterator<Item = (&Key, Guard)> {
        self.guards.iter().map(|(key, guard)| (key, *guard))
    }

    /// The writes, in key order.
    pub fn writes(&self) -> impl ExactSizeIterator<Item = (&Key, &Write)> {
        self.writes.iter()
    }

    /// The writes below a range of keys, in key order.
    pub(crate) fn writes_in(&self, prefix: &super::Prefix) -> impl Iterator<Item = (&Key, &Write)> {
        self.writes.range(prefix.range())
    }

    /// Whether there is neither guard nor write.
    pub fn is_empty(&self) -> bool {
        self.guards.is_empty() && self.writes.is_empty()
    }
}

/// A guard did not hold. Detail of a [`Conflict`](crate::ErrorKind::Conflict) error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key {key} changed under the decision: read again and decide again")]
#[non_exhaustive]
pub struct Conflict {
    /// The first key, in key order, whose guard did not hold.
    pub key: Key,
    /// The transaction that last put it; `None` if it is absent, or if two staged guards contradict each other.
    pub found: Option<Revision>,
}

impl Conflict {
    /// The guard of `key` did not hold: it was last put at `found`.
    pub fn new(key: Key, found: Option<Revision>) -> Self {
        Self { key, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new([name]).unwrap()
    }

    #[test]
    fn contradicting_guards_are_a_conflict_that_names_the_key() {
        let mut txn = Txn::new();
        txn.guard(&key("a"), Guard::Absent).unwrap();
        let error = txn.guard(&key("a"), Guard::Unchanged(Revision::new(3))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(error.detail::<Conflict>().unwrap().key, key("a"));
    }

    #[test]
    fn the_stronger_guard_stays() {
        let mut txn = Txn::new();
        txn.guard(&key("a"), Guard::Exists).unwrap();
        txn.guard(&key("a"), Guard::Unchanged(Revision::new(3))).unwrap();
        txn.guard(&key("a"), Guard::Exists).unwrap();
        assert_eq!(txn.guards().next(), Some((&key("a"), Guard::Unchanged(Revision::new(3)))));
    }
}
