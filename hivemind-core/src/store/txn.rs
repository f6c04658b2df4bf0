//! A transaction being staged: what a decision read, as guards, and what it wants written.

use std::cmp::Ordering;

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
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// In key order, one entry a key, since most keys that are written are guarded, too. A list, for there are few: a
    /// store takes a hundred or so.
    ops: Vec<(Key, Op)>,
    /// Where the last one was staged. Decisions stage in key order, mostly, so the next one belongs behind it.
    near: usize,
    guards: usize,
    writes: usize,
}

impl PartialEq for Txn {
    fn eq(&self, other: &Self) -> bool {
        self.ops == other.ops
    }
}

impl Eq for Txn {}

/// What is demanded of a key and what is done to it; at least one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Op {
    guard: Option<Guard>,
    write: Option<Write>,
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
        self.stage(key.clone(), |key, op| op.demand(key, guard))
    }

    /// Gives `key` a value, whatever was staged for it before.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.write(key, Write::Put(value.into()));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: Key) {
        self.write(key, Write::Delete);
    }

    fn write(&mut self, key: Key, write: Write) {
        let infallible: Result<()> = self.stage(key, |_, op| {
            op.write = Some(write);
            Ok(())
        });
        debug_assert!(infallible.is_ok(), "a write is never refused");
    }

    /// Gives `key` a value in place of what `guard` demands; what this transaction wrote before needs no guard.
    pub(crate) fn replace(&mut self, key: &Key, guard: Option<Guard>, value: impl Into<Bytes>) -> Result<()> {
        self.stage(key.clone(), |key, op| {
            guard.map_or(Ok(()), |guard| op.demand(key, guard))?;
            op.write = Some(Write::Put(value.into()));
            Ok(())
        })
    }

    /// Gives `key`, which must be absent when the transaction is committed, a value; `false`, and nothing changes, if
    /// the transaction has put one.
    pub(crate) fn create(&mut self, key: &Key, value: impl Into<Bytes>) -> Result<bool> {
        self.stage(key.clone(), |key, op| {
            match op.write {
                Some(Write::Put(_)) => return Ok(false),
                Some(Write::Delete) => {}
                None => op.demand(key, Guard::Absent)?,
            }
            op.write = Some(Write::Put(value.into()));
            Ok(true)
        })
    }

    /// Changes what is staged for `key`; nothing if that is refused.
    fn stage<T>(&mut self, key: Key, change: impl FnOnce(&Key, &mut Op) -> Result<T>) -> Result<T> {
        let found = self.find(&key);
        if let Ok(at) = found
            && let Some((key, op)) = self.ops.get_mut(at)
        {
            let (guards, writes) = op.counts();
            let changed = change(key, op)?;
            let (now_guards, now_writes) = op.counts();
            self.guards += now_guards - guards;
            self.writes += now_writes - writes;
            self.near = at;
            return Ok(changed);
        }
        let mut op = Op::default();
        let changed = change(&key, &mut op)?;
        let (guards, writes) = op.counts();
        self.guards += guards;
        self.writes += writes;
        self.near = found.unwrap_or_else(|at| at);
        self.ops.insert(self.near, (key, op));
        Ok(changed)
    }

    /// Where `key` is, or where it belongs.
    fn find(&self, key: &Key) -> std::result::Result<usize, usize> {
        // Behind the last one staged, and before what follows that.
        if self.ops.get(self.near).is_some_and(|(near, _)| near < key) {
            let next = self.near + 1;
            match self.ops.get(next).map(|(next, _)| next.cmp(key)) {
                None | Some(Ordering::Greater) => return Err(next),
                Some(Ordering::Equal) => return Ok(next),
                Some(Ordering::Less) => {}
            }
        }
        self.ops.binary_search_by(|(other, _)| other.cmp(key))
    }

    fn op(&self, key: &Key) -> Option<&Op> {
        self.ops.get(self.find(key).ok()?).map(|(_, op)| op)
    }

    /// What has been staged for `key` so far.
    pub fn staged(&self, key: &Key) -> Staged<'_> {
        match self.op(key).and_then(|op| op.write.as_ref()) {
            Some(Write::Put(value)) => Staged::Put(value),
            Some(Write::Delete) => Staged::Deleted,
            None => Staged::Untouched,
        }
    }

    /// The guards, in key order.
    pub fn guards(&self) -> impl ExactSizeIterator<Item = (&Key, Guard)> {
        let all = self.ops.iter().filter_map(|(key, op)| Some((key, op.guard?)));
        Counted { all, left: self.guards }
    }

    /// The writes, in key order.
    pub fn writes(&self) -> impl ExactSizeIterator<Item = (&Key, &Write)> {
        let all = self.ops.iter().filter_map(|(key, op)| Some((key, op.write.as_ref()?)));
        Counted { all, left: self.writes }
    }

    /// Every key with what is demanded of it and what is done to it, in key order.
    pub(crate) fn ops(&self) -> impl Iterator<Item = (&Key, Option<Guard>, Option<&Write>)> {
        self.ops.iter().map(|(key, op)| (key, op.guard, op.write.as_ref()))
    }

    /// The writes below a range of keys, in key order.
    pub(crate) fn writes_in(&self, prefix: &super::Prefix) -> impl Iterator<Item = (&Key, &Write)> {
        let first = self.ops.partition_point(|(key, _)| key.as_bytes() <= prefix.as_bytes());
        let rest = self.ops.get(first..).unwrap_or_default().iter();
        rest.take_while(|(key, _)| prefix.covers(key)).filter_map(|(key, op)| Some((key, op.write.as_ref()?)))
    }

    /// Whether there is neither guard nor write.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

impl Op {
    fn demand(&mut self, key: &Key, guard: Guard) -> Result<()> {
        let conflict = || Error::of(ErrorKind::Conflict, "guard", Conflict { key: key.clone(), found: None });
        let both = self.guard.map_or(Some(guard), |before| before.and(guard));
        self.guard = Some(both.ok_or_else(conflict)?);
        Ok(())
    }

    /// How many guards and how many writes it is; neither ever becomes fewer.
    fn counts(&self) -> (usize, usize) {
        (usize::from(self.guard.is_some()), usize::from(self.write.is_some()))
    }
}

/// Of known length.
struct Counted<I> {
    all: I,
    left: usize,
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let next = self.all.next()?;
        self.left = self.left.saturating_sub(1);
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<I: Iterator> ExactSizeIterator for Counted<I> {}

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
    fn guards_and_writes_are_counted_apart_and_each_once() {
        let mut txn = Txn::new();
        let count = |txn: &Txn| {
            ((txn.guards().len(), txn.writes().len()), (txn.guards().count(), txn.writes().count()))
        };
        for (step, guards, writes) in
            [(0, 1, 0), (1, 1, 1), (2, 1, 2), (3, 1, 2), (4, 2, 3), (5, 2, 3), (6, 2, 3)]
        {
            match step {
                0 => txn.guard(&key("a"), Guard::Absent).unwrap(),
                1 => txn.put(key("a"), "1"),
                2 => txn.delete(key("b")),
                3 => txn.put(key("b"), "1"),
                4 => txn.replace(&key("c"), Some(Guard::Exists), "1").unwrap(),
                5 => txn.replace(&key("c"), None, "2").unwrap(),
                _ => assert!(txn.replace(&key("c"), Some(Guard::Absent), "3").is_err()),
            }
            assert_eq!(count(&txn), ((guards, writes), (guards, writes)), "after step {step}");
        }
        assert_eq!(txn.staged(&key("c")), Staged::Put(&"2".into()), "what is refused changes nothing");
        assert_eq!(
            txn.guards().collect::<Vec<_>>(),
            [(&key("a"), Guard::Absent), (&key("c"), Guard::Exists)]
        );
    }

    #[test]
    fn order_of_staging_makes_no_difference() {
        let names = ["a", "b", "b/1", "b/2", "b0", "c", "d"];
        for shift in 0..names.len() {
            for step in 1..names.len() {
                let mut txn = Txn::new();
                // Seven is a prime, so each step comes by all of them; twice, as one is found or made.
                for at in (0..2 * names.len()).map(|n| (shift + n * step) % names.len()) {
                    txn.guard(&key_of(names[at]), Guard::Exists).unwrap();
                    txn.put(key_of(names[at]), names[at]);
                }
                let staged: Vec<_> = txn.writes().map(|(key, _)| key.to_string()).collect();
                assert_eq!(staged, names);
                assert_eq!((txn.guards().len(), txn.writes().len()), (names.len(), names.len()));
                assert!(names.iter().all(|name| txn.staged(&key_of(name)) == Staged::Put(&(*name).into())));
                let missing = ["0", "a0", "b/0", "b/11", "b/3", "bb", "e"];
                assert!(missing.iter().all(|name| txn.staged(&key_of(name)) == Staged::Untouched));
                let below = |prefix: &crate::store::Prefix| {
                    txn.writes_in(prefix).map(|(key, _)| key.to_string()).collect::<Vec<_>>()
                };
                assert_eq!(below(&crate::store::Prefix::new(["b"]).unwrap()), ["b/1", "b/2"]);
                assert_eq!(below(&crate::store::Prefix::ROOT), names);
            }
        }
    }

    fn key_of(path: &str) -> Key {
        Key::new(path.split('/')).unwrap()
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
