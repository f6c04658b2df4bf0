//! Which nodes count where workloads are spread. No I/O, no clock, no async.

use std::collections::BTreeMap;

use super::shapes::Shapes;
use crate::placement::rules::{NodeInclusion, TopologySpread};
use crate::placement::{Node, NodeState};

/// What decides which nodes count: the shape of the workload, and which of its rules about nodes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ScopeOf {
    shape: usize,
    affinity: bool,
    taints: bool,
}

impl ScopeOf {
    pub(super) fn new(shape: usize, spread: &TopologySpread) -> Self {
        let honored = |policy| policy == NodeInclusion::Honor;
        Self { shape, affinity: honored(spread.node_affinity), taints: honored(spread.node_taints) }
    }

    /// Whether the node at `slot` counts, whoever runs there.
    pub(super) fn includes(self, slot: usize, node: &Node, shapes: &Shapes) -> bool {
        let Some(shape) = shapes.get(self.shape) else { return false };
        let up = match node.state {
            NodeState::Ready => true,
            // As in Kubernetes, where a cordon is a taint.
            NodeState::Cordoned => !self.taints,
            NodeState::Failed => false,
        };
        up && (!self.affinity || shape.labels_match(slot)) && (!self.taints || !shape.is_repelled(slot))
    }
}

/// The nodes of a place that count, by slot.
pub(super) type PlaceSlots = Vec<(usize, Vec<usize>)>;

#[derive(Debug, Clone)]
struct Scope {
    of: ScopeOf,
    /// By slot.
    counts: Vec<bool>,
    /// By the number of a topology; forgotten when a node changes.
    places: BTreeMap<usize, PlaceSlots>,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Scopes {
    all: Vec<Scope>,
    index: BTreeMap<ScopeOf, usize>,
}

impl Scopes {
    /// The number of a scope.
    pub(super) fn number<'n>(
        &mut self,
        of: ScopeOf,
        nodes: impl Iterator<Item = (usize, &'n Node)>,
        shapes: &Shapes,
    ) -> usize {
        if let Some(known) = self.index.get(&of) {
            return *known;
        }
        let mut scope = Scope { of, counts: Vec::new(), places: BTreeMap::new() };
        nodes.for_each(|(slot, node)| scope.renew(slot, Some(node), shapes));
        self.all.push(scope);
        self.index.insert(of, self.all.len() - 1);
        self.all.len() - 1
    }

    /// `node` is at `slot` now, or nothing is. What runs there must not be counted at this time.
    pub(super) fn renew(&mut self, slot: usize, node: Option<&Node>, shapes: &Shapes) {
        self.all.iter_mut().for_each(|scope| scope.renew(slot, node, shapes));
    }

    /// Whether what runs at `slot` counts.
    pub(super) fn counts(&self, scope: usize, slot: usize) -> bool {
        self.all.get(scope).is_some_and(|scope| scope.counts.get(slot).copied().unwrap_or_default())
    }

    /// Finds the places of a topology where something counts, if they are not known.
    pub(super) fn learn_places(&mut self, scope: usize, topology: usize, of: &[Option<usize>]) {
        let Some(scope) = self.all.get_mut(scope) else { return };
        if scope.places.contains_key(&topology) {
            return;
        }
        let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let counted = scope.counts.iter().enumerate().filter(|(_, counts)| **counts);
        for (slot, place) in counted.filter_map(|(slot, _)| Some((slot, (*of.get(slot)?)?))) {
            places.entry(place).or_default().push(slot);
        }
        scope.places.insert(topology, places.into_iter().collect());
    }

    pub(super) fn places(&self, scope: usize, topology: usize) -> &[(usize, Vec<usize>)] {
        self.all.get(scope).and_then(|scope| scope.places.get(&topology)).map_or(&[], Vec::as_slice)
    }
}

impl Scope {
    fn renew(&mut self, slot: usize, node: Option<&Node>, shapes: &Shapes) {
        if slot >= self.counts.len() {
            self.counts.resize(slot + 1, false);
        }
        if let Some(counts) = self.counts.get_mut(slot) {
            *counts = node.is_some_and(|node| self.of.includes(slot, node, shapes));
        }
        self.places.clear();
    }
}
