//! What workloads ask of nodes alone, once for all workloads that ask the same. No I/O, no clock, no async.

use hivemind_core::labels::{CompiledSelector, Selector};

use super::intern::Interner;
use crate::placement::filters::{CompiledTerm, compile_terms};
use crate::placement::rules::{NodeAffinity, NodeSelectorTerm, Weighted};
use crate::placement::scores::{STEP, WISH};
use crate::placement::taint::{discouraging, repelled_among};
use crate::placement::{Node, Rejection, Toleration, WorkloadRequest};

/// Selector, affinity to nodes and tolerations, compiled, with what every node is for them. It changes with nodes, not
/// with workloads.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    selector: Selector,
    affinity: NodeAffinity,
    tolerations: Vec<Toleration>,
    compiled: CompiledSelector,
    terms: Option<Vec<CompiledTerm>>,
    wishes: Vec<(u64, CompiledTerm)>,
    /// By slot.
    found: Vec<Found>,
}

/// What one node is for a shape.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    why_not: Option<Rejection>,
    /// A taint keeps workloads away, whatever the labels.
    repelled: bool,
    cost: u64,
}

impl Shape {
    fn new(workload: &WorkloadRequest) -> Self {
        let affinity = &workload.node_affinity;
        let wish = |wish: &Weighted<NodeSelectorTerm>| Some((wish.weight(), CompiledTerm::new(&wish.term)?));
        Self {
            selector: workload.selector.clone(),
            affinity: affinity.clone(),
            tolerations: workload.tolerations.clone(),
            compiled: workload.selector.compile(),
            terms: affinity.required.as_deref().map(compile_terms),
            wishes: affinity.preferred.iter().filter_map(wish).collect(),
            found: Vec::new(),
        }
    }

    fn look_at(&self, node: &Node) -> Found {
        let labels = &node.labels;
        // Marks are no matter of tolerations, and differ by tenant.
        let taints = node.taints.iter().filter(|taint| taint.mark().is_none());
        let repelled = repelled_among(taints, &self.tolerations).is_some();
        let why_not = if !self.compiled.matches(labels) {
            Some(Rejection::Selector)
        } else if !self.affinity.names_allow(&node.id)
            || self.terms.as_ref().is_some_and(|terms| !terms.iter().any(|term| term.matches(node)))
        {
            Some(Rejection::NodeAffinity)
        } else {
            repelled.then_some(Rejection::Taint)
        };
        let unmet =
            self.wishes.iter().filter(|(_, term)| !term.matches(node)).map(|(weight, _)| weight * WISH);
        let against = u64::try_from(discouraging(&node.taints, &self.tolerations)).unwrap_or(u64::MAX);
        Found { why_not, repelled, cost: against.saturating_mul(STEP).saturating_add(unmet.sum()) }
    }

    /// `node` is at `slot` now, or nothing is.
    pub(super) fn renew(&mut self, slot: usize, node: Option<&Node>) {
        let found = node.map(|node| self.look_at(node));
        if slot >= self.found.len() {
            self.found.resize(slot + 1, Found::default());
        }
        if let Some(place) = self.found.get_mut(slot) {
            *place = found.unwrap_or_default();
        }
    }

    pub(super) fn why_not(&self, slot: usize) -> Option<Rejection> {
        self.found.get(slot).and_then(|found| found.why_not)
    }

    /// Whether the labels are right, whatever the taints.
    pub(super) fn labels_match(&self, slot: usize) -> bool {
        self.found.get(slot).is_some_and(|found| {
            !matches!(found.why_not, Some(Rejection::Selector | Rejection::NodeAffinity))
        })
    }

    /// Whether a taint keeps workloads away, whatever the labels.
    pub(super) fn is_repelled(&self, slot: usize) -> bool {
        self.found.get(slot).is_some_and(|found| found.repelled)
    }

    /// What speaks against the node, if it is possible by labels and taints.
    pub(super) fn allows(&self, slot: usize) -> Option<u64> {
        self.found.get(slot).filter(|found| found.why_not.is_none()).map(|found| found.cost)
    }

    pub(super) fn cost(&self, slot: usize) -> u64 {
        self.found.get(slot).map_or(0, |found| found.cost)
    }
}

/// All shapes.
#[derive(Debug, Clone, Default)]
pub(super) struct Shapes {
    all: Vec<Shape>,
    index: Interner,
}

impl Shapes {
    /// The shape of `workload`, and whether it is new and knows no node yet.
    pub(super) fn of(&mut self, workload: &WorkloadRequest) -> (usize, bool) {
        let hash = self.index.hash(&(&workload.selector, &workload.node_affinity, &workload.tolerations));
        let same = |at: usize| {
            self.all.get(at).is_some_and(|shape| {
                shape.selector == workload.selector
                    && shape.affinity == workload.node_affinity
                    && shape.tolerations == workload.tolerations
            })
        };
        if let Some(at) = self.index.find(hash, same) {
            return (at, false);
        }
        self.all.push(Shape::new(workload));
        (self.index.add(hash, self.all.len() - 1), true)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Shape> {
        self.all.get(at)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Shape> {
        self.all.get_mut(at)
    }

    /// What each shape says of a node.
    pub(super) fn verdicts(&self, slot: usize) -> Vec<Option<u64>> {
        self.all.iter().map(|shape| shape.allows(slot)).collect()
    }

    pub(super) fn renew(&mut self, slot: usize, node: Option<&Node>) {
        self.all.iter_mut().for_each(|shape| shape.renew(slot, node));
    }
}
