//! The smallest change from one table to another. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Chain, Data, NamedSet, Rule, RuleName, RuleTable, SetKey};
use crate::dataplane::state::pairs;

/// What changes in one set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ElementChange {
    /// Elements that go; those that give something else are here and in `add`.
    #[serde(with = "pairs")]
    pub remove: BTreeMap<SetKey, Data>,
    /// Elements that come.
    #[serde(with = "pairs")]
    pub add: BTreeMap<SetKey, Data>,
}

/// What changes in a table; everything else in it stays untouched, counters included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableChange {
    /// New sets, without their elements.
    pub add_sets: BTreeMap<RuleName, NamedSet>,
    /// New chains, without their rules.
    pub add_chains: BTreeMap<RuleName, Chain>,
    /// Elements, by set.
    pub elements: BTreeMap<RuleName, ElementChange>,
    /// Chains whose rules are others now, with all of them.
    pub rules: BTreeMap<RuleName, Vec<Rule>>,
    /// Chains that go, with what they were.
    pub remove_chains: BTreeSet<RuleName>,
    /// Sets that go.
    pub remove_sets: BTreeSet<RuleName>,
}

impl TableChange {
    /// From `old` to `new`; `None` if a set or a base chain is of another make, and the table must be put whole.
    pub fn between(old: &RuleTable, new: &RuleTable) -> Option<Self> {
        let mut change = Self::default();
        for (name, set) in &new.sets {
            match old.sets.get(name) {
                Some(old_set) if !same_make(old_set, set) => return None,
                Some(old_set) => change.elements_between(name, &old_set.elements, &set.elements),
                None => {
                    change
                        .add_sets
                        .insert(name.clone(), NamedSet { elements: BTreeMap::new(), ..set.clone() });
                    change.elements_between(name, &BTreeMap::new(), &set.elements);
                }
            }
        }
        for (name, chain) in &new.chains {
            match old.chains.get(name) {
                Some(old_chain) if old_chain.base != chain.base => return None,
                Some(old_chain) if old_chain.rules == chain.rules => {}
                Some(_) => {
                    change.rules.insert(name.clone(), chain.rules.clone());
                }
                None => {
                    let empty = Chain { base: chain.base.clone(), rules: Vec::new() };
                    change.add_chains.insert(name.clone(), empty);
                    if !chain.rules.is_empty() {
                        change.rules.insert(name.clone(), chain.rules.clone());
                    }
                }
            }
        }
        // A chain that goes lets go of sets and chains first.
        for (name, chain) in &old.chains {
            if !new.chains.contains_key(name) {
                if !chain.rules.is_empty() {
                    change.rules.insert(name.clone(), Vec::new());
                }
                change.remove_chains.insert(name.clone());
            }
        }
        for (name, set) in &old.sets {
            if !new.sets.contains_key(name) {
                change.elements_between(name, &set.elements, &BTreeMap::new());
                change.remove_sets.insert(name.clone());
            }
        }
        Some(change)
    }

    fn elements_between(
        &mut self,
        set: &RuleName,
        old: &BTreeMap<SetKey, Data>,
        new: &BTreeMap<SetKey, Data>,
    ) {
        let pick =
            |from: &BTreeMap<SetKey, Data>, other: &BTreeMap<SetKey, Data>| -> BTreeMap<SetKey, Data> {
                let differing = from.iter().filter(|(key, data)| other.get(*key) != Some(*data));
                differing.map(|(key, data)| (key.clone(), data.clone())).collect()
            };
        let change = ElementChange { remove: pick(old, new), add: pick(new, old) };
        if change != ElementChange::default() {
            self.elements.insert(set.clone(), change);
        }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes the change.
    pub fn apply(&self, table: &mut RuleTable) {
        table.sets.extend(self.add_sets.clone());
        table.chains.extend(self.add_chains.clone());
        for (name, change) in &self.elements {
            let Some(set) = table.sets.get_mut(name) else { continue };
            set.elements.retain(|key, _| !change.remove.contains_key(key));
            set.elements.extend(change.add.clone());
        }
        for (name, rules) in &self.rules {
            if let Some(chain) = table.chains.get_mut(name) {
                chain.rules.clone_from(rules);
            }
        }
        table.chains.retain(|name, _| !self.remove_chains.contains(name));
        table.sets.retain(|name, _| !self.remove_sets.contains(name));
    }
}

fn same_make(one: &NamedSet, other: &NamedSet) -> bool {
    one.key == other.key && one.intervals == other.intervals && one.data == other.data
}
