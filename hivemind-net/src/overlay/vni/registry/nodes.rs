//! Which nodes may still have a tunnel end with a VNI. No I/O but that of the store.

use std::collections::BTreeSet;

use hivemind_core::store::{Key, Prefix, Snapshot, Txn};
use hivemind_core::{Collection, Error, NodeId, Once, Result, TenantContext, transact};

use super::{VniRegistry, lease_key, leases};
use crate::overlay::vni::record::VniNode;
use crate::overlay::vni::{Vni, VniLease};

fn nodes() -> Result<Collection<VniNode>> {
    crate::collection("vni-nodes")
}

fn number(vni: Vni) -> String {
    format!("{:08}", vni.as_u32())
}

fn node_key(vni: Vni, node: &NodeId) -> Result<Key> {
    nodes()?.key([number(vni).as_str(), node.as_str()])
}

fn below(vni: Vni) -> Result<Prefix> {
    nodes()?.below([number(vni)])
}

/// Whether a node may still have a tunnel end with `vni`.
pub(super) fn is_on_a_node(view: &Snapshot, txn: &Txn, vni: Vni) -> Result<bool> {
    Ok(!nodes()?.list(view, txn, &below(vni)?)?.is_empty())
}

/// The VNIs with which nodes may still have tunnel ends.
pub(super) fn on_nodes(view: &Snapshot, txn: &Txn) -> Result<BTreeSet<Vni>> {
    Ok(nodes()?.list(view, txn, nodes()?.prefix())?.iter().map(|entry| entry.vni).collect())
}

impl VniRegistry {
    /// Stages that the node may have a tunnel end with the tenant's VNI from now on. Before the first workload of the
    /// tenant is told to the node, in the same transaction as its place; again is a no-op.
    ///
    /// # Errors
    /// [`NotFound`](hivemind_core::ErrorKind::NotFound) if the tenant does not hold `lease`, as after its release.
    pub fn stage_on_node(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        (lease, node): (&VniLease, &NodeId),
    ) -> Result<()> {
        let held = leases()?.get(view, txn, &lease_key(ctx)?)?.filter(|held| *held.value == *lease);
        let missing = || {
            let message = format!("tenant {} does not hold VNI {} by this grant", ctx.tenant().id, lease.vni);
            Error::not_found("use VNI", message)
        };
        // Whoever releases it meanwhile has not seen this node.
        leases()?.expect(txn, &held.ok_or_else(missing)?)?;
        let key = node_key(lease.vni, node)?;
        match nodes()?.get(view, txn, &key)? {
            // Nor has whoever fences it.
            Some(found) => nodes()?.expect(txn, &found),
            None => nodes()?.create(view, txn, key, &VniNode::new(lease, node)),
        }
    }

    /// Stages that the node has no tunnel end by this grant any more: its data plane was compared with what it shall hold,
    /// and nothing of the tenant was in that. Again is a no-op, and so is what is said of an earlier grant.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn stage_off_node(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        lease: &VniLease,
        node: &NodeId,
    ) -> Result<()> {
        let found = nodes()?.get(view, txn, &node_key(lease.vni, node)?)?;
        match found.filter(|found| found.granted == lease.granted) {
            Some(found) => nodes()?.delete(txn, &found),
            None => Ok(()),
        }
    }

    /// Stages that nothing of the node sends any more: it was fenced (switched off, cut from the network), or is removed.
    /// Takes up to `most` VNIs off it; whether there are more.
    ///
    /// That its lease on life has run out is no proof: it may be alive, and cut off from the store alone.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn stage_node_fenced(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        node: &NodeId,
        most: usize,
    ) -> Result<bool> {
        let all = nodes()?.list(view, txn, nodes()?.prefix())?;
        let mut of_node = all.iter().filter(|entry| entry.node == *node);
        for entry in of_node.by_ref().take(most) {
            nodes()?.delete(txn, entry)?;
        }
        Ok(of_node.next().is_some())
    }

    /// The grants by which the node may have tunnel ends, in order of their VNIs: what it has to confirm when they are not
    /// in what it shall hold.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn on_node(&self, view: &Snapshot, node: &NodeId) -> Result<Vec<VniLease>> {
        let all = nodes()?.list(view, &Txn::new(), nodes()?.prefix())?;
        let of_node = all.iter().filter(|entry| entry.node == *node);
        Ok(of_node.map(|entry| VniLease::new(entry.vni, entry.granted)).collect())
    }

    /// Says that the node may have a tunnel end.
    ///
    /// # Errors
    /// As [`stage_on_node`](Self::stage_on_node), and those of the store.
    pub async fn put_on_node(&self, ctx: &TenantContext, lease: &VniLease, node: &NodeId) -> Result<()> {
        let once = Once::new(ctx, &format!("vni-on-node:{node}"), self.clock.now())?;
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_on_node(view, txn, ctx, (lease, node));
        transact(&*self.store, &once, &[crate::prefix()?], decide).await.map(|_| ())
    }

    /// Says that the node has taken its tunnel end down.
    ///
    /// # Errors
    /// As [`stage_off_node`](Self::stage_off_node), and those of the store.
    pub async fn take_off_node(&self, ctx: &TenantContext, lease: &VniLease, node: &NodeId) -> Result<()> {
        let once = Once::new(ctx, &format!("vni-off-node:{node}"), self.clock.now())?;
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_off_node(view, txn, lease, node);
        transact(&*self.store, &once, &[crate::prefix()?], decide).await.map(|_| ())
    }
}
