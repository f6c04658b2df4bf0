//! Nodes, and what runs on them. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::labels::Labels;
use hivemind_core::resources::Resources;
use hivemind_core::{Collection, Error, ErrorKind, NodeId, Result, Stored, TenantRef, Timestamp, WorkloadId};
use serde::{Deserialize, Serialize};

use super::rules::{Stance, stances};
use super::{AffinityTerm, Taint, Toleration, Weighted, WorkloadRequest};
use crate::isolation::{DEDICATED_KEY, mark};

/// Whether a node takes workloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NodeState {
    /// Takes new workloads.
    #[default]
    Ready,
    /// Keeps what it runs and takes nothing new.
    Cordoned,
    /// Is lost: what ran there must run elsewhere.
    Failed,
}

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Node {
    /// The name.
    pub id: NodeId,
    /// What workloads may use of it; what is not named is not there.
    pub capacity: Resources,
    /// Its labels.
    pub labels: Labels,
    /// Whether it takes workloads.
    pub state: NodeState,
    /// What keeps workloads away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
}

impl Stored for Node {
    const KIND: &'static str = "node";
}

impl Node {
    /// A ready node.
    pub fn new(id: NodeId, capacity: Resources) -> Self {
        Self { id, capacity, labels: Labels::new(), state: NodeState::Ready, taints: Vec::new() }
    }

    /// Whose it is, by its label and its taints: what [`NodeIntent::Dedicated`](crate::isolation::NodeIntent::Dedicated)
    /// names. If they say different things, it is nobody's.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &str> {
        let label = self.labels.get(DEDICATED_KEY).map(|mark| mark.as_str());
        label.into_iter().chain(self.taints.iter().filter_map(Taint::mark))
    }

    /// With labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// With one more taint.
    #[must_use]
    pub fn with_taint(mut self, taint: Taint) -> Self {
        self.taints.push(taint);
        self
    }
}

/// What most workloads do not say takes no room: each time one comes or goes, all of its node are written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A workload on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlacedWorkload {
    /// What it uses.
    pub resources: Resources,
    /// The key by which its replicas are spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_key: Option<String>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The taints it puts up with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Which workloads must not come beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anti_affinity: Vec<AffinityTerm>,
    /// Beside which workloads it had to come: those draw it, a little, to where it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<AffinityTerm>,
    /// Which workloads it prefers to have beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred: Vec<Weighted<AffinityTerm>>,
    /// Which workloads it prefers not to have beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anti_preferred: Vec<Weighted<AffinityTerm>>,
    /// A workload of a higher priority may take its place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// Which rollout it belongs to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u64,
    /// It is on its way out: it holds its room, and counts no longer where live workloads are counted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub terminating: bool,
    /// Since when it is here, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl PlacedWorkload {
    /// A workload that uses `resources`.
    pub fn new(resources: Resources) -> Self {
        Self {
            resources,
            spread_key: None,
            labels: Labels::new(),
            tolerations: Vec::new(),
            anti_affinity: Vec::new(),
            affinity: Vec::new(),
            preferred: Vec::new(),
            anti_preferred: Vec::new(),
            priority: 0,
            generation: 0,
            terminating: false,
            since: None,
        }
    }

    /// What it says of other workloads.
    pub(crate) fn stances(&self) -> impl Iterator<Item = (&AffinityTerm, Stance)> {
        stances(&self.anti_affinity, &self.affinity, &self.preferred, &self.anti_preferred)
    }
}

/// Everything that runs on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeAllocations {
    /// The sum of what runs here.
    pub used: Resources,
    /// The isolated tenant that has the node to itself, while it runs something here.
    pub dedicated_to: Option<TenantRef>,
    /// What runs here, by tenant.
    pub workloads: BTreeMap<TenantRef, BTreeMap<WorkloadId, PlacedWorkload>>,
}

impl Stored for NodeAllocations {
    const KIND: &'static str = "node allocations";
}

impl NodeAllocations {
    /// What a node has on which `workload` alone runs.
    pub(crate) fn of_one(tenant: &TenantRef, workload: &WorkloadRequest) -> Self {
        let theirs = BTreeMap::from([(workload.id.clone(), workload.placed())]);
        Self { workloads: BTreeMap::from([(tenant.clone(), theirs)]), ..Self::default() }
    }

    /// With `workload` of `tenant` too.
    pub(crate) fn add(
        &mut self,
        tenant: &TenantRef,
        workload: &WorkloadId,
        placed: PlacedWorkload,
        isolated: bool,
    ) -> Result<()> {
        let theirs = self.workloads.entry(tenant.clone()).or_default();
        if theirs.contains_key(workload) {
            let message = format!("workload {workload} of tenant {} runs here already", tenant.id);
            return Err(Error::new(ErrorKind::AlreadyExists, "place", message));
        }
        self.used = self
            .used
            .checked_add(&placed.resources)
            .map_err(|e| Error::of(ErrorKind::Invalid, "place", e))?;
        theirs.insert(workload.clone(), placed);
        if isolated {
            self.dedicated_to = Some(tenant.clone());
        }
        Ok(())
    }

    /// Without `workload` of `tenant`; what it was.
    pub(crate) fn remove(&mut self, tenant: &TenantRef, workload: &WorkloadId) -> Result<PlacedWorkload> {
        let missing = || Error::not_found("unplace", format!("tenant {} runs no {workload} here", tenant.id));
        let theirs = self.workloads.get_mut(tenant).ok_or_else(missing)?;
        let placed = theirs.remove(workload).ok_or_else(missing)?;
        if theirs.is_empty() {
            self.workloads.remove(tenant);
            if self.dedicated_to.as_ref() == Some(tenant) {
                self.dedicated_to = None;
            }
        }
        let broken = |e| Error::of(ErrorKind::Corrupt, "unplace", e);
        self.used = self.used.checked_sub(&placed.resources).map_err(broken)?;
        Ok(placed)
    }

    /// What does not tolerate a `NoExecute` taint of these at all, in the order of tenants and names. What tolerates one
    /// for a time is told by [`evictions`](crate::placement::evictions). A tenant's workloads tolerate the taint that
    /// marks a node as its own.
    pub fn evicted_by(&self, taints: &[Taint]) -> Vec<(TenantRef, WorkloadId)> {
        let mut gone = Vec::new();
        for (tenant, theirs) in &self.workloads {
            let own = mark(tenant);
            let stays = |placed: &PlacedWorkload| {
                let mut leaving = taints.iter().filter(|taint| taint.puts_out(&own));
                leaving.all(|taint| placed.tolerations.iter().any(|one| one.tolerates(taint)))
            };
            let leaving = theirs.iter().filter(|(_, placed)| !stays(placed));
            gone.extend(leaving.map(|(id, _)| (tenant.clone(), id.clone())));
        }
        gone
    }

    /// How many of the tenant's workloads here have this spread key.
    pub(crate) fn replicas(&self, tenant: &TenantRef, spread_key: &str) -> u32 {
        let theirs = self.workloads.get(tenant).into_iter().flat_map(BTreeMap::values);
        let same = theirs.filter(|placed| placed.spread_key.as_deref() == Some(spread_key)).count();
        u32::try_from(same).unwrap_or(u32::MAX)
    }
}

pub(crate) fn nodes() -> Result<Collection<Node>> {
    crate::collection("nodes")
}

pub(crate) fn allocations() -> Result<Collection<NodeAllocations>> {
    crate::collection("allocations")
}
