//! Sets of policies, with the tables of each. No I/O, no clock, no async.

use std::sync::{Arc, OnceLock};

use crate::slab::Slab;

use super::super::digest::hash_of;
use super::super::{AnyPolicy, Direction, NamedPorts, PolicyRef};
use super::index::Index;
use super::policies::{Policies, Stage};
use super::table::{Draft, Sources, Table};

/// The groups of policies that select a workload, in the order in which they are asked; and its named ports, if one of
/// them names ports in ingress.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SetKey {
    pub(super) groups: Vec<u32>,
    pub(super) ports: NamedPorts,
}

/// The policies that isolate workloads in one direction, in order, once somebody asks.
type Isolating = OnceLock<Arc<[PolicyRef]>>;

#[derive(Debug, Clone)]
pub(super) struct SetEntry {
    pub(super) key: SetKey,
    refs: usize,
    /// Ingress and egress.
    tables: (Table, Table),
    /// The same at the border to other tenants.
    borders: (Table, Table),
    isolating: (Isolating, Isolating),
}

impl SetEntry {
    fn build(sources: Sources<'_>, key: SetKey) -> Self {
        let (mut tables, mut borders) =
            (<(Draft, Draft)>::default(), (Draft::of_border(), Draft::of_border()));
        for (number, policy) in sources.policies.of_groups(&key.groups) {
            let border = policy.stage == Stage::Grant;
            let of = if border { &mut borders } else { &mut tables };
            of.0.add(sources, Direction::Ingress, (number, policy), &key.ports, border);
            of.1.add(sources, Direction::Egress, (number, policy), &key.ports, border);
        }
        let made = |(ingress, egress): (Draft, Draft)| {
            (ingress.table(sources, Direction::Ingress), egress.table(sources, Direction::Egress))
        };
        Self { refs: 0, tables: made(tables), borders: made(borders), isolating: Default::default(), key }
    }

    pub(super) fn table(&self, direction: Direction) -> &Table {
        direction.of((&self.tables.0, &self.tables.1))
    }

    pub(super) fn border(&self, direction: Direction) -> &Table {
        direction.of((&self.borders.0, &self.borders.1))
    }

    /// Every table, with its direction, and whether it is of the border.
    fn each(&mut self, mut with: impl FnMut(&mut Table, Direction, &NamedPorts, bool)) {
        let ports = &self.key.ports;
        with(&mut self.tables.0, Direction::Ingress, ports, false);
        with(&mut self.tables.1, Direction::Egress, ports, false);
        with(&mut self.borders.0, Direction::Ingress, ports, true);
        with(&mut self.borders.1, Direction::Egress, ports, true);
    }

    fn edit(&mut self, sources: Sources<'_>, change: (Option<u32>, Option<u32>)) {
        self.each(|table, direction, ports, border| table.edit(sources, direction, ports, border, change));
        self.isolating = Default::default();
    }

    /// The policies that isolate the workloads in `direction`, in order.
    pub(super) fn isolating(&self, policies: &Policies, direction: Direction) -> Arc<[PolicyRef]> {
        let found = || {
            let all = policies.of_groups(&self.key.groups).map(|(_, policy)| policy);
            let isolating = all.filter(|one| one.stage == Stage::Network && one.rules(direction).is_some());
            let mut found: Vec<&AnyPolicy> = isolating.map(|policy| &*policy.source).collect();
            // All are of one namespace, so their names are their order.
            found.sort_unstable_by_key(|policy| match policy {
                AnyPolicy::Network(policy) => Some(policy.name()),
                AnyPolicy::Cluster(_) | AnyPolicy::Grant(_) => None,
            });
            found.into_iter().map(AnyPolicy::key).collect()
        };
        direction.of((&self.isolating.0, &self.isolating.1)).get_or_init(found).clone()
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Sets {
    all: Slab<SetEntry>,
    numbers: Index,
}

impl Sets {
    /// One more use of the set; tells its number, and whether it is new.
    pub(super) fn acquire(&mut self, sources: Sources<'_>, key: SetKey) -> (u32, bool) {
        let hash = hash_of(&key);
        let (number, new) = match self.find(hash, &key) {
            Some(number) => (number, false),
            None => {
                let number = self.all.insert(SetEntry::build(sources, key));
                self.numbers.insert(hash, number);
                (number, true)
            }
        };
        self.again(number);
        (number, new)
    }

    fn find(&self, hash: u64, key: &SetKey) -> Option<u32> {
        self.numbers.find(hash, |number| self.all.get(number).is_some_and(|entry| entry.key == *key))
    }

    /// One more use of a set that is there.
    fn again(&mut self, number: u32) {
        if let Some(entry) = self.all.get_mut(number) {
            entry.refs += 1;
        }
    }

    /// One use less; gives the set back with the last.
    pub(super) fn release(&mut self, number: u32) -> Option<SetEntry> {
        let entry = self.all.get_mut(number)?;
        entry.refs = entry.refs.saturating_sub(1);
        if entry.refs > 0 {
            return None;
        }
        let gone = self.all.remove(number)?;
        self.numbers.remove(hash_of(&gone.key), number);
        Some(gone)
    }

    /// Takes the lines of one policy out of the tables of `number`, and puts those of another in. Neither is one of the
    /// cluster.
    pub(super) fn edit(&mut self, sources: Sources<'_>, number: u32, change: (Option<u32>, Option<u32>)) {
        if let Some(entry) = self.all.get_mut(number) {
            entry.edit(sources, change);
        }
    }

    /// Decides anew for `peer` alone, of the tables of `number`, where `policy` has a say.
    pub(super) fn refresh(
        &mut self,
        sources: Sources<'_>,
        number: u32,
        (peer, foreign): (u32, bool),
        policy: u32,
    ) {
        let Some(entry) = self.all.get_mut(number) else { return };
        entry.each(|table, direction, ports, border| {
            if foreign || !border {
                table.refresh(sources, direction, ports, border, (peer, policy));
            }
        });
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
