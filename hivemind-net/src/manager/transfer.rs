//! A workload takes its addresses to another node, in two steps.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, NodeId, Result, Retry, TenantContext, WorkloadId};

use super::IpamManager;
use super::session::Session;
use crate::records::{Holder, holders};

impl IpamManager {
    /// Stages the begin of a move: the addresses stay where they are, and are known at both nodes.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the workload is not on `from`, or is moving elsewhere already; [`ErrorKind::Denied`] if
    /// `to` is lost; [`ErrorKind::NotFound`] if it has no lease.
    pub fn stage_transfer(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workload: &WorkloadId,
        (from, to): (&NodeId, &NodeId),
    ) -> Result<()> {
        self.change(view, txn, ctx, workload, |session, holder| {
            if holder.node != *from || holder.moving.as_ref().is_some_and(|moving| moving != to) {
                return Err(elsewhere(holder, from));
            }
            alive(session, to)?;
            holder.moving = Some(to.clone());
            Ok(())
        })
    }

    /// Stages the end of a move: the workload is at its new node. A move that has ended is a no-op.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it is not moving there, [`ErrorKind::Denied`] if `to` is lost, [`ErrorKind::NotFound`] if
    /// it has no lease.
    pub fn stage_transferred(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workload: &WorkloadId,
        to: &NodeId,
    ) -> Result<()> {
        self.change(view, txn, ctx, workload, |session, holder| match holder.moving.take() {
            Some(moving) if moving == *to => {
                // What a lost node had may have been taken back already.
                alive(session, to)?;
                holder.node = moving;
                // What was begun before says nothing about the workload there.
                (holder.at, holder.missed) = (session.now, None);
                Ok(())
            }
            None if holder.node == *to => Ok(()),
            moving => {
                holder.moving = moving;
                Err(elsewhere(holder, to))
            }
        })
    }

    /// Stages that a move is given up: the workload is where it was.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it has no lease.
    pub fn stage_transfer_back(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workload: &WorkloadId,
    ) -> Result<()> {
        self.change(view, txn, ctx, workload, |_, holder| {
            holder.moving = None;
            Ok(())
        })
    }

    fn change(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workload: &WorkloadId,
        change: impl FnOnce(&mut Session<'_>, &mut Holder) -> Result<()>,
    ) -> Result<()> {
        self.stage(view, txn, ctx, |session| {
            let missing = || {
                let message = format!("tenant {} has no lease of workload {workload}", ctx.tenant().id);
                Error::not_found("transfer", message)
            };
            let key = session.keys.holder(workload)?;
            let found = holders()?.get(session.view, &session.txn, &key)?.ok_or_else(missing)?;
            let mut holder = (*found.value).clone();
            change(session, &mut holder)?;
            holders()?.update(&mut session.txn, &found, &holder)
        })
    }
}

/// Refuses a node that is lost, also if it is when the transaction commits.
fn alive(session: &mut Session<'_>, node: &NodeId) -> Result<()> {
    let found = session.node(node)?;
    if let Some((since, epoch)) = found.as_ref().and_then(|found| Some((found.lost?, found.epoch))) {
        let lost = super::NodeLost { node: node.clone(), since, epoch };
        return Err(Error::of(ErrorKind::Denied, "transfer", lost));
    }
    session.expect_node(node, found.as_ref())
}

fn elsewhere(holder: &Holder, named: &NodeId) -> Error {
    let moving = holder.moving.as_ref().map(|to| format!(", moving to {to}")).unwrap_or_default();
    let message = format!(
        "workload {} is on node {}{moving}, which does not fit {named}: read its state again",
        holder.workload, holder.node
    );
    Error::new(ErrorKind::Conflict, "transfer", message).with_retry(Retry::AfterReread)
}
