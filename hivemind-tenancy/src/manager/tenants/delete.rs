//! Deleting a tenant: begun in one transaction, ended in another, with whatever its finalizers do in between.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    Collection, Error, ErrorKind, Result, Stamped, StateStoreExt, Stored, TenantContext, TenantId, TenantRef,
    Timestamp,
};

use super::authority::{Authority, administered, authority, find, from_above};
use super::{blocked, count_below, expect_children, moment, remove_child};
use crate::manager::TenantManager;
use crate::placement::{budgets, budgets_key, displaced, displaced_of, fence_key, fences, gangs, gangs_of};
use crate::rbac::{Scope, bindings, bindings_of, roles, roles_of};
use crate::tenant::{DeletionProgress, Leftover};
use crate::tenant::{children, finalizers_advance, tenants};
use crate::{NameClaims, Shares, Tenant, TenantQuota, TenantState};

/// How many records of a tenant one transaction removes; with the rest of it, it stays far below what a store takes.
const AT_ONCE: usize = 64;

/// Stages the removal of the first `room` of `records`; returns how many.
fn stage_some<T: Stored>(
    of: &Collection<T>,
    records: Vec<Stamped<T>>,
    txn: &mut Txn,
    room: usize,
) -> Result<usize> {
    let some = records.get(..room).unwrap_or(&records);
    some.iter().try_for_each(|record| of.delete(txn, record))?;
    Ok(some.len())
}

/// What a tenant still holds. That it has no tenants below must still be so when `txn` commits.
fn leftovers(
    view: &Snapshot,
    txn: &mut Txn,
    tenant: &TenantRef,
    ctx: &TenantContext,
) -> Result<Vec<Leftover>> {
    let mut left = Vec::new();
    let below = expect_children(view, txn, tenant)?;
    if below > 0 {
        left.push(Leftover::Children(below));
    }
    let running = crate::placement::allocations()?;
    let mut workloads = 0_u64;
    for node in running.list(view, txn, running.prefix())? {
        let here = node.workloads.get(tenant).map_or(0, std::collections::BTreeMap::len);
        workloads = workloads.saturating_add(u64::try_from(here).unwrap_or(u64::MAX));
    }
    if workloads > 0 {
        left.push(Leftover::Workloads(workloads));
    }
    // A transaction of its own: only the answer is wanted.
    match TenantQuota.stage_close(view, &mut txn.clone(), &ctx.clone().for_tenant(tenant.clone())) {
        Err(e) if e.kind() == ErrorKind::Conflict => left.push(Leftover::Charges(e.message().to_owned())),
        other => other?,
    }
    Ok(left)
}

impl TenantManager {
    /// Stages the beginning of a tenant's deletion: from then on it admits nothing, and the finalizers have their turn.
    /// Once begun it cannot be undone; begun again, it stays as it is.
    ///
    /// [`stage_advance_deletion`](Self::stage_advance_deletion) brings it to its end.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tenant; [`ErrorKind::Denied`] if `ctx` does not administer it from
    /// above; [`ErrorKind::Conflict`] if it is protected, or not empty: then the message names all that is there.
    pub fn stage_begin_deletion(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &TenantId,
        now: Timestamp,
    ) -> Result<Tenant> {
        let (found, _) = administered(view, txn, ctx, id, "delete tenant")?;
        let old = found.tenant;
        if old.state.is_terminating() {
            tenants()?.expect(txn, &old)?;
            return Ok((*old.value).clone());
        }
        if old.protected {
            let message = format!("tenant {id} is protected from deletion: take the protection away first");
            return Err(blocked("delete tenant", message));
        }
        let left = leftovers(view, txn, &old.tenant, ctx)?;
        if !left.is_empty() {
            let left: Vec<_> = left.iter().map(ToString::to_string).collect();
            return Err(blocked("delete tenant", format!("tenant {id} is not empty: {}", left.join("; "))));
        }
        let now = moment(ctx, now);
        let mut new = (*old.value).clone();
        new.state = TenantState::Terminating { since: now };
        new.updated_at = now;
        finalizers_advance(&mut new.finalizers, now);
        tenants()?.update(txn, &old, &new)?;
        Ok(new)
    }

    /// Stages the next step of a deletion that was begun: finalizers whose turn has come are running, those past their
    /// deadline are stuck, and once all are done and nothing is left, the record goes, with all that is the tenant's:
    /// ledger, quota, roles and their bindings, names, gangs, and shares but offers nobody accepted. Says how far it is.
    /// A step may be repeated, and does nothing for a tenant that is gone; one that `ctx` may not know of looks the same.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the tenant is not being deleted, [`ErrorKind::Denied`] if `ctx` does not administer
    /// it from above, [`ErrorKind::Corrupt`] if a record cannot be read, or a tenant above is missing.
    pub fn stage_advance_deletion(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        tenant: &TenantRef,
        now: Timestamp,
    ) -> Result<DeletionProgress> {
        // A tenant that `ctx` may not know of looks like one that is gone, which is also what is left of its own.
        let gone = |e: Error| match e.kind() {
            ErrorKind::NotFound => Ok(DeletionProgress::done(tenant.clone())),
            _ => Err(e),
        };
        let chain = match find(view, txn, ctx, &tenant.id) {
            Ok(found) if found.tenant.tenant == *tenant => found.chain,
            Ok(_) => return Ok(DeletionProgress::done(tenant.clone())),
            Err(e) => return gone(e),
        };
        if authority(view, txn, ctx, &chain, "delete tenant")? == Authority::Own {
            return Err(from_above(&tenant.id, "delete tenant"));
        }
        let Some(old) = chain.first() else { return Ok(DeletionProgress::done(tenant.clone())) };
        let mut new = (*old.value).clone();
        finalizers_advance(&mut new.finalizers, now);
        let left = leftovers(view, txn, tenant, ctx)?;
        let Some(progress) = DeletionProgress::of(&new, left, now) else {
            let message = format!("tenant {} is {}, it is not being deleted", tenant.id, new.state);
            return Err(Error::invalid("delete tenant", message));
        };
        if progress.may_go() && self.stage_remove(view, txn, ctx, old)? {
            return Ok(DeletionProgress::done(tenant.clone()));
        }
        if new == *old.value {
            tenants()?.expect(txn, old)?;
        } else {
            tenants()?.update(txn, old, &new)?;
        }
        Ok(progress)
    }

    /// Stages that a tenant is gone, with what belongs to its record; `false` if some of that has to go first.
    fn stage_remove(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        old: &Stamped<Tenant>,
    ) -> Result<bool> {
        let theirs = ctx.clone().for_tenant(old.tenant.clone());
        let mut room = AT_ONCE;
        let bound = bindings()?;
        let scope = bindings_of(&Scope::Tenant(old.tenant.clone()))?;
        room -= stage_some(&bound, bound.list(view, txn, &scope)?, txn, room)?;
        room -= stage_some(&roles()?, roles()?.list(view, txn, &roles_of(&old.tenant)?)?, txn, room)?;
        room -= stage_some(&gangs()?, gangs()?.list(view, txn, &gangs_of(&old.tenant)?)?, txn, room)?;
        let gone = displaced()?.list(view, txn, &displaced_of(&old.tenant)?)?;
        room -= stage_some(&displaced()?, gone, txn, room)?;
        room -= NameClaims.stage_release_all(view, txn, &theirs, room)?;
        room -= Shares.stage_leave(view, txn, &old.tenant, room)?;
        if room == 0 {
            return Ok(false);
        }
        TenantQuota.stage_close(view, txn, &theirs)?;
        children()?.delete(txn, &count_below(view, txn, &old.tenant)?)?;
        if let Some(fence) = fences()?.get(view, txn, &fence_key(&old.tenant)?)? {
            fences()?.delete(txn, &fence)?;
        }
        if let Some(theirs) = budgets()?.get(view, txn, &budgets_key(&old.tenant)?)? {
            budgets()?.delete(txn, &theirs)?;
        }
        if let Some(parent) = &old.parent {
            remove_child(view, txn, parent)?;
        }
        tenants()?.delete(txn, old)?;
        Ok(true)
    }

    /// How far the deletion of tenant `id` is, at `now` and by the state in `view`; `None` if it is not being deleted.
    /// Nothing is changed.
    ///
    /// # Errors
    /// As [`tenant`](Self::tenant).
    pub fn deletion_progress(
        &self,
        view: &Snapshot,
        ctx: &TenantContext,
        id: &TenantId,
        now: Timestamp,
    ) -> Result<Option<DeletionProgress>> {
        let found = find(view, &Txn::new(), ctx, id)?;
        let mut now_at = (*found.tenant.value).clone();
        finalizers_advance(&mut now_at.finalizers, now);
        let left = leftovers(view, &mut Txn::new(), &now_at.tenant, ctx)?;
        Ok(DeletionProgress::of(&now_at, left, now))
    }

    /// Begins the deletion of a tenant, and takes the first steps; says how far it is. Without finalizers it is done.
    ///
    /// # Errors
    /// As [`stage_begin_deletion`](Self::stage_begin_deletion), and those of the store.
    pub async fn delete(&self, ctx: &TenantContext, id: &TenantId) -> Result<DeletionProgress> {
        let now = self.clock.now();
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_begin_deletion(view, txn, ctx, id, now);
        let begun = self.commit(ctx, &format!("delete-tenant-{id}"), decide).await?;
        self.advance_deletion(ctx, &begun.tenant).await
    }

    /// Takes the next steps of a deletion that was begun; says how far it is. Call it until it is done: whenever a
    /// finalizer has said something, and from time to time, so that deadlines are noticed.
    ///
    /// # Errors
    /// As [`stage_advance_deletion`](Self::stage_advance_deletion), and those of the store.
    pub async fn advance_deletion(
        &self,
        ctx: &TenantContext,
        tenant: &TenantRef,
    ) -> Result<DeletionProgress> {
        let now = moment(ctx, self.clock.now());
        loop {
            let step = |view: &Snapshot, txn: &mut Txn| {
                let progress = self.stage_advance_deletion(view, txn, ctx, tenant, now)?;
                Ok((progress, txn.writes().len() > 0))
            };
            match self.repeatable(step).await? {
                // What is left of many records takes more than one transaction.
                (progress, true) if progress.may_go() => {}
                (progress, _) => return Ok(progress),
            }
        }
    }

    /// Decides on a fresh snapshot and commits a step that may be taken twice: it leaves no record of the request.
    pub(super) async fn repeatable<T>(
        &self,
        mut decide: impl FnMut(&Snapshot, &mut Txn) -> Result<T> + Send,
    ) -> Result<T> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let view = self.store.snapshot(&[crate::prefix()?]).await?;
            let mut txn = Txn::new();
            let value = decide(&view, &mut txn)?;
            if txn.writes().len() == 0 {
                return Ok(value);
            }
            match self.store.commit(&txn).await {
                Ok(_) => return Ok(value),
                Err(e) if attempts < ATTEMPTS && repeats(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// How often a step is decided anew when the state changed under it, or its outcome is unknown.
const ATTEMPTS: u32 = 16;

fn repeats(e: &Error) -> bool {
    e.kind() == ErrorKind::Conflict || e.effect() == hivemind_core::Effect::Unknown
}
