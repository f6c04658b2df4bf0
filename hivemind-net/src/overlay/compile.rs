//! What one node's kernel needs, part by part. No I/O, no clock, no async.
//!
//! Every entry of a kernel comes from exactly one part, so the parts that a change touches, before and after it, are all
//! that there is to compare.

use std::net::{IpAddr, Ipv6Addr};

use hivemind_core::NodeId;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::egress;
use super::model::{Encapsulation, OverlayConfig, OverlayNode, OverlayWorkload};
use super::mtu::UnderlayFamily;
use super::names::{gateway_mac, link_local, router_netns, tunnel_link, vtep_mac};
use super::tenant::TenantState;
use crate::dataplane::KernelState;
use crate::dataplane::state::{
    Address, AddressKey, InvalidKernelName, Link, LinkKind, LinkName, Mac, Neighbour, NeighbourKey, Netns,
    NetnsState, RemoteMac, Route, RouteKey, SysctlName, Vxlan,
};

/// The gateway of every workload, on its own link.
pub(super) const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The workload's end of its link.
const INSIDE: &str = "eth0";

pub(super) type Compiled = Result<(), InvalidKernelName>;

/// Compiles for `at`, as one of the nodes of `tenant`.
pub(super) struct Compiler<'a> {
    pub(super) config: &'a OverlayConfig,
    /// The MTU inside, in bytes.
    pub(super) mtu: u32,
    pub(super) tenant: &'a TenantState,
    /// The tenants that there is a way to.
    pub(super) peers: Vec<&'a TenantState>,
    pub(super) at: &'a OverlayNode,
}

impl Compiler<'_> {
    pub(super) fn router(&self) -> Result<Netns, InvalidKernelName> {
        match self.config.encapsulation {
            Encapsulation::Vxlan { .. } => {
                router_netns(&self.at.id, &self.tenant.network.tenant, self.tenant.network.vni)
            }
            Encapsulation::Direct => Ok(Netns::Host),
        }
    }

    /// Says that the namespace that routes for the tenant is there, whatever else is said of it.
    pub(super) fn touch(&self, kernel: &mut KernelState) -> Compiled {
        self.routing(kernel).map(|_| ())
    }

    /// The namespace that routes for the tenant.
    pub(super) fn routing<'k>(
        &self,
        kernel: &'k mut KernelState,
    ) -> Result<&'k mut NetnsState, InvalidKernelName> {
        let owned = !self.config.is_direct();
        let netns = kernel.namespace_mut(&self.router()?);
        netns.owned = owned;
        Ok(netns)
    }

    /// What is there as soon as the tenant is on this node: the namespace, the tunnel end, and an end for packets to
    /// addresses that nobody has.
    pub(super) fn base(&self, kernel: &mut KernelState) -> Compiled {
        self.pools(kernel)?;
        if !self.config.is_direct() {
            self.peers(kernel)?;
        }
        if let Some(masquerade) = &self.tenant.network.egress {
            egress::tenant(self, &self.router()?, masquerade, kernel)?;
        }
        let Encapsulation::Vxlan { port } = self.config.encapsulation else { return Ok(()) };
        let Some(local) = self.at.address(self.config.family) else { return Ok(()) };
        let (vni, tunnel) = (self.tenant.network.vni, self.tunnel()?);
        let mac = self.vtep(&self.at.id);
        let routing = self.routing(kernel)?;
        forward(routing)?;
        isolate(routing)?;
        let vxlan = Vxlan::new(vni.as_u32(), local).with_port(port).with_underlay(Netns::Host);
        let link = Link::new(LinkKind::Vxlan(vxlan), mac, self.mtu).with_link_local(false).with_up();
        routing.links.insert(tunnel.clone(), link);
        routing.addresses.insert(AddressKey::new(tunnel, link_local(mac).into(), 64), Address::new());
        self.voices(kernel)
    }

    /// Whoever sends to an address that nobody has is told, and the packet does not leave by a default route.
    fn pools(&self, kernel: &mut KernelState) -> Compiled {
        let routing = self.routing(kernel)?;
        for pool in &self.tenant.network.pools {
            // Where one route would be two, that of the block or of the workload is the one.
            let is_block = self.tenant.block(pool).is_some_and(|block| self.is_remote(&block.node));
            if !is_block && pool.prefix_len() < pool.max_prefix_len() {
                routing.routes.insert(RouteKey::new(*pool), Route::unreachable());
            }
        }
        Ok(())
    }

    /// Errors to distant senders need a source that is not link-local. Where no block gives the router one, it is the
    /// subnet-router anycast address of a whole pool (RFC 4291, section 2.6.1).
    fn voices(&self, kernel: &mut KernelState) -> Compiled {
        if self.tenant.has_v6_block(&self.at.id) {
            return Ok(());
        }
        let pools = self.tenant.network.pools.iter().filter(|pool| pool.prefix_len() < pool.max_prefix_len());
        for router in pools.map(IpNet::network).filter(|router| router.is_ipv6()) {
            if self.tenant.holder(router).is_none() {
                let key = AddressKey::new(self.tunnel()?, router, 128);
                self.routing(kernel)?.addresses.insert(key, Address::new());
            }
        }
        Ok(())
    }

    fn tunnel(&self) -> Result<LinkName, InvalidKernelName> {
        tunnel_link(self.tenant.network.vni)
    }

    pub(super) fn vtep(&self, node: &NodeId) -> Mac {
        vtep_mac(node, &self.tenant.network.tenant, self.tenant.network.vni)
    }

    /// Whether `node` is another one that has workloads of the tenant.
    fn is_remote(&self, node: &NodeId) -> bool {
        *node != self.at.id && self.tenant.present.contains_key(node)
    }

    /// How packets to `prefix` get to `peer`.
    fn route_to(&self, peer: &OverlayNode, prefix: IpNet) -> Result<Option<Route>, InvalidKernelName> {
        Ok(match self.config.encapsulation {
            Encapsulation::Vxlan { .. } => {
                let next_hop = link_local(self.vtep(&peer.id));
                Some(Route::via(self.tunnel()?, next_hop.into(), false))
            }
            Encapsulation::Direct => {
                let to = if prefix.addr().is_ipv4() { UnderlayFamily::V4 } else { UnderlayFamily::V6 };
                let address = peer.next_hop(self.config, to);
                let uplink = self.at.uplink.clone();
                uplink.zip(address).map(|(uplink, address)| Route::via(uplink, address, false))
            }
        })
    }

    /// What this node knows of `peer` as a next hop: its MAC, and where the tunnel to it ends.
    pub(super) fn neighbour(&self, peer: &OverlayNode, kernel: &mut KernelState) -> Compiled {
        // What crosses to another tenant does so where that one's workload is.
        let is_next_hop = self.is_remote(&peer.id)
            || peer.id != self.at.id && self.peers.iter().any(|other| other.present.contains_key(&peer.id));
        if !is_next_hop || self.config.is_direct() {
            return Ok(());
        }
        let Some(remote) = peer.address(self.config.family) else { return Ok(()) };
        let (tunnel, mac) = (self.tunnel()?, self.vtep(&peer.id));
        let routing = self.routing(kernel)?;
        let key = NeighbourKey::new(tunnel.clone(), link_local(mac).into());
        routing.neighbours.insert(key, Neighbour::Permanent(mac));
        routing.remotes.insert(RemoteMac::new(tunnel, mac), [remote].into());
        Ok(())
    }

    /// The route to a block of `owner`, or, if that is this node, the address of the router in it.
    pub(super) fn block(&self, prefix: IpNet, owner: &OverlayNode, kernel: &mut KernelState) -> Compiled {
        if prefix.prefix_len() == prefix.max_prefix_len() {
            return Ok(());
        }
        if self.is_remote(&owner.id)
            && let Some(route) = self.route_to(owner, prefix)?
        {
            self.routing(kernel)?.routes.insert(RouteKey::new(prefix), route);
        }
        // The subnet-router anycast address, for the same reason as that of a pool; a pool gives it to no workload unless
        // told to.
        let router = prefix.network();
        if owner.id == self.at.id
            && !self.config.is_direct()
            && router.is_ipv6()
            && self.tenant.holder(router).is_none()
        {
            let key = AddressKey::new(self.tunnel()?, router, 128);
            self.routing(kernel)?.addresses.insert(key, Address::new());
        }
        Ok(())
    }

    /// The route to one address that no block of its node covers.
    pub(super) fn host_route(
        &self,
        address: IpAddr,
        peer: &OverlayNode,
        kernel: &mut KernelState,
    ) -> Compiled {
        if self.is_remote(&peer.id)
            && self.tenant.is_borrowed(address, &peer.id)
            && let Some(route) = self.route_to(peer, IpNet::from(address))?
        {
            self.routing(kernel)?.routes.insert(RouteKey::new(IpNet::from(address)), route);
        }
        Ok(())
    }

    /// A workload of this node: its link, with everything on both of its ends.
    pub(super) fn workload(&self, workload: &OverlayWorkload, kernel: &mut KernelState) -> Compiled {
        let (router, netns) = (self.router()?, workload.effective_netns()?);
        let (outside, inside) = (workload.effective_link()?, INSIDE.parse::<LinkName>()?);
        let (gateway, mac) = (gateway_mac(self.tenant.network.vni), workload.effective_mac());
        let end = |mac: Mac| Link::veth_end(mac, self.mtu).with_link_local(false).with_up();
        kernel.add_veth((&router, &outside, end(gateway)), (&netns, &inside, end(mac)));

        let routing = self.routing(kernel)?;
        routing.addresses.insert(AddressKey::new(outside.clone(), GATEWAY.into(), 64), Address::new());
        for address in workload.addresses() {
            routing.routes.insert(RouteKey::new(IpNet::from(address)), Route::on_link(outside.clone()));
            let key = NeighbourKey::new(outside.clone(), address);
            routing.neighbours.insert(key, Neighbour::Permanent(mac));
        }

        let own = kernel.namespace_mut(&netns);
        own.owned = workload.netns.is_none();
        isolate(own)?;
        let key = AddressKey::new(inside.clone(), link_local(mac).into(), 64);
        own.addresses.insert(key, Address::new());
        own.neighbours
            .insert(NeighbourKey::new(inside.clone(), GATEWAY.into()), Neighbour::Permanent(gateway));
        for address in workload.addresses() {
            let whole = IpNet::from(address).prefix_len();
            own.addresses.insert(AddressKey::new(inside.clone(), address, whole), Address::new());
            let anywhere = match address {
                IpAddr::V4(_) => IpNet::from(Ipv4Net::default()),
                IpAddr::V6(_) => IpNet::from(Ipv6Net::default()),
            };
            own.routes.insert(RouteKey::new(anywhere), Route::via(inside.clone(), GATEWAY.into(), false));
        }
        Ok(())
    }
}

/// What a node needs for itself: with direct routing it forwards in its own namespace, and so it does for packets that
/// leave the cluster.
pub(super) fn node(config: &OverlayConfig, at: &OverlayNode, kernel: &mut KernelState) -> Compiled {
    let host = kernel.namespace_mut(&Netns::Host);
    egress::machine(config, at, host)?;
    let (Encapsulation::Direct, Some(uplink)) = (config.encapsulation, &at.uplink) else { return Ok(()) };
    forward(host)?;
    // A machine that forwards drops the default route that its router announced, unless it is told not to.
    set(host, &format!("net/ipv6/conf/{uplink}/accept_ra"), "2")
}

pub(super) fn set(netns: &mut NetnsState, name: &str, value: &str) -> Compiled {
    netns.sysctls.insert(name.parse::<SysctlName>()?, value.to_owned());
    Ok(())
}

/// Packets pass through.
pub(super) fn forward(netns: &mut NetnsState) -> Compiled {
    set(netns, "net/ipv4/ip_forward", "1")?;
    set(netns, "net/ipv6/conf/all/forwarding", "1")
}

/// IPv6 is on, addresses are useful at once, and nobody on the link announces routes.
fn isolate(netns: &mut NetnsState) -> Compiled {
    set(netns, "net/ipv6/conf/all/disable_ipv6", "0")?;
    set(netns, "net/ipv6/conf/default/disable_ipv6", "0")?;
    set(netns, "net/ipv6/conf/default/accept_dad", "0")?;
    set(netns, "net/ipv6/conf/default/accept_ra", "0")
}
