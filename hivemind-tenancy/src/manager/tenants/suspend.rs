//! Suspending a tenant and letting it go on.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    Error, NodeId, Result, StateStoreExt, TenantContext, TenantId, TenantRef, Timestamp, WorkloadId,
};
use serde::{Deserialize, Serialize};

use super::authority::{administered, find};
use super::list::subtree;
use super::{blocked, moment};
use crate::manager::TenantManager;
use crate::tenant::tenants;
use crate::{Tenant, TenantState};

/// A workload that has to leave its node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Eviction {
    /// The node it runs on.
    pub node: NodeId,
    /// Whose it is: the suspended tenant's, or that of a tenant below.
    pub tenant: TenantRef,
    /// Which one.
    pub workload: WorkloadId,
}

/// What a suspension with a deadline evicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DrainPlan {
    /// The suspended tenant.
    pub tenant: TenantRef,
    /// When what runs is to be gone.
    pub by: Timestamp,
    /// What runs, by node, tenant and name.
    pub evict: Vec<Eviction>,
}

impl DrainPlan {
    /// Whether the time to stop by themselves is over at `now`: what is left may be stopped.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.by <= now
    }
}

impl TenantManager {
    /// Stages that a tenant, and every tenant below it, admits no new work. With `drain_by`, what runs is to be gone
    /// by then; without, it runs on.
    ///
    /// # Errors
    /// [`NotFound`](hivemind_core::ErrorKind::NotFound) if there is no such tenant, [`Denied`](hivemind_core::ErrorKind::Denied) if `ctx` does not administer it from
    /// above, [`Invalid`](hivemind_core::ErrorKind::Invalid) if `drain_by` has passed, [`Conflict`](hivemind_core::ErrorKind::Conflict) if the tenant is being deleted.
    pub fn stage_suspend(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &TenantId,
        drain_by: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Tenant> {
        let now = moment(ctx, now);
        if let Some(by) = drain_by.filter(|by| *by <= now) {
            return Err(Error::invalid(
                "suspend tenant",
                format!("{by} has passed, it is {now}: give a later time"),
            ));
        }
        self.stage_state(view, txn, ctx, id, TenantState::Suspended { drain_by }, now)
    }

    /// Stages that a tenant that is pending or suspended is active, as far as the tenants above it are.
    ///
    /// # Errors
    /// As [`stage_suspend`](Self::stage_suspend).
    pub fn stage_resume(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &TenantId,
        now: Timestamp,
    ) -> Result<Tenant> {
        self.stage_state(view, txn, ctx, id, TenantState::Active, moment(ctx, now))
    }

    fn stage_state(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &TenantId,
        state: TenantState,
        now: Timestamp,
    ) -> Result<Tenant> {
        let (found, _) = administered(view, txn, ctx, id, "change the state of a tenant")?;
        if found.tenant.state.is_terminating() {
            let message = format!("tenant {id} is being deleted, which cannot be undone");
            return Err(blocked("change the state of a tenant", message));
        }
        let mut new = (*found.tenant.value).clone();
        new.state = state;
        new.updated_at = now;
        tenants()?.update(txn, &found.tenant, &new)?;
        Ok(new)
    }

    /// What suspending tenant `id` until `by` would evict, by the state in `view`: its own workloads and those of the
    /// tenants below it. Nothing is changed.
    ///
    /// # Errors
    /// As [`tenant`](Self::tenant).
    pub fn drain_plan(
        &self,
        view: &Snapshot,
        ctx: &TenantContext,
        id: &TenantId,
        by: Timestamp,
    ) -> Result<DrainPlan> {
        let txn = Txn::new();
        let root = find(view, &txn, ctx, id)?.tenant;
        let inside: Vec<_> = subtree(view, &txn, &root.tenant)?;
        let mut evict = Vec::new();
        for (node, running) in self.nodes(view, &txn)? {
            for (one, _) in &inside {
                let workloads = running.workloads.get(&one.tenant).into_iter().flat_map(|all| all.keys());
                evict.extend(workloads.map(|workload| Eviction {
                    node: node.id.clone(),
                    tenant: one.tenant.clone(),
                    workload: workload.clone(),
                }));
            }
        }
        evict.sort();
        Ok(DrainPlan { tenant: root.tenant.clone(), by, evict })
    }

    /// What is to be evicted for each tenant that `ctx` may see and that is being drained, by the state in `view`.
    /// Those that are [due](DrainPlan::is_due) may be stopped now. Nothing is changed.
    ///
    /// # Errors
    /// As [`visible`](Self::visible).
    pub fn drains(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Vec<DrainPlan>> {
        let seen = self.visible(view, ctx)?;
        let draining = seen.iter().filter_map(|one| match one.state {
            TenantState::Suspended { drain_by: Some(by) } => Some((&one.tenant.id, by)),
            _ => None,
        });
        draining.map(|(id, by)| self.drain_plan(view, ctx, id, by)).collect()
    }

    /// Suspends a tenant.
    ///
    /// # Errors
    /// As [`stage_suspend`](Self::stage_suspend), and those of the store.
    pub async fn suspend(
        &self,
        ctx: &TenantContext,
        id: &TenantId,
        drain_by: Option<Timestamp>,
    ) -> Result<Tenant> {
        let now = self.clock.now();
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_suspend(view, txn, ctx, id, drain_by, now);
        self.commit(ctx, &format!("suspend-tenant-{id}"), decide).await
    }

    /// Lets a tenant go on.
    ///
    /// # Errors
    /// As [`stage_resume`](Self::stage_resume), and those of the store.
    pub async fn resume(&self, ctx: &TenantContext, id: &TenantId) -> Result<Tenant> {
        let now = self.clock.now();
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_resume(view, txn, ctx, id, now);
        self.commit(ctx, &format!("resume-tenant-{id}"), decide).await
    }

    /// What suspending a tenant until `by` would evict, by the newest state. Nothing is changed.
    ///
    /// # Errors
    /// As [`drain_plan`](Self::drain_plan), and those of the store.
    pub async fn plan_drain(&self, ctx: &TenantContext, id: &TenantId, by: Timestamp) -> Result<DrainPlan> {
        let view = self.store.snapshot(&[crate::prefix()?]).await?;
        self.drain_plan(&view, ctx, id, by)
    }
}
