//! Puts etcd's events together to whole transactions. No I/O, no clock, no async.
//!
//! Every transaction puts the clock as its last operation. So its end is known, however etcd cuts up what it sends,
//! and a transaction outside the watched prefix is heard of without a question.

use crate::store::{Event, Prefix, Revision, WatchBatch};

/// What etcd told of one key in the namespace.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    Record(Event),
    /// The clock: the transaction is whole, and has asked for so many deletes.
    Tick {
        deletes: usize,
    },
}

/// A whole transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) batch: WatchBatch,
    /// Fewer keys were deleted than the transaction asked for: some did not exist, or etcd has compacted their
    /// deletion away.
    pub(super) doubtful: bool,
}

/// The transactions below a prefix, one after the other.
#[derive(Debug)]
pub(super) struct Batches {
    prefix: Prefix,
    next: Revision,
    open: Vec<Event>,
    deleted: usize,
    /// Of what is open.
    revision: Revision,
}

impl Batches {
    /// From the transaction `next` on.
    pub(super) fn new(prefix: Prefix, next: Revision) -> Self {
        Self { prefix, next, open: Vec::new(), deleted: 0, revision: Revision::ZERO }
    }

    /// The first transaction that was not told.
    pub(super) fn next(&self) -> Revision {
        self.next
    }

    /// Everything up to `revision` has been told.
    pub(super) fn told(&mut self, revision: Revision) {
        self.next = revision.next();
    }

    /// Forgets what was not told, for it will come again.
    pub(super) fn restart(&mut self) {
        self.open.clear();
        self.deleted = 0;
        self.revision = Revision::ZERO;
    }

    /// Takes in what etcd told of the transaction `revision`; returns it if it is whole.
    pub(super) fn take(&mut self, revision: Revision, seen: Seen) -> Option<Told> {
        if revision < self.next {
            return None;
        }
        if revision > self.revision {
            // What is open has no end, so it was not written by us, and cannot be told.
            self.restart();
            self.revision = revision;
        }
        match seen {
            Seen::Record(event) => {
                self.deleted += usize::from(matches!(event, Event::Delete(_)));
                if self.prefix.covers(event.key()) {
                    self.open.push(event);
                }
                None
            }
            Seen::Tick { deletes } => {
                let mut events = std::mem::take(&mut self.open);
                events.sort_by(|a, b| a.key().cmp(b.key()));
                let doubtful = self.deleted < deletes;
                self.deleted = 0;
                Some(Told { batch: WatchBatch::new(revision, events), doubtful })
            }
        }
    }
}

/// Drops the bookmarks that something else follows.
pub(super) fn without_idle(batches: Vec<WatchBatch>) -> Vec<WatchBatch> {
    let last = batches.len().saturating_sub(1);
    let worth = |(n, batch): &(usize, WatchBatch)| !batch.events.is_empty() || *n == last;
    batches.into_iter().enumerate().filter(worth).map(|(_, batch)| batch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Key;

    fn gone(key: &str) -> Seen {
        Seen::Record(Event::Delete(Key::from_bytes(key.as_bytes()).unwrap()))
    }

    fn tick(deletes: usize) -> Seen {
        Seen::Tick { deletes }
    }

    fn from(next: u64) -> Batches {
        Batches::new(Prefix::new(["p"]).unwrap(), Revision::new(next))
    }

    fn take(batches: &mut Batches, revision: u64, seen: Seen) -> Option<(u64, String, bool)> {
        let Told { batch, doubtful } = batches.take(Revision::new(revision), seen)?;
        batches.told(batch.revision);
        let keys: Vec<_> = batch.events.iter().map(|event| event.key().to_string()).collect();
        Some((batch.revision.as_u64(), keys.join(" "), doubtful))
    }

    #[test]
    fn a_transaction_is_told_when_it_is_whole() {
        let mut batches = from(5);
        assert_eq!(take(&mut batches, 5, gone("p/b")), None);
        assert_eq!(take(&mut batches, 5, gone("q/b")), None);
        assert_eq!(take(&mut batches, 5, gone("p/a")), None);
        assert_eq!(take(&mut batches, 5, tick(3)), Some((5, "p/a p/b".to_owned(), false)));
        assert_eq!(take(&mut batches, 7, tick(0)), Some((7, String::new(), false)));
        assert_eq!(batches.next(), Revision::new(8));
    }

    #[test]
    fn what_was_told_or_not_asked_for_is_not_told() {
        let mut batches = from(5);
        assert_eq!(take(&mut batches, 4, tick(0)), None);
        assert!(take(&mut batches, 5, tick(0)).is_some());
        assert_eq!(take(&mut batches, 5, tick(0)), None);
    }

    #[test]
    fn what_was_cut_off_begins_again() {
        let mut batches = from(5);
        assert_eq!(take(&mut batches, 5, gone("p/a")), None);
        batches.restart();
        assert_eq!(take(&mut batches, 5, gone("p/a")), None);
        assert_eq!(take(&mut batches, 5, tick(1)), Some((5, "p/a".to_owned(), false)));
    }

    #[test]
    fn what_was_whole_and_not_told_comes_again() {
        let mut batches = from(5);
        for _ in 0..2 {
            assert!(batches.take(Revision::new(5), tick(0)).is_some());
            assert!(batches.take(Revision::new(6), tick(0)).is_some());
            assert_eq!(batches.next(), Revision::new(5));
            batches.restart();
        }
    }

    #[test]
    fn a_missing_delete_is_doubtful() {
        assert_eq!(take(&mut from(5), 5, tick(1)), Some((5, String::new(), true)));
    }

    #[test]
    fn writes_of_others_are_not_told() {
        let mut batches = from(5);
        assert_eq!(take(&mut batches, 5, gone("p/theirs")), None);
        assert_eq!(take(&mut batches, 6, gone("p/a")), None);
        assert_eq!(take(&mut batches, 6, tick(1)), Some((6, "p/a".to_owned(), false)));
    }

    #[test]
    fn only_the_last_bookmark_is_kept() {
        let event = Event::Delete(Key::new(["p", "a"]).unwrap());
        let batch = |revision, full: bool| {
            let events = if full { vec![event.clone()] } else { Vec::new() };
            WatchBatch::new(Revision::new(revision), events)
        };
        let all = vec![batch(1, false), batch(2, true), batch(3, false), batch(4, false)];
        assert_eq!(without_idle(all), [batch(2, true), batch(4, false)]);
        assert_eq!(without_idle(Vec::new()), []);
    }
}
