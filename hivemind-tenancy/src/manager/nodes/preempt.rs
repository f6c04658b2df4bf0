//! Room for a more important workload, made by putting out others, in one transaction.

use std::collections::BTreeSet;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, NodeId, Result, TenantContext, TenantRef};

use super::super::TenantManager;
use super::displace::{VICTIMS, all_budgets};
use super::isolation::Levels;
use super::place::{admitting, all_new, is_isolated, refusal_by, wide_radius};
use crate::ClusterIndex;
use crate::placement::DisplacedBy;
use crate::placement::{
    Ask, Cluster, Exclusion, NodeAllocations, NodeLabels, PlacementPolicy, Preemption, Reach, Ready,
    StaleNode, Taints, WorkloadRequest,
};

/// Fails unless each of the victims may be put out by `workload`, and is named once.
fn may_go(
    ctx: &TenantContext,
    workload: &WorkloadRequest,
    decided: &Preemption,
    running: &NodeAllocations,
    reach: Reach,
) -> Result<()> {
    if decided.victims.len() > VICTIMS {
        let message = format!(
            "{} workloads would have to go for {}: {VICTIMS} at most do at once",
            decided.victims.len(),
            workload.id
        );
        return Err(Error::new(ErrorKind::Exhausted, "preempt", message));
    }
    if reach == Reach::OwnTenant && decided.victims.iter().any(|(tenant, _)| tenant != ctx.tenant()) {
        let message = "workloads of other tenants are out of reach: decide for the own tenant";
        return Err(Error::new(ErrorKind::Denied, "preempt", message));
    }
    let mut once = BTreeSet::new();
    for victim @ (tenant, id) in &decided.victims {
        let found = running.workloads.get(tenant).and_then(|theirs| theirs.get(id));
        if found.is_none_or(|found| found.priority >= workload.priority) || !once.insert(victim) {
            let message = format!("node {} has changed since the decision: decide again", decided.node);
            return Err(Error::new(ErrorKind::Conflict, "preempt", message));
        }
    }
    Ok(())
}

impl TenantManager {
    /// Stages that `workload` runs, if need be in the place of less important ones; returns where, and who they are.
    ///
    /// It decides as [`ClusterIndex::preempt`], by the budgets in the store, from a look at all that runs: a host that
    /// keeps an index has the same decision sooner, and commits it by [`stage_put_out`](Self::stage_put_out). What goes
    /// is on record ([`displaced`](Self::displaced)) with why; its charge is the host's to give back, by its handle.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] with [`Unplaceable`](crate::placement::Unplaceable) as detail if no node can be made to have room.
    /// Otherwise as [`stage_put_out`](Self::stage_put_out). Nothing is staged then.
    pub fn stage_preempt(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workload: &WorkloadRequest,
        reach: Reach,
        policy: &PlacementPolicy,
    ) -> Result<Preemption> {
        let isolated = is_isolated(&admitting(view, txn, ctx, std::slice::from_ref(workload))?);
        let cluster = self.nodes(view, txn)?;
        let pairs: Vec<_> = cluster.iter().map(|(node, running)| (&*node.value, &*running.value)).collect();
        let mut index = ClusterIndex::of(policy.packing, policy.seed.unwrap_or_default(), &pairs)?;
        let ask = Ask { isolated, ..Ask::new(ctx.tenant(), workload).with_policy(policy) };
        let decided = index.preempt(ask, reach, &all_budgets(view, txn)?)?;
        self.put_out(view, txn, ctx, workload, &decided, reach, wide_radius(policy))?;
        Ok(decided)
    }

    /// Stages what [`ClusterIndex::preempt`] decided: the victims hold no room any more, and `workload` has theirs.
    ///
    /// Only strictly less important workloads go, only those in `reach`, and budgets are kept: two requests that would
    /// break one together meet at it, and one decides again. The node is checked as by
    /// [`stage_assign`](Self::stage_assign), before and after the victims are gone: nobody is put out of a node that the
    /// workload could not use anyway.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the node has changed, a victim is gone or no longer less important, or a budget forbids
    /// it by now: decide again. [`ErrorKind::Denied`] if a victim is out of reach, [`ErrorKind::Exhausted`] with more than 32
    /// victims. Otherwise as [`stage_assign`](Self::stage_assign). Nothing is staged then.
    pub fn stage_put_out(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workload: &WorkloadRequest,
        decided: &Preemption,
        reach: Reach,
    ) -> Result<()> {
        self.put_out(view, txn, ctx, workload, decided, reach, false)
    }

    #[allow(clippy::too_many_arguments, reason = "those of the two functions above")]
    fn put_out(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workload: &WorkloadRequest,
        decided: &Preemption,
        reach: Reach,
        wide: bool,
    ) -> Result<()> {
        let asked = std::slice::from_ref(workload);
        let isolated = is_isolated(&admitting(view, txn, ctx, asked)?);
        all_new(view, txn, ctx, asked)?;
        let at = &decided.node;
        // Whatever fails further on leaves the transaction as it was.
        let mut scratch = txn.clone();
        if !decided.victims.is_empty() {
            let (node, running) = super::node_now(view, txn, at, &mut Levels::default())?;
            let mut ask = Ask::new(ctx.tenant(), workload);
            ask.isolated = isolated;
            let cluster = Cluster::new(&[(&*node.value, &*running.value)]);
            if let Some(reason) = refusal_by(&[&Ready, &Exclusion, &NodeLabels, &Taints], ask, &cluster) {
                let stale = StaleNode { workload: workload.id.clone(), node: at.clone(), reason };
                return Err(Error::of(ErrorKind::Conflict, "preempt", stale));
            }
            may_go(ctx, workload, decided, &running, reach)?;
            let (victims, by): (&[(TenantRef, _)], _) = (&decided.victims, DisplacedBy::Preemption);
            self.within_budgets(view, &mut scratch, victims)?;
            self.stage_displace(view, &mut scratch, (at, &running), victims, by)?;
        }
        let to: [(WorkloadRequest, NodeId); 1] = [(workload.clone(), at.clone())];
        self.assign(view, &mut scratch, ctx, &to, wide)?;
        *txn = scratch;
        Ok(())
    }
}
