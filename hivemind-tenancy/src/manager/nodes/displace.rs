//! What has to leave its node: records of it, and the budgets that limit it.

use std::collections::BTreeSet;

use hivemind_core::store::{Guard, Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, NodeId, Result, Stamped, TenantContext, TenantRef, WorkloadId};

use super::super::TenantManager;
use crate::placement::{
    Displaced, DisplacedBy, TenantBudgets, allocations, broken_budget, budgets, budgets_key, displaced,
    displaced_key, displaced_of, nodes, placement_key, placements,
};
use crate::placement::{DisruptionBudget, Node, NodeAllocations, NodeState};

/// The most workloads that one transaction displaces: each has three records, and the transaction has others.
pub(super) const VICTIMS: usize = 32;

/// The most budgets of one tenant.
const BUDGETS: usize = 64;

/// So many guards fit one transaction that displaces workloads, beside those of what it places.
const GUARDS: usize = 118;

/// Stages that workloads of `tenant` are taken away: beside another such request, or a change of its budgets, one of the
/// two decides again.
pub(super) fn stage_disruption(view: &Snapshot, txn: &mut Txn, tenant: &TenantRef) -> Result<()> {
    let key = budgets_key(tenant)?;
    let Some(old) = budgets()?.get(view, txn, &key)? else { return txn.guard(&key, Guard::Absent) };
    let mut new = (*old.value).clone();
    new.disruptions = new.disruptions.wrapping_add(1);
    budgets()?.update(txn, &old, &new)
}

/// Stages that of what `budgets` keep while `victims` go, enough still runs when `txn` commits: its nodes are as they are.
/// As few nodes as make it up; of more than fit one transaction, those that keep most. Whoever takes away what runs there
/// meets this request at the budgets themselves.
pub(super) fn stage_kept(
    txn: &mut Txn,
    budgets: &[DisruptionBudget],
    cluster: &[(Stamped<Node>, Stamped<NodeAllocations>)],
    victims: &[(TenantRef, WorkloadId)],
) -> Result<()> {
    let goes: BTreeSet<_> = victims.iter().map(|(tenant, id)| (tenant, id)).collect();
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    for budget in budgets {
        let selector = budget.workloads.compile();
        let (mut going, mut stay) = (false, Vec::new());
        for (at, (node, running)) in cluster.iter().enumerate() {
            let theirs = running.workloads.get(&budget.tenant).filter(|_| node.state != NodeState::Failed);
            let live = theirs.into_iter().flatten().filter(|(_, one)| !one.terminating);
            let mut here = 0_u64;
            for (id, _) in live.filter(|(_, one)| selector.matches(&one.labels)) {
                let goes = goes.contains(&(&budget.tenant, id));
                going |= goes;
                here += u64::from(!goes);
            }
            stay.push((kept.contains(&at), here, at));
        }
        // Those that are kept for another budget first, then those that keep most.
        stay.sort_by(|a, b| b.cmp(a));
        let mut needed = if going { budget.min_available } else { 0 };
        for (_, here, at) in stay {
            if needed > 0 && here > 0 {
                needed = needed.saturating_sub(here);
                kept.insert(at);
            }
        }
    }
    let most = GUARDS.saturating_sub(3 * victims.len());
    let mut kept = kept.into_iter().take(most).filter_map(|at| cluster.get(at));
    kept.try_for_each(|(node, _)| nodes()?.expect(txn, node))
}

/// The budgets of all tenants.
pub(super) fn all_budgets(view: &Snapshot, txn: &Txn) -> Result<Vec<DisruptionBudget>> {
    let all = budgets()?.list(view, txn, budgets()?.prefix())?;
    Ok(all.iter().flat_map(|one| one.budgets.iter().cloned()).collect())
}

impl TenantManager {
    /// Stages that `victims` hold no room on the node any more, and that this is on record. Whether budgets allow it is
    /// to be asked before.
    pub(super) fn stage_displace(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        (node, running): (&NodeId, &Stamped<NodeAllocations>),
        victims: &[(TenantRef, WorkloadId)],
        by: DisplacedBy,
    ) -> Result<()> {
        let mut new = (*running.value).clone();
        for (tenant, workload) in victims {
            let was = new.remove(tenant, workload)?;
            if let Some(record) = placements()?.get(view, txn, &placement_key(tenant, workload)?)? {
                placements()?.delete(txn, &record)?;
            }
            let (tenant, workload, node) = (tenant.clone(), workload.clone(), node.clone());
            let key = displaced_key(&tenant, &workload, &node)?;
            let record = Displaced { tenant, workload, node, by, was };
            match displaced()?.get(view, txn, &key)? {
                Some(old) => displaced()?.update(txn, &old, &record)?,
                None => displaced()?.create(view, txn, key, &record)?,
            }
        }
        allocations()?.update(txn, running, &new)?;
        let tenants: BTreeSet<_> = victims.iter().map(|(tenant, _)| tenant).collect();
        tenants.into_iter().try_for_each(|tenant| stage_disruption(view, txn, tenant))
    }

    /// Fails if a budget forbids that `victims` go. What the budgets keep instead must still be there when `txn` commits.
    pub(super) fn within_budgets(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        victims: &[(TenantRef, WorkloadId)],
    ) -> Result<()> {
        let mut theirs = all_budgets(view, txn)?;
        theirs.retain(|budget| victims.iter().any(|(tenant, _)| *tenant == budget.tenant));
        if theirs.is_empty() {
            return Ok(());
        }
        let cluster = self.nodes(view, txn)?;
        let pairs: Vec<_> = cluster.iter().map(|(node, running)| (&*node.value, &*running.value)).collect();
        if broken_budget(&theirs, &pairs, victims).is_none() {
            return stage_kept(txn, &theirs, &cluster, victims);
        }
        // Whose budget it is, and what it protects, is not for everybody to know.
        let message = "a disruption budget keeps what would have to go: decide again with the budgets of now";
        Err(Error::new(ErrorKind::Conflict, "displace", message))
    }

    /// Stages the disruption budgets of the tenant of `ctx`, in place of those it has: whatever puts its workloads out,
    /// to make room or to empty a node, leaves that many of them. The tenant itself may take away what it likes.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if one is of another tenant, or there are more than 64.
    pub fn stage_set_budgets(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        theirs: &[DisruptionBudget],
    ) -> Result<()> {
        if theirs.iter().any(|budget| budget.tenant != *ctx.tenant()) {
            let message =
                format!("a budget is not of tenant {}: set each in its own context", ctx.tenant().id);
            return Err(Error::invalid("budgets", message));
        }
        if theirs.len() > BUDGETS {
            let message = format!("{} budgets: a tenant has at most {BUDGETS}", theirs.len());
            return Err(Error::invalid("budgets", message));
        }
        let key = budgets_key(ctx.tenant())?;
        let new = |disruptions| TenantBudgets { budgets: theirs.to_vec(), disruptions };
        match budgets()?.get(view, txn, &key)? {
            Some(old) => budgets()?.update(txn, &old, &new(old.disruptions)),
            None => budgets()?.create(view, txn, key, &new(0)),
        }
    }

    /// The disruption budgets of the tenant of `ctx`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the record cannot be read.
    pub fn budgets(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<DisruptionBudget>> {
        let found = budgets()?.get(view, txn, &budgets_key(ctx.tenant())?)?;
        Ok(found.map(|found| found.budgets.clone()).unwrap_or_default())
    }

    /// What of the tenant of `ctx` was put out and is not forgotten yet, by name and node; in the context of the system
    /// tenant that of all tenants.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn displaced(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<Displaced>> {
        let below = match *ctx.tenant() == TenantRef::system() {
            true => displaced()?.prefix().clone(),
            false => displaced_of(ctx.tenant())?,
        };
        let all = displaced()?.list(view, txn, &below)?;
        Ok(all.iter().map(|one| (*one.value).clone()).collect())
    }

    /// Stages that a displaced workload of the tenant of `ctx` runs on that node no longer, and its charge is given back:
    /// its record goes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such record.
    pub fn stage_forget_displaced(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workload: &WorkloadId,
        node: &NodeId,
    ) -> Result<()> {
        let old = displaced()?.require(view, txn, &displaced_key(ctx.tenant(), workload, node)?)?;
        displaced()?.delete(txn, &old)
    }
}
