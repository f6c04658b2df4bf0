//! Nodes. Placing workloads on them is in `nodes/`.

mod displace;
mod gang;
mod isolation;
mod mirror;
mod place;
mod preempt;
mod remove;

use hivemind_core::labels::Labels;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, NodeId, Result, Stamped, TenantContext, TenantRef};

use self::isolation::Levels;
use super::TenantManager;
use crate::Node;
use crate::placement::{NodeAllocations, NodeState, Taint, TaintEffect};
use crate::placement::{allocations, nodes};

pub(crate) use self::isolation::stage_isolation_changed;
pub use self::mirror::ClusterMirror;
pub use self::remove::{NodeRemoval, Removal};

/// A node with what runs there, as the levels of tenants are now.
fn node_now(
    view: &Snapshot,
    txn: &Txn,
    id: &NodeId,
    levels: &mut Levels,
) -> Result<(Stamped<Node>, Stamped<NodeAllocations>)> {
    let node = nodes()?.require(view, txn, &nodes()?.key([id.as_str()])?)?;
    let running = allocations()?.require(view, txn, &allocations()?.key([id.as_str()])?)?;
    Ok((node, levels.current(view, txn, running)?))
}

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

    /// Stages other taints of a node, in place of those it has; a `NoExecute` one counts from the time of the context, or
    /// from now. What has to leave, and when, is told by [`evictions`](crate::placement::evictions), and put out by
    /// [`stage_evict`](Self::stage_evict).
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
        let now = ctx.at().unwrap_or_else(|| self.clock.now());
        let stamped = |taint: &Taint| {
            // One that stays is as old as it was.
            let before = old.taints.iter().find(|one| one.is_like(taint)).and_then(|one| one.added);
            let mut new = taint.clone();
            if new.effect == TaintEffect::NoExecute {
                new.added = new.added.or(before).or(Some(now));
            }
            new
        };
        new.taints = taints.iter().map(stamped).collect();
        nodes()?.update(txn, &old, &new)
    }

    /// Stages other labels of a node, in place of those it has. What runs there stays, whatever it asked for, as in
    /// Kubernetes; what is placed from now on finds the new ones, also as places to be spread over.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such node, [`ErrorKind::Denied`] outside the context of the system tenant.
    pub fn stage_relabel_node(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &NodeId,
        labels: &Labels,
    ) -> Result<()> {
        administered(ctx)?;
        let old = nodes()?.require(view, txn, &nodes()?.key([id.as_str()])?)?;
        let mut new = (*old.value).clone();
        new.labels = labels.clone();
        nodes()?.update(txn, &old, &new)
    }

    /// Every node with what runs on it, in the order of names; who has a node to itself is told as the levels of tenants
    /// are now.
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
        let mut levels = Levels::default();
        let current = running.into_iter().map(|one| levels.current(view, txn, one));
        Ok(all.into_iter().zip(current.collect::<Result<Vec<_>>>()?).collect())
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
