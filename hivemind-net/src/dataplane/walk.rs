//! A packet's way through the kernels of a cluster, as far as their states tell. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hivemind_core::NodeId;

use super::KernelState;
use super::rules::{Evaluation, Hook, RulePacket, evaluate};
use super::state::{
    LinkKind, LinkName, Mac, Neighbour, NeighbourKey, Netns, NetnsState, RemoteMac, RouteTarget,
};

/// How many namespaces a packet may go through before it is taken for one that goes in circles.
const FARTHEST: usize = 32;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fate {
    /// It arrives.
    Delivered {
        /// On this node.
        node: NodeId,
        /// In this namespace.
        netns: Netns,
    },
    /// Rules drop it.
    Filtered {
        /// On this node.
        node: NodeId,
        /// In this namespace.
        netns: Netns,
    },
    /// It is too large for a link, and its sender is told.
    TooBig {
        /// On this node.
        node: NodeId,
        /// The link.
        link: LinkName,
        /// What would pass, in bytes.
        mtu: u32,
    },
    /// A route says that nobody is there.
    Unreachable {
        /// On this node.
        node: NodeId,
    },
    /// It is lost without a word.
    Lost {
        /// On this node.
        node: NodeId,
        /// Why.
        why: String,
    },
}

/// The kernels of a cluster, joined by a network that carries every packet from one address of a node to another.
///
/// Routed networks only: a packet that would be forwarded by a bridge is lost. What the states do not hold (foreign links
/// and routes) is not there.
#[derive(Debug, Clone)]
pub struct Cluster<'a> {
    kernels: BTreeMap<NodeId, &'a KernelState>,
    /// Whose the addresses of the underlay are.
    underlay: BTreeMap<IpAddr, NodeId>,
}

/// Where a packet is.
struct At<'a> {
    node: NodeId,
    netns: Netns,
    state: &'a NetnsState,
}

impl<'a> Cluster<'a> {
    /// No nodes yet.
    pub fn new() -> Self {
        Self { kernels: BTreeMap::new(), underlay: BTreeMap::new() }
    }

    /// The same, with a node that has these addresses in the underlay.
    #[must_use]
    pub fn with_node(
        mut self,
        node: NodeId,
        kernel: &'a KernelState,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        self.underlay.extend(addresses.into_iter().map(|address| (address, node.clone())));
        self.kernels.insert(node, kernel);
        self
    }

    /// Sends a packet of `length` bytes, its IP header included, from a namespace of a node.
    pub fn send(&self, node: &NodeId, from: &Netns, packet: &RulePacket, length: u32) -> Fate {
        let lost = |node: &NodeId, why: &str| Fate::Lost { node: node.clone(), why: why.to_owned() };
        let Some(mut at) = self.at(node, from) else { return lost(node, "there is no such namespace") };
        let mut packet = packet.clone();
        packet.in_link = None;
        for _ in 0..FARTHEST {
            match self.hop(&at, &mut packet, length) {
                Ok((next, by)) => {
                    at = next;
                    packet.in_link = Some(by);
                }
                Err(fate) => return fate,
            }
        }
        lost(&at.node, "it goes in circles")
    }

    fn at(&self, node: &NodeId, netns: &Netns) -> Option<At<'a>> {
        let state = self.kernels.get(node)?.namespaces.get(netns)?;
        Some(At { node: node.clone(), netns: netns.clone(), state })
    }

    /// One namespace: where the packet is next and by which link it gets there, or what becomes of it.
    fn hop(&self, at: &At<'a>, packet: &mut RulePacket, length: u32) -> Result<(At<'a>, LinkName), Fate> {
        let lost = |why: &str| Fate::Lost { node: at.node.clone(), why: format!("{}: {why}", at.netns) };
        let arrived = packet.in_link.is_some();
        packet.out_link = None;
        if arrived {
            filter(at, Hook::Prerouting, packet)?;
        }
        if at.state.addresses.keys().any(|key| key.address == packet.destination) {
            filter(at, Hook::Input, packet)?;
            return Err(Fate::Delivered { node: at.node.clone(), netns: at.netns.clone() });
        }
        let (dev, next_hop) = route(at, packet.destination).map_err(|why| match why {
            Some(why) => lost(why),
            None => Fate::Unreachable { node: at.node.clone() },
        })?;
        packet.out_link = Some(dev.clone());
        filter(at, if arrived { Hook::Forward } else { Hook::Output }, packet)?;
        filter(at, Hook::Postrouting, packet)?;
        let link = at.state.links.get(dev).ok_or_else(|| lost("it leaves by a link that is not ours"))?;
        if !link.up {
            return Err(lost("the link is down"));
        }
        if length > link.mtu {
            return Err(Fate::TooBig { node: at.node.clone(), link: dev.clone(), mtu: link.mtu });
        }
        let neighbour = at.state.neighbours.get(&NeighbourKey::new(dev.clone(), next_hop));
        match &link.kind {
            LinkKind::Veth { peer_netns, peer } => {
                let next = self.at(&at.node, peer_netns).ok_or_else(|| lost("the other end is nowhere"))?;
                let end = next.state.links.get(peer).filter(|end| end.up);
                let end = end.ok_or_else(|| lost("the other end is down"))?;
                let wanted = match neighbour {
                    Some(Neighbour::Permanent(mac)) => *mac == end.mac,
                    // Nobody wrote it down, so the other end is asked.
                    _ => next.state.addresses.keys().any(|key| key.dev == *peer && key.address == next_hop),
                };
                if wanted { Ok((next, peer.clone())) } else { Err(lost("the next hop does not answer")) }
            }
            LinkKind::Vxlan(vxlan) => {
                let Some(Neighbour::Permanent(mac)) = neighbour else {
                    return Err(lost("the MAC of the next hop is not known"));
                };
                let remotes = at.state.remotes.get(&RemoteMac::new(dev.clone(), *mac));
                self.tunnel(remotes, vxlan.vni, *mac).ok_or_else(|| lost("no tunnel end has the MAC"))
            }
            LinkKind::Bridge | LinkKind::Dummy | LinkKind::Unknown(_) => Err(lost("the link leads nowhere")),
        }
    }

    /// The other end of a tunnel: the namespace in which the network's link with that MAC is.
    fn tunnel(&self, remotes: Option<&BTreeSet<IpAddr>>, vni: u32, mac: Mac) -> Option<(At<'a>, LinkName)> {
        for remote in remotes? {
            let Some(node) = self.underlay.get(remote) else { continue };
            let Some(kernel) = self.kernels.get(node) else { continue };
            for (netns, state) in &kernel.namespaces {
                let end = state.links.iter().find(|(_, link)| match &link.kind {
                    LinkKind::Vxlan(end) => {
                        end.vni == vni && end.local == *remote && link.mac == mac && link.up
                    }
                    LinkKind::Bridge | LinkKind::Veth { .. } | LinkKind::Dummy | LinkKind::Unknown(_) => {
                        false
                    }
                });
                if let Some((name, _)) = end {
                    return Some((At { node: node.clone(), netns: netns.clone(), state }, name.clone()));
                }
            }
        }
        None
    }
}

impl Default for Cluster<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// All tables of the namespace, one after the other; the packet keeps the mark and the addresses that they give it.
fn filter(at: &At<'_>, hook: Hook, packet: &mut RulePacket) -> Result<(), Fate> {
    for table in at.state.tables.values() {
        let Evaluation { accepted, mark, destination, source, .. } = evaluate(table, &hook, packet);
        packet.mark = mark;
        if let Some(destination) = destination {
            (packet.destination, packet.destination_port) = destination;
        }
        packet.source = source.unwrap_or(packet.source);
        if !accepted {
            return Err(Fate::Filtered { node: at.node.clone(), netns: at.netns.clone() });
        }
    }
    Ok(())
}

/// The link and the next hop: of the longest route of the main table, or of a prefix on a link. `None` if a route says
/// that there is none.
fn route<'s>(at: &At<'s>, to: IpAddr) -> Result<(&'s LinkName, IpAddr), Option<&'static str>> {
    let routes = at.state.routes.iter().filter(|(key, _)| key.table == super::state::MAIN_TABLE);
    let best = routes
        .filter(|(key, _)| key.destination.contains(&to))
        .max_by_key(|(key, _)| key.destination.prefix_len());
    let on_link = at
        .state
        .addresses
        .iter()
        .filter(|(key, address)| !address.no_prefix_route && on_prefix(key.address, key.prefix_len, to))
        .max_by_key(|(key, _)| key.prefix_len);
    let direct = on_link
        .filter(|(key, _)| best.is_none_or(|(route, _)| key.prefix_len > route.destination.prefix_len()));
    if let Some((key, _)) = direct {
        return Ok((&key.dev, to));
    }
    match best.map(|(_, route)| &route.target) {
        Some(RouteTarget::Link { dev, gateway, .. }) => Ok((dev, gateway.unwrap_or(to))),
        Some(RouteTarget::Blackhole) => Err(Some("the route is a black hole")),
        Some(RouteTarget::Unreachable) => Err(None),
        None => Err(Some("there is no route")),
    }
}

fn on_prefix(address: IpAddr, length: u8, to: IpAddr) -> bool {
    ipnet::IpNet::new(address, length).is_ok_and(|net| net.contains(&to))
}
