//! The store, as naively as it can be written.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::store::{Conflict, Key, Record, Revision, ScanPage, ScanRequest, Txn, Write};
use crate::testkit::linearizable::{Call, Operation, Outcome};

/// A key with its value and the revision it was put at; `None` is one that nobody ever learns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) map: BTreeMap<Key, (Bytes, Option<Revision>)>,
    pub(super) newest: Revision,
    /// Everything that was ever put.
    log: Vec<(Key, Bytes, Revision)>,
}

impl Model {
    pub(super) fn refusal(&self, txn: &Txn) -> Option<(Key, Option<Option<Revision>>)> {
        txn.guards().find_map(|(key, guard)| {
            let found = self.map.get(key).map(|(_, at)| *at);
            // No guard is about a revision that nobody learns.
            let told = found.map(|at| at.unwrap_or(Revision::new(u64::MAX)));
            (!guard.holds(told)).then(|| (key.clone(), found))
        })
    }

    pub(super) fn changes(&self, txn: &Txn) -> bool {
        txn.writes().any(|(key, write)| matches!(write, Write::Put(_)) || self.map.contains_key(key))
    }

    pub(super) fn write(&mut self, txn: &Txn, at: Option<Revision>) {
        for (key, write) in txn.writes() {
            match write {
                Write::Put(value) => {
                    self.log.extend(at.map(|at| (key.clone(), value.clone(), at)));
                    self.map.insert(key.clone(), (value.clone(), at));
                }
                Write::Delete => drop(self.map.remove(key)),
            }
        }
        self.newest = at.unwrap_or(self.newest).max(self.newest);
    }

    fn shows(&self, record: &Record) -> bool {
        self.map.get(&record.key) == Some(&(record.value.clone(), Some(record.mod_revision)))
    }

    fn once_showed(&self, record: &Record) -> bool {
        self.log.contains(&(record.key.clone(), record.value.clone(), record.mod_revision))
    }

    pub(super) fn below<'a>(&'a self, request: &'a ScanRequest) -> impl Iterator<Item = &'a Key> {
        self.map.keys().filter(|key| request.prefix.covers(key) && request.after.as_ref() < Some(key))
    }

    fn could_say(&self, request: &ScanRequest, page: &ScanPage) -> bool {
        let keys: Vec<_> = self.below(request).collect();
        let told: Vec<_> = page.records.iter().map(|record| &record.key).collect();
        let exact = if page.more { keys.len() > told.len() } else { keys.len() == told.len() };
        exact && keys.starts_with(&told) && page.records.iter().all(|record| self.shows(record))
    }

    /// The state after the operation, if it can be said to happen here; `at` is the revision of an unknown commit.
    pub(super) fn after(&self, operation: &Operation, at: Option<Revision>) -> Option<Self> {
        let mut after = self.clone();
        let reply = operation.completed.as_ref().map_or(&Outcome::Unknown, |(_, outcome)| outcome);
        let fits = match (&operation.call, reply) {
            (Call::Commit(txn), Outcome::Unknown) => {
                after.write(txn, at);
                self.refusal(txn).is_none() && at.is_none_or(|at| at > self.newest)
            }
            (Call::Commit(txn), Outcome::Committed(at)) => {
                after.write(txn, Some(*at));
                let grows = if self.changes(txn) { *at > self.newest } else { *at >= self.newest };
                self.refusal(txn).is_none() && grows
            }
            (Call::Commit(txn), Outcome::Conflict(None)) => self.refusal(txn).is_some(),
            (Call::Commit(txn), Outcome::Conflict(Some(Conflict { key, found }))) => {
                self.refusal(txn) == Some((key.clone(), found.map(Some)))
            }
            (Call::Get(key, None), Outcome::Found(None)) => !self.map.contains_key(key),
            (Call::Get(key, None), Outcome::Found(Some(record))) => record.key == *key && self.shows(record),
            (Call::Get(key, Some(_)), Outcome::Found(found)) => {
                found.iter().all(|record| record.key == *key && self.once_showed(record))
            }
            (Call::Scan(request), Outcome::Page(page)) => {
                after.newest = page.revision;
                page.revision >= self.newest && self.could_say(request, page)
            }
            (Call::Revision, Outcome::Newest(newest)) => {
                after.newest = *newest;
                *newest >= self.newest
            }
            _ => false,
        };
        fits.then_some(after)
    }
}
