//! Every version of every key since the last compaction. No I/O, no clock, no async.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::store::{
    Compacted, Conflict, Event, FutureRevision, Key, Prefix, Record, Revision, ScanPage, ScanRequest, Txn,
    WatchBatch, Write,
};
use crate::{Error, ErrorKind, Result};

/// How many records a page has when the caller leaves it open.
const PAGE: usize = 10_000;
/// How many transactions a watch looks through at a time, while it holds everybody else up.
const LOOK: usize = 1_000;

/// All versions since the last compaction, and transactions that are decided and not yet to be seen.
///
/// A transaction is [staged](Self::stage) first and [published](Self::publish) once it is durable. Later ones are
/// decided on what is staged; readers see what is published.
#[derive(Debug, Default)]
pub(in crate::adapters) struct History {
    /// The newest revision that is published.
    newest: Revision,
    /// The newest revision that is staged.
    head: Revision,
    /// The oldest revision that can be read.
    oldest: Revision,
    keys: BTreeMap<Key, Versions>,
    /// What each transaction did, one entry a revision, from `oldest + 1` to `head`.
    log: VecDeque<Arc<[Event]>>,
}

/// What a key was from `revision` on; without a value it was gone.
#[derive(Debug)]
struct Version {
    revision: Revision,
    created: Revision,
    value: Option<Bytes>,
}

impl Version {
    fn record(&self, key: &Key) -> Option<Record> {
        let value = self.value.clone()?;
        Some(Record::new(key.clone(), value, self.revision, self.created))
    }

    fn event(&self, key: &Key) -> Event {
        self.record(key).map_or_else(|| Event::Delete(key.clone()), Event::Put)
    }
}

/// What a write makes of a key that is `live`, if anything.
fn written(write: &Write, revision: Revision, live: Option<&Version>) -> Option<Version> {
    match (write, live) {
        (Write::Put(value), live) => {
            let created = live.map_or(revision, |version| version.created);
            Some(Version { revision, created, value: Some(value.clone()) })
        }
        (Write::Delete, Some(_)) => Some(Version { revision, created: revision, value: None }),
        (Write::Delete, None) => None,
    }
}

/// The versions of a key: at least one, and most keys have no other.
#[derive(Debug)]
struct Versions {
    last: Version,
    /// Those before, in order.
    earlier: Vec<Version>,
}

impl Versions {
    /// The version that counts at `at`. Mostly that is the last one.
    fn as_of(&self, at: Revision) -> Option<&Version> {
        if self.last.revision <= at {
            return Some(&self.last);
        }
        let known = self.earlier.partition_point(|version| version.revision <= at);
        self.earlier.get(known.checked_sub(1)?)
    }

    /// The last one, if the key is not gone.
    fn live(&self) -> Option<&Version> {
        Some(&self.last).filter(|version| version.value.is_some())
    }

    fn push(&mut self, version: Version) {
        self.earlier.push(std::mem::replace(&mut self.last, version));
    }

    /// Takes the last one back; `false` if there is no other.
    fn pop(&mut self) -> bool {
        let Some(before) = self.earlier.pop() else { return false };
        self.last = before;
        true
    }

    /// Drops what nobody sees from `oldest` on; `false` if that is all.
    fn forget(&mut self, oldest: Revision) -> bool {
        let is_old = |version: &Version| version.revision <= oldest;
        if is_old(&self.last) {
            self.earlier = Vec::new();
            return self.last.value.is_some();
        }
        let kept_from = self.earlier.iter().rposition(is_old).unwrap_or(0);
        self.earlier.drain(..kept_from);
        if self.earlier.first().is_some_and(|first| first.value.is_none() && is_old(first)) {
            self.earlier.remove(0);
        }
        if self.earlier.capacity() > 2 * self.earlier.len() {
            self.earlier.shrink_to_fit();
        }
        true
    }
}

fn push(slot: Slot<'_, Key, Versions>, version: Version) {
    match slot {
        Slot::Occupied(mut versions) => versions.get_mut().push(version),
        Slot::Vacant(slot) => {
            slot.insert(Versions { last: version, earlier: Vec::new() });
        }
    }
}

/// What staging a transaction came to.
pub(in crate::adapters) enum Staged {
    /// It changes nothing, and belongs to this revision.
    Nothing(Revision),
    /// It is this revision.
    Changed(Revision),
}

impl History {
    pub(in crate::adapters) fn newest(&self) -> Revision {
        self.newest
    }

    /// Whether something is staged that readers do not see yet.
    #[cfg(feature = "redb")]
    pub(in crate::adapters) fn is_ahead(&self) -> bool {
        self.head > self.newest
    }

    /// Refuses a revision that is not there yet.
    pub(in crate::adapters) fn known(&self, operation: &'static str, at: Revision) -> Result<()> {
        if at <= self.newest {
            return Ok(());
        }
        Err(Error::of(ErrorKind::Invalid, operation, FutureRevision::new(at, self.newest)))
    }

    /// How many records there are at the newest revision.
    #[cfg(feature = "redb")]
    pub(in crate::adapters) fn len(&self) -> usize {
        self.keys.values().filter(|v| v.as_of(self.newest).is_some_and(|v| v.value.is_some())).count()
    }

    /// The revision to read at, if it is there.
    fn readable(&self, operation: &'static str, at: Option<Revision>) -> Result<Revision> {
        let at = at.unwrap_or(self.newest);
        self.known(operation, at)?;
        if at < self.oldest {
            return Err(Error::of(ErrorKind::Expired, operation, Compacted::new(at, self.oldest)));
        }
        Ok(at)
    }

    pub(in crate::adapters) fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        let at = self.readable("get", at)?;
        let version = self.keys.get(key).and_then(|versions| versions.as_of(at));
        Ok(version.and_then(|version| version.record(key)))
    }

    pub(in crate::adapters) fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        let at = self.readable("scan", request.at)?;
        let limit = request.limit.unwrap_or(PAGE).max(1);
        let (mut start, end) = request.prefix.range();
        if let Some(after) = &request.after {
            if let Bound::Excluded(end) = &end
                && after >= end
            {
                return Ok(ScanPage::new(at, Vec::new(), false));
            }
            start = match start {
                Bound::Excluded(first) => Bound::Excluded(first.max(after.clone())),
                _ => Bound::Excluded(after.clone()),
            };
        }
        let mut found = self
            .keys
            .range((start, end))
            .filter_map(|(key, versions)| versions.as_of(at).and_then(|version| version.record(key)));
        let records = found.by_ref().take(limit).collect();
        Ok(ScanPage::new(at, records, found.next().is_some()))
    }

    /// The revision at which `key` was last put, unless it is gone.
    fn put_at(&self, key: &Key) -> Option<Revision> {
        self.keys.get(key)?.live().map(|last| last.revision)
    }

    /// Decides `txn` on everything staged before.
    ///
    /// What it does to a key is done with the look at its guard, for to find a key takes most of the time, and undone if
    /// a later guard does not hold.
    pub(in crate::adapters) fn stage(&mut self, txn: &Txn) -> Result<Staged> {
        let revision = self.head.next();
        let mut events = Vec::with_capacity(txn.writes().len());
        for (key, guard, write) in txn.ops() {
            let found = match write {
                None => self.put_at(key),
                Some(write) => {
                    let slot = self.keys.entry(key.clone());
                    let live = match &slot {
                        Slot::Occupied(versions) => versions.get().live(),
                        Slot::Vacant(_) => None,
                    };
                    let found = live.map(|version| version.revision);
                    if guard.is_none_or(|guard| guard.holds(found))
                        && let Some(version) = written(write, revision, live)
                    {
                        events.push(version.event(key));
                        push(slot, version);
                    }
                    found
                }
            };
            if guard.is_some_and(|guard| !guard.holds(found)) {
                self.undo(&events);
                return Err(Error::of(ErrorKind::Conflict, "commit", Conflict::new(key.clone(), found)));
            }
        }
        if events.is_empty() {
            return Ok(Staged::Nothing(self.head));
        }
        self.head = revision;
        self.log.push_back(events.into());
        Ok(Staged::Changed(revision))
    }

    /// What the transaction that was staged last does.
    #[cfg(feature = "redb")]
    pub(in crate::adapters) fn staged_last(&self) -> Arc<[Event]> {
        self.log.back().cloned().unwrap_or_default()
    }

    /// Takes back the last versions that these events made.
    fn undo(&mut self, events: &[Event]) {
        for event in events {
            if self.keys.get_mut(event.key()).is_some_and(|versions| !versions.pop()) {
                self.keys.remove(event.key());
            }
        }
    }

    /// Shows readers everything staged up to `revision`.
    pub(in crate::adapters) fn publish(&mut self, revision: Revision) {
        self.newest = self.newest.max(revision.min(self.head));
    }

    /// Forgets what is staged and not published.
    #[cfg(feature = "redb")]
    pub(in crate::adapters) fn roll_back(&mut self) {
        while self.head > self.newest {
            let undone = self.log.pop_back();
            self.undo(undone.as_deref().unwrap_or_default());
            self.head = Revision::new(self.head.as_u64().saturating_sub(1));
        }
    }

    /// A history that begins with `records`, as of `oldest`.
    #[cfg(feature = "redb")]
    pub(in crate::adapters) fn begin(oldest: Revision, records: impl IntoIterator<Item = Record>) -> Self {
        let versions = |record: Record| {
            let Record { key, value, mod_revision, create_revision } = record;
            let last = Version { revision: mod_revision, created: create_revision, value: Some(value) };
            (key, Versions { last, earlier: Vec::new() })
        };
        let keys = records.into_iter().map(versions).collect();
        Self { newest: oldest, head: oldest, oldest, keys, log: VecDeque::new() }
    }

    /// Repeats the transaction after the newest, as it was.
    #[cfg(feature = "redb")]
    pub(in crate::adapters) fn replay(&mut self, events: Vec<Event>) {
        let revision = self.head.next();
        for event in &events {
            let version = match event {
                Event::Put(record) => {
                    Version { revision, created: record.create_revision, value: Some(record.value.clone()) }
                }
                Event::Delete(_) => Version { revision, created: revision, value: None },
            };
            push(self.keys.entry(event.key().clone()), version);
        }
        self.log.push_back(events.into());
        (self.head, self.newest) = (revision, revision);
    }

    pub(in crate::adapters) fn compact(&mut self, at: Revision) -> Result<()> {
        self.known("compact", at)?;
        while self.oldest < at {
            self.oldest = self.oldest.next();
            let Some(events) = self.log.pop_front() else { break };
            for event in events.iter() {
                self.forget(event.key());
            }
        }
        Ok(())
    }

    /// Drops the versions of `key` that no readable revision shows.
    fn forget(&mut self, key: &Key) {
        if self.keys.get_mut(key).is_some_and(|versions| !versions.forget(self.oldest)) {
            self.keys.remove(key);
        }
    }

    /// The first transaction from `next` on that touched `prefix`, or how far there was none.
    pub(super) fn since(&self, prefix: &Prefix, next: Revision) -> Result<Since> {
        let next = next.max(Revision::ZERO.next());
        if next <= self.oldest {
            return Err(Error::of(ErrorKind::Expired, "watch", Compacted::new(next, self.oldest)));
        }
        let first = self.oldest.as_u64() + 1;
        let skip = usize::try_from(next.as_u64() - first).unwrap_or(usize::MAX);
        let mut revision = next;
        for events in self.log.iter().skip(skip).take(LOOK) {
            if revision > self.newest {
                break;
            }
            let mut covered = events.iter().filter(|event| prefix.covers(event.key())).peekable();
            if covered.peek().is_some() {
                // A list that grows is made several times, and most watches see most of a transaction.
                let mut below = Vec::with_capacity(events.len());
                below.extend(covered.cloned());
                return Ok(Since::Changed(WatchBatch::new(revision, below)));
            }
            revision = revision.next();
        }
        Ok(Since::NothingUntil(self.newest.min(Revision::new(revision.as_u64().saturating_sub(1)))))
    }
}

/// What there is to tell a watch.
pub(super) enum Since {
    Changed(WatchBatch),
    NothingUntil(Revision),
}
