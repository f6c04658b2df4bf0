//! What an overlay is told: nodes, tenants' networks, workloads. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hivemind_core::{NodeId, TenantRef, WorkloadId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::egress::Transit;
use super::mtu::UnderlayFamily;
use super::names::{workload_link, workload_mac, workload_netns};
use super::peering::Peering;
use super::plan::Masquerade;
use super::vni::Vni;
use crate::dataplane::state::{InvalidKernelName, LinkName, Mac, Netns};
#[cfg(doc)]
use crate::policy::rules::PeerNetwork;

/// The UDP port of VXLAN (RFC 7348).
const VXLAN_PORT: u16 = 4789;

/// How packets come from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Encapsulation {
    /// In VXLAN, each tenant in a network of its own: tenants may use equal addresses.
    Vxlan {
        /// The UDP port.
        port: u16,
    },
    /// As they are, by routes to the nodes, which must be neighbours of each other: tenants' addresses must differ.
    Direct,
}

/// What holds for the whole overlay. To change it, make a new one of the same parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OverlayConfig {
    /// How packets come from one node to another.
    pub encapsulation: Encapsulation,
    /// The IP version between nodes; each needs an address of it.
    pub family: UnderlayFamily,
    /// The MTU between nodes in bytes; every node must have it.
    pub underlay_mtu: u32,
    /// The bytes that an encryption of the underlay adds to each packet; 0 without.
    pub encryption_overhead: u32,
    /// Addresses by which tenants' packets leave the cluster; with direct routing none are needed.
    #[serde(default)]
    pub transit: Option<Transit>,
    /// Whether workloads' links come up at once, before any rules say what may pass. Otherwise they are down until
    /// [rules](super::OverlayState::enforce) cover them.
    #[serde(default)]
    pub up_without_rules: bool,
}

impl OverlayConfig {
    /// VXLAN on port 4789 over `family`, on links of `underlay_mtu` bytes.
    pub fn vxlan(family: UnderlayFamily, underlay_mtu: u32) -> Self {
        let encapsulation = Encapsulation::Vxlan { port: VXLAN_PORT };
        Self {
            encapsulation,
            family,
            underlay_mtu,
            encryption_overhead: 0,
            transit: None,
            up_without_rules: false,
        }
    }

    /// Direct routing over `family`, on links of `underlay_mtu` bytes.
    pub fn direct(family: UnderlayFamily, underlay_mtu: u32) -> Self {
        Self { encapsulation: Encapsulation::Direct, ..Self::vxlan(family, underlay_mtu) }
    }

    /// The same, leaving room for an encryption that adds so many bytes to each packet.
    #[must_use]
    pub fn with_encryption_overhead(mut self, bytes: u32) -> Self {
        self.encryption_overhead = bytes;
        self
    }

    /// The same, with addresses by which tenants' packets leave the cluster.
    #[must_use]
    pub fn with_transit(mut self, transit: Transit) -> Self {
        self.transit = Some(transit);
        self
    }

    /// The same, for a cluster without policies: workloads' links come up at once, and everything within a tenant passes.
    #[must_use]
    pub fn with_links_up_without_rules(mut self) -> Self {
        self.up_without_rules = true;
        self
    }

    /// Whether all tenants are routed in one namespace, that of the machine: what leads to a tenant is then the same for
    /// it and for its peers, and is the tenant's own part.
    pub(super) fn is_direct(&self) -> bool {
        self.encapsulation == Encapsulation::Direct
    }

    /// The bytes that are added to an inner packet on its way.
    pub fn overhead(&self) -> u32 {
        let encapsulation = match self.encapsulation {
            Encapsulation::Vxlan { .. } => self.family.vxlan_overhead(),
            Encapsulation::Direct => 0,
        };
        encapsulation.saturating_add(self.encryption_overhead)
    }
}

/// A machine, as the others reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OverlayNode {
    /// Its name.
    pub id: NodeId,
    /// Its IPv4 address between nodes.
    #[serde(default)]
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address between nodes.
    #[serde(default)]
    pub v6: Option<Ipv6Addr>,
    /// The MTU of the link that has them, in bytes.
    pub mtu: u32,
    /// The link that has them: direct routing needs to know, and so does a way out of the cluster.
    #[serde(default)]
    pub uplink: Option<LinkName>,
}

impl OverlayNode {
    /// A node without addresses yet.
    pub fn new(id: NodeId, mtu: u32) -> Self {
        Self { id, v4: None, v6: None, mtu, uplink: None }
    }

    /// The same, with an address between nodes, in place of the one of that version.
    #[must_use]
    pub fn with_address(mut self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.v4 = Some(v4),
            IpAddr::V6(v6) => self.v6 = Some(v6),
        }
        self
    }

    /// The same, with the link that has the addresses.
    #[must_use]
    pub fn with_uplink(mut self, uplink: LinkName) -> Self {
        self.uplink = Some(uplink);
        self
    }

    /// The addresses by which other nodes get here.
    pub(super) fn reached_at(&self, config: &OverlayConfig) -> BTreeSet<IpAddr> {
        let direct = config.is_direct().then(|| self.next_hop(config, UnderlayFamily::V6)).flatten();
        self.address(config.family).into_iter().chain(direct).collect()
    }

    /// Where packets of one version go that are for workloads here, with direct routing: Linux takes next hops of IPv6 for
    /// IPv4 (RFC 5549), but not the other way round.
    pub(super) fn next_hop(&self, config: &OverlayConfig, to: UnderlayFamily) -> Option<IpAddr> {
        match to {
            UnderlayFamily::V4 => self.address(config.family),
            UnderlayFamily::V6 => self.address(to),
        }
    }

    /// Its address of one version.
    pub fn address(&self, family: UnderlayFamily) -> Option<IpAddr> {
        match family {
            UnderlayFamily::V4 => self.v4.map(IpAddr::V4),
            UnderlayFamily::V6 => self.v6.map(IpAddr::V6),
        }
    }
}

/// A tenant's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TenantNetwork {
    /// Whose it is.
    pub tenant: TenantRef,
    /// What keeps it apart on the wire.
    pub vni: Vni,
    /// Where the addresses of its workloads are.
    pub pools: BTreeSet<IpNet>,
    /// How packets leave the cluster, by [`AddressPlan::masquerade`](super::AddressPlan::masquerade); without it none
    /// do.
    #[serde(default)]
    pub egress: Option<Masquerade>,
}

impl TenantNetwork {
    /// The network of `tenant`, without addresses yet.
    pub fn new(tenant: TenantRef, vni: Vni) -> Self {
        Self { tenant, vni, pools: BTreeSet::new(), egress: None }
    }

    /// The same, with a pool more.
    #[must_use]
    pub fn with_pool(mut self, prefix: IpNet) -> Self {
        self.pools.insert(prefix.trunc());
        self
    }

    /// The same, with a way out of the cluster.
    #[must_use]
    pub fn with_egress(mut self, masquerade: Masquerade) -> Self {
        self.egress = Some(masquerade);
        self
    }

    /// Whether all of `prefix` is in one of its pools.
    pub fn covers(&self, prefix: &IpNet) -> bool {
        self.pools.iter().any(|pool| pool.contains(prefix))
    }
}

/// A workload on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OverlayWorkload {
    /// Whose it is.
    pub tenant: TenantRef,
    /// Its name.
    pub id: WorkloadId,
    /// Where it runs.
    pub node: NodeId,
    /// Its IPv4 address.
    #[serde(default)]
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    #[serde(default)]
    pub v6: Option<Ipv6Addr>,
    /// Its MAC address; derived from tenant and name if none.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Its network namespace, which the host made; without one ours is made.
    #[serde(default)]
    pub netns: Option<Netns>,
    /// The name of the node's end of its link; derived from tenant and name if none.
    #[serde(default)]
    pub link: Option<LinkName>,
}

impl OverlayWorkload {
    /// A workload without addresses yet.
    pub fn new(tenant: TenantRef, id: WorkloadId, node: NodeId) -> Self {
        Self { tenant, id, node, v4: None, v6: None, mac: None, netns: None, link: None }
    }

    /// The same, with an address, in place of the one of that version.
    #[must_use]
    pub fn with_address(mut self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.v4 = Some(v4),
            IpAddr::V6(v6) => self.v6 = Some(v6),
        }
        self
    }

    /// The same, with a MAC address.
    #[must_use]
    pub fn with_mac(mut self, mac: Mac) -> Self {
        self.mac = Some(mac);
        self
    }

    /// The same, in a namespace that the host made.
    #[must_use]
    pub fn with_netns(mut self, netns: Netns) -> Self {
        self.netns = Some(netns);
        self
    }

    /// The same, with a name for the node's end of its link.
    #[must_use]
    pub fn with_link(mut self, link: LinkName) -> Self {
        self.link = Some(link);
        self
    }

    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// Its MAC address, as given or derived.
    pub fn effective_mac(&self) -> Mac {
        self.mac.unwrap_or_else(|| workload_mac(&self.tenant, &self.id))
    }

    /// The name of the node's end of its link, as given or derived: policies are put in force there.
    ///
    /// # Errors
    /// None in practice: a derived name is valid.
    pub fn effective_link(&self) -> Result<LinkName, InvalidKernelName> {
        self.link.clone().map_or_else(|| workload_link(&self.tenant, &self.id), Ok)
    }

    /// Its network namespace, as given or derived.
    ///
    /// # Errors
    /// None in practice: a derived name is valid.
    pub fn effective_netns(&self) -> Result<Netns, InvalidKernelName> {
        self.netns.clone().map_or_else(|| workload_netns(&self.node, &self.tenant, &self.id), Ok)
    }
}

/// One thing that becomes different. To put what is there already, or to remove what is not, changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OverlayChange {
    /// A node is there, or is different.
    PutNode(OverlayNode),
    /// A node is gone; nothing may be on it.
    RemoveNode(NodeId),
    /// A tenant's network is there, or is different.
    PutTenant(TenantNetwork),
    /// A tenant's network is gone, its blocks with it; no workload may be in it, and no peering be with it.
    RemoveTenant(TenantRef),
    /// A part of a tenant's pool is on one node, so that one route leads to all of it.
    PutBlock {
        /// Whose pool it is of.
        tenant: TenantRef,
        /// The part.
        prefix: IpNet,
        /// The node.
        node: NodeId,
    },
    /// A part of a tenant's pool is no node's any longer.
    RemoveBlock {
        /// Whose pool it is of.
        tenant: TenantRef,
        /// The part.
        prefix: IpNet,
    },
    /// A workload is there, or is different: on another node, for example.
    PutWorkload(OverlayWorkload),
    /// A workload is gone.
    RemoveWorkload {
        /// Whose it is.
        tenant: TenantRef,
        /// Its name.
        workload: WorkloadId,
    },
    /// There is a way between two tenants; no pool of theirs may overlap the other's, or one of another peer.
    ///
    /// It opens nothing. In VXLAN it leads nowhere on a node before the rules of the tenant there [know](PeerNetwork) the
    /// other. With direct routing it puts routes to each of the two on the nodes of the other.
    PutPeering(Peering),
    /// There is none any longer. First have rules on all nodes that no grant is behind: what rules were told of a
    /// tenant that is none of the peers any more, they take for somebody outside.
    RemovePeering(Peering),
}
