//! The cluster as filters and scores see it. No I/O, no clock, no async.

use std::borrow::Cow;
use std::collections::BTreeMap;

use hivemind_core::resources::Resources;
use hivemind_core::{NodeId, TenantRef};

use super::{
    BlastRadius, Node, NodeAllocations, NodeState, Packing, PlacedWorkload, Topology, WorkloadRequest,
};

/// How full a node is, at most: two resources, in millionths each.
pub(crate) const FULL: u64 = 2_000_000;

/// `amount` of `capacity` in millionths; nothing of nothing is nothing.
pub(crate) fn millionths(amount: u64, capacity: u64) -> u64 {
    match amount.checked_mul(1_000_000) {
        Some(scaled) => scaled.checked_div(capacity).unwrap_or_default(),
        // Petabytes: the narrow product does not hold them, and loses no time on anything else.
        None => amount / (capacity / 1_000_000).max(1),
    }
}

/// The share of `capacity` that `amount` is: processing power and memory together, as Kubernetes' `LeastAllocated`.
pub(crate) fn share(amount: &Resources, capacity: &Resources) -> u64 {
    millionths(amount.cpu().as_millis(), capacity.cpu().as_millis())
        .saturating_add(millionths(amount.memory().as_bytes(), capacity.memory().as_bytes()))
}

/// A number that puts nodes in the order of `seed`; without one, all are alike.
pub(crate) fn tie(seed: Option<u64>, node: &NodeId) -> u64 {
    let Some(seed) = seed else { return 0 };
    let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in node.as_str().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// One workload that asks for a node.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Ask<'a> {
    /// Whose it is.
    pub tenant: &'a TenantRef,
    /// Whether the tenant has nodes to itself.
    pub isolated: bool,
    /// How nodes are filled.
    pub packing: Packing,
    /// How much of the tenant may be lost with one place.
    pub blast_radius: Option<&'a BlastRadius>,
    /// What it is.
    pub workload: &'a WorkloadRequest,
}

impl<'a> Ask<'a> {
    /// `workload` of a `tenant` that shares nodes, spread over them.
    pub fn new(tenant: &'a TenantRef, workload: &'a WorkloadRequest) -> Self {
        Self { tenant, isolated: false, packing: Packing::Spread, blast_radius: None, workload }
    }

    /// Of a tenant that has its nodes to itself.
    #[must_use]
    pub fn isolated(mut self) -> Self {
        self.isolated = true;
        self
    }

    /// With nodes filled so.
    #[must_use]
    pub fn packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// With a limit on what may be lost at once.
    #[must_use]
    pub fn with_blast_radius(mut self, radius: &'a BlastRadius) -> Self {
        self.blast_radius = Some(radius);
        self
    }
}

/// A node with what runs on it, and what is left of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Seat<'a> {
    /// The node.
    pub node: &'a Node,
    /// What runs on it.
    pub running: Cow<'a, NodeAllocations>,
    /// What is free.
    pub free: Resources,
}

impl<'a> Seat<'a> {
    fn new(node: &'a Node, running: &'a NodeAllocations) -> Self {
        let free = node.capacity.saturating_sub(&running.used);
        Self { node, running: Cow::Borrowed(running), free }
    }

    /// How full it is, in millionths of processing power and memory together.
    pub(crate) fn load(&self) -> u64 {
        let used = self.node.capacity.saturating_sub(&self.free);
        share(&used, &self.node.capacity)
    }

    /// The tenant's workloads here.
    pub fn of<'s>(&'s self, tenant: &TenantRef) -> impl Iterator<Item = &'s PlacedWorkload> {
        self.running.workloads.get(tenant).into_iter().flat_map(BTreeMap::values)
    }
}

/// Every node with what runs on it, in the order of names.
#[derive(Debug, Clone)]
pub struct Cluster<'a>(Vec<Seat<'a>>);

impl<'a> Cluster<'a> {
    /// These nodes, in any order.
    pub fn new(nodes: &[(&'a Node, &'a NodeAllocations)]) -> Self {
        let mut seats: Vec<_> = nodes.iter().map(|(node, running)| Seat::new(node, running)).collect();
        seats.sort_by(|a, b| a.node.id.cmp(&b.node.id));
        Self(seats)
    }

    /// The nodes.
    pub fn seats(&self) -> &[Seat<'a>] {
        &self.0
    }

    /// Puts the workload of `ask` on the node at `index`.
    pub(crate) fn assign(&mut self, index: usize, ask: &Ask<'_>) {
        let Some(seat) = self.0.get_mut(index) else { return };
        seat.free = seat.free.saturating_sub(&ask.workload.resources);
        // A repeated name is refused where the placement is recorded; here it only counts once.
        let placed = ask.workload.placed();
        let _ = seat.running.to_mut().add(ask.tenant, &ask.workload.id, placed, ask.isolated);
    }

    /// How many workloads of `tenant` that `counts` are in each place; places without any are left out, and so are
    /// failed nodes.
    pub(crate) fn count(
        &self,
        topology: &Topology,
        tenant: &TenantRef,
        counts: impl Fn(&PlacedWorkload) -> bool,
    ) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for seat in self.0.iter().filter(|seat| seat.node.state != NodeState::Failed) {
            let Some(domain) = topology.domain(seat.node) else { continue };
            let here = seat.of(tenant).filter(|placed| counts(placed)).count();
            if here > 0 {
                *all.entry(domain.to_owned()).or_default() += u64::try_from(here).unwrap_or(u64::MAX);
            }
        }
        all
    }
}
