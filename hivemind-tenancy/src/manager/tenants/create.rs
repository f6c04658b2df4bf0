//! Creating a tenant.

use std::collections::BTreeSet;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    Error, ErrorKind, Generation, IdSourceExt, Result, Stamped, TenantContext, TenantRef, Timestamp,
};

use super::authority::{Authority, authority, is_system, parents};
use super::{add_child, moment};
use crate::manager::TenantManager;
use crate::tenant::{
    Ceiling, Finalizer, FinalizerState, MAX_DEPTH, VerbClass, all_allow, check_labels, named,
};
use crate::tenant::{TenantChildren, check_sizes, children, children_key, key, tenants};
use crate::{Tenant, TenantSpec};

/// The most finalizers of one tenant.
const MAX_FINALIZERS: usize = 64;

/// `finalizers` in the order of their turns, none begun.
///
/// # Errors
/// Two of one name, or too many.
pub(super) fn in_turn(mut finalizers: Vec<Finalizer>) -> Result<Vec<Finalizer>> {
    finalizers.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
    let names: BTreeSet<_> = finalizers.iter().map(|one| &one.name).collect();
    if names.len() < finalizers.len() {
        return Err(Error::invalid("tenant", "two finalizers have the same name: give each its own"));
    }
    if finalizers.len() > MAX_FINALIZERS {
        let message = format!("{} finalizers, at most {MAX_FINALIZERS} are allowed", finalizers.len());
        return Err(Error::invalid("tenant", message));
    }
    for one in &mut finalizers {
        one.state = FinalizerState::Pending;
    }
    Ok(finalizers)
}

/// The chain above a tenant that is to be below `parent`, if one may be there. Each must still be as it is when `txn`
/// commits, so that no two changes of the tree can make a cycle together.
pub(super) fn room_below(
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    parent: &TenantRef,
    levels: usize,
) -> Result<Vec<Stamped<Tenant>>> {
    let above = parents(view, txn, parent)?;
    if above.len().saturating_add(levels) > MAX_DEPTH {
        let message = format!("below tenant {} it would be deeper than {MAX_DEPTH} levels", parent.id);
        return Err(Error::invalid("tenant", message));
    }
    all_allow(&above, ctx.tenant(), VerbClass::Configure)?;
    above.iter().try_for_each(|one| tenants()?.expect(txn, one))?;
    Ok(above)
}

/// In what capacity `ctx` puts a tenant below `above`.
pub(super) fn creator(
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    above: &[Stamped<Tenant>],
) -> Result<Authority> {
    let who = authority(view, txn, ctx, above, "create tenant")?;
    let refusing = above.iter().position(|one| !one.delegation.sub_tenants);
    match (who, refusing) {
        (Authority::Above | Authority::Own, Some(at)) => {
            let message = match named(above, ctx.tenant(), at) {
                Ok(one) => format!("tenant {} lets no owner create tenants below it", one.tenant.id),
                Err(own) => format!("a tenant above tenant {own} lets no owner create tenants below it"),
            };
            Err(Error::new(ErrorKind::Denied, "create tenant", message))
        }
        _ => Ok(who),
    }
}

impl TenantManager {
    /// Stages a new tenant of `generation`, which must be unique: take it from an
    /// [`IdSource`](hivemind_core::IdSource).
    ///
    /// In the system's context any tenant may be created. An owner of a tenant may create others below it, within the
    /// limits of every tenant above. Nobody may create one that is kept apart less than a tenant above.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the id is taken; [`ErrorKind::Invalid`] if it is the system tenant's, or with
    /// [`OverCeiling`](crate::tenant::OverCeiling) or [`LabelViolations`](crate::tenant::LabelViolations) as detail;
    /// [`ErrorKind::NotFound`] if there is no such parent; [`ErrorKind::Conflict`] if the parent's state takes none;
    /// [`ErrorKind::QuotaExceeded`] if the parent has as many as it may; [`ErrorKind::Denied`] if `ctx` owns no tenant
    /// above.
    pub fn stage_create(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        spec: &TenantSpec,
        generation: Generation,
        now: Timestamp,
    ) -> Result<Tenant> {
        let id = &spec.id;
        if *id == TenantRef::system().id {
            return Err(Error::invalid("create tenant", format!("the name {id} is the system's own")));
        }
        let reference = TenantRef::new(id.clone(), generation);
        let mut tenant = Tenant::from_spec(spec.clone(), reference, moment(ctx, now));
        tenant.finalizers = in_turn(tenant.finalizers)?;
        check_sizes("create tenant", None, &tenant)?;
        let above = match &spec.parent {
            None if is_system(ctx) => Vec::new(),
            None => {
                let message =
                    format!("name a parent: a root is created in the context of {}", TenantRef::system().id);
                return Err(Error::new(ErrorKind::Denied, "create tenant", message));
            }
            Some(parent) => {
                let above = parents(view, txn, parent)?;
                let who = creator(view, txn, ctx, &above)?;
                Ceiling::of(&above).check(&tenant, who != Authority::System)?;
                room_below(view, txn, ctx, parent, 1)?
            }
        };
        check_labels(id, above.iter().map(|one| &**one), &tenant.labels)?;
        if let Some(parent) = above.first() {
            add_child(view, txn, parent)?;
        }
        tenants()?.create(view, txn, key(id)?, &tenant)?;
        children()?.create(view, txn, children_key(&tenant.tenant)?, &TenantChildren::default())?;
        Ok(tenant)
    }

    /// Creates a tenant of a fresh generation.
    ///
    /// # Errors
    /// As [`stage_create`](Self::stage_create), and those of the store.
    pub async fn create(&self, ctx: &TenantContext, spec: TenantSpec) -> Result<Tenant> {
        let (generation, now) = (self.ids.generation(), self.clock.now());
        let operation = format!("create-tenant-{}", spec.id);
        let decide =
            |view: &Snapshot, txn: &mut Txn| self.stage_create(view, txn, ctx, &spec, generation, now);
        self.commit(ctx, &operation, decide).await
    }
}
