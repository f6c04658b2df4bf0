//! What a change makes different, and the change itself. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{NodeId, TenantRef, WorkloadId};
use ipnet::IpNet;

use super::OverlayNetwork;
use crate::dataplane::rules::{RuleTable, TableKey};
use crate::dataplane::{KernelState, Op, diff};
use crate::overlay::error::InvalidOverlay;
use crate::overlay::model::{Encapsulation, OverlayChange, OverlayWorkload, TenantNetwork};
use crate::overlay::names::vtep_mac;
use crate::overlay::node::{NotEnforced, OverlayState};
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
                    let tenant = touched.tenants.entry(network.tenant.clone()).or_default();
                    tenant.whole = state.present.keys().cloned().collect();
                }
            }
            // Nobody is in it.
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
        }
        touched
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
        let tenant = touched.tenants.entry(tenant.clone()).or_default();
        tenant.workloads.insert(id.clone());
        for workload in [old, new].into_iter().flatten() {
            tenant.places.insert(workload.node.clone());
            for address in workload.addresses() {
                if state.is_borrowed(address, &workload.node) {
                    tenant.addresses.insert(address);
                }
                let block = state.covering(address).map(|block| block.prefix);
                tenant.blocks.extend(block.filter(|prefix| prefix.network() == address));
            }
        }
        let left = old.map(|old| &old.node).filter(|node| {
            new.is_none_or(|new| new.node != **node)
                && state.present.get(*node).is_some_and(|on| on.len() == 1)
        });
        let joined = new.map(|new| &new.node).filter(|node| !state.present.contains_key(*node));
        for node in left.into_iter().chain(joined) {
            tenant.whole.insert(node.clone());
            tenant.peers.insert(node.clone());
            let owns_a_pool = |pool: &IpNet| state.block(pool).is_some_and(|block| block.node == *node);
            tenant.bases |= state.network.pools.iter().any(owns_a_pool);
        }
    }

    /// Takes in a change that was checked.
    pub(super) fn admit(&mut self, change: OverlayChange) {
        match change {
            OverlayChange::PutNode(node) => {
                self.forget_node(&node.id);
                let family = self.config.family;
                self.underlay.extend(node.address(family).map(|address| (address, node.id.clone())));
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
        }
    }

    fn forget_node(&mut self, id: &NodeId) {
        if let Some(node) = self.nodes.remove(id)
            && let Some(address) = node.address(self.config.family)
        {
            self.underlay.remove(&address);
        }
    }

    fn admit_tenant(&mut self, network: TenantNetwork) {
        let old = self.tenants.get(&network.tenant).map(|state| state.network.clone());
        if let Some(old) = &old {
            self.forget_network(old);
        }
        self.vnis.insert(network.vni, network.tenant.clone());
        if self.config.encapsulation == Encapsulation::Direct {
            let pool = |pool: &IpNet| (pool.network(), (*pool, network.tenant.clone()));
            self.shared.extend(network.pools.iter().map(pool));
        }
        match self.tenants.get_mut(&network.tenant) {
            Some(state) => {
                let (vni, tenant) = (network.vni, network.tenant.clone());
                state.network = network;
                let tunnel = |node: &NodeId| ((vni, vtep_mac(node, &tenant, vni)), node.clone());
                let tunnels = state.present.keys().map(tunnel);
                self.vteps.extend(tunnels);
            }
            None => drop(self.tenants.insert(network.tenant.clone(), TenantState::new(network))),
        }
    }

    fn forget_network(&mut self, network: &TenantNetwork) {
        self.vnis.remove(&network.vni);
        for node in self.tenants.get(&network.tenant).into_iter().flat_map(|state| state.present.keys()) {
            self.vteps.remove(&(network.vni, vtep_mac(node, &network.tenant, network.vni)));
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
        let vni = state.network.vni;
        state.put_workload(workload);
        self.vteps.insert((vni, vtep_mac(&node, &ours.0, vni)), node.clone());
        self.on_node.entry(node).or_default().insert(ours.0);
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
            let vni = state.network.vni;
            self.vteps.remove(&(vni, vtep_mac(&node, tenant, vni)));
            if let Some(tenants) = self.on_node.get_mut(&node) {
                tenants.remove(tenant);
                if tenants.is_empty() {
                    self.on_node.remove(&node);
                }
            }
        }
    }
}
