//! One node of an index, and what runs on it. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::WorkloadId;
use hivemind_core::resources::Resources;

use super::preempt::Bands;
use super::tree::{Amounts, Key, Tree, amounts};
use crate::placement::cluster::{millionths, share};
use crate::placement::scores::rank;
use crate::placement::{Node, NodeState, Packing};

/// A workload on a node.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) tenant: usize,
    pub(super) id: WorkloadId,
    pub(super) resources: Resources,
    pub(super) priority: i32,
    pub(super) group: usize,
    pub(super) apart: Vec<usize>,
}

impl Running {
    /// The order in which a node keeps them: the least important first.
    pub(super) fn order(&self) -> (i32, usize, &WorkloadId) {
        (self.priority, self.tenant, &self.id)
    }
}

/// A node with what runs on it.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) node: Node,
    pub(super) tie: u64,
    pub(super) class: usize,
    pub(super) used: Resources,
    pub(super) free: Resources,
    pub(super) rank: u64,
    /// How many workloads each tenant has here.
    pub(super) tenants: BTreeMap<usize, u64>,
    pub(super) dedicated: Option<usize>,
    pub(super) running: Vec<Running>,
    /// What is free, in short.
    pub(super) amounts: Amounts,
    /// What each priority uses.
    pub(super) bands: Bands,
}

impl Slot {
    pub(super) fn is_lost(&self) -> bool {
        self.node.state == NodeState::Failed
    }

    /// It is not `owner`'s any more, but that of another who is here and has its nodes to itself.
    pub(super) fn disown(&mut self, owner: usize, isolated: &BTreeSet<usize>) {
        if self.dedicated == Some(owner) {
            let mut others = self.tenants.keys().filter(|one| **one != owner);
            self.dedicated = others.find(|one| isolated.contains(one)).copied();
        }
    }

    /// Counts again what is free.
    pub(super) fn renew(&mut self, packing: Packing) {
        self.free = self.node.capacity.saturating_sub(&self.used);
        self.amounts = amounts(&self.free);
        let used = self.node.capacity.saturating_sub(&self.free);
        self.rank = rank(packing, share(&used, &self.node.capacity));
    }

    /// What must be free, or come free, for `need` to fit: where more is in use than there is, that much more goes
    /// first. `None` if it cannot be counted.
    pub(super) fn need(&self, need: &Resources) -> Option<Resources> {
        let over = self.used.saturating_sub(&self.node.capacity);
        need.iter().try_fold(need.clone(), |sum, (name, amount)| {
            let with_debt = amount.checked_add(over.amount(&name))?;
            Some(sum.with(name, with_debt))
        })
    }

    /// The only tenant here.
    pub(super) fn sole(&self) -> Option<usize> {
        let mut tenants = self.tenants.keys();
        tenants.next().copied().filter(|_| tenants.next().is_none())
    }
}

/// What nodes have in common that are alike for every workload but for what runs on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    /// Thousandths of cores.
    pub(super) cpu: u64,
    /// Bytes.
    pub(super) memory: u64,
    /// By shape: what speaks against them, if they are possible.
    pub(super) verdicts: Vec<Option<u64>>,
}

/// Ready nodes of one class, in the order of preference: a workload adds the same to the load of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Equals {
    pub(super) class: Class,
    /// Those that no tenant has to itself.
    pub(super) open: Tree,
    /// Those on which nothing runs.
    pub(super) empty: Tree,
    /// Those on which one tenant alone runs, by tenant.
    pub(super) sole: BTreeMap<usize, Tree>,
}

impl Equals {
    /// Whether a workload could fit into a node of this class at all.
    pub(super) fn could_take(&self, need: &Amounts) -> bool {
        let [cpu, memory, ..] = need;
        *cpu <= self.class.cpu && *memory <= self.class.memory
    }

    /// What a workload that uses `more` adds to the load.
    pub(super) fn adds(&self, more: &Resources) -> u64 {
        let Class { cpu, memory, .. } = self.class;
        millionths(more.cpu().as_millis(), cpu).saturating_add(millionths(more.memory().as_bytes(), memory))
    }

    /// The node at `at` comes, or goes with what it was.
    pub(super) fn change(&mut self, at: usize, slot: &Slot, comes: bool) {
        if slot.node.state != NodeState::Ready {
            return;
        }
        let key = Key { rank: slot.rank, tie: slot.tie, slot: at };
        let free = slot.amounts;
        let change = |tree: &mut Tree| if comes { tree.insert(key, free) } else { tree.remove(&key) };
        if slot.dedicated.is_none() {
            change(&mut self.open);
        }
        if slot.tenants.is_empty() {
            change(&mut self.empty);
        }
        if let Some(tenant) = slot.sole() {
            let tree = self.sole.entry(tenant).or_default();
            change(tree);
            if tree.is_empty() {
                self.sole.remove(&tenant);
            }
        }
    }
}
