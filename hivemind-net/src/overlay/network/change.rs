//! What a change makes different, and the change itself. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{NodeId, TenantRef, WorkloadId};
use ipnet::IpNet;

use super::OverlayNetwork;
use crate::dataplane::rules::{RuleTable, TableKey};
use crate::dataplane::{KernelState, Op, diff};
use crate::overlay::error::InvalidOverlay;
use crate::overlay::model::{OverlayChange, OverlayWorkload, TenantNetwork};
use crate::overlay::names::vtep_mac;
use crate::overlay::node::{NotEnforced, OverlayState};
use crate::overlay::peering::Peering;
use crate::overlay::tenant::TenantState;
use crate::overlay::touched::Touched;
use crate::policy::Prepared;

/// What is different on one node: the entries of its kernel that are not as before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeChange {
    /// The parts that the change touches, as they were when rules covered all workloads. What is equal in both is there
    /// for context.
    pub before: KernelState,
    /// The same parts as they shall be. Rules must cover workloads that are new or different, or their links are down:
    /// tell the policies first, and [enforce](Self::enforce) them here.
    pub after: OverlayState,
}

impl NodeChange {
    /// Puts a tenant's rules in force together with the change: as the table `key`, in place of the table `from`, if there
    /// was one. As [`OverlayState::enforce`].
    ///
    /// # Errors
    /// [`NotEnforced`]; then nothing has changed.
    pub fn enforce(
        &mut self,
        from: Option<RuleTable>,
        rules: &Prepared,
        key: TableKey,
    ) -> Result<(), NotEnforced> {
        self.after.enforce(rules, key.clone())?;
        if let (Some(from), Some(router)) = (from, self.after.router_of(rules.tenant())) {
            self.before.namespace_mut(router).tables.insert(key, from);
        }
        Ok(())
    }

    /// The steps for a kernel that is as before, in a safe order. A kernel that may have drifted, or has links that were
    /// kept down, is compared whole, with [`OverlayNetwork::node_state`].
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        diff(&self.before, &self.after.clone().into_kernel())
    }
}

impl OverlayNetwork {
    /// Takes in a change, and says what is different on which node; nodes on which nothing is are not named.
    ///
    /// # Errors
    /// [`InvalidOverlay`] if the change cannot be; then nothing has changed.
    pub fn apply(&mut self, change: OverlayChange) -> Result<BTreeMap<NodeId, NodeChange>, InvalidOverlay> {
        self.check(&change)?;
        let touched = self.touched(&change);
        let before = self.compile(&touched)?;
        self.admit(change);
        let mut changes: BTreeMap<NodeId, NodeChange> = BTreeMap::new();
        for (node, mut after) in self.compile(&touched)? {
            if let Some(before) = before.get(&node) {
                after.judge_only_changed(before);
            }
            changes.entry(node).or_default().after = after;
        }
        for (node, before) in before {
            changes.entry(node).or_default().before = before.kernel;
        }
        changes.retain(|_, change| change.before != change.after.kernel);
        Ok(changes)
    }

    /// What the change may make different.
    fn touched(&self, change: &OverlayChange) -> Touched {
        let mut touched = Touched::default();
        match change {
            OverlayChange::PutNode(node) => {
                if self.nodes.get(&node.id) != Some(node) {
                    self.touch_node(&node.id, &mut touched);
                }
            }
            OverlayChange::RemoveNode(node) => self.touch_node(node, &mut touched),
            OverlayChange::PutTenant(network) => {
                if let Some(state) =
                    self.tenants.get(&network.tenant).filter(|state| state.network != *network)
                {
                    for one in self.peers_of(&network.tenant).chain([state]) {
                        let whole = self.routers(one).into_iter().cloned();
                        touched.tenants.entry(one.network.tenant.clone()).or_default().whole =
                            whole.collect();
                    }
                }
            }
            // Nobody is in it, or its peer.
            OverlayChange::RemoveTenant(_) => {}
            OverlayChange::PutBlock { tenant, prefix, node } => {
                self.touch_block(tenant, &prefix.trunc(), Some(node), &mut touched);
            }
            OverlayChange::RemoveBlock { tenant, prefix } => {
                self.touch_block(tenant, &prefix.trunc(), None, &mut touched);
            }
            OverlayChange::PutWorkload(workload) => {
                self.touch_workload(&workload.tenant, &workload.id, Some(workload), &mut touched);
            }
            OverlayChange::RemoveWorkload { tenant, workload } => {
                self.touch_workload(tenant, workload, None, &mut touched);
            }
            OverlayChange::PutPeering(peering) => self.touch_peering(peering, true, &mut touched),
            OverlayChange::RemovePeering(peering) => self.touch_peering(peering, false, &mut touched),
        }
        touched
    }

    fn is_peered(&self, peering: &Peering) -> bool {
        let (one, other) = peering.tenants();
        self.peers.get(one).is_some_and(|peers| peers.contains(other))
    }

    fn touch_peering(&self, peering: &Peering, there: bool, touched: &mut Touched) {
        if self.is_peered(peering) == there {
            return;
        }
        for (own, other) in peering.sides() {
            let (Some(own), Some(other)) = (self.tenants.get(own), self.tenants.get(other)) else { continue };
            let nodes = self.routers(own).into_iter().chain(other.present.keys());
            touched.tenants.entry(own.network.tenant.clone()).or_default().whole = nodes.cloned().collect();
        }
    }

    fn touch_node(&self, node: &NodeId, touched: &mut Touched) {
        touched.nodes.insert(node.clone());
        for tenant in self.on_node.get(node).into_iter().flatten() {
            let tenant = touched.tenants.entry(tenant.clone()).or_default();
            tenant.whole.insert(node.clone());
            tenant.peers.insert(node.clone());
        }
    }

    fn touch_block(&self, tenant: &TenantRef, prefix: &IpNet, node: Option<&NodeId>, touched: &mut Touched) {
        let Some(state) = self.tenants.get(tenant) else { return };
        if state.block(prefix).map(|block| &block.node) == node {
            return;
        }
        let tenant = touched.tenants.entry(tenant.clone()).or_default();
        // The first block of a node, and the last, make a difference to what its router speaks from.
        let owners = state.block(prefix).map(|block| &block.node).into_iter().chain(node);
        tenant.based.extend(owners.filter(|_| prefix.addr().is_ipv6()).cloned());
        tenant.blocks.insert(*prefix);
        tenant.addresses.extend(state.addresses_in(prefix));
        tenant.bases = state.network.pools.contains(prefix);
    }

    fn touch_workload(
        &self,
        tenant: &TenantRef,
        id: &WorkloadId,
        new: Option<&OverlayWorkload>,
        touched: &mut Touched,
    ) {
        let Some(state) = self.tenants.get(tenant) else { return };
        let old = state.workloads.get(id);
        if old == new {
            return;
        }
        let left = old.map(|old| &old.node).filter(|node| {
            new.is_none_or(|new| new.node != **node)
                && state.present.get(*node).is_some_and(|on| on.len() == 1)
        });
        let joined = new.map(|new| &new.node).filter(|node| !state.present.contains_key(*node));
        let comes_or_goes: Vec<_> = left.into_iter().chain(joined).collect();
        // Where a tenant is its peers are routed too.
        for one in self.peers_of(tenant).chain([state]).filter(|_| !comes_or_goes.is_empty()) {
            let is_own = one.network.tenant == *tenant;
            let routed = touched.tenants.entry(one.network.tenant.clone()).or_default();
            routed.whole.extend(comes_or_goes.iter().copied().cloned());
            // What crosses to a peer needs its nodes as next hops; with direct routing nothing crosses.
            if is_own || !self.config.is_direct() {
                routed.peers.extend(comes_or_goes.iter().copied().cloned());
            }
        }
        let tenant = touched.tenants.entry(tenant.clone()).or_default();
        tenant.workloads.insert(id.clone());
        for workload in [old, new].into_iter().flatten() {
            tenant.places.insert(workload.node.clone());
            for address in workload.addresses() {
                if state.is_borrowed(address, &workload.node) {
                    tenant.addresses.insert(address);
                }
                tenant.bases |= state.network.pools.iter().any(|pool| pool.network() == address);
                let block = state.covering(address).map(|block| block.prefix);
                tenant.blocks.extend(block.filter(|prefix| prefix.network() == address));
            }
        }
        for node in comes_or_goes {
            let owns_a_pool = |pool: &IpNet| state.block(pool).is_some_and(|block| block.node == *node);
            tenant.bases |= state.network.pools.iter().any(owns_a_pool);
        }
    }

    /// Takes in a change that was checked.
    pub(super) fn admit(&mut self, change: OverlayChange) {
        match change {
            OverlayChange::PutNode(node) => {
                self.forget_node(&node.id);
                let addresses = node.reached_at(&self.config);
                self.underlay.extend(addresses.into_iter().map(|address| (address, node.id.clone())));
                self.nodes.insert(node.id.clone(), node);
            }
            OverlayChange::RemoveNode(node) => self.forget_node(&node),
            OverlayChange::PutTenant(network) => self.admit_tenant(network),
            OverlayChange::RemoveTenant(tenant) => {
                if let Some(state) = self.tenants.remove(&tenant) {
                    self.forget_network(&state.network);
                }
            }
            OverlayChange::PutBlock { tenant, prefix, node } => {
                if let Some(state) = self.tenants.get_mut(&tenant) {
                    state.put_block(prefix.trunc(), node);
                }
            }
            OverlayChange::RemoveBlock { tenant, prefix } => {
                if let Some(state) = self.tenants.get_mut(&tenant) {
                    state.remove_block(&prefix.trunc());
                }
            }
            OverlayChange::PutWorkload(workload) => self.admit_workload(workload),
            OverlayChange::RemoveWorkload { tenant, workload } => self.forget_workload(&tenant, &workload),
            OverlayChange::PutPeering(peering) => self.admit_peering(&peering, true),
            OverlayChange::RemovePeering(peering) => self.admit_peering(&peering, false),
        }
    }

    fn admit_peering(&mut self, peering: &Peering, there: bool) {
        for (own, other) in peering.sides() {
            let peers = self.peers.entry(own.clone()).or_default();
            if there {
                peers.insert(other.clone())
            } else {
                peers.remove(other)
            };
            if peers.is_empty() {
                self.peers.remove(own);
            }
        }
        for (own, other) in peering.sides() {
            let nodes = self.tenants.get(other).into_iter().flat_map(|state| state.present.keys());
            for node in nodes.cloned().collect::<Vec<_>>() {
                self.note_router(own, &node);
            }
        }
    }

    /// Notes whether the tenant is routed on the node.
    fn note_router(&mut self, tenant: &TenantRef, node: &NodeId) {
        let Some(state) = self.tenants.get(tenant) else { return };
        let (vni, is_routed) = (state.network.vni, self.is_routed(state, node));
        let on_node = self.on_node.entry(node.clone()).or_default();
        if is_routed {
            on_node.insert(tenant.clone());
            self.vteps.insert((vni, vtep_mac(node, tenant, vni)), node.clone());
            return;
        }
        on_node.remove(tenant);
        if on_node.is_empty() {
            self.on_node.remove(node);
        }
        self.vteps.remove(&(vni, vtep_mac(node, tenant, vni)));
    }

    /// Notes the same of the tenant and of its peers.
    fn note_routers(&mut self, tenant: &TenantRef, node: &NodeId) {
        let peers = self.peers.get(tenant).into_iter().flatten().cloned().collect::<Vec<_>>();
        for routed in peers.iter().chain([tenant]) {
            self.note_router(routed, node);
        }
    }

    fn forget_node(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.remove(id) else { return };
        for address in node.reached_at(&self.config) {
            self.underlay.remove(&address);
        }
    }

    fn admit_tenant(&mut self, network: TenantNetwork) {
        let old = self.tenants.get(&network.tenant).map(|state| state.network.clone());
        if let Some(old) = &old {
            self.forget_network(old);
        }
        self.vnis.insert(network.vni, network.tenant.clone());
        if self.config.is_direct() {
            let pool = |pool: &IpNet| (pool.network(), (*pool, network.tenant.clone()));
            self.shared.extend(network.pools.iter().map(pool));
        }
        let (tenant, vni) = (network.tenant.clone(), network.vni);
        match self.tenants.get_mut(&tenant) {
            Some(state) => state.network = network,
            None => drop(self.tenants.insert(tenant.clone(), TenantState::new(network))),
        }
        let routers = self.tenants.get(&tenant).map(|state| self.routers(state)).unwrap_or_default();
        let tunnels = routers.into_iter().map(|node| ((vni, vtep_mac(node, &tenant, vni)), node.clone()));
        let tunnels: Vec<_> = tunnels.collect();
        self.vteps.extend(tunnels);
    }

    fn forget_network(&mut self, network: &TenantNetwork) {
        self.vnis.remove(&network.vni);
        let routers = self.tenants.get(&network.tenant).map(|state| self.routers(state)).unwrap_or_default();
        let end = |node| vtep_mac(node, &network.tenant, network.vni);
        let tunnels: Vec<_> = routers.into_iter().map(end).collect();
        for mac in tunnels {
            self.vteps.remove(&(network.vni, mac));
        }
        self.shared.retain(|_, (_, holder)| *holder != network.tenant);
    }

    fn admit_workload(&mut self, workload: OverlayWorkload) {
        self.forget_workload(&workload.tenant, &workload.id);
        let Some(state) = self.tenants.get_mut(&workload.tenant) else { return };
        let (node, ours) = (workload.node.clone(), (workload.tenant.clone(), workload.id.clone()));
        if let Ok(link) = workload.effective_link() {
            self.links.insert((node.clone(), link), ours.clone());
        }
        if let Ok(netns) = workload.effective_netns() {
            self.netns.insert((node.clone(), netns), ours.clone());
        }
        state.put_workload(workload);
        self.note_routers(&ours.0, &node);
    }

    fn forget_workload(&mut self, tenant: &TenantRef, id: &WorkloadId) {
        let Some(state) = self.tenants.get_mut(tenant) else { return };
        let Some(workload) = state.workloads.get(id).cloned() else { return };
        state.remove_workload(id);
        let node = workload.node.clone();
        if let Ok(link) = workload.effective_link() {
            self.links.remove(&(node.clone(), link));
        }
        if let Ok(netns) = workload.effective_netns() {
            self.netns.remove(&(node.clone(), netns));
        }
        if !state.present.contains_key(&node) {
            self.note_routers(tenant, &node);
        }
    }
}
