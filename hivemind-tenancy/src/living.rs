//! Whether a tenant is there, and takes more. No I/O, no clock, no async.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, Retry, TenantContext, TenantRef};

use crate::tenant::{key, tenants};
use crate::{Tenant, TenantState};

/// Whether `tenant`, of that generation, is there. A generation that is gone never comes back.
pub(crate) fn lives(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<bool> {
    if *tenant == TenantRef::system() {
        return Ok(true);
    }
    let found = tenants()?.get(view, txn, &key(&tenant.id)?)?;
    Ok(found.is_some_and(|found| found.tenant == *tenant))
}

/// Stages the demand that `tenant` is there, as it is now.
pub(crate) fn stage_lives(view: &Snapshot, txn: &mut Txn, tenant: &TenantRef) -> Result<bool> {
    if *tenant == TenantRef::system() {
        return Ok(true);
    }
    match tenants()?.get(view, txn, &key(&tenant.id)?)? {
        Some(found) if found.tenant == *tenant => tenants()?.expect(txn, &found).map(|()| true),
        _ => Ok(false),
    }
}

/// Stages the demand that the tenant of `ctx` takes something new. The system tenant always does.
///
/// # Errors
/// [`ErrorKind::NotFound`] if it is gone, [`ErrorKind::Conflict`] while it is suspended or being deleted.
pub(crate) fn stage_takes_more(
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    operation: &'static str,
) -> Result<()> {
    if *ctx.tenant() == TenantRef::system() {
        return Ok(());
    }
    let tenant = Tenant::of(view, txn, ctx)?;
    if !matches!(tenant.state, TenantState::Pending | TenantState::Active) {
        let message = format!("tenant {} is {}: it takes nothing new", tenant.tenant.id, tenant.state);
        return Err(Error::new(ErrorKind::Conflict, operation, message).with_retry(Retry::AfterChange));
    }
    tenants()?.expect(txn, &tenant)
}

/// Succeeds in the context of the system tenant.
///
/// # Errors
/// [`ErrorKind::Denied`] in any other, whatever there is.
pub(crate) fn system_only(ctx: &TenantContext, operation: &'static str) -> Result<()> {
    let system = TenantRef::system();
    if *ctx.tenant() == system {
        return Ok(());
    }
    let message = format!("only the context of tenant {} may do this", system.id);
    Err(Error::new(ErrorKind::Denied, operation, message))
}
