//! Addresses that were given back lately. No I/O, no clock, no async.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use hivemind_core::Timestamp;

/// The quarantine: what may not be used again until some time. Every operation is a look-up of trees or of a table.
///
/// What nobody gets unasked when its time has come, because it was drained or is reserved meanwhile, has an order of its
/// own: so the first that anybody may have is one look-up away, however many others rest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cooling {
    until: HashMap<u128, Rest, RandomState>,
    for_anybody: BTreeSet<(Timestamp, u128)>,
    others: BTreeSet<(Timestamp, u128)>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Timestamp,
    for_anybody: bool,
}

impl Cooling {
    fn order(&mut self, rest: Rest) -> &mut BTreeSet<(Timestamp, u128)> {
        if rest.for_anybody { &mut self.for_anybody } else { &mut self.others }
    }

    /// Holds `number` until then; a later time replaces the one before.
    pub(crate) fn insert(&mut self, number: u128, until: Timestamp, for_anybody: bool) {
        let rest = Rest { until, for_anybody };
        if let Some(before) = self.until.insert(number, rest) {
            self.order(before).remove(&(before.until, number));
        }
        self.order(rest).insert((until, number));
    }

    pub(crate) fn until(&self, number: u128) -> Option<Timestamp> {
        self.until.get(&number).map(|rest| rest.until)
    }

    pub(crate) fn remove(&mut self, number: u128) -> Option<Timestamp> {
        let rest = self.until.remove(&number)?;
        self.order(rest).remove(&(rest.until, number));
        Some(rest.until)
    }

    /// The one that is over first of those that anybody may have then.
    pub(crate) fn first_for_anybody(&self) -> Option<(Timestamp, u128)> {
        self.for_anybody.first().copied()
    }

    /// The one that is over first.
    pub(crate) fn first(&self) -> Option<(Timestamp, u128)> {
        self.for_anybody.first().into_iter().chain(self.others.first()).min().copied()
    }

    /// How many there are that anybody may have then.
    pub(crate) fn len_for_anybody(&self) -> usize {
        self.for_anybody.len()
    }

    /// Decides anew who may have what; looks at all, and moves what changed.
    pub(crate) fn sort(&mut self, for_anybody: impl Fn(u128) -> bool) {
        let changed = self.until.iter().filter(|(number, rest)| rest.for_anybody != for_anybody(**number));
        let changed: Vec<_> = changed.map(|(number, rest)| (*number, *rest)).collect();
        for (number, rest) in changed {
            self.insert(number, rest.until, !rest.for_anybody);
        }
    }

    /// Lets the first one go whose time has come.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<u128> {
        let (_, number) = self.first().filter(|(until, _)| *until <= now)?;
        self.remove(number);
        Some(number)
    }

    pub(crate) fn len(&self) -> usize {
        self.until.len()
    }

    /// All, by when each is over.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Timestamp, u128)> {
        let mut all: Vec<_> = self.for_anybody.iter().chain(&self.others).copied().collect();
        all.sort_unstable();
        all.into_iter()
    }
}
