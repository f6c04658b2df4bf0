//! Overlays by short names, and a packet's way through the kernels that follow from them.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use hivemind_core::{Generation, NodeId, TenantRef, WorkloadId};
use hivemind_net::dataplane::KernelState;
use hivemind_net::dataplane::state::{
    LinkKind, LinkName, Mac, Neighbour, NeighbourKey, Netns, NetnsState, RemoteMac, RouteTarget,
};
use hivemind_net::overlay::{
    Encapsulation, OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayWorkload, Peering,
    TenantNetwork, UnderlayFamily, Vni,
};
use ipnet::IpNet;

pub(crate) fn tenant(id: &str) -> TenantRef {
    TenantRef::new(id.parse().unwrap(), Generation::from_u64(1))
}

pub(crate) fn node_id(number: usize) -> NodeId {
    format!("n{number}").parse().unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Node `number` with an address of each version between nodes.
pub(crate) fn node(number: usize) -> OverlayNode {
    OverlayNode::new(node_id(number), 1500)
        .with_address(ip(&format!("2001:db8:1::{number}")))
        .with_address(ip(&format!("192.0.2.{number}")))
        .with_uplink("uplink0".parse().unwrap())
}

pub(crate) fn workload(of: &str, id: &str, on: usize, addresses: &[&str]) -> OverlayWorkload {
    let bare = OverlayWorkload::new(tenant(of), id.parse().unwrap(), node_id(on));
    addresses.iter().fold(bare, |workload, address| workload.with_address(ip(address)))
}

pub(crate) fn network(of: &str, vni: u32, pools: &[&str]) -> TenantNetwork {
    let bare = TenantNetwork::new(tenant(of), Vni::new(vni).unwrap());
    pools.iter().fold(bare, |network, pool| network.with_pool(net(pool)))
}

pub(crate) fn block(of: &str, prefix: &str, on: usize) -> OverlayChange {
    OverlayChange::PutBlock { tenant: tenant(of), prefix: net(prefix), node: node_id(on) }
}

/// An overlay of `nodes` nodes over VXLAN.
pub(crate) fn overlay(family: UnderlayFamily, nodes: usize) -> OverlayNetwork {
    let mut overlay =
        OverlayNetwork::new(OverlayConfig::vxlan(family, 1500).with_links_up_without_rules()).unwrap();
    overlay.load((1..=nodes).map(node).map(OverlayChange::PutNode)).unwrap();
    overlay
}

/// The kernels of all nodes, compiled whole.
pub(crate) fn kernels(overlay: &OverlayNetwork) -> BTreeMap<NodeId, KernelState> {
    let compiled =
        |node: &OverlayNode| (node.id.clone(), overlay.node_state(&node.id).unwrap().into_kernel());
    overlay.nodes().map(compiled).collect()
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives in this namespace of this node.
    Delivered(NodeId, Netns),
    /// The sender is told, by this node.
    Unreachable(NodeId),
    /// It is lost, at this place.
    Lost(String),
}

/// A cluster of kernels joined by an underlay.
pub(crate) struct Wire<'a> {
    pub(crate) overlay: &'a OverlayNetwork,
    pub(crate) kernels: &'a BTreeMap<NodeId, KernelState>,
}

impl Wire<'_> {
    /// Follows a packet from a workload to an address of its tenant, by what the kernels hold alone.
    pub(crate) fn send(&self, from: &OverlayWorkload, to: IpAddr) -> Fate {
        let mut at = (from.node.clone(), from.effective_netns().unwrap());
        for _ in 0..8 {
            match self.hop(&at, to) {
                Ok(next) => at = next,
                Err(fate) => return fate,
            }
        }
        Fate::Lost("a loop".into())
    }

    fn netns(&self, at: &(NodeId, Netns)) -> Result<&NetnsState, Fate> {
        let found = self.kernels.get(&at.0).and_then(|kernel| kernel.namespaces.get(&at.1));
        found.ok_or_else(|| Fate::Lost(format!("no namespace {} on {}", at.1, at.0)))
    }

    fn hop(&self, at: &(NodeId, Netns), to: IpAddr) -> Result<(NodeId, Netns), Fate> {
        let lost = |what: &str| Fate::Lost(format!("{what} in {} on {}", at.1, at.0));
        let here = self.netns(at)?;
        if here.addresses.keys().any(|key| key.address == to) {
            return Err(Fate::Delivered(at.0.clone(), at.1.clone()));
        }
        let matching = here.routes.iter().filter(|(key, _)| key.destination.contains(&to));
        let longest = matching.max_by_key(|(key, _)| key.destination.prefix_len());
        let (_, route) = longest.ok_or_else(|| lost("no route"))?;
        let RouteTarget::Link { dev, gateway, .. } = &route.target else {
            return Err(Fate::Unreachable(at.0.clone()));
        };
        let next_hop = gateway.unwrap_or(to);
        assert!(
            next_hop.is_ipv6() || to.is_ipv4(),
            "{next_hop} is no next hop for {to}: Linux has none such"
        );
        let Some(link) = here.links.get(dev) else {
            // The uplink: the underlay knows its own neighbours.
            return self
                .node_at(next_hop)
                .map(|node| (node, Netns::Host))
                .ok_or_else(|| lost("no such node"));
        };
        if !link.up {
            return Err(lost("a link that is down"));
        }
        if let Some(IpAddr::V6(via)) = gateway
            && via.is_unicast_link_local()
        {
            let has_own = here.addresses.keys().any(|key| {
                key.dev == *dev && matches!(key.address, IpAddr::V6(own) if own.is_unicast_link_local())
            });
            assert!(has_own, "a next hop that is not on the link {dev}");
        }
        let neighbour = here.neighbours.get(&NeighbourKey::new(dev.clone(), next_hop));
        let Some(Neighbour::Permanent(mac)) = neighbour else { return Err(lost("no neighbour")) };
        match &link.kind {
            LinkKind::Veth { peer_netns, peer } => {
                let next = (at.0.clone(), peer_netns.clone());
                self.receives(&next, peer, *mac)?;
                Ok(next)
            }
            LinkKind::Vxlan(vxlan) => {
                assert_eq!(vxlan.underlay, Some(Netns::Host));
                let remotes = here.remotes.get(&RemoteMac::new(dev.clone(), *mac));
                let remote = remotes.and_then(|to| to.first()).ok_or_else(|| lost("no tunnel"))?;
                let node = self.node_at(*remote).ok_or_else(|| lost("no such node"))?;
                let kernel = self.kernels.get(&node).ok_or_else(|| lost("no kernel"))?;
                // The receiving kernel finds the tunnel end by VNI and port.
                let ends = kernel.namespaces.iter().flat_map(|(netns, state)| {
                    let ends = state.links.iter().filter(|(_, link)| match &link.kind {
                        LinkKind::Vxlan(end) => {
                            (end.vni, end.port, end.local) == (vxlan.vni, vxlan.port, *remote)
                        }
                        _ => false,
                    });
                    ends.map(move |(name, _)| (netns, name))
                });
                let (netns, name) = ends.last().ok_or_else(|| lost("no tunnel end at the other side"))?;
                let next = (node, netns.clone());
                self.receives(&next, name, *mac)?;
                Ok(next)
            }
            other => Err(lost(&format!("{other:?}"))),
        }
    }

    fn receives(&self, at: &(NodeId, Netns), dev: &LinkName, mac: Mac) -> Result<(), Fate> {
        match self.netns(at)?.links.get(dev) {
            Some(link) if link.mac == mac && link.up => Ok(()),
            other => Err(Fate::Lost(format!("{dev} in {} does not take {mac}: {other:?}", at.1))),
        }
    }

    fn node_at(&self, address: IpAddr) -> Option<NodeId> {
        let config = self.overlay.config();
        let has = |node: &&OverlayNode| match (config.encapsulation, address) {
            (Encapsulation::Direct, IpAddr::V6(v6)) => node.v6 == Some(v6),
            _ => node.address(config.family) == Some(address),
        };
        self.overlay.nodes().find(has).map(|node| node.id.clone())
    }

    /// Checks every workload against every address of every tenant; how many pairs reach each other.
    pub(crate) fn check_all(&self) -> usize {
        self.check_own() + self.check_others()
    }

    /// Between tenants: who has a peering arrives, and nobody else does. With direct routing others may: all tenants are
    /// routed in one namespace then, and rules alone keep them apart.
    fn check_others(&self) -> usize {
        let direct = self.overlay.config().encapsulation == Encapsulation::Direct;
        let (mut pairs, peerings) = (0, self.overlay.peerings().collect::<Vec<_>>());
        let tenants: Vec<_> = self.overlay.tenants().map(|network| &network.tenant).collect();
        for (own, other) in tenants.iter().flat_map(|own| tenants.iter().map(move |other| (*own, *other))) {
            let peered = peerings.contains(&Peering::new(own.clone(), other.clone()));
            for from in self.overlay.workloads(own).filter(|_| own != other) {
                for to in self.overlay.workloads(other) {
                    let speaks = |to: &IpAddr| from.addresses().any(|own| own.is_ipv4() == to.is_ipv4());
                    for address in to.addresses().filter(speaks) {
                        let fate = self.send(from, address);
                        let arrived = fate == Fate::Delivered(to.node.clone(), to.effective_netns().unwrap());
                        let fine = arrived == peered || direct && !peered;
                        assert!(fine, "{} to {address} of {}: {fate:?}", from.id, to.id);
                        pairs += usize::from(peered);
                    }
                }
            }
        }
        pairs
    }

    fn check_own(&self) -> usize {
        let mut pairs = 0;
        for network in self.overlay.tenants() {
            let all: Vec<_> = self.overlay.workloads(&network.tenant).collect();
            for from in &all {
                for to in &all {
                    let speaks = |to: &IpAddr| from.addresses().any(|own| own.is_ipv4() == to.is_ipv4());
                    for address in to.addresses().filter(speaks) {
                        let arrived = Fate::Delivered(to.node.clone(), to.effective_netns().unwrap());
                        assert_eq!(
                            self.send(from, address),
                            arrived,
                            "{} to {address} of {}",
                            from.id,
                            to.id
                        );
                        pairs += 1;
                    }
                }
            }
        }
        pairs
    }
}

pub(crate) fn peering(one: &str, other: &str) -> Peering {
    Peering::new(tenant(one), tenant(other))
}

pub(crate) fn remove(of: &str, id: &str) -> OverlayChange {
    OverlayChange::RemoveWorkload { tenant: tenant(of), workload: id.parse::<WorkloadId>().unwrap() }
}
