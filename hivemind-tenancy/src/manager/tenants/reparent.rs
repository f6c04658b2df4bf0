//! Moving a tenant to another parent, with everything below it.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, Stamped, TenantContext, TenantId, TenantRef, Timestamp};

use super::authority::{Authority, administered, parents, system_only};
use super::create::{creator, room_below};
use super::list::subtree;
use super::{add_child, blocked, moment, remove_child};
use crate::Tenant;
use crate::manager::TenantManager;
use crate::manager::access::stage_inherit;
use crate::manager::nodes::stage_isolation_changed;
use crate::tenant::tenants;
use crate::tenant::{Ceiling, check_labels};

impl TenantManager {
    /// Stages that tenant `id`, with everything below it, is part of `new_parent`, or a root. What it uses counts
    /// there from then on; all of it is one transaction.
    ///
    /// Outside the system's context, `ctx` owns a tenant above both, and holds in the tenant `id` whatever it inherits by
    /// the move: a move hands out no more than a binding could.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if either is unknown, or `ctx` may not know of it; [`ErrorKind::Invalid`] if it would
    /// be below itself, too deep, or as for [`stage_create`](Self::stage_create); [`ErrorKind::Conflict`] if one of
    /// them is in a state that does not allow it; [`ErrorKind::QuotaExceeded`] if it does not fit below the new
    /// parent; [`ErrorKind::Denied`] if `ctx` owns no tenant above both or, with [`Escalation`](crate::rbac::Escalation) as
    /// detail, if bindings of the new parents would reach it that hand out more than `ctx` holds in it, or bindings of
    /// the old ones no longer deny what `ctx` is denied.
    pub fn stage_reparent(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &TenantId,
        new_parent: Option<&TenantRef>,
        now: Timestamp,
    ) -> Result<Tenant> {
        let (found, _) = administered(view, txn, ctx, id, "move tenant")?;
        let before = found.above();
        let moved = found.tenant.clone();
        if moved.parent.as_ref() == new_parent {
            tenants()?.expect(txn, &moved)?;
            return Ok((*moved.value).clone());
        }
        if moved.state.is_terminating() {
            return Err(blocked("move tenant", format!("tenant {id} is being deleted")));
        }
        match new_parent {
            None => system_only(ctx, "move tenant")?,
            Some(parent) => self.stage_below(view, txn, ctx, (&moved, before), parent)?,
        }
        if let Some(old) = &moved.parent {
            remove_child(view, txn, old)?;
        }
        let at = moment(ctx, now);
        crate::quota::stage_reparent(view, txn, &ctx.clone().with_time(at), &moved, new_parent)?;
        stage_isolation_changed(view, txn)?;
        let mut new = (*moved.value).clone();
        new.parent = new_parent.cloned();
        new.updated_at = at;
        tenants()?.update(txn, &moved, &new)?;
        Ok(new)
    }

    /// Stages that `moved` may be below `parent`, and counts there.
    fn stage_below(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        (moved, before): (&Tenant, &[Stamped<Tenant>]),
        parent: &TenantRef,
    ) -> Result<()> {
        let above = parents(view, txn, parent)?;
        let who = creator(view, txn, ctx, &above)?;
        if above.iter().any(|one| one.tenant == moved.tenant) {
            let message =
                format!("tenant {} would be below itself: {} is below it", moved.tenant.id, parent.id);
            return Err(Error::new(ErrorKind::Invalid, "move tenant", message));
        }
        let levels = subtree(view, txn, &moved.tenant)?.iter().map(|(_, level)| level + 1).max().unwrap_or(1);
        let above = room_below(view, txn, ctx, parent, levels)?;
        Ceiling::of(&above).check(moved, who != Authority::System)?;
        if who != Authority::System {
            stage_inherit(view, txn, ctx, &moved.tenant, (before, &above))?;
        }
        check_labels(&moved.tenant.id, above.iter().map(|one| &**one), &moved.labels)?;
        above.first().map_or(Ok(()), |parent| add_child(view, txn, parent))
    }

    /// Makes tenant `id`, with everything below it, a part of `new_parent`, or a root.
    ///
    /// # Errors
    /// As [`stage_reparent`](Self::stage_reparent), and those of the store.
    pub async fn reparent(
        &self,
        ctx: &TenantContext,
        id: &TenantId,
        new_parent: Option<&TenantRef>,
    ) -> Result<Tenant> {
        let now = self.clock.now();
        let decide =
            |view: &Snapshot, txn: &mut Txn| self.stage_reparent(view, txn, ctx, id, new_parent, now);
        self.commit(ctx, &format!("reparent-tenant-{id}"), decide).await
    }
}
