//! One node of an index, and what runs on it. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::Resources;

use super::preempt::Bands;
use super::tree::{Amounts, Key, Room, Tree, amounts};
use crate::placement::cluster::{load, millionths};
use crate::placement::scores::rank;
use crate::placement::{Node, NodeState, Packing};

/// A workload of a node, by its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here {
    pub(super) priority: i32,
    pub(super) tenant: usize,
    pub(super) number: usize,
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
    /// How many workloads each tenant has here, in the order of tenants.
    tenants: Vec<(usize, u64)>,
    pub(super) dedicated: Option<usize>,
    /// Whose own it is by its label and its taints.
    pub(super) marks: Vec<String>,
    /// The least important first.
    pub(super) running: Vec<Here>,
    /// What is free, in short.
    pub(super) amounts: Amounts,
    /// What each priority uses.
    pub(super) bands: Bands,
}

impl Slot {
    /// A node on which nothing runs yet, of a class that is not known yet.
    pub(super) fn new(node: Node, tie: u64) -> Self {
        Self {
            tie,
            class: 0,
            used: Resources::new(),
            free: Resources::new(),
            rank: 0,
            tenants: Vec::new(),
            dedicated: None,
            marks: node.marks().map(str::to_owned).collect(),
            running: Vec::new(),
            amounts: [0; 4],
            bands: Bands::default(),
            node,
        }
    }

    /// It is like `node` now.
    pub(super) fn become_like(&mut self, node: Node) {
        self.marks = node.marks().map(str::to_owned).collect();
        self.node = node;
    }

    /// Who runs something here, in order.
    pub(super) fn tenants(&self) -> impl Iterator<Item = usize> {
        self.tenants.iter().map(|(tenant, _)| *tenant)
    }

    pub(super) fn is_used_by(&self, tenant: usize) -> bool {
        self.tenants.binary_search_by_key(&tenant, |(one, _)| *one).is_ok()
    }

    /// One more workload of the tenant runs here, or one less; returns how many now.
    pub(super) fn count(&mut self, tenant: usize, more: bool) -> u64 {
        let at = self.tenants.partition_point(|(one, _)| *one < tenant);
        if self.tenants.get(at).is_none_or(|(one, _)| *one != tenant) {
            self.tenants.insert(at, (tenant, 0));
        }
        let Some((_, count)) = self.tenants.get_mut(at) else { return 0 };
        *count = if more { count.saturating_add(1) } else { count.saturating_sub(1) };
        let left = *count;
        if left == 0 {
            self.tenants.remove(at);
        }
        left
    }

    pub(super) fn is_lost(&self) -> bool {
        self.node.state == NodeState::Failed
    }

    /// It is not `owner`'s any more, but that of another who is here and has its nodes to itself.
    pub(super) fn disown(&mut self, owner: usize, isolated: &BTreeSet<usize>) {
        if self.dedicated == Some(owner) {
            let other = self.tenants().find(|one| *one != owner && isolated.contains(one));
            self.dedicated = other;
        }
    }

    /// Counts again what is free.
    pub(super) fn renew(&mut self, packing: Packing) {
        self.free = self.node.capacity.saturating_sub(&self.used);
        self.amounts = amounts(&self.free);
        self.rank = rank(packing, load(&self.used, &self.node.capacity));
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
        if let [(tenant, _)] = self.tenants.as_slice() { Some(*tenant) } else { None }
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
        let (key, free) = (Key::new(slot.rank, slot.tie, at), Room::of(&slot.amounts));
        let change = |tree: &mut Tree| if comes { tree.insert(key, free) } else { tree.remove(&key) };
        if slot.dedicated.is_none() {
            change(&mut self.open);
        }
        if slot.running.is_empty() {
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
