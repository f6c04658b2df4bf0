//! What is due, in lanes: what waits in one of them holds up no other. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hivemind_core::store::{Key, Snapshot};
use hivemind_core::{ProviderName, Stamped};

use crate::ProviderApi;
use crate::records::Todo;

/// What is limited together: calls of one API of one provider. No provider for what is no call.
pub(super) type Lane = (Option<ProviderName>, ProviderApi);

/// Something that is due.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) todo: Stamped<Todo>,
    pub(super) lane: Lane,
    /// The volumes that it is about: nothing else is done about them meanwhile, as CSI wants it.
    pub(super) about: Vec<Key>,
    /// The record, if it was read just now.
    pub(super) read: Option<Snapshot>,
}

/// What is due, and what is being done.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    due: BTreeMap<Lane, VecDeque<Work>>,
    begun: BTreeMap<Lane, usize>,
    /// Records that are worked on, and volumes that this is about.
    busy: BTreeSet<Key>,
    /// Whether what is due was read just now.
    fresh: bool,
}

impl Lanes {
    /// What is due now, in place of what was due before.
    pub(super) fn refill(&mut self, works: impl IntoIterator<Item = Work>) {
        self.due.clear();
        self.fresh = true;
        for work in works {
            self.due.entry(work.lane.clone()).or_default().push_back(work);
        }
    }

    /// What was read is not new any more: whatever has not begun reads it again.
    pub(super) fn age(&mut self) {
        if std::mem::take(&mut self.fresh) {
            self.due.values_mut().flatten().for_each(|work| work.read = None);
        }
    }

    /// Begins the next thing whose lane has room, and about whose volumes nothing else is done: of several, in the order of
    /// records, in which snapshots come before the volumes that may be about to change.
    pub(super) fn begin(&mut self, room: impl Fn(&Lane) -> usize) -> Option<Work> {
        let free = |work: &Work| {
            !self.busy.contains(&work.todo.stored_at)
                && work.about.iter().all(|volume| !self.busy.contains(volume))
        };
        let begun = |lane: &Lane| self.begun.get(lane).copied().unwrap_or_default();
        let open = self.due.iter().filter(|(lane, _)| begun(lane) < room(lane));
        let firsts = open.filter_map(|(lane, due)| {
            let (nth, work) = due.iter().enumerate().find(|(_, work)| free(work))?;
            Some((&work.todo.stored_at, lane, nth))
        });
        let (_, lane, nth) = firsts.min()?;
        let lane = lane.clone();
        let work = self.due.get_mut(&lane)?.remove(nth)?;
        *self.begun.entry(lane).or_default() += 1;
        self.busy.insert(work.todo.stored_at.clone());
        self.busy.extend(work.about.iter().cloned());
        Some(work)
    }

    /// `work` is done. If its provider did not answer in time, what waits behind it is left for later: it would most likely
    /// wait as long.
    pub(super) fn end(&mut self, work: &Work, overdue: bool) {
        if let Some(begun) = self.begun.get_mut(&work.lane) {
            *begun = begun.saturating_sub(1);
        }
        self.busy.remove(&work.todo.stored_at);
        work.about.iter().for_each(|volume| {
            self.busy.remove(volume);
        });
        if overdue {
            self.due.remove(&work.lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use hivemind_core::store::Txn;

    use super::*;
    use crate::records::todos;

    fn work(name: &str, provider: &str, about: &[&str]) -> Work {
        let key = |name: &&str| Key::new(["storage", "volumes", "acme", name]).unwrap();
        let (view, mut txn) = (Snapshot::default(), Txn::new());
        let (all, at) = (todos().unwrap(), todos().unwrap().key([name]).unwrap());
        all.create(&view, &mut txn, at.clone(), &Todo::default()).unwrap();
        let todo = all.get(&view, &txn, &at).unwrap().unwrap();
        let lane = (Some(provider.parse().unwrap()), ProviderApi::Create);
        Work { todo, lane, about: about.iter().map(key).collect(), read: Some(Snapshot::default()) }
    }

    #[test]
    fn a_lane_that_is_full_holds_up_no_other() {
        let mut lanes = Lanes::default();
        lanes.refill([work("a", "p1", &["a"]), work("b", "p1", &["b"]), work("c", "p2", &["c"])]);
        let (first, second) = (lanes.begin(|_| 1).unwrap(), lanes.begin(|_| 1).unwrap());
        assert_ne!(first.lane, second.lane);
        assert!(lanes.begin(|_| 1).is_none());
        lanes.end(&first, false);
        assert_eq!(lanes.begin(|_| 1).unwrap().lane, first.lane);
    }

    #[test]
    fn one_thing_at_a_time_is_done_about_a_volume() {
        let mut lanes = Lanes::default();
        lanes.refill([work("a", "p", &["a"]), work("snapshot-of-a", "p", &["a"]), work("b", "p", &["b"])]);
        let first = lanes.begin(|_| 9).unwrap();
        assert_eq!(lanes.begin(|_| 9).unwrap().about, work("b", "p", &["b"]).about);
        assert!(lanes.begin(|_| 9).is_none());
        // What is read anew is not begun twice.
        lanes.refill([work("a", "p", &["a"])]);
        assert!(lanes.begin(|_| 9).is_none());
        lanes.end(&first, false);
        assert!(lanes.begin(|_| 9).is_some());
    }

    #[test]
    fn snapshots_come_before_what_changes_their_volume() {
        let mut lanes = Lanes::default();
        let mut snapshot = work("1-snapshot-of-a", "p", &["a"]);
        snapshot.lane.1 = ProviderApi::Snapshot;
        lanes.refill([work("2-a", "p", &["a"]), snapshot]);
        assert_eq!(lanes.begin(|_| 9).unwrap().lane.1, ProviderApi::Snapshot);
    }

    #[test]
    fn what_waits_for_its_turn_is_read_again() {
        let mut lanes = Lanes::default();
        lanes.refill([work("a", "p", &["a"]), work("b", "p", &["b"])]);
        let first = lanes.begin(|_| 1).unwrap();
        lanes.age();
        lanes.end(&first, false);
        let second = lanes.begin(|_| 1).unwrap();
        assert_eq!((first.read.is_some(), second.read.is_some()), (true, false));
    }

    #[test]
    fn behind_what_is_overdue_nobody_waits_as_long_again() {
        let mut lanes = Lanes::default();
        lanes.refill([work("a", "p", &["a"]), work("b", "p", &["b"])]);
        let first = lanes.begin(|_| 1).unwrap();
        lanes.end(&first, true);
        assert!(lanes.begin(|_| 1).is_none());
    }
}
