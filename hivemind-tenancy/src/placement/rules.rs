//! Which nodes a workload wants, and beside whom. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use hivemind_core::NodeId;
use hivemind_core::labels::{LabelKey, Selector};
use serde::{Deserialize, Serialize};

use super::Node;

/// Something wanted, and how much: 1 to 100, as in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Weighted<T> {
    /// How much; more than 100 counts as 100.
    pub weight: u8,
    /// What.
    pub term: T,
}

impl<T> Weighted<T> {
    /// `term`, wanted by `weight` of 100.
    pub fn new(weight: u8, term: T) -> Self {
        Self { weight, term }
    }

    /// The weight, 100 at most.
    pub(crate) fn weight(&self) -> u64 {
        u64::from(self.weight.min(100))
    }
}

/// Which nodes, by labels and by names: Kubernetes' `NodeSelectorTerm`. All that it says must be so.
///
/// Serialized as the text of its selector if it says nothing about names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "TermForm", into = "TermForm")]
#[non_exhaustive]
pub struct NodeSelectorTerm {
    /// By their labels: `matchExpressions`.
    pub labels: Selector,
    /// Only nodes of these names: `matchFields` of `metadata.name` with the operator `In`. `None` allows every name,
    /// an empty set none.
    pub names: Option<BTreeSet<NodeId>>,
    /// No node of these names: the same with `NotIn`.
    pub not_names: BTreeSet<NodeId>,
}

/// How a term is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TermForm {
    Labels(Selector),
    #[serde(rename_all = "camelCase")]
    Term {
        #[serde(default, skip_serializing_if = "Selector::is_everything")]
        labels: Selector,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        names: Option<BTreeSet<NodeId>>,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        not_names: BTreeSet<NodeId>,
    },
}

impl From<TermForm> for NodeSelectorTerm {
    fn from(form: TermForm) -> Self {
        match form {
            TermForm::Labels(labels) => labels.into(),
            TermForm::Term { labels, names, not_names } => Self { labels, names, not_names },
        }
    }
}

impl From<NodeSelectorTerm> for TermForm {
    fn from(term: NodeSelectorTerm) -> Self {
        let NodeSelectorTerm { labels, names, not_names } = term;
        if names.is_none() && not_names.is_empty() {
            return Self::Labels(labels);
        }
        Self::Term { labels, names, not_names }
    }
}

impl From<Selector> for NodeSelectorTerm {
    fn from(labels: Selector) -> Self {
        Self { labels, ..Self::default() }
    }
}

impl NodeSelectorTerm {
    /// Nodes with these labels.
    pub fn new(labels: Selector) -> Self {
        labels.into()
    }

    /// Only `node`, or others that are named so.
    #[must_use]
    pub fn on_node(mut self, node: NodeId) -> Self {
        self.names.get_or_insert_default().insert(node);
        self
    }

    /// Not `node`.
    #[must_use]
    pub fn not_on_node(mut self, node: NodeId) -> Self {
        self.not_names.insert(node);
        self
    }

    /// Whether it says nothing: such a term matches no node, as in Kubernetes.
    pub fn is_empty(&self) -> bool {
        self.labels.is_everything() && self.names.is_none() && self.not_names.is_empty()
    }

    /// Whether `node` is what it says.
    pub fn matches(&self, node: &Node) -> bool {
        !self.is_empty() && self.names_allow(&node.id) && self.labels.matches(&node.labels)
    }

    /// Whether the names allow `node`, whatever its labels.
    pub(crate) fn names_allow(&self, node: &NodeId) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(node)) && !self.not_names.contains(node)
    }
}

/// Which nodes a workload runs on, by their labels and names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct NodeAffinity {
    /// One of these must match, each as a whole. `None` allows every node; an empty list, or a list of empty terms,
    /// allows none, as in Kubernetes.
    pub required: Option<Vec<NodeSelectorTerm>>,
    /// Nodes that match are preferred. An empty term means nothing.
    pub preferred: Vec<Weighted<NodeSelectorTerm>>,
    /// Only nodes of these names, beside what the terms say; `None` allows every name, an empty set none. It is as if
    /// every term said so.
    pub names: Option<BTreeSet<NodeId>>,
    /// No node of these names.
    pub not_names: BTreeSet<NodeId>,
}

impl NodeAffinity {
    /// One more term about labels; one of the terms must match.
    #[must_use]
    pub fn require(self, term: Selector) -> Self {
        self.require_term(term.into())
    }

    /// One more term; one of them must match.
    #[must_use]
    pub fn require_term(mut self, term: NodeSelectorTerm) -> Self {
        self.required.get_or_insert_default().push(term);
        self
    }

    /// Only on `node`, or others that are named so.
    #[must_use]
    pub fn on_node(mut self, node: NodeId) -> Self {
        self.names.get_or_insert_default().insert(node);
        self
    }

    /// Not on `node`.
    #[must_use]
    pub fn not_on_node(mut self, node: NodeId) -> Self {
        self.not_names.insert(node);
        self
    }

    /// Whether the names allow `node`, whatever its labels.
    pub(crate) fn names_allow(&self, node: &NodeId) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(node)) && !self.not_names.contains(node)
    }

    /// Prefers nodes with such labels, by `weight` of 100.
    #[must_use]
    pub fn prefer(self, weight: u8, term: Selector) -> Self {
        self.prefer_term(weight, term.into())
    }

    /// Prefers nodes that match `term`, by `weight` of 100.
    #[must_use]
    pub fn prefer_term(mut self, weight: u8, term: NodeSelectorTerm) -> Self {
        self.preferred.push(Weighted::new(weight, term));
        self
    }
}

/// A place in the cluster: what counts as "the same place".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Topology {
    /// Each node is a place of its own.
    Node,
    /// Nodes with the same value of this label are one place; nodes without it are in none.
    Label(LabelKey),
}

impl Topology {
    /// Whether a place may be more than one node.
    pub(crate) fn is_wide(&self) -> bool {
        *self != Self::Node
    }

    /// The place of `node`, if it has one.
    pub fn domain<'a>(&self, node: &'a Node) -> Option<&'a str> {
        match self {
            Self::Node => Some(node.id.as_str()),
            Self::Label(key) => node.labels.get(key.as_str()).map(|value| value.as_str()),
        }
    }
}

/// Workloads of the same tenant, in the same place. Workloads of other tenants are never looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AffinityTerm {
    /// Which workloads, by their labels.
    pub workloads: Selector,
    /// What the same place is.
    pub topology: Topology,
}

impl AffinityTerm {
    /// `workloads` in the same place by `topology`.
    pub fn new(workloads: Selector, topology: Topology) -> Self {
        Self { workloads, topology }
    }
}

/// What a workload says of those that a term selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stance {
    /// They must not be in the same place.
    Apart,
    /// It had to come where one of them is.
    Beside,
    /// It prefers them in the same place, by so much of 100.
    Preferred(u64),
    /// It prefers them in another place, by so much of 100.
    Avoided(u64),
}

impl Stance {
    /// How much it is wished, and whether they are wanted in the same place, if it is a wish; what had to be beside others
    /// wishes by `hard`.
    pub(crate) fn wish(self, hard: u8) -> Option<(u64, bool)> {
        match self {
            Self::Apart => None,
            Self::Beside if hard == 0 => None,
            Self::Beside => Some((u64::from(hard.min(100)), true)),
            Self::Preferred(weight) => Some((weight, true)),
            Self::Avoided(weight) => Some((weight, false)),
        }
    }
}

/// All that is said by terms of each kind.
pub(crate) fn stances<'t>(
    apart: &'t [AffinityTerm],
    beside: &'t [AffinityTerm],
    preferred: &'t [Weighted<AffinityTerm>],
    avoided: &'t [Weighted<AffinityTerm>],
) -> impl Iterator<Item = (&'t AffinityTerm, Stance)> {
    let hard = apart.iter().map(|term| (term, Stance::Apart));
    let hard = hard.chain(beside.iter().map(|term| (term, Stance::Beside)));
    let wishes = preferred.iter().map(|wish| (&wish.term, Stance::Preferred(wish.weight())));
    let wishes = wishes.chain(avoided.iter().map(|wish| (&wish.term, Stance::Avoided(wish.weight()))));
    hard.chain(wishes)
}

/// Beside which workloads of its tenant a workload runs. Preferences count in both directions: those of workloads that
/// run, too, about one that comes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WorkloadAffinity {
    /// It must run where all of these are met; a workload that matches every one itself may be the first.
    pub required: Vec<AffinityTerm>,
    /// It must not run where one of these is met; and nothing that matches one may come to where it runs.
    pub anti_required: Vec<AffinityTerm>,
    /// It prefers to run where these are met.
    pub preferred: Vec<Weighted<AffinityTerm>>,
    /// It prefers not to run where these are met.
    pub anti_preferred: Vec<Weighted<AffinityTerm>>,
}

impl WorkloadAffinity {
    /// What it says of other workloads.
    pub(crate) fn stances(&self) -> impl Iterator<Item = (&AffinityTerm, Stance)> {
        stances(&self.anti_required, &self.required, &self.preferred, &self.anti_preferred)
    }
}

/// What happens if workloads cannot be spread as evenly as wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WhenUnsatisfiable {
    /// The workload is not placed.
    DoNotSchedule,
    /// It is placed where it is least uneven.
    ScheduleAnyway,
}

/// Whether nodes that a workload may not use count where it is spread, as in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NodeInclusion {
    /// They do not: neither as places, nor with what runs there.
    Honor,
    /// They do.
    Ignore,
}

/// `nodeAffinityPolicy` of Kubernetes, where it is not given.
fn honor() -> NodeInclusion {
    NodeInclusion::Honor
}

/// `nodeTaintsPolicy` of Kubernetes, where it is not given.
fn ignore() -> NodeInclusion {
    NodeInclusion::Ignore
}

/// Replicas are spread evenly over places, as in Kubernetes.
///
/// Only live workloads of the same tenant and generation count: neither those that terminate, nor those on failed
/// nodes, nor an older rollout. Nodes count, each with what runs there, by the two policies about affinity and taints;
/// those that other tenants have to themselves never do, nor, for a tenant with nodes of its own, those that others
/// use: a place of such nodes alone is none. Other than in Kubernetes, each spread has its own places, also if nodes of
/// them have no place by another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopologySpread {
    /// Over which places.
    pub topology: Topology,
    /// Which workloads count.
    pub workloads: Selector,
    /// By how many a place may have more than the emptiest.
    pub max_skew: NonZeroU32,
    /// With fewer places than this, the emptiest counts as empty.
    pub min_domains: Option<NonZeroU32>,
    /// What happens otherwise.
    pub when: WhenUnsatisfiable,
    /// Whether only nodes count that the workload's selector and node affinity allow: so it is if nothing is said.
    #[serde(default = "honor")]
    pub node_affinity: NodeInclusion,
    /// Whether only nodes count that take new workloads and whose taints it puts up with: not so if nothing is said.
    #[serde(default = "ignore")]
    pub node_taints: NodeInclusion,
}

impl TopologySpread {
    /// `workloads` spread over `topology` with a skew of 1 at most, or not placed.
    pub fn new(topology: Topology, workloads: Selector) -> Self {
        let (max_skew, when) = (NonZeroU32::MIN, WhenUnsatisfiable::DoNotSchedule);
        let (node_affinity, node_taints) = (honor(), ignore());
        Self { topology, workloads, max_skew, min_domains: None, when, node_affinity, node_taints }
    }

    /// With another skew.
    #[must_use]
    pub fn with_max_skew(mut self, skew: NonZeroU32) -> Self {
        self.max_skew = skew;
        self
    }

    /// Over so many places at least.
    #[must_use]
    pub fn with_min_domains(mut self, domains: NonZeroU32) -> Self {
        self.min_domains = Some(domains);
        self
    }

    /// With another policy about nodes that the selector and the node affinity do not allow.
    #[must_use]
    pub fn with_node_affinity(mut self, policy: NodeInclusion) -> Self {
        self.node_affinity = policy;
        self
    }

    /// With another policy about nodes that taints, or a cordon, keep the workload from.
    #[must_use]
    pub fn with_node_taints(mut self, policy: NodeInclusion) -> Self {
        self.node_taints = policy;
        self
    }

    /// As a preference only.
    #[must_use]
    pub fn schedule_anyway(mut self) -> Self {
        self.when = WhenUnsatisfiable::ScheduleAnyway;
        self
    }
}

/// How much of a tenant may be lost with one place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BlastRadius {
    /// What is lost at once.
    pub topology: Topology,
    /// The most of a tenant's workloads that may be in one place, in hundredths, rounded up; one always may.
    pub max_percent: u8,
}

impl BlastRadius {
    /// At most `max_percent` of a tenant's workloads in one place of `topology`.
    pub fn new(topology: Topology, max_percent: u8) -> Self {
        Self { topology, max_percent }
    }

    /// How many workloads of `total` may be in one place.
    pub fn allowed(&self, total: u64) -> u64 {
        let share = u128::from(total) * u128::from(self.max_percent.min(100));
        u64::try_from(share.div_ceil(100)).unwrap_or(u64::MAX).max(1)
    }
}

/// How much of one place a tenant may have, so that no place is a tenant's for want of others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DomainShare {
    /// What a place is.
    pub topology: Topology,
    /// The most of the processing power and of the memory of all nodes of a place that are not lost, in hundredths.
    /// Where a tenant has nothing, one workload may always be.
    pub max_percent: u8,
}

impl DomainShare {
    /// At most `max_percent` of each place of `topology`.
    pub fn new(topology: Topology, max_percent: u8) -> Self {
        Self { topology, max_percent }
    }

    /// Whether a tenant that has `used` of `capacity` may have `more`: thousandths of cores, and bytes.
    pub(crate) fn allows(&self, used: [u64; 2], more: [u64; 2], capacity: [u64; 2]) -> bool {
        let percent = u128::from(self.max_percent.min(100));
        let within = |(used, (more, capacity)): (u64, (u64, u64))| {
            more == 0 || (u128::from(used) + u128::from(more)) * 100 <= u128::from(capacity) * percent
        };
        used == [0, 0] || used.into_iter().zip(more.into_iter().zip(capacity)).all(within)
    }
}
