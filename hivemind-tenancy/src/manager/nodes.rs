//! Nodes. Placing workloads on them is in `nodes/`.

mod displace;
mod gang;
mod place;
mod preempt;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, NodeId, Result, Stamped, TenantContext, TenantRef};

use super::TenantManager;
use crate::placement::{allocations, nodes};
use crate::{Node, NodeAllocations, NodeState, Taint};

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
    /// [`ErrorKind::AlreadyExists`] if the name is taken, [`ErrorKind::Denied`] outside the context of the system tenant.
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
    /// [`ErrorKind::NotFound`] if there is no such node, [`ErrorKind::Denied`] outside the context of the system tenant.
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

    /// Stages other taints of a node, in place of those it has. What no longer may run there is told by
    /// [`NodeAllocations::evicted_by`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such node, [`ErrorKind::Denied`] outside the context of the system tenant.
    pub fn stage_set_taints(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &NodeId,
        taints: &[Taint],
    ) -> Result<()> {
        administered(ctx)?;
        let old = nodes()?.require(view, txn, &nodes()?.key([id.as_str()])?)?;
        let mut new = (*old.value).clone();
        new.taints = taints.to_vec();
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
