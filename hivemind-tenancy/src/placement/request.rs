//! What is to be placed. No I/O, no clock, no async.

use hivemind_core::labels::{Labels, Selector};
use hivemind_core::resources::Resources;
use hivemind_core::{TenantRef, WorkloadId};
use serde::{Deserialize, Serialize};

use super::{
    Ask, BlastRadius, DomainShare, NodeAffinity, Opinion, PlacedWorkload, Toleration, TopologySpread,
    WhenUnsatisfiable, WorkloadAffinity,
};

/// How nodes are filled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Packing {
    /// The emptiest node first.
    #[default]
    Spread,
    /// The fullest node that still fits first.
    BinPack,
}

/// One workload to be placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkloadRequest {
    /// Its name, unique in the tenant.
    pub id: WorkloadId,
    /// What it uses.
    pub resources: Resources,
    /// Which nodes it may run on.
    #[serde(default)]
    pub selector: Selector,
    /// Workloads of the tenant with the same key are put on different nodes as far as possible.
    #[serde(default)]
    pub spread_key: Option<String>,
    /// Its labels, by which other workloads select it.
    #[serde(default)]
    pub labels: Labels,
    /// Which nodes it may run on, beyond the selector, and which it prefers.
    #[serde(default)]
    pub node_affinity: NodeAffinity,
    /// The taints it puts up with.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Beside which workloads it runs.
    #[serde(default)]
    pub affinity: WorkloadAffinity,
    /// How evenly it is spread.
    #[serde(default)]
    pub spread: Vec<TopologySpread>,
    /// A higher one may take the place of a lower one.
    #[serde(default)]
    pub priority: i32,
    /// Which rollout it belongs to; spreading counts those of the same one only.
    #[serde(default)]
    pub generation: u64,
}

impl WorkloadRequest {
    /// A workload that may run anywhere.
    pub fn new(id: WorkloadId, resources: Resources) -> Self {
        Self {
            id,
            resources,
            selector: Selector::everything(),
            spread_key: None,
            labels: Labels::new(),
            node_affinity: NodeAffinity::default(),
            tolerations: Vec::new(),
            affinity: WorkloadAffinity::default(),
            spread: Vec::new(),
            priority: 0,
            generation: 0,
        }
    }

    /// Only on nodes with these labels.
    #[must_use]
    pub fn on(mut self, selector: Selector) -> Self {
        self.selector = selector;
        self
    }

    /// Apart from others of the same key.
    #[must_use]
    pub fn spread_by(mut self, key: impl Into<String>) -> Self {
        self.spread_key = Some(key.into());
        self
    }

    /// With labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// With an affinity to nodes.
    #[must_use]
    pub fn with_node_affinity(mut self, affinity: NodeAffinity) -> Self {
        self.node_affinity = affinity;
        self
    }

    /// Puts up with these taints too.
    #[must_use]
    pub fn tolerating(mut self, toleration: Toleration) -> Self {
        self.tolerations.push(toleration);
        self
    }

    /// With an affinity to workloads.
    #[must_use]
    pub fn with_affinity(mut self, affinity: WorkloadAffinity) -> Self {
        self.affinity = affinity;
        self
    }

    /// Spread in this way too.
    #[must_use]
    pub fn with_spread(mut self, spread: TopologySpread) -> Self {
        self.spread.push(spread);
        self
    }

    /// With a priority.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// As part of a rollout.
    #[must_use]
    pub fn with_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Whether it depends on what runs on other nodes where it may run.
    pub(crate) fn looks_beyond_its_node(&self) -> bool {
        // Even beside others on one node: the first of its kind must be the only first.
        !self.affinity.required.is_empty()
            || self.affinity.anti_required.iter().any(|term| term.topology.is_wide())
            || self.spread.iter().any(|one| {
                // More elsewhere makes a node of its own no more uneven.
                one.when == WhenUnsatisfiable::DoNotSchedule && one.topology.is_wide()
            })
    }

    /// What is recorded where it runs.
    pub(crate) fn placed(&self) -> PlacedWorkload {
        PlacedWorkload {
            resources: self.resources.clone(),
            spread_key: self.spread_key.clone(),
            labels: self.labels.clone(),
            tolerations: self.tolerations.clone(),
            anti_affinity: self.affinity.anti_required.clone(),
            affinity: self.affinity.required.clone(),
            preferred: self.affinity.preferred.clone(),
            anti_preferred: self.affinity.anti_preferred.clone(),
            priority: self.priority,
            generation: self.generation,
            terminating: false,
            since: None,
        }
    }

    /// Whether both are alike in everything but the name.
    pub(crate) fn alike(&self, other: &Self) -> bool {
        self.resources == other.resources
            && self.spread_key == other.spread_key
            && self.selector == other.selector
            && self.labels == other.labels
            && self.node_affinity == other.node_affinity
            && self.tolerations == other.tolerations
            && self.affinity == other.affinity
            && self.spread == other.spread
            && self.priority == other.priority
            && self.generation == other.generation
    }
}

/// How a host wants workloads placed, whatever they ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PlacementPolicy {
    /// How nodes are filled.
    pub packing: Packing,
    /// Decides between nodes that are equally good; without, the first name does.
    pub seed: Option<u64>,
    /// How much of a tenant may be lost with one place.
    pub blast_radius: Option<BlastRadius>,
    /// How much of one place a tenant may have.
    pub domain_share: Option<DomainShare>,
    /// A running workload that had to come beside others draws more of these to its place by so much of 100: 1 if
    /// nothing is said, 0 for not at all. It is Kubernetes' `hardPodAffinityWeight`.
    pub hard_affinity_weight: u8,
}

/// What Kubernetes has, if nothing is said.
pub(crate) const HARD_AFFINITY_WEIGHT: u8 = 1;

impl Default for PlacementPolicy {
    fn default() -> Self {
        Self {
            packing: Packing::default(),
            seed: None,
            blast_radius: None,
            domain_share: None,
            hard_affinity_weight: HARD_AFFINITY_WEIGHT,
        }
    }
}

impl PlacementPolicy {
    /// With another weight of required affinity, seen from the other side.
    #[must_use]
    pub fn with_hard_affinity_weight(mut self, weight: u8) -> Self {
        self.hard_affinity_weight = weight;
        self
    }

    /// With nodes filled so.
    #[must_use]
    pub fn with_packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// With ties decided by `seed`.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// With a limit on what may be lost at once.
    #[must_use]
    pub fn with_blast_radius(mut self, radius: BlastRadius) -> Self {
        self.blast_radius = Some(radius);
        self
    }

    /// With a limit on what a tenant may have of one place.
    #[must_use]
    pub fn with_domain_share(mut self, share: DomainShare) -> Self {
        self.domain_share = Some(share);
        self
    }
}

/// Workloads of one tenant, to be placed all or none.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlacementRequest<'a> {
    /// Whose.
    pub tenant: &'a TenantRef,
    /// Whether the tenant has nodes to itself.
    pub isolated: bool,
    /// How.
    pub policy: PlacementPolicy,
    /// What the host thinks of each node.
    pub opinion: Option<Opinion<'a>>,
    /// What.
    pub workloads: &'a [WorkloadRequest],
}

impl<'a> PlacementRequest<'a> {
    /// `workloads` of `tenant`, spread over the nodes.
    pub fn new(tenant: &'a TenantRef, isolated: bool, workloads: &'a [WorkloadRequest]) -> Self {
        Self { tenant, isolated, policy: PlacementPolicy::default(), opinion: None, workloads }
    }

    /// Filled so.
    #[must_use]
    pub fn packing(mut self, packing: Packing) -> Self {
        self.policy.packing = packing;
        self
    }

    /// With ties decided by `seed`.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.policy.seed = Some(seed);
        self
    }

    /// As the host thinks of each node.
    #[must_use]
    pub fn with_opinion(mut self, opinion: Opinion<'a>) -> Self {
        self.opinion = Some(opinion);
        self
    }

    /// What it asks for `workload`.
    pub(crate) fn ask<'s>(&'s self, workload: &'s WorkloadRequest) -> Ask<'s> {
        Ask {
            isolated: self.isolated,
            opinion: self.opinion,
            ..Ask::new(self.tenant, workload).with_policy(&self.policy)
        }
    }

    /// As the policy says.
    #[must_use]
    pub fn with_policy(mut self, policy: PlacementPolicy) -> Self {
        self.policy = policy;
        self
    }
}
