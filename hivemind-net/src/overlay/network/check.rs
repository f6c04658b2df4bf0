//! What a change must not do. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hivemind_core::{NodeId, TenantRef};
use ipnet::IpNet;

use super::OverlayNetwork;
use crate::dataplane::state::Netns;
use crate::overlay::egress::UPLINK;
use crate::overlay::error::InvalidOverlay;
use crate::overlay::model::{OverlayChange, OverlayNode, OverlayWorkload, TenantNetwork};
use crate::overlay::mtu::UnderlayFamily;
use crate::overlay::names::{gateway_mac, is_peer_link, is_router, tunnel_link, vtep_mac};
use crate::overlay::peering::{Peering, overlap};
use crate::overlay::tenant::TenantState;

type Checked = Result<(), InvalidOverlay>;

impl OverlayNetwork {
    /// Whether the change can be taken in.
    pub(super) fn check(&self, change: &OverlayChange) -> Checked {
        match change {
            OverlayChange::PutNode(node) => self.check_node(node),
            OverlayChange::RemoveNode(node) => self.check_no_use(node),
            OverlayChange::PutTenant(network) => self.check_tenant(network),
            OverlayChange::RemoveTenant(tenant) => match self.tenants.get(tenant) {
                Some(state) if !state.workloads.is_empty() => Err(InvalidOverlay::TenantInUse {
                    tenant: tenant.id.clone(),
                    workloads: state.workloads.len(),
                }),
                _ => self.peers_of(tenant).next().map_or(Ok(()), |other| {
                    let other = other.network.tenant.id.clone();
                    Err(InvalidOverlay::TenantPeered { tenant: tenant.id.clone(), other })
                }),
            },
            OverlayChange::PutBlock { tenant, prefix, node } => self.check_block(tenant, prefix, node),
            OverlayChange::PutWorkload(workload) => self.check_workload(workload),
            OverlayChange::PutPeering(peering) => self.check_peering(peering),
            OverlayChange::RemoveBlock { .. }
            | OverlayChange::RemoveWorkload { .. }
            | OverlayChange::RemovePeering(_) => Ok(()),
        }
    }

    fn check_node(&self, node: &OverlayNode) -> Checked {
        let id = || node.id.clone();
        if node.mtu != self.config.underlay_mtu {
            let expected = self.config.underlay_mtu;
            return Err(InvalidOverlay::UnequalMtu { node: id(), mtu: node.mtu, expected });
        }
        let family = self.config.family;
        if node.address(family).is_none() {
            return Err(InvalidOverlay::NoUnderlayAddress { node: id(), family });
        }
        for address in node.reached_at(&self.config) {
            if let Some(other) = self.underlay.get(&address).filter(|other| **other != node.id) {
                return Err(InvalidOverlay::UnderlayAddressTaken {
                    node: id(),
                    other: other.clone(),
                    address,
                });
            }
        }
        // Addresses of IPv6 come last.
        if self.shared.last_key_value().is_some_and(|(address, _)| address.is_ipv6()) {
            self.check_next_hop(node)?;
        }
        let forwards = self.config.is_direct() || self.config.transit.is_some();
        if forwards && node.uplink.is_none() {
            return Err(InvalidOverlay::NoUplink { node: id() });
        }
        // With direct routing workloads' links are where the uplink is.
        if self.config.is_direct()
            && let Some(uplink) = &node.uplink
            && let Some((_, workload)) = self.links.get(&(id(), uplink.clone()))
        {
            let (link, workload) = (uplink.clone(), workload.clone());
            return Err(InvalidOverlay::LinkTaken { node: id(), link, workload });
        }
        Ok(())
    }

    /// Whether routes for IPv6 may lead to the node.
    fn check_next_hop(&self, node: &OverlayNode) -> Checked {
        match node.next_hop(&self.config, UnderlayFamily::V6) {
            Some(_) => Ok(()),
            None => Err(InvalidOverlay::NoNextHop { node: node.id.clone() }),
        }
    }

    fn check_no_use(&self, node: &NodeId) -> Checked {
        let count = |of: fn(&TenantState, &NodeId) -> usize| -> usize {
            self.tenants.values().map(|tenant| of(tenant, node)).sum()
        };
        let workloads = count(|tenant, node| tenant.present.get(node).map_or(0, |on| on.len()));
        let blocks = count(TenantState::count_blocks_of);
        if workloads > 0 || blocks > 0 {
            return Err(InvalidOverlay::NodeInUse { node: node.clone(), workloads, blocks });
        }
        Ok(())
    }

    fn check_tenant(&self, network: &TenantNetwork) -> Checked {
        let tenant = &network.tenant;
        if self.vnis.get(&network.vni).is_some_and(|holder| holder != tenant) {
            return Err(InvalidOverlay::VniTaken { vni: network.vni });
        }
        self.check_egress(network)?;
        if self.config.is_direct() {
            let taken = network.pools.iter().find(|pool| self.is_shared_by_another(pool, tenant));
            if let Some(pool) = taken {
                return Err(InvalidOverlay::PoolTaken { pool: *pool });
            }
            if network.pools.iter().any(|pool| pool.addr().is_ipv6()) {
                self.nodes.values().try_for_each(|node| self.check_next_hop(node))?;
            }
        }
        let Some(state) = self.tenants.get(tenant) else { return Ok(()) };
        let addresses = state.workloads.values().flat_map(OverlayWorkload::addresses).map(IpNet::from);
        let used = addresses.chain(state.blocks().map(|block| block.prefix));
        let outside = used.into_iter().find(|prefix| !network.covers(prefix));
        if let Some(prefix) = outside {
            return Err(InvalidOverlay::OutsidePools { tenant: tenant.id.clone(), prefix });
        }
        self.check_pools_of_peers(network)?;
        if state.network.vni != network.vni {
            check_vteps(network, self.routers(state))?;
            for workload in state.workloads.values() {
                self.check_mac(workload, network)?;
                self.check_names(workload, network)?;
            }
        }
        Ok(())
    }

    fn check_peering(&self, peering: &Peering) -> Checked {
        let (one, other) = peering.tenants();
        if one == other {
            return Err(InvalidOverlay::PeeredWithItself { tenant: one.id.clone() });
        }
        let (one, other) = (self.tenant(one)?, self.tenant(other)?);
        for (own, new) in [(one, other), (other, one)] {
            let tenant = &own.network.tenant;
            let apart = self.peers_of(tenant).filter(|peer| peer.network.tenant != new.network.tenant);
            apart.chain([own]).try_for_each(|seen| check_apart(&new.network, &seen.network))?;
            let routers = self.routers(own).into_iter().chain(new.present.keys());
            check_vteps(&own.network, routers.collect::<BTreeSet<_>>())?;
        }
        Ok(())
    }

    /// Whether the network keeps apart from its peers, and from theirs: one router has routes to all of them.
    fn check_pools_of_peers(&self, network: &TenantNetwork) -> Checked {
        for peer in self.peers_of(&network.tenant) {
            let seen = self.peers_of(&peer.network.tenant).chain([peer]);
            let mut others = seen.filter(|other| other.network.tenant != network.tenant);
            others.try_for_each(|other| check_apart(network, &other.network))?;
        }
        Ok(())
    }

    fn check_egress(&self, network: &TenantNetwork) -> Checked {
        if network.egress.is_none() || self.config.is_direct() {
            return Ok(());
        }
        let Some(transit) = &self.config.transit else {
            return Err(InvalidOverlay::NoTransit { tenant: network.tenant.id.clone() });
        };
        let too_small = |prefix| InvalidOverlay::TransitTooSmall { vni: network.vni, prefix };
        transit.addresses(network.vni).map(|_| ()).map_err(too_small)
    }

    /// Whether another tenant has a pool that overlaps `pool`; pools of different tenants never overlap each other.
    fn is_shared_by_another(&self, pool: &IpNet, tenant: &TenantRef) -> bool {
        let foreign = |(_, (other, holder)): (&IpAddr, &(IpNet, TenantRef))| {
            holder != tenant && (other.contains(pool) || pool.contains(other))
        };
        self.shared.range(..=pool.broadcast()).any(foreign)
    }

    fn tenant(&self, tenant: &TenantRef) -> Result<&TenantState, InvalidOverlay> {
        let unknown = || InvalidOverlay::UnknownTenant { tenant: tenant.id.clone() };
        self.tenants.get(tenant).ok_or_else(unknown)
    }

    fn check_there(&self, node: &NodeId) -> Checked {
        if self.nodes.contains_key(node) {
            Ok(())
        } else {
            Err(InvalidOverlay::UnknownNode { node: node.clone() })
        }
    }

    fn check_block(&self, tenant: &TenantRef, prefix: &IpNet, node: &NodeId) -> Checked {
        let state = self.tenant(tenant)?;
        self.check_there(node)?;
        let prefix = prefix.trunc();
        if !state.network.covers(&prefix) {
            return Err(InvalidOverlay::OutsidePools { tenant: tenant.id.clone(), prefix });
        }
        match state.overlapping(&prefix) {
            Some(other) if other.prefix != prefix => {
                Err(InvalidOverlay::BlockTaken { prefix, other: other.prefix, node: other.node.clone() })
            }
            _ => Ok(()),
        }
    }

    fn check_workload(&self, workload: &OverlayWorkload) -> Checked {
        let state = self.tenant(&workload.tenant)?;
        self.check_there(&workload.node)?;
        let id = || workload.id.clone();
        if workload.addresses().next().is_none() {
            return Err(InvalidOverlay::NoAddress { workload: id() });
        }
        for address in workload.addresses() {
            if !state.network.covers(&IpNet::from(address)) {
                let (tenant, prefix) = (workload.tenant.id.clone(), IpNet::from(address));
                return Err(InvalidOverlay::OutsidePools { tenant, prefix });
            }
            if let Some(other) = state.holder(address).filter(|holder| **holder != workload.id) {
                return Err(InvalidOverlay::AddressTaken { address, other: other.clone() });
            }
        }
        self.check_mac(workload, &state.network)?;
        let routed = self.peers_of(&workload.tenant).chain([state]);
        routed.into_iter().try_for_each(|routed| self.check_vtep(&workload.node, &routed.network))?;
        self.check_names(workload, &state.network)
    }

    /// The workload and its gateway are on one link.
    fn check_mac(&self, workload: &OverlayWorkload, network: &TenantNetwork) -> Checked {
        let mac = workload.effective_mac();
        if !mac.is_unicast() || mac == gateway_mac(network.vni) {
            return Err(InvalidOverlay::BadMac { workload: workload.id.clone(), mac });
        }
        Ok(())
    }

    /// The tunnel ends of a network are on one link.
    fn check_vtep(&self, node: &NodeId, network: &TenantNetwork) -> Checked {
        let (vni, mac) = (network.vni, vtep_mac(node, &network.tenant, network.vni));
        match self.vteps.get(&(vni, mac)) {
            Some(other) if other != node => {
                Err(InvalidOverlay::VtepMacTaken { node: node.clone(), other: other.clone(), mac, vni })
            }
            _ => Ok(()),
        }
    }

    fn check_names(&self, workload: &OverlayWorkload, network: &TenantNetwork) -> Checked {
        let (node, id) = (&workload.node, workload.id.clone());
        let ours = (workload.tenant.clone(), id.clone());
        let link = workload.effective_link()?;
        let taken = self.links.get(&(node.clone(), link.clone())).is_some_and(|holder| *holder != ours);
        if self.config.is_direct()
            && self.nodes.get(node).is_some_and(|node| node.uplink.as_ref() == Some(&link))
        {
            return Err(InvalidOverlay::LinkTaken { node: node.clone(), link, workload: id });
        }
        let is_ours = [UPLINK, tunnel_link(network.vni)?.as_str()].contains(&link.as_str());
        if taken || is_ours || is_peer_link(&link) {
            return Err(InvalidOverlay::LinkTaken { node: node.clone(), link, workload: id });
        }
        let netns = workload.effective_netns()?;
        let taken = self.netns.get(&(node.clone(), netns.clone())).is_some_and(|holder| *holder != ours);
        if taken || netns == Netns::Host || is_router(node, &netns) {
            return Err(InvalidOverlay::NetnsTaken { netns, workload: id });
        }
        Ok(())
    }
}

/// Whether all tunnel ends of a network on these nodes differ.
fn check_vteps<'a>(network: &TenantNetwork, nodes: impl IntoIterator<Item = &'a NodeId>) -> Checked {
    let (vni, mut ends) = (network.vni, BTreeMap::new());
    for node in nodes {
        let mac = vtep_mac(node, &network.tenant, vni);
        if let Some(other) = ends.insert(mac, node.clone()) {
            return Err(InvalidOverlay::VtepMacTaken { node: node.clone(), other, mac, vni });
        }
    }
    Ok(())
}

/// Whether two networks have no address in common.
fn check_apart(one: &TenantNetwork, other: &TenantNetwork) -> Checked {
    let Some((pool, other_pool)) = overlap(one, other) else { return Ok(()) };
    let (tenant, other) = (one.tenant.id.clone(), other.tenant.id.clone());
    Err(InvalidOverlay::PeeredPoolsOverlap { tenant, pool, other, other_pool })
}
