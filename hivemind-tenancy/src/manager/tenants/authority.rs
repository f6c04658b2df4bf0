//! Who may administer which tenant: the system's context all of them, an owner those below the own one.
//! No I/O, no clock, no async.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Principal, Result, Stamped, TenantContext, TenantId, TenantRef};

use crate::Tenant;
use crate::living::stage_lives;
use crate::tenant::{chain_of, is_owner, key, tenants};

/// In what capacity somebody administers a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    /// In the context of the system tenant.
    System,
    /// As an owner of a tenant above.
    Above,
    /// As an owner of the tenant itself.
    Own,
}

/// A tenant and those above it, as one who asks may see them.
pub(super) struct Found {
    /// The tenant first, the root of its tree last.
    pub(super) chain: Vec<Stamped<Tenant>>,
    pub(super) tenant: Stamped<Tenant>,
}

impl Found {
    /// The tenants above.
    pub(super) fn above(&self) -> &[Stamped<Tenant>] {
        self.chain.get(1..).unwrap_or_default()
    }
}

pub(super) fn is_system(ctx: &TenantContext) -> bool {
    *ctx.tenant() == TenantRef::system()
}

/// Only in the system tenant's context.
pub(super) fn system_only(ctx: &TenantContext, operation: &'static str) -> Result<()> {
    if is_system(ctx) {
        return Ok(());
    }
    let message = format!("this is done in the context of tenant {}", TenantRef::system().id);
    Err(Error::new(ErrorKind::Denied, operation, message))
}

/// The tenant `id` of whatever generation, if it is the one of `ctx` or below it. Any other is not found.
pub(super) fn find(view: &Snapshot, txn: &Txn, ctx: &TenantContext, id: &TenantId) -> Result<Found> {
    let missing = || Error::not_found("tenant", format!("there is no tenant {id}"));
    let tenant = tenants()?.get(view, txn, &key(id)?)?.ok_or_else(missing)?;
    let chain = match chain_of(view, txn, &tenant.tenant) {
        // Whose a tenant is cannot be told if one above it is missing: that is for the system's context to hear.
        Err(_) if !is_system(ctx) && tenant.tenant != *ctx.tenant() => return Err(missing()),
        other => other?,
    };
    if is_system(ctx) || chain.iter().any(|one| one.tenant == *ctx.tenant()) {
        return Ok(Found { chain, tenant });
    }
    Err(missing())
}

/// `parent` and the tenants above it. One of another generation looks like one that never was.
pub(super) fn parents(view: &Snapshot, txn: &Txn, parent: &TenantRef) -> Result<Vec<Stamped<Tenant>>> {
    chain_of(view, txn, parent).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::not_found("tenant", format!("there is no tenant {}", parent.id)),
        _ => e,
    })
}

/// Stages the demand that who asks is still there: a service account does not outlive its tenant.
fn stage_account_lives(view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<bool> {
    let actor = ctx.actor().map(|actor| &actor.principal);
    for asker in std::iter::once(ctx.principal()).chain(actor) {
        if let Principal::ServiceAccount { tenant, .. } = asker
            && !stage_lives(view, txn, tenant)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// In what capacity `ctx` administers `found`. What makes it so must still hold when `txn` commits.
pub(super) fn authority(
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    found: &[Stamped<Tenant>],
    operation: &'static str,
) -> Result<Authority> {
    if is_system(ctx) {
        return Ok(Authority::System);
    }
    let own = found.iter().enumerate().find(|(_, one)| one.tenant == *ctx.tenant());
    let Some((level, own)) = own else {
        let id = found.first().map(|one| one.tenant.id.to_string()).unwrap_or_default();
        return Err(Error::not_found("tenant", format!("there is no tenant {id}")));
    };
    if !is_owner(own, ctx) || !stage_account_lives(view, txn, ctx)? {
        let message = format!("{} is no owner of tenant {}: ask one", ctx.principal(), own.tenant.id);
        return Err(Error::new(ErrorKind::Denied, operation, message));
    }
    // Every tenant in between leads here, so that none may be moved away meanwhile.
    for one in found.iter().take(level + 1) {
        tenants()?.expect(txn, one)?;
    }
    Ok(if level == 0 { Authority::Own } else { Authority::Above })
}

/// What an owner is told who wants to do to the own tenant what only those above may.
pub(super) fn from_above(id: &TenantId, operation: &'static str) -> Error {
    let message = format!("an owner of tenant {id} may not do this to it: ask one of a tenant above");
    Error::new(ErrorKind::Denied, operation, message)
}

/// The tenant `id`, if `ctx` administers it from above.
pub(super) fn administered(
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    id: &TenantId,
    operation: &'static str,
) -> Result<(Found, Authority)> {
    let found = find(view, txn, ctx, id)?;
    match authority(view, txn, ctx, &found.chain, operation)? {
        Authority::Own => Err(from_above(id, operation)),
        above => Ok((found, above)),
    }
}
