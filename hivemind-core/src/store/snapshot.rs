//! A consistent picture of part of a store, in memory, from which decisions read without I/O.

use std::any::Any;
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::partial::{Missed, Partial};
use super::{Key, Prefix, Record, Revision};

/// The records below some prefixes, all as of one revision.
///
/// A [`Mirror`](crate::Mirror) keeps one current; a test builds one by hand from records.
#[derive(Debug, Default)]
pub struct Snapshot {
    revision: Revision,
    entries: BTreeMap<Key, Arc<Entry>>,
    /// The same entries: most reads are of one key, and this finds it several times faster.
    index: HashMap<Key, Arc<Entry>, RandomState>,
    /// What decisions on it have encoded lately: shown by a mirror soon, as a rule.
    written: Mutex<VecDeque<(Bytes, Decoded)>>,
    /// Where not everything is read that may be looked for: what is, and what was.
    partial: Option<Box<Partial>>,
}

/// What a record was decoded to, of whatever type.
type Decoded = Arc<dyn Any + Send + Sync>;

/// How much of what was encoded lately is remembered: that of a few decisions under way.
const WRITTEN: usize = 64;

/// What `bytes` mean, if that was noted; it goes into an entry, so it is noted no longer.
fn known(written: &mut Mutex<VecDeque<(Bytes, Decoded)>>, bytes: &Bytes) -> Option<Decoded> {
    let written = written.get_mut().unwrap_or_else(PoisonError::into_inner);
    let at = written.iter().position(|(known, _)| same(known, bytes))?;
    written.remove(at).map(|(_, means)| means)
}

/// Whether they are the same bytes in memory. Others that are equal count as different.
fn same(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

/// A record, and what it was last decoded to, so that a value is decoded once and not at each decision.
pub(crate) struct Entry {
    pub(crate) record: Record,
    pub(crate) decoded: OnceLock<Decoded>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}

impl Snapshot {
    /// The state `records` as of `revision`.
    pub fn new(revision: Revision, records: impl IntoIterator<Item = Record>) -> Self {
        let mut snapshot = Self { revision, ..Self::default() };
        for record in records {
            snapshot.put(record);
        }
        snapshot
    }

    /// The state as of `revision` of which nothing is read yet: it notes what is looked for.
    pub(crate) fn unread(revision: Revision) -> Self {
        Self { revision, partial: Some(Box::default()), ..Self::default() }
    }

    /// What was looked for since the last call, and was not read.
    pub(crate) fn missed(&self) -> Missed {
        self.partial.as_ref().map(|partial| partial.missed()).unwrap_or_default()
    }

    /// `key` is read, and has this record, or none.
    pub(crate) fn read(&mut self, key: Key, record: Option<Record>) {
        record.into_iter().for_each(|record| self.put(record));
        if let Some(partial) = &mut self.partial {
            partial.has_read(key);
        }
    }

    /// All below `prefix` is read.
    pub(crate) fn read_below(&mut self, prefix: Prefix, records: impl IntoIterator<Item = Record>) {
        records.into_iter().for_each(|record| self.put(record));
        if let Some(partial) = &mut self.partial {
            partial.has_read_below(prefix);
        }
    }

    /// The revision it shows.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The record of `key`, if it exists.
    pub fn get(&self, key: &Key) -> Option<&Record> {
        self.entry(key).map(|entry| &entry.record)
    }

    /// The records below `prefix`, in key order.
    pub fn scan(&self, prefix: &Prefix) -> impl DoubleEndedIterator<Item = &Record> {
        self.entries(prefix).map(|(_, entry)| &entry.record)
    }

    /// The records below `prefix` from the key `from` on, in key order: finding the first one takes O(log n).
    pub fn scan_from<'a>(&'a self, prefix: &'a Prefix, from: &Key) -> impl Iterator<Item = &'a Record> {
        self.look_below(prefix);
        let (first, _) = prefix.range();
        let before = matches!(&first, Bound::Excluded(first) | Bound::Included(first) if from <= first);
        let start = if before { first } else { Bound::Included(from.clone()) };
        let rest = self.entries.range((start, Bound::Unbounded));
        rest.take_while(|(key, _)| prefix.covers(key)).map(|(_, entry)| &entry.record)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no record at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn entry(&self, key: &Key) -> Option<&Entry> {
        let found = self.index.get(key).map(|entry| &**entry);
        if let (None, Some(partial)) = (&found, &self.partial) {
            partial.look_for(key);
        }
        found
    }

    fn look_below(&self, prefix: &Prefix) {
        if let Some(partial) = &self.partial {
            partial.look_below(prefix);
        }
    }

    pub(crate) fn entries(&self, prefix: &Prefix) -> impl DoubleEndedIterator<Item = (&Key, &Entry)> {
        self.look_below(prefix);
        self.entries.range(prefix.range()).map(|(key, entry)| (key, &**entry))
    }

    pub(crate) fn put(&mut self, record: Record) {
        let key = record.key.clone();
        let slot = self.index.entry(key.clone());
        // What was put again as it was need not be decoded again.
        let decoded = match &slot {
            Slot::Occupied(before) if before.get().record.value == record.value => {
                before.get().decoded.clone()
            }
            _ => match known(&mut self.written, &record.value) {
                Some(known) => OnceLock::from(known),
                None => OnceLock::new(),
            },
        };
        let entry = Arc::new(Entry { record, decoded });
        slot.insert_entry(Arc::clone(&entry));
        self.entries.insert(key, entry);
    }

    /// Notes what `bytes` mean: whoever reads just these bytes, which nobody can change, need not decode them.
    pub(crate) fn remember(&self, bytes: Bytes, means: Decoded) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() >= WRITTEN {
            written.pop_front();
        }
        written.push_back((bytes, means));
    }

    /// What `bytes` mean, if a decision has encoded them lately.
    pub(crate) fn meaning(&self, bytes: &Bytes) -> Option<Decoded> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.iter().find(|(known, _)| same(known, bytes)).map(|(_, means)| Arc::clone(means))
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        self.index.remove(key);
        self.entries.remove(key);
    }

    pub(crate) fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_may_begin_anywhere() -> Result<(), crate::store::InvalidKey> {
        let record = |key: &str| -> Result<Record, crate::store::InvalidKey> {
            let revision = Revision::new(1);
            Ok(Record::new(Key::new(key.split('/'))?, bytes::Bytes::new(), revision, revision))
        };
        let keys = ["a/1", "b/1", "b/3", "b/5", "c/1"];
        let records = keys.into_iter().map(record).collect::<Result<Vec<_>, _>>()?;
        let (view, below) = (Snapshot::new(Revision::new(1), records), Prefix::new(["b"])?);
        let from = |key: &str| -> Result<Vec<String>, crate::store::InvalidKey> {
            let from = Key::new(key.split('/'))?;
            Ok(view.scan_from(&below, &from).map(|record| record.key.to_string()).collect())
        };
        assert_eq!(from("a/0")?, ["b/1", "b/3", "b/5"]);
        assert_eq!(from("b/2")?, ["b/3", "b/5"]);
        assert_eq!(from("b/5")?, ["b/5"]);
        assert!(from("b/6")?.is_empty() && from("c/0")?.is_empty());
        Ok(())
    }
}
