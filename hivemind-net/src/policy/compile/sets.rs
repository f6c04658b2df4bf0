//! Sets of policies, with the tables of each. No I/O, no clock, no async.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::super::{Direction, NamedPorts};
use super::slab::Slab;
use super::table::{Sources, Table};

/// The policies that select a workload, in the order in which they are asked; and its named ports, if one of them
/// names ports in ingress.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SetKey {
    pub(super) policies: Vec<u32>,
    pub(super) ports: NamedPorts,
}

#[derive(Debug, Clone)]
pub(super) struct SetEntry {
    pub(super) key: SetKey,
    refs: usize,
    /// Ingress and egress.
    pub(super) tables: (Table, Table),
    /// The same at the border to other tenants.
    pub(super) borders: (Table, Table),
}

impl SetEntry {
    fn build(sources: Sources<'_>, key: SetKey) -> Self {
        let table = |direction, border| Table::build(sources, direction, &key.policies, &key.ports, border);
        let both = |border| (table(Direction::Ingress, border), table(Direction::Egress, border));
        let (tables, borders) = (both(false), both(true));
        Self { key, refs: 0, tables, borders }
    }

    pub(super) fn table(&self, direction: Direction) -> &Table {
        direction.of((&self.tables.0, &self.tables.1))
    }

    pub(super) fn border(&self, direction: Direction) -> &Table {
        direction.of((&self.borders.0, &self.borders.1))
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Sets {
    all: Slab<SetEntry>,
    numbers: HashMap<SetKey, u32, FixedState>,
}

impl Sets {
    /// One more use of the set; tells its number, and whether it is new.
    pub(super) fn acquire(&mut self, sources: Sources<'_>, key: SetKey) -> (u32, bool) {
        let (number, new) = match self.numbers.get(&key) {
            Some(number) => (*number, false),
            None => {
                let number = self.all.insert(SetEntry::build(sources, key.clone()));
                self.numbers.insert(key, number);
                (number, true)
            }
        };
        if let Some(entry) = self.all.get_mut(number) {
            entry.refs += 1;
        }
        (number, new)
    }

    /// One use less; gives the set back with the last.
    pub(super) fn release(&mut self, number: u32) -> Option<SetEntry> {
        let entry = self.all.get_mut(number)?;
        entry.refs = entry.refs.saturating_sub(1);
        if entry.refs > 0 {
            return None;
        }
        let gone = self.all.remove(number)?;
        self.numbers.remove(&gone.key);
        Some(gone)
    }

    /// Decides anew for `peer` alone, of the tables of `number`.
    pub(super) fn refresh(&mut self, sources: Sources<'_>, number: u32, peer: u32, foreign: bool) {
        let Some(entry) = self.all.get_mut(number) else { return };
        entry.tables.0.refresh(sources, Direction::Ingress, peer);
        entry.tables.1.refresh(sources, Direction::Egress, peer);
        if foreign {
            entry.borders.0.refresh(sources, Direction::Ingress, peer);
            entry.borders.1.refresh(sources, Direction::Egress, peer);
        }
    }

    /// Makes the tables of `number` anew.
    pub(super) fn rebuild(&mut self, sources: Sources<'_>, number: u32) {
        if let Some(entry) = self.all.get_mut(number) {
            let refs = entry.refs;
            *entry = SetEntry { refs, ..SetEntry::build(sources, entry.key.clone()) };
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&SetEntry> {
        self.all.get(number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SetEntry> {
        self.all.iter().map(|(_, entry)| entry)
    }
}
