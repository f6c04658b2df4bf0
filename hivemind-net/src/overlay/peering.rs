//! The way between two tenants. No I/O, no clock, no async.
//!
//! A packet stays in the network of its sender as far as the node of its receiver, and crosses there: from the sender's
//! router by a pair of links to the receiver's. So a node lets in what another tenant sends by links of its own alone,
//! and a node that has not heard yet that a peering is over reaches nobody by it. The answer crosses on the node of who
//! asked. So each of the two routers at the ends sees both directions of a connection, and each of the two that a
//! packet is only handed on by sees one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hivemind_core::{NodeId, TenantRef};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::compile::{Compiled, Compiler, set};
use super::model::{OverlayNode, TenantNetwork};
use super::names::{link_local, peer_link, peer_mac, router_netns, tunnel_link};
use super::tenant::TenantState;
use super::vni::Vni;
use crate::dataplane::KernelState;
use crate::dataplane::state::{
    Address, AddressKey, InvalidKernelName, Link, Neighbour, NeighbourKey, Route, RouteKey,
};
use crate::policy::rules::{PeerNetwork, PeerWay};

/// Two tenants between whose networks there is a way. It opens nothing: rules of both decide what passes.
///
/// A host has one for each two tenants of which one has an egress grant for the other, and the other an ingress grant
/// for the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(TenantRef, TenantRef)", into = "(TenantRef, TenantRef)")]
pub struct Peering {
    lower: TenantRef,
    upper: TenantRef,
}

impl Peering {
    /// Between these two, in whatever order.
    pub fn new(one: TenantRef, other: TenantRef) -> Self {
        if one <= other { Self { lower: one, upper: other } } else { Self { lower: other, upper: one } }
    }

    /// The two, in order.
    pub fn tenants(&self) -> (&TenantRef, &TenantRef) {
        (&self.lower, &self.upper)
    }

    /// Each of the two with the other.
    pub(super) fn sides(&self) -> [(&TenantRef, &TenantRef); 2] {
        [(&self.lower, &self.upper), (&self.upper, &self.lower)]
    }
}

impl From<(TenantRef, TenantRef)> for Peering {
    fn from((one, other): (TenantRef, TenantRef)) -> Self {
        Self::new(one, other)
    }
}

impl From<Peering> for (TenantRef, TenantRef) {
    fn from(Peering { lower, upper }: Peering) -> Self {
        (lower, upper)
    }
}

/// A pool of each that have an address in common.
pub(super) fn overlap(one: &TenantNetwork, other: &TenantNetwork) -> Option<(IpNet, IpNet)> {
    let common = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    let of_other = |a: &IpNet| other.pools.iter().find(|b| common(a, b)).map(|b| (*a, *b));
    one.pools.iter().find_map(of_other)
}

/// What rules of others must know of `peer` where all are routed in one namespace.
pub(super) fn in_one_network(peer: &TenantNetwork) -> PeerNetwork {
    PeerNetwork::new(peer.tenant.clone(), peer.pools.iter().copied())
}

/// What rules about `own` must know of `peer`, to which there is a way.
pub(super) fn peer_network(
    own: &TenantNetwork,
    peer: &TenantNetwork,
) -> Result<PeerNetwork, InvalidKernelName> {
    let (tunnel, link) = (tunnel_link(own.vni)?, peer_link(peer.vni)?);
    Ok(in_one_network(peer).by(PeerWay::new(tunnel, link)))
}

/// The nodes where `tenant` is routed: where it has workloads, and where its peers have, for what crosses there.
pub(super) fn routers<'a>(
    tenant: &'a TenantState,
    peers: impl IntoIterator<Item = &'a TenantState>,
) -> BTreeSet<&'a NodeId> {
    std::iter::once(tenant).chain(peers).flat_map(|one| one.present.keys()).collect()
}

impl Compiler<'_> {
    /// The way to every peer: the pair of links, and an end for packets to addresses that nobody there has.
    pub(super) fn peers(&self, kernel: &mut KernelState) -> Compiled {
        for peer in &self.peers {
            let is_here = peer.present.contains_key(&self.at.id);
            if is_here || self.is_present() {
                self.pair(peer, kernel)?;
            }
            for pool in &peer.network.pools {
                // Where one route would be two, that of the block or of the workload is the one.
                let block = peer.block(pool);
                let is_block = block.is_some_and(|block| peer.present.contains_key(&block.node));
                if is_block || pool.prefix_len() == pool.max_prefix_len() {
                    continue;
                }
                // Who is on this node is known best by the peer's own router.
                let route = if is_here { self.way_to(peer, self.at)? } else { Route::unreachable() };
                self.routing(kernel)?.routes.insert(RouteKey::new(*pool), route);
            }
        }
        Ok(())
    }

    /// Whether the tenant has workloads here.
    pub(super) fn is_present(&self) -> bool {
        self.tenant.present.contains_key(&self.at.id)
    }

    /// Both ends of the link between the two routers of this node. It says as much about one as about the other, so it
    /// is the same whichever tenant it is made for.
    fn pair(&self, peer: &TenantState, kernel: &mut KernelState) -> Compiled {
        let (own, other) = (&self.tenant.network, &peer.network);
        let end = |own: &TenantNetwork, far: Vni| -> Result<_, InvalidKernelName> {
            let router = router_netns(&self.at.id, &own.tenant, own.vni)?;
            Ok((router, peer_link(far)?, peer_mac(&self.at.id, own.vni, far)))
        };
        let (near, far) = (end(own, other.vni)?, end(other, own.vni)?);
        let link = |mac| Link::veth_end(mac, self.mtu).with_link_local(false).with_up();
        kernel.add_veth((&near.0, &near.1, link(near.2)), (&far.0, &far.1, link(far.2)));
        for ((router, link, mac), beyond) in [(&near, far.2), (&far, near.2)] {
            let router = kernel.namespace_mut(router);
            router.owned = true;
            router
                .addresses
                .insert(AddressKey::new(link.clone(), link_local(*mac).into(), 64), Address::new());
            let key = NeighbourKey::new(link.clone(), link_local(beyond).into());
            router.neighbours.insert(key, Neighbour::Permanent(beyond));
            // Who comes in here may be answered by the tunnel, so no reverse path is asked for (RFC 3704): Linux asks for
            // a strict one on a link without an IPv4 address, also if told to be loose. The larger of both values holds.
            set(router, &format!("net/ipv4/conf/{link}/rp_filter"), "0")?;
            set(router, "net/ipv4/conf/all/rp_filter", "0")?;
        }
        Ok(())
    }

    /// How packets get to workloads of `peer` on `node`: crossing here if it is this one, and there otherwise.
    fn way_to(&self, peer: &TenantState, node: &OverlayNode) -> Result<Route, InvalidKernelName> {
        let (own, other) = (self.tenant.network.vni, peer.network.vni);
        if node.id == self.at.id {
            let far = link_local(peer_mac(&self.at.id, other, own));
            return Ok(Route::via(peer_link(other)?, far.into(), false));
        }
        Ok(Route::via(tunnel_link(own)?, link_local(self.vtep(&node.id)).into(), false))
    }

    /// The route to a block of a peer on `owner`.
    pub(super) fn peer_block(
        &self,
        peer: &TenantState,
        prefix: IpNet,
        owner: &OverlayNode,
        kernel: &mut KernelState,
    ) -> Compiled {
        if prefix.prefix_len() < prefix.max_prefix_len() && peer.present.contains_key(&owner.id) {
            let route = self.way_to(peer, owner)?;
            self.routing(kernel)?.routes.insert(RouteKey::new(prefix), route);
        }
        Ok(())
    }

    /// The route to one address of a peer that no block of its node covers.
    pub(super) fn peer_host_route(
        &self,
        peer: &TenantState,
        address: IpAddr,
        owner: &OverlayNode,
        kernel: &mut KernelState,
    ) -> Compiled {
        if peer.is_borrowed(address, &owner.id) {
            let route = self.way_to(peer, owner)?;
            self.routing(kernel)?.routes.insert(RouteKey::new(IpNet::from(address)), route);
        }
        Ok(())
    }
}
