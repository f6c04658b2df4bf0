//! The kernels that follow from an overlay, whole or in parts. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::NodeId;

use super::OverlayNetwork;
use crate::dataplane::state::InvalidKernelName;
use crate::overlay::compile::{self, Compiler};
use crate::overlay::error::InvalidOverlay;
use crate::overlay::model::{OverlayNode, OverlayWorkload};
use crate::overlay::node::OverlayState;
use crate::overlay::peering;
use crate::overlay::tenant::TenantState;
use crate::overlay::touched::{Touched, TouchedTenant};

type Nodes = BTreeMap<NodeId, OverlayState>;
type Compiled = Result<(), InvalidKernelName>;

impl OverlayNetwork {
    /// Everything that the kernel of `node` needs, but for rules about its workloads; nothing if there is no such node.
    ///
    /// # Errors
    /// None in practice: names were checked when they came in.
    pub fn node_state(&self, node: &NodeId) -> Result<OverlayState, InvalidOverlay> {
        let mut state = OverlayState::default();
        let Some(at) = self.nodes.get(node) else { return Ok(state) };
        compile::node(&self.config, at, &mut state.kernel)?;
        for tenant in self.on_node.get(node).into_iter().flatten() {
            if let Some(tenant) = self.tenants.get(tenant) {
                let compiler = self.compiler(tenant, at);
                self.enter(&compiler, &mut state)?;
                self.whole(&compiler, &mut state)?;
            }
        }
        state.kernel.prune();
        Ok(state)
    }

    fn compiler<'a>(&'a self, tenant: &'a TenantState, at: &'a OverlayNode) -> Compiler<'a> {
        let peers = self.peers_of(&tenant.network.tenant).collect();
        Compiler { config: &self.config, mtu: self.mtu, tenant, peers, at }
    }

    /// Notes where the tenant is routed on the node, and which ways need rules: where it has no workloads, those of the
    /// peer are enough.
    fn enter(&self, compiler: &Compiler<'_>, state: &mut OverlayState) -> Compiled {
        let (own, router) = (&compiler.tenant.network, compiler.router()?);
        let apart = !self.config.is_direct() && compiler.is_present();
        for peer in compiler.peers.iter().filter(|_| apart) {
            let peer = peering::peer_network(own, &peer.network)?;
            state.join(&own.tenant, router.clone(), peer, self.config.up_without_rules);
        }
        state.route(&own.tenant, router);
        Ok(())
    }

    /// The touched parts of all kernels as they are now.
    pub(super) fn compile(&self, touched: &Touched) -> Result<Nodes, InvalidOverlay> {
        let mut nodes = Nodes::new();
        for at in touched.nodes.iter().filter_map(|node| self.nodes.get(node)) {
            compile::node(&self.config, at, &mut nodes.entry(at.id.clone()).or_default().kernel)?;
        }
        for (tenant, parts) in &touched.tenants {
            if let Some(state) = self.tenants.get(tenant) {
                self.parts_of(state, parts, &mut nodes)?;
            }
        }
        nodes.values_mut().for_each(|node| node.kernel.prune());
        Ok(nodes)
    }

    fn parts_of(&self, tenant: &TenantState, parts: &TouchedTenant, nodes: &mut Nodes) -> Compiled {
        for node in parts.whole.iter().chain(&parts.places) {
            self.on(tenant, node, nodes, |compiler, state| {
                if parts.whole.contains(node) { self.whole(compiler, state) } else { Ok(()) }
            })?;
        }
        for peer in &parts.peers {
            self.everywhere(tenant, nodes, |compiler, state| self.peer(compiler, peer, state))?;
        }
        for prefix in &parts.blocks {
            let owner = tenant.block(prefix).and_then(|block| self.nodes.get(&block.node));
            self.everywhere(tenant, nodes, |compiler, state| match owner {
                Some(owner) => compiler.block(*prefix, owner, &mut state.kernel),
                None => Ok(()),
            })?;
        }
        for address in &parts.addresses {
            let peer = tenant.node_of(*address).and_then(|node| self.nodes.get(node));
            self.everywhere(tenant, nodes, |compiler, state| match peer {
                Some(peer) => compiler.host_route(*address, peer, &mut state.kernel),
                None => Ok(()),
            })?;
        }
        for node in &parts.based {
            self.on(tenant, node, nodes, |compiler, state| compiler.base(&mut state.kernel))?;
        }
        if parts.bases {
            self.everywhere(tenant, nodes, |compiler, state| compiler.base(&mut state.kernel))?;
        }
        for other in self.peers_of(&tenant.network.tenant).filter(|_| !self.config.is_direct()) {
            self.parts_seen_by(other, tenant, parts, nodes)?;
        }
        for workload in parts.workloads.iter().filter_map(|id| tenant.workloads.get(id)) {
            self.on(tenant, &workload.node, nodes, |compiler, state| {
                self.workload(compiler, workload, state)
            })?;
        }
        Ok(())
    }

    /// The same parts of `tenant` in the routers of a tenant that it is a peer of.
    fn parts_seen_by(
        &self,
        other: &TenantState,
        tenant: &TenantState,
        parts: &TouchedTenant,
        nodes: &mut Nodes,
    ) -> Compiled {
        for node in &parts.peers {
            self.everywhere(other, nodes, |compiler, state| self.behind(compiler, tenant, node, state))?;
        }
        for prefix in &parts.blocks {
            let owner = tenant.block(prefix).and_then(|block| self.nodes.get(&block.node));
            self.everywhere(other, nodes, |compiler, state| match owner {
                Some(owner) => compiler.peer_block(tenant, *prefix, owner, &mut state.kernel),
                None => Ok(()),
            })?;
        }
        for address in &parts.addresses {
            let owner = tenant.node_of(*address).and_then(|node| self.nodes.get(node));
            self.everywhere(other, nodes, |compiler, state| match owner {
                Some(owner) => compiler.peer_host_route(tenant, *address, owner, &mut state.kernel),
                None => Ok(()),
            })?;
        }
        if parts.bases {
            self.everywhere(other, nodes, |compiler, state| compiler.peers(&mut state.kernel))?;
        }
        Ok(())
    }

    /// Compiles on `node` if the tenant is routed there.
    fn on(
        &self,
        tenant: &TenantState,
        node: &NodeId,
        nodes: &mut Nodes,
        part: impl FnOnce(&Compiler<'_>, &mut OverlayState) -> Compiled,
    ) -> Compiled {
        let Some(at) = self.nodes.get(node).filter(|_| self.is_routed(tenant, node)) else {
            return Ok(());
        };
        let (compiler, state) = (self.compiler(tenant, at), nodes.entry(node.clone()).or_default());
        self.enter(&compiler, state)?;
        compiler.touch(&mut state.kernel)?;
        part(&compiler, state)
    }

    /// Whether the tenant, or a peer of it, has workloads on the node.
    pub(super) fn is_routed(&self, tenant: &TenantState, node: &NodeId) -> bool {
        let here = |one: &TenantState| one.present.contains_key(node);
        here(tenant) || self.peers_of(&tenant.network.tenant).any(here)
    }

    /// The nodes where the tenant is routed.
    pub(super) fn routers<'a>(&'a self, tenant: &'a TenantState) -> BTreeSet<&'a NodeId> {
        peering::routers(tenant, self.peers_of(&tenant.network.tenant))
    }

    /// Compiles on all nodes where the tenant is routed.
    fn everywhere(
        &self,
        tenant: &TenantState,
        nodes: &mut Nodes,
        part: impl Fn(&Compiler<'_>, &mut OverlayState) -> Compiled,
    ) -> Compiled {
        self.routers(tenant).into_iter().try_for_each(|node| self.on(tenant, node, nodes, &part))
    }

    /// All of a tenant on one node.
    fn whole(&self, compiler: &Compiler<'_>, state: &mut OverlayState) -> Compiled {
        compiler.base(&mut state.kernel)?;
        let (tenant, at) = (compiler.tenant, compiler.at);
        for prefix in tenant.routed_blocks_of(&at.id) {
            compiler.block(prefix, at, &mut state.kernel)?;
        }
        for peer in self.routers(tenant) {
            self.peer(compiler, peer, state)?;
        }
        for peer in compiler.peers.iter().filter(|_| !self.config.is_direct()) {
            peer.present.keys().try_for_each(|node| self.behind(compiler, peer, node, state))?;
        }
        let here = tenant.present.get(&at.id).into_iter().flatten();
        for workload in here.filter_map(|id| tenant.workloads.get(id)) {
            self.workload(compiler, workload, state)?;
        }
        Ok(())
    }

    /// A workload of the node, which needs rules.
    fn workload(
        &self,
        compiler: &Compiler<'_>,
        workload: &OverlayWorkload,
        state: &mut OverlayState,
    ) -> Compiled {
        compiler.workload(workload, &mut state.kernel)?;
        state.add(workload, compiler.router()?, self.config.up_without_rules)
    }

    /// What a node knows of another: as a next hop, and what is behind it.
    fn peer(&self, compiler: &Compiler<'_>, peer: &NodeId, state: &mut OverlayState) -> Compiled {
        let kernel = &mut state.kernel;
        let Some(peer) = self.nodes.get(peer).filter(|peer| peer.id != compiler.at.id) else { return Ok(()) };
        compiler.neighbour(peer, kernel)?;
        for prefix in compiler.tenant.routed_blocks_of(&peer.id) {
            compiler.block(prefix, peer, kernel)?;
        }
        for address in compiler.tenant.borrowed_on(&peer.id) {
            compiler.host_route(address, peer, kernel)?;
        }
        Ok(())
    }

    /// What a node knows of a peer's workloads on `node`.
    fn behind(
        &self,
        compiler: &Compiler<'_>,
        peer: &TenantState,
        node: &NodeId,
        state: &mut OverlayState,
    ) -> Compiled {
        let Some(owner) = self.nodes.get(node) else { return Ok(()) };
        for prefix in peer.routed_blocks_of(node) {
            compiler.peer_block(peer, prefix, owner, &mut state.kernel)?;
        }
        for address in peer.borrowed_on(node) {
            compiler.peer_host_route(peer, address, owner, &mut state.kernel)?;
        }
        Ok(())
    }
}
