//! The kernels that follow from an overlay, whole or in parts. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::NodeId;

use super::OverlayNetwork;
use crate::dataplane::KernelState;
use crate::dataplane::state::InvalidKernelName;
use crate::overlay::compile::{self, Compiler};
use crate::overlay::error::InvalidOverlay;
use crate::overlay::model::OverlayNode;
use crate::overlay::tenant::TenantState;
use crate::overlay::touched::{Touched, TouchedTenant};

type Kernels = BTreeMap<NodeId, KernelState>;
type Compiled = Result<(), InvalidKernelName>;

impl OverlayNetwork {
    /// Everything that the kernel of `node` needs; nothing if there is no such node.
    ///
    /// # Errors
    /// None in practice: names were checked when they came in.
    pub fn node_state(&self, node: &NodeId) -> Result<KernelState, InvalidOverlay> {
        let mut kernel = KernelState::new();
        let Some(at) = self.nodes.get(node) else { return Ok(kernel) };
        compile::node(&self.config, at, &mut kernel)?;
        for tenant in self.on_node.get(node).into_iter().flatten() {
            if let Some(state) = self.tenants.get(tenant) {
                self.whole(&self.compiler(state, at), &mut kernel)?;
            }
        }
        kernel.prune();
        Ok(kernel)
    }

    fn compiler<'a>(&'a self, tenant: &'a TenantState, at: &'a OverlayNode) -> Compiler<'a> {
        Compiler { config: &self.config, mtu: self.mtu, tenant, at }
    }

    /// The touched parts of all kernels as they are now.
    pub(super) fn compile(&self, touched: &Touched) -> Result<Kernels, InvalidOverlay> {
        let mut kernels = Kernels::new();
        for at in touched.nodes.iter().filter_map(|node| self.nodes.get(node)) {
            compile::node(&self.config, at, kernels.entry(at.id.clone()).or_default())?;
        }
        for (tenant, parts) in &touched.tenants {
            if let Some(state) = self.tenants.get(tenant) {
                self.parts_of(state, parts, &mut kernels)?;
            }
        }
        kernels.values_mut().for_each(KernelState::prune);
        Ok(kernels)
    }

    fn parts_of(&self, tenant: &TenantState, parts: &TouchedTenant, kernels: &mut Kernels) -> Compiled {
        for node in parts.whole.iter().chain(&parts.places) {
            self.on(tenant, node, kernels, |compiler, kernel| {
                if parts.whole.contains(node) { self.whole(compiler, kernel) } else { Ok(()) }
            })?;
        }
        for peer in &parts.peers {
            self.everywhere(tenant, kernels, |compiler, kernel| self.peer(compiler, peer, kernel))?;
        }
        for prefix in &parts.blocks {
            let owner = tenant.block(prefix).and_then(|block| self.nodes.get(&block.node));
            self.everywhere(tenant, kernels, |compiler, kernel| match owner {
                Some(owner) => compiler.block(*prefix, owner, kernel),
                None => Ok(()),
            })?;
        }
        for address in &parts.addresses {
            let peer = tenant.node_of(*address).and_then(|node| self.nodes.get(node));
            self.everywhere(tenant, kernels, |compiler, kernel| match peer {
                Some(peer) => compiler.host_route(*address, peer, kernel),
                None => Ok(()),
            })?;
        }
        if parts.bases {
            self.everywhere(tenant, kernels, |compiler, kernel| compiler.base(kernel))?;
        }
        for workload in parts.workloads.iter().filter_map(|id| tenant.workloads.get(id)) {
            self.on(tenant, &workload.node, kernels, |compiler, kernel| compiler.workload(workload, kernel))?;
        }
        Ok(())
    }

    /// Compiles on `node` if the tenant is there.
    fn on(
        &self,
        tenant: &TenantState,
        node: &NodeId,
        kernels: &mut Kernels,
        part: impl FnOnce(&Compiler<'_>, &mut KernelState) -> Compiled,
    ) -> Compiled {
        let Some(at) = self.nodes.get(node).filter(|_| tenant.present.contains_key(node)) else {
            return Ok(());
        };
        let (compiler, kernel) = (self.compiler(tenant, at), kernels.entry(node.clone()).or_default());
        compiler.touch(kernel)?;
        part(&compiler, kernel)
    }

    /// Compiles on all nodes where the tenant is.
    fn everywhere(
        &self,
        tenant: &TenantState,
        kernels: &mut Kernels,
        part: impl Fn(&Compiler<'_>, &mut KernelState) -> Compiled,
    ) -> Compiled {
        tenant.present.keys().try_for_each(|node| self.on(tenant, node, kernels, &part))
    }

    /// All of a tenant on one node.
    fn whole(&self, compiler: &Compiler<'_>, kernel: &mut KernelState) -> Compiled {
        compiler.base(kernel)?;
        let (tenant, at) = (compiler.tenant, compiler.at);
        for prefix in tenant.routed_blocks_of(&at.id) {
            compiler.block(prefix, at, kernel)?;
        }
        for peer in tenant.present.keys() {
            self.peer(compiler, peer, kernel)?;
        }
        let here = tenant.present.get(&at.id).into_iter().flatten();
        for workload in here.filter_map(|id| tenant.workloads.get(id)) {
            compiler.workload(workload, kernel)?;
        }
        Ok(())
    }

    /// What a node knows of another: as a next hop, and what is behind it.
    fn peer(&self, compiler: &Compiler<'_>, peer: &NodeId, kernel: &mut KernelState) -> Compiled {
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
}
