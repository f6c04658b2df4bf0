//! Which nodes a workload wants, and beside whom. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use hivemind_core::NodeId;
use hivemind_core::labels::{LabelKey, Selector};
use serde::{Deserialize, Serialize};

use super::Node;

/// Something wanted, and how much: 1 to 100, as in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// Which nodes a workload runs on, by their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct NodeAffinity {
    /// One of these must match, each as a whole. `None` allows every node; an empty list, or a list of empty terms,
    /// allows none, as in Kubernetes.
    pub required: Option<Vec<Selector>>,
    /// Nodes that match are preferred. An empty term means nothing.
    pub preferred: Vec<Weighted<Selector>>,
    /// Only nodes of these names, beside what labels say; `None` allows every name, an empty set none. It is what
    /// `matchFields` of `metadata.name` says in Kubernetes, once for all terms.
    pub names: Option<BTreeSet<NodeId>>,
    /// No node of these names.
    pub not_names: BTreeSet<NodeId>,
}

impl NodeAffinity {
    /// One more term, one of which must match.
    #[must_use]
    pub fn require(mut self, term: Selector) -> Self {
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

    /// Prefers nodes that match `term`, by `weight` of 100.
    #[must_use]
    pub fn prefer(mut self, weight: u8, term: Selector) -> Self {
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

/// Beside which workloads of its tenant a workload runs.
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
