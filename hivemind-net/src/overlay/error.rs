//! Why an overlay cannot be so. No I/O, no clock, no async.

use std::net::IpAddr;

use hivemind_core::{NodeId, TenantId, WorkloadId};
use ipnet::IpNet;

use super::mtu::{InvalidMtu, UnderlayFamily};
use super::vni::Vni;
use crate::dataplane::state::{InvalidKernelName, LinkName, Mac, Netns};

/// Why a change is refused; nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOverlay {
    /// Packets would be lost.
    #[error(transparent)]
    Mtu(#[from] InvalidMtu),
    /// Large packets to or from this node would be lost in silence.
    #[error("node {node} has an MTU of {mtu} between nodes, the others {expected}: make them equal")]
    UnequalMtu {
        /// The node.
        node: NodeId,
        /// Its MTU in bytes.
        mtu: u32,
        /// What all have, in bytes.
        expected: u32,
    },
    /// A node cannot be reached by the others.
    #[error("node {node} has no address of the underlay's IP version ({family:?}): give it one")]
    NoUnderlayAddress {
        /// The node.
        node: NodeId,
        /// The version.
        family: UnderlayFamily,
    },
    /// With direct routing, packets of IPv6 lead to nodes by IPv6 alone, and there are pools of it.
    #[error(
        "tenants have pools of IPv6, whose packets get to no node by IPv4: give node {node} an IPv6 address"
    )]
    NoNextHop {
        /// The node.
        node: NodeId,
    },
    /// Direct routes leave by the uplink. And a machine that forwards, as it does for packets that leave the cluster too,
    /// forgets the default route that its router announced there, unless its uplink is told to listen on.
    #[error(
        "a node that forwards needs to know its uplink: name the link that has the addresses of node {node}"
    )]
    NoUplink {
        /// The node.
        node: NodeId,
    },
    /// Two nodes with one address.
    #[error("nodes {node} and {other} both have {address}")]
    UnderlayAddressTaken {
        /// The node to be put.
        node: NodeId,
        /// Who has it.
        other: NodeId,
        /// The address.
        address: IpAddr,
    },
    /// A tenant's packets may leave, but by no address.
    #[error(
        "packets of tenant {tenant} may leave the cluster, but there are no transit addresses: configure some"
    )]
    NoTransit {
        /// The tenant.
        tenant: TenantId,
    },
    /// The transit addresses are too few.
    #[error("VNI {vni} has no transit address in {prefix}: widen it, or let it begin with a smaller VNI")]
    TransitTooSmall {
        /// The VNI.
        vni: Vni,
        /// The prefix.
        prefix: IpNet,
    },
    /// There is no such node.
    #[error("there is no node {node}: put it first")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
    /// Something is on the node.
    #[error(
        "node {node} has {workloads} workloads and {blocks} blocks: remove them, or put them elsewhere, first"
    )]
    NodeInUse {
        /// The node.
        node: NodeId,
        /// How many workloads are on it.
        workloads: usize,
        /// How many blocks are on it.
        blocks: usize,
    },
    /// There is no such network.
    #[error("tenant {tenant} has no network: put it first")]
    UnknownTenant {
        /// The tenant.
        tenant: TenantId,
    },
    /// Something is in the network.
    #[error("the network of tenant {tenant} has {workloads} workloads: remove them first")]
    TenantInUse {
        /// The tenant.
        tenant: TenantId,
        /// How many.
        workloads: usize,
    },
    /// There is a way between the network and another.
    #[error("tenant {tenant} is peered with tenant {other}: remove that peering first")]
    TenantPeered {
        /// The tenant.
        tenant: TenantId,
        /// With whom.
        other: TenantId,
    },
    /// A tenant needs no way to itself.
    #[error("tenant {tenant} cannot be peered with itself")]
    PeeredWithItself {
        /// The tenant.
        tenant: TenantId,
    },
    /// Packets to an address of one would be packets to one of the other.
    #[error(
        "pool {pool} of tenant {tenant} overlaps pool {other_pool} of tenant {other}: of tenants between whom there \
         is a way, and of all peers of one tenant, no address may be the same"
    )]
    PeeredPoolsOverlap {
        /// The tenant.
        tenant: TenantId,
        /// Its pool.
        pool: IpNet,
        /// The other tenant, which may be a peer of the same peer.
        other: TenantId,
        /// The pool of the other.
        other_pool: IpNet,
    },
    /// Two networks with one VNI.
    #[error("VNI {vni} is that of another network")]
    VniTaken {
        /// The VNI.
        vni: Vni,
    },
    /// Tenants that share one routing table with overlapping addresses.
    #[error("pool {pool} overlaps another tenant's: with direct routing all tenants share one address space")]
    PoolTaken {
        /// The pool.
        pool: IpNet,
    },
    /// Not an address of the tenant's.
    #[error("{prefix} is in no pool of tenant {tenant}")]
    OutsidePools {
        /// The tenant.
        tenant: TenantId,
        /// The block, or the address as a prefix.
        prefix: IpNet,
    },
    /// Two blocks with one address.
    #[error("block {prefix} overlaps block {other} of node {node}: remove that first")]
    BlockTaken {
        /// The block to be put.
        prefix: IpNet,
        /// The block that is there.
        other: IpNet,
        /// Where it is.
        node: NodeId,
    },
    /// Two workloads of a tenant with one address.
    #[error("{address} is that of workload {other}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        other: WorkloadId,
    },
    /// A workload nobody could reach.
    #[error("workload {workload} has no address")]
    NoAddress {
        /// The workload.
        workload: WorkloadId,
    },
    /// A MAC that no station may have, or that of the gateway.
    #[error("workload {workload} cannot have the MAC {mac}: give it another, unicast one")]
    BadMac {
        /// The workload.
        workload: WorkloadId,
        /// The MAC.
        mac: Mac,
    },
    /// Two nodes with one derived MAC in one network.
    #[error("nodes {node} and {other} have the same MAC {mac} in VNI {vni}: give the tenant another VNI")]
    VtepMacTaken {
        /// The node to be put.
        node: NodeId,
        /// Who has it.
        other: NodeId,
        /// The MAC.
        mac: Mac,
        /// The network.
        vni: Vni,
    },
    /// Two links of one name.
    #[error("node {node} has a link {link} already: name that of workload {workload} otherwise")]
    LinkTaken {
        /// The node.
        node: NodeId,
        /// The name.
        link: LinkName,
        /// The workload.
        workload: WorkloadId,
    },
    /// Two workloads in one network namespace, or one in that of the machine or of a tenant's router.
    #[error(
        "workload {workload} cannot be in network namespace {netns}: it is the machine's, a router's or another workload's"
    )]
    NetnsTaken {
        /// The namespace.
        netns: Netns,
        /// The workload.
        workload: WorkloadId,
    },
    /// A derived name that the kernel would not take.
    #[error(transparent)]
    Name(#[from] InvalidKernelName),
}
