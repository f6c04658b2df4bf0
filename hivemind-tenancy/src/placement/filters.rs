//! What a node must be like to take a workload, one condition each. No I/O, no clock, no async.
#![allow(clippy::exhaustive_structs, reason = "a condition has no data")]

use std::collections::BTreeMap;
use std::fmt;

use hivemind_core::labels::CompiledSelector;

use super::cluster::{Ask, Cluster, Seat};
use super::rules::{NodeInclusion, TopologySpread, WhenUnsatisfiable};
use super::taint::repelled_among;
use super::{AffinityTerm, Node, NodeSelectorTerm, NodeState, PlacedWorkload, Rejection, Topology};
use crate::isolation::mark;

/// A filter made ready for one workload: `None` if the node passes.
pub type Check<'a> = Box<dyn Fn(&Seat<'_>) -> Option<Rejection> + 'a>;

/// A condition on nodes. Plain data in, plain data out: it can be asked alone, without an engine.
pub trait Filter: fmt::Debug + Send + Sync {
    /// Makes it ready for one workload: selectors are compiled and places counted once, not for each node.
    fn prepare<'a>(&self, ask: Ask<'a>, cluster: &Cluster<'_>) -> Check<'a>;

    /// Whether what it says of a node depends on that node alone, so that only a node that changes is asked again.
    fn is_local(&self, ask: Ask<'_>) -> bool {
        let _ = ask;
        false
    }
}

/// Every condition, in the order in which reasons are given.
pub fn filters() -> Vec<Box<dyn Filter>> {
    vec![
        Box::new(Ready),
        Box::new(Exclusion),
        Box::new(NodeLabels),
        Box::new(Taints),
        Box::new(Affinity),
        Box::new(AntiAffinity),
        Box::new(Spread),
        Box::new(Radius),
        Box::new(Shares),
        Box::new(Host),
        Box::new(Fit),
    ]
}

macro_rules! local {
    () => {
        fn is_local(&self, _: Ask<'_>) -> bool {
            true
        }
    };
}

/// The node takes workloads.
#[derive(Debug, Clone, Copy)]
pub struct Ready;

impl Filter for Ready {
    fn prepare<'a>(&self, _: Ask<'a>, _: &Cluster<'_>) -> Check<'a> {
        Box::new(|seat| (seat.node.state != NodeState::Ready).then_some(Rejection::NotReady))
    }
    local!();
}

/// Tenants that are kept apart share no node, and use none that is marked as another one's.
///
/// The mark is the label [`DEDICATED_KEY`](crate::isolation::DEDICATED_KEY), or a taint of that key that repels: to
/// tolerate it does not help.
#[derive(Debug, Clone, Copy)]
pub struct Exclusion;

impl Filter for Exclusion {
    fn prepare<'a>(&self, ask: Ask<'a>, _: &Cluster<'_>) -> Check<'a> {
        let own = mark(ask.tenant);
        Box::new(move |seat| {
            // Whatever taints the workload puts up with.
            if seat.node.marks().any(|mark| mark != own) {
                return Some(Rejection::Dedicated);
            }
            if seat.running.dedicated_to.as_ref().is_some_and(|owner| owner != ask.tenant) {
                return Some(Rejection::Dedicated);
            }
            // Two entries hold another tenant; one is to be looked at: never more than that, however many there are.
            let shared = || seat.running.workloads.keys().take(2).any(|tenant| tenant != ask.tenant);
            (ask.isolated && shared()).then_some(Rejection::Shared)
        })
    }
    local!();
}

/// The node has the labels of the selector, and of one term of the node affinity.
#[derive(Debug, Clone, Copy)]
pub struct NodeLabels;

/// A term made ready for many nodes.
#[derive(Debug, Clone)]
pub(crate) struct CompiledTerm {
    term: NodeSelectorTerm,
    labels: CompiledSelector,
}

impl CompiledTerm {
    /// `None` for an empty one, which matches nothing.
    pub(crate) fn new(term: &NodeSelectorTerm) -> Option<Self> {
        (!term.is_empty()).then(|| Self { term: term.clone(), labels: term.labels.compile() })
    }

    pub(crate) fn matches(&self, node: &Node) -> bool {
        self.term.names_allow(&node.id) && self.labels.matches(&node.labels)
    }
}

/// One of `terms` matches as a whole; an empty one matches nothing.
pub(crate) fn compile_terms(terms: &[NodeSelectorTerm]) -> Vec<CompiledTerm> {
    terms.iter().filter_map(CompiledTerm::new).collect()
}

impl Filter for NodeLabels {
    fn prepare<'a>(&self, ask: Ask<'a>, _: &Cluster<'_>) -> Check<'a> {
        let selector = ask.workload.selector.compile();
        let affinity = &ask.workload.node_affinity;
        let terms = affinity.required.as_deref().map(compile_terms);
        Box::new(move |seat| {
            if !selector.matches(&seat.node.labels) {
                return Some(Rejection::Selector);
            }
            let met = |terms: &Vec<CompiledTerm>| terms.iter().any(|term| term.matches(seat.node));
            let allowed = affinity.names_allow(&seat.node.id) && terms.as_ref().is_none_or(met);
            (!allowed).then_some(Rejection::NodeAffinity)
        })
    }
    local!();
}

/// The workload puts up with the node's taints: it does with the one that marks the node as its tenant's own.
#[derive(Debug, Clone, Copy)]
pub struct Taints;

impl Filter for Taints {
    fn prepare<'a>(&self, ask: Ask<'a>, _: &Cluster<'_>) -> Check<'a> {
        let (tolerations, own) = (&ask.workload.tolerations, mark(ask.tenant));
        Box::new(move |seat| {
            let others = seat.node.taints.iter().filter(|taint| taint.mark() != Some(own.as_str()));
            repelled_among(others, tolerations).map(|_| Rejection::Taint)
        })
    }
    local!();
}

/// How many workloads of the asking tenant that `selectors` all match are in each place.
fn matching(
    ask: Ask<'_>,
    cluster: &Cluster<'_>,
    topology: &Topology,
    selectors: &[CompiledSelector],
) -> BTreeMap<String, u64> {
    cluster.count(topology, ask.tenant, |placed| selectors.iter().all(|one| one.matches(&placed.labels)))
}

/// The workloads it must run beside are there.
#[derive(Debug, Clone, Copy)]
pub struct Affinity;

impl Filter for Affinity {
    fn prepare<'a>(&self, ask: Ask<'a>, cluster: &Cluster<'_>) -> Check<'a> {
        let terms = &ask.workload.affinity.required;
        // As in Kubernetes, a workload counts if it matches every term.
        let selectors: Vec<_> = terms.iter().map(|term| term.workloads.compile()).collect();
        let counts: Vec<_> =
            terms.iter().map(|term| matching(ask, cluster, &term.topology, &selectors)).collect();
        let first = counts.iter().all(BTreeMap::is_empty)
            && selectors.iter().all(|selector| selector.matches(&ask.workload.labels));
        Box::new(move |seat| {
            let met = |(term, counts): (&AffinityTerm, &BTreeMap<String, u64>)| {
                let domain = term.topology.domain(seat.node);
                domain.is_some_and(|domain| first || counts.contains_key(domain))
            };
            (!terms.iter().zip(&counts).all(met)).then_some(Rejection::Affinity)
        })
    }
    fn is_local(&self, ask: Ask<'_>) -> bool {
        ask.workload.affinity.required.is_empty()
    }
}

/// No workload is there that it must not run beside, nor one that must not have it beside.
#[derive(Debug, Clone, Copy)]
pub struct AntiAffinity;

impl Filter for AntiAffinity {
    fn prepare<'a>(&self, ask: Ask<'a>, cluster: &Cluster<'_>) -> Check<'a> {
        let mut forbidden: Vec<(Topology, BTreeMap<String, u64>)> = Vec::new();
        for term in &ask.workload.affinity.anti_required {
            let counts = matching(ask, cluster, &term.topology, &[term.workloads.compile()]);
            forbidden.push((term.topology.clone(), counts));
        }
        let speaking = if cluster.speaks(ask.tenant) { cluster.seats() } else { &[] };
        let mut theirs: Vec<&AffinityTerm> = speaking
            .iter()
            .flat_map(|seat| seat.of(ask.tenant))
            .flat_map(|placed| &placed.anti_affinity)
            .collect();
        theirs.sort();
        theirs.dedup();
        theirs.retain(|term| term.workloads.matches(&ask.workload.labels));
        for term in theirs {
            let holders =
                cluster.count(&term.topology, ask.tenant, |placed| placed.anti_affinity.contains(term));
            forbidden.push((term.topology.clone(), holders));
        }
        Box::new(move |seat| {
            let hit = |(topology, counts): &(Topology, BTreeMap<String, u64>)| {
                topology.domain(seat.node).is_some_and(|domain| counts.contains_key(domain))
            };
            forbidden.iter().any(hit).then_some(Rejection::AntiAffinity)
        })
    }
    fn is_local(&self, ask: Ask<'_>) -> bool {
        ask.workload.affinity.anti_required.is_empty()
    }
}

/// Replicas stay evenly spread.
#[derive(Debug, Clone, Copy)]
pub struct Spread;

/// Whether a node counts for `spread`.
fn included<'a>(
    ask: Ask<'a>,
    cluster: &Cluster<'_>,
    spread: &TopologySpread,
) -> impl Fn(&Seat<'_>) -> bool + 'a {
    let honored = |policy| policy == NodeInclusion::Honor;
    let labels = honored(spread.node_affinity).then(|| NodeLabels.prepare(ask, cluster));
    let taints = honored(spread.node_taints).then(|| Taints.prepare(ask, cluster));
    let exclusion = Exclusion.prepare(ask, cluster);
    move |seat| {
        let up = match seat.node.state {
            NodeState::Ready => true,
            // As in Kubernetes, where a cordon is a taint.
            NodeState::Cordoned => taints.is_none(),
            NodeState::Failed => false,
        };
        let passes = |check: &Check<'_>| check(seat).is_none();
        up && labels.as_ref().is_none_or(passes) && taints.as_ref().is_none_or(passes) && passes(&exclusion)
    }
}

/// How many live workloads that count are in each place with a node that does, the empty ones included.
pub(crate) fn spread_counts(
    ask: Ask<'_>,
    cluster: &Cluster<'_>,
    spread: &TopologySpread,
) -> BTreeMap<String, u64> {
    let included = included(ask, cluster, spread);
    let selector = spread.workloads.compile();
    let counts = |placed: &&PlacedWorkload| {
        !placed.terminating
            && placed.generation == ask.workload.generation
            && selector.matches(&placed.labels)
    };
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for seat in cluster.seats().iter().filter(|seat| included(seat)) {
        let Some(domain) = spread.topology.domain(seat.node) else { continue };
        let here = u64::try_from(seat.of(ask.tenant).filter(counts).count()).unwrap_or(u64::MAX);
        match all.get_mut(domain) {
            Some(count) => *count = count.saturating_add(here),
            None => {
                all.insert(domain.to_owned(), here);
            }
        }
    }
    all
}

/// The fewest in one place, by which skew is measured.
pub(crate) fn fewest(spread: &TopologySpread, counts: impl ExactSizeIterator<Item = u64>) -> u64 {
    let places = counts.len();
    fewest_of(spread, places, counts.min().unwrap_or_default())
}

/// The same of so many `places`, the emptiest of which has `least`.
pub(crate) fn fewest_of(spread: &TopologySpread, places: usize, least: u64) -> u64 {
    let wanted = spread.min_domains.map_or(0, |n| usize::try_from(n.get()).unwrap_or(usize::MAX));
    if places == 0 || places < wanted { 0 } else { least }
}

impl Filter for Spread {
    fn prepare<'a>(&self, ask: Ask<'a>, cluster: &Cluster<'_>) -> Check<'a> {
        let strict = ask.workload.spread.iter().filter(|one| one.when == WhenUnsatisfiable::DoNotSchedule);
        let ready: Vec<_> = strict
            .map(|spread| {
                let counts = spread_counts(ask, cluster, spread);
                let least = fewest(spread, counts.values().copied());
                let itself = u64::from(spread.workloads.matches(&ask.workload.labels));
                (spread, counts, least, itself)
            })
            .collect();
        Box::new(move |seat| {
            let even =
                |(spread, counts, least, itself): &(&TopologySpread, BTreeMap<String, u64>, u64, u64)| {
                    let here = spread.topology.domain(seat.node).and_then(|domain| counts.get(domain));
                    here.is_some_and(|here| here + itself <= least + u64::from(spread.max_skew.get()))
                };
            (!ready.iter().all(even)).then_some(Rejection::Spread)
        })
    }
    fn is_local(&self, ask: Ask<'_>) -> bool {
        ask.workload.spread.iter().all(|one| one.when != WhenUnsatisfiable::DoNotSchedule)
    }
}

/// No place holds more of the tenant than may be lost at once.
#[derive(Debug, Clone, Copy)]
pub struct Radius;

impl Filter for Radius {
    fn prepare<'a>(&self, ask: Ask<'a>, cluster: &Cluster<'_>) -> Check<'a> {
        let Some(radius) = ask.blast_radius else { return Box::new(|_| None) };
        let counts = cluster.count(&radius.topology, ask.tenant, |_| true);
        let allowed = radius.allowed(counts.values().sum::<u64>() + 1);
        Box::new(move |seat| {
            // A node in no place is lost with nothing else.
            let here = radius.topology.domain(seat.node)?;
            let count = counts.get(here).copied().unwrap_or_default();
            (count + 1 > allowed).then_some(Rejection::BlastRadius)
        })
    }
    fn is_local(&self, ask: Ask<'_>) -> bool {
        ask.blast_radius.is_none()
    }
}

/// No place is the tenant's by more than it may be.
#[derive(Debug, Clone, Copy)]
pub struct Shares;

impl Filter for Shares {
    fn prepare<'a>(&self, ask: Ask<'a>, cluster: &Cluster<'_>) -> Check<'a> {
        let Some(share) = ask.domain_share else { return Box::new(|_| None) };
        let (shares, wants) = (cluster.shares(&share.topology, ask.tenant), ask.wants());
        Box::new(move |seat| {
            // A node in no place is shared by itself.
            let (capacity, used) = shares.get(share.topology.domain(seat.node)?)?;
            (!share.allows(*used, wants, *capacity)).then_some(Rejection::DomainShare)
        })
    }
    fn is_local(&self, ask: Ask<'_>) -> bool {
        ask.domain_share.is_none()
    }
}

/// The host has nothing against it.
#[derive(Debug, Clone, Copy)]
pub struct Host;

impl Filter for Host {
    fn prepare<'a>(&self, ask: Ask<'a>, _: &Cluster<'_>) -> Check<'a> {
        Box::new(move |seat| {
            let refused = ask.opinion.is_some_and(|opinion| opinion.of(seat.node).is_none());
            refused.then_some(Rejection::Custom)
        })
    }
    local!();
}

/// Enough is free.
#[derive(Debug, Clone, Copy)]
pub struct Fit;

impl Filter for Fit {
    fn prepare<'a>(&self, ask: Ask<'a>, _: &Cluster<'_>) -> Check<'a> {
        Box::new(move |seat| (!ask.workload.resources.fits_in(&seat.free)).then_some(Rejection::Full))
    }
    local!();
}
