//! Nodes, and placing workloads on them.

use std::collections::BTreeMap;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, NodeId, Result, Stamped, TenantContext, TenantRef, WorkloadId};

use super::TenantManager;
use crate::placement::{allocations, nodes};
use crate::{Node, NodeAllocations, NodeState, PlacementRequest, Tenant, WorkloadRequest, place};

fn administered(ctx: &TenantContext) -> Result<()> {
    if *ctx.tenant() == TenantRef::system() {
        return Ok(());
    }
    let message = format!("nodes are administered in the context of tenant {}", TenantRef::system().id);
    Err(Error::new(ErrorKind::Denied, "node", message))
}

impl TenantManager {
    /// Stages a new node.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the name is taken.
    pub fn stage_add_node(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        node: &Node,
    ) -> Result<()> {
        administered(ctx)?;
        nodes()?.create(view, txn, nodes()?.key([node.id.as_str()])?, node)?;
        let nothing = NodeAllocations::default();
        allocations()?.create(view, txn, allocations()?.key([node.id.as_str()])?, &nothing)
    }

    /// Stages another state of a node.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such node.
    pub fn stage_set_node_state(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &NodeId,
        state: NodeState,
    ) -> Result<()> {
        administered(ctx)?;
        let old = nodes()?.require(view, txn, &nodes()?.key([id.as_str()])?)?;
        let mut new = (*old.value).clone();
        new.state = state;
        nodes()?.update(txn, &old, &new)
    }

    /// Every node with what runs on it, in the order of names.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn nodes(
        &self,
        view: &Snapshot,
        txn: &Txn,
    ) -> Result<Vec<(Stamped<Node>, Stamped<NodeAllocations>)>> {
        let all = nodes()?.list(view, txn, nodes()?.prefix())?;
        let running = allocations()?.list(view, txn, allocations()?.prefix())?;
        if all.len() != running.len() {
            let message = "there are nodes without a record of what runs there, or the reverse";
            return Err(Error::new(ErrorKind::Corrupt, "nodes", message));
        }
        Ok(all.into_iter().zip(running).collect())
    }

    /// Stages a node for each of `workloads`, all or none; returns which.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] with [`Unplaceable`](crate::Unplaceable) as detail if one fits nowhere,
    /// [`ErrorKind::AlreadyExists`] if one runs somewhere already, [`ErrorKind::NotFound`] if the tenant is gone.
    /// Two requests that place the same workload at the same time do not meet here: guard a record of the workload.
    pub fn stage_place(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workloads: &[WorkloadRequest],
    ) -> Result<BTreeMap<WorkloadId, NodeId>> {
        let tenant = Tenant::of(view, txn, ctx)?;
        let isolated = tenant.isolation_level.settings().compute_isolation;
        let cluster = self.nodes(view, txn)?;
        let pairs: Vec<_> = cluster.iter().map(|(node, running)| (&*node.value, &*running.value)).collect();
        let request = PlacementRequest::new(ctx.tenant(), isolated, workloads);
        let placed = place(&request, &pairs).map_err(|e| Error::of(ErrorKind::Exhausted, "place", e))?;

        for (node, running) in &cluster {
            let Some(theirs) = running.workloads.get(ctx.tenant()) else { continue };
            if let Some(twice) = workloads.iter().find(|workload| theirs.contains_key(&workload.id)) {
                let message =
                    format!("workload {} of tenant {} runs on {}", twice.id, ctx.tenant().id, node.id);
                return Err(Error::new(ErrorKind::AlreadyExists, "place", message));
            }
        }
        let asked: BTreeMap<_, _> = workloads.iter().map(|workload| (&workload.id, workload)).collect();
        if asked.len() != workloads.len() {
            return Err(Error::invalid("place", "two workloads have the same name"));
        }
        let mut changed: BTreeMap<&NodeId, NodeAllocations> = BTreeMap::new();
        let by_name: BTreeMap<_, _> = cluster.iter().map(|pair| (&pair.0.id, pair)).collect();
        for (workload, node) in &placed {
            let (Some(request), Some((stamped, running))) = (asked.get(workload), by_name.get(node)) else {
                return Err(Error::internal(
                    "place",
                    format!("{workload} was placed on an unknown node {node}"),
                ));
            };
            // The node must still be as it was when this commits: ready, with these labels.
            nodes()?.expect(txn, stamped)?;
            let here = changed.entry(node).or_insert_with(|| (*running.value).clone());
            here.add(ctx.tenant(), workload, request.placed(), isolated)?;
        }
        for (node, new) in changed {
            if let Some((_, running)) = by_name.get(node) {
                allocations()?.update(txn, running, &new)?;
            }
        }
        // Whether the tenant is isolated must still be so, too.
        crate::tenant::tenants()?.expect(txn, &tenant)?;
        Ok(placed)
    }

    /// Stages that workloads of the tenant no longer run where they did; each exactly once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if one does not run there.
    pub fn stage_unplace<'a>(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workloads: impl IntoIterator<Item = (&'a WorkloadId, &'a NodeId)>,
    ) -> Result<()> {
        for (workload, node) in workloads {
            let old = allocations()?.require(view, txn, &allocations()?.key([node.as_str()])?)?;
            let mut new = (*old.value).clone();
            new.remove(ctx.tenant(), workload)?;
            allocations()?.update(txn, &old, &new)?;
        }
        Ok(())
    }

    /// Adds a node.
    ///
    /// # Errors
    /// As [`stage_add_node`](Self::stage_add_node), and those of the store.
    pub async fn add_node(&self, ctx: &TenantContext, node: Node) -> Result<()> {
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_add_node(view, txn, ctx, &node);
        self.commit(ctx, &format!("add-node-{}", node.id), decide).await
    }

    /// Sets the state of a node.
    ///
    /// # Errors
    /// As [`stage_set_node_state`](Self::stage_set_node_state), and those of the store.
    pub async fn set_node_state(&self, ctx: &TenantContext, id: &NodeId, state: NodeState) -> Result<()> {
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_set_node_state(view, txn, ctx, id, state);
        self.commit(ctx, &format!("set-node-state-{id}"), decide).await
    }
}
