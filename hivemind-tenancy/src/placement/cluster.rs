//! The cluster as filters and scores see it. No I/O, no clock, no async.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use hivemind_core::resources::Resources;
use hivemind_core::{NodeId, TenantRef};

use super::request::HARD_AFFINITY_WEIGHT;
use super::{
    BlastRadius, DomainShare, Node, NodeAllocations, NodeState, Packing, PlacedWorkload, PlacementPolicy,
    Topology, WorkloadRequest,
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

/// How full something of `capacity` is with `used`: what is over does not count.
pub(crate) fn load(used: &Resources, capacity: &Resources) -> u64 {
    let of = |used: u64, capacity: u64| millionths(used.min(capacity), capacity);
    of(used.cpu().as_millis(), capacity.cpu().as_millis())
        .saturating_add(of(used.memory().as_bytes(), capacity.memory().as_bytes()))
}

/// What a place is shared by: thousandths of cores, and bytes of memory.
pub(crate) fn shared_by(of: &Resources) -> [u64; 2] {
    [of.cpu().as_millis(), of.memory().as_bytes()]
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

/// What a host thinks of a node for a workload, as code: nothing if it will not do, else how much speaks against it. A
/// node that is full to the last speaks as much against itself as two million, beside an empty one.
///
/// It may depend on the node, and must not on what runs where: that may be asked in any order, and again.
///
/// ```
/// use hivemind_core::{Generation, TenantRef};
/// use hivemind_core::resources::{MilliCpu, Resources};
/// use hivemind_tenancy::{ClusterIndex, Node};
/// use hivemind_tenancy::placement::{Ask, Opinion, Packing, WorkloadRequest};
///
/// let mut index = ClusterIndex::new(Packing::Spread, 7);
/// for name in ["hot-1", "cool-1", "off-1"] {
///     index.add_node(Node::new(name.parse()?, Resources::new().with_cpu(MilliCpu::from_cores(2))))?;
/// }
/// let acme = TenantRef::new("acme".parse()?, Generation::from_u64(1));
/// let workload = WorkloadRequest::new("w".parse()?, Resources::new().with_cpu(MilliCpu::from_cores(1)));
/// let cool = |node: &Node| match node.id.as_str().split_once('-')?.0 {
///     "off" => None,
///     "hot" => Some(500_000),
///     _ => Some(0),
/// };
/// let ask = Ask::new(&acme, &workload).with_opinion(Opinion::new(&cool));
/// assert_eq!(index.place(ask)?.as_str(), "cool-1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Opinion<'a>(&'a (dyn Fn(&Node) -> Option<u64> + Sync));

impl<'a> Opinion<'a> {
    /// What `of` says of each node.
    pub fn new(of: &'a (dyn Fn(&Node) -> Option<u64> + Sync)) -> Self {
        Self(of)
    }

    /// What it is of `node`.
    pub fn of(self, node: &Node) -> Option<u64> {
        (self.0)(node)
    }
}

impl fmt::Debug for Opinion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opinion")
    }
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
    /// How much of one place the tenant may have.
    pub domain_share: Option<&'a DomainShare>,
    /// What the host thinks of each node.
    pub opinion: Option<Opinion<'a>>,
    /// How much running workloads draw those they had to come beside: see [`PlacementPolicy`].
    pub hard_affinity_weight: u8,
    /// What it is.
    pub workload: &'a WorkloadRequest,
}

impl<'a> Ask<'a> {
    /// `workload` of a `tenant` that shares nodes, spread over them.
    pub fn new(tenant: &'a TenantRef, workload: &'a WorkloadRequest) -> Self {
        Self {
            tenant,
            isolated: false,
            packing: Packing::Spread,
            blast_radius: None,
            domain_share: None,
            opinion: None,
            hard_affinity_weight: HARD_AFFINITY_WEIGHT,
            workload,
        }
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

    /// With another weight of required affinity, seen from the other side: 100 at most.
    #[must_use]
    pub fn with_hard_affinity_weight(mut self, weight: u8) -> Self {
        self.hard_affinity_weight = weight;
        self
    }

    /// With a limit on what may be lost at once.
    #[must_use]
    pub fn with_blast_radius(mut self, radius: &'a BlastRadius) -> Self {
        self.blast_radius = Some(radius);
        self
    }

    /// With a limit on what the tenant may have of one place.
    #[must_use]
    pub fn with_domain_share(mut self, share: &'a DomainShare) -> Self {
        self.domain_share = Some(share);
        self
    }

    /// As the host thinks of each node.
    #[must_use]
    pub fn with_opinion(mut self, opinion: Opinion<'a>) -> Self {
        self.opinion = Some(opinion);
        self
    }

    /// All that `policy` says but the seed, which is the index's or the request's.
    #[must_use]
    pub fn with_policy(mut self, policy: &'a PlacementPolicy) -> Self {
        self.packing = policy.packing;
        self.blast_radius = policy.blast_radius.as_ref();
        self.domain_share = policy.domain_share.as_ref();
        self.hard_affinity_weight = policy.hard_affinity_weight;
        self
    }

    /// What it needs of what a place is shared by: thousandths of cores, and bytes of memory.
    pub(crate) fn wants(&self) -> [u64; 2] {
        shared_by(&self.workload.resources)
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
pub struct Cluster<'a> {
    seats: Vec<Seat<'a>>,
    /// Of the first tenant that was asked for: whether any of its workloads says anything about others.
    speaking: OnceLock<(TenantRef, bool)>,
}

impl<'a> Cluster<'a> {
    /// These nodes, in any order.
    pub fn new(nodes: &[(&'a Node, &'a NodeAllocations)]) -> Self {
        let mut seats: Vec<_> = nodes.iter().map(|(node, running)| Seat::new(node, running)).collect();
        seats.sort_by(|a, b| a.node.id.cmp(&b.node.id));
        Self { seats, speaking: OnceLock::new() }
    }

    /// The nodes.
    pub fn seats(&self) -> &[Seat<'a>] {
        &self.seats
    }

    /// Whether any workload of `tenant` says anything about others. Most often none does, and then nobody need look
    /// through all of them for every one that comes.
    pub(crate) fn speaks(&self, tenant: &TenantRef) -> bool {
        let look = || {
            let mut all = self.seats.iter().flat_map(|seat| seat.of(tenant));
            all.any(|placed| placed.stances().next().is_some())
        };
        let (of, speaks) = self.speaking.get_or_init(|| (tenant.clone(), look()));
        if of == tenant { *speaks } else { look() }
    }

    /// Puts the workload of `ask` on the node at `index`.
    pub(crate) fn assign(&mut self, index: usize, ask: &Ask<'_>) {
        let Some(seat) = self.seats.get_mut(index) else { return };
        seat.free = seat.free.saturating_sub(&ask.workload.resources);
        // A repeated name is refused where the placement is recorded; here it only counts once.
        let placed = ask.workload.placed();
        if placed.stances().next().is_some() {
            self.speaking = OnceLock::new();
        }
        let _ = seat.running.to_mut().add(ask.tenant, &ask.workload.id, placed, ask.isolated);
    }

    /// What each place has, and what of it `tenant` uses; failed nodes are left out.
    pub(crate) fn shares(
        &self,
        topology: &Topology,
        tenant: &TenantRef,
    ) -> BTreeMap<String, ([u64; 2], [u64; 2])> {
        let mut all: BTreeMap<String, ([u64; 2], [u64; 2])> = BTreeMap::new();
        let add = |sum: &mut [u64; 2], more: [u64; 2]| {
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        };
        for seat in self.seats.iter().filter(|seat| seat.node.state != NodeState::Failed) {
            let Some(domain) = topology.domain(seat.node) else { continue };
            let (capacity, used) = all.entry(domain.to_owned()).or_default();
            add(capacity, shared_by(&seat.node.capacity));
            seat.of(tenant).for_each(|placed| add(used, shared_by(&placed.resources)));
        }
        all
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
        for seat in self.seats.iter().filter(|seat| seat.node.state != NodeState::Failed) {
            let Some(domain) = topology.domain(seat.node) else { continue };
            let here = seat.of(tenant).filter(|placed| counts(placed)).count();
            if here > 0 {
                *all.entry(domain.to_owned()).or_default() += u64::try_from(here).unwrap_or(u64::MAX);
            }
        }
        all
    }
}
