//! Addresses that were given back lately. No I/O, no clock, no async.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use hivemind_core::Timestamp;

/// The quarantine: what may not be used again until some time. Every operation is a look-up of a tree or of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cooling {
    until: HashMap<u128, Timestamp, RandomState>,
    order: BTreeSet<(Timestamp, u128)>,
}

impl Cooling {
    /// Holds `number` until then; a later time replaces the one before.
    pub(crate) fn insert(&mut self, number: u128, until: Timestamp) {
        if let Some(before) = self.until.insert(number, until) {
            self.order.remove(&(before, number));
        }
        self.order.insert((until, number));
    }

    pub(crate) fn until(&self, number: u128) -> Option<Timestamp> {
        self.until.get(&number).copied()
    }

    pub(crate) fn remove(&mut self, number: u128) -> Option<Timestamp> {
        let until = self.until.remove(&number)?;
        self.order.remove(&(until, number));
        Some(until)
    }

    /// The one that is over first.
    pub(crate) fn first(&self) -> Option<(Timestamp, u128)> {
        self.order.first().copied()
    }

    /// Lets the first one go whose time has come.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<u128> {
        let (_, number) = self.first().filter(|(until, _)| *until <= now)?;
        self.remove(number);
        Some(number)
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// In the order in which they are over.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Timestamp, u128)> {
        self.order.iter().copied()
    }
}
