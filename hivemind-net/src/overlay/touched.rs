//! Which parts of which kernels a change may make different. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hivemind_core::{NodeId, TenantRef, WorkloadId};
use ipnet::IpNet;

/// The parts, by what they come from.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// What nodes need for themselves.
    pub(super) nodes: BTreeSet<NodeId>,
    pub(super) tenants: BTreeMap<TenantRef, TouchedTenant>,
}

/// The parts of one tenant.
#[derive(Debug, Default)]
pub(super) struct TouchedTenant {
    /// Nodes of which everything may be different.
    pub(super) whole: BTreeSet<NodeId>,
    /// Nodes that may be, or be no more, next hops of all others.
    pub(super) peers: BTreeSet<NodeId>,
    /// Blocks whose routes may be different, on all nodes.
    pub(super) blocks: BTreeSet<IpNet>,
    /// Addresses whose routes may be different, on all nodes.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Nodes where the base may be different.
    pub(super) based: BTreeSet<NodeId>,
    /// Whether the bases may be different, on all nodes.
    pub(super) bases: bool,
    /// Workloads that may be different.
    pub(super) workloads: BTreeSet<WorkloadId>,
    /// Where they were and will be.
    pub(super) places: BTreeSet<NodeId>,
}
