//! Finding a tenant, and those above it. No I/O, no clock, no async.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, Retry, Stamped, TenantContext, TenantRef};

use super::{Tenant, VerbClass, key, tenants};

/// The most levels of a tree of tenants. Every charge reads and guards each level, and a transaction is bounded.
pub const MAX_DEPTH: usize = 16;

impl Tenant {
    /// The tenant of `ctx`, of its generation, by the state that `txn` will have made of `view`.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is gone, or has been created anew since.
    pub fn of(view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Stamped<Self>> {
        at(view, txn, ctx.tenant())
    }

    /// The tenant of `ctx` and every tenant above it: itself first, the root of its tree last.
    ///
    /// # Errors
    /// As [`of`](Self::of); [`Corrupt`](ErrorKind::Corrupt) if a tenant above is missing, or above itself, or if there
    /// are more than [`MAX_DEPTH`].
    pub fn chain(view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<Stamped<Self>>> {
        chain_of(view, txn, ctx.tenant())
    }

    /// The tenant of `ctx` and every tenant above it, if the state of each allows `class`. Each must still be as it is
    /// when `txn` commits.
    ///
    /// # Errors
    /// As [`chain`](Self::chain); [`Conflict`](ErrorKind::Conflict) if a state does not allow it, to be tried again once
    /// that has changed. Of a tenant above it says only that it is one.
    pub fn allowing(
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        class: VerbClass,
    ) -> Result<Vec<Stamped<Self>>> {
        let chain = Self::chain(view, txn, ctx)?;
        all_allow(&chain, ctx.tenant(), class)?;
        chain.iter().try_for_each(|one| tenants()?.expect(txn, one))?;
        Ok(chain)
    }
}

/// Succeeds if the state of each of `chain`, a tenant and those above it, allows `class`.
///
/// # Errors
/// [`ErrorKind::Conflict`] tells of the nearest that does not what `reader` may know of it.
pub(crate) fn all_allow(chain: &[Stamped<Tenant>], reader: &TenantRef, class: VerbClass) -> Result<()> {
    let Some(at) = chain.iter().position(|one| !one.state.allows(class)) else { return Ok(()) };
    let message = match named(chain, reader, at) {
        Ok(tenant) => format!("tenant {} is {}: that allows no {class}", tenant.tenant.id, tenant.state),
        Err(own) => format!("a tenant above tenant {own} allows no {class} now"),
    };
    Err(Error::new(ErrorKind::Conflict, "tenant", message).with_retry(Retry::AfterChange))
}

/// The tenant at `at` of `chain`, a tenant and those above it, if `reader` may know which that is; otherwise what to call
/// the one that it is above. The system tenant knows all, one of the chain those up to itself, everybody else the first
/// alone: nobody learns who is above, or how they fare.
pub(crate) fn named<'a>(
    chain: &'a [Stamped<Tenant>],
    reader: &TenantRef,
    at: usize,
) -> std::result::Result<&'a Stamped<Tenant>, String> {
    let own = chain.iter().position(|one| one.tenant == *reader).unwrap_or(0);
    let known = *reader == TenantRef::system() || at <= own;
    match chain.get(at).filter(|_| known) {
        Some(tenant) => Ok(tenant),
        None => Err(chain.get(own).map(|own| own.tenant.id.to_string()).unwrap_or_default()),
    }
}

fn at(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<Stamped<Tenant>> {
    let id = &tenant.id;
    let missing = || Error::not_found("tenant", format!("there is no tenant {id}"));
    let found = tenants()?.get(view, txn, &key(id)?)?.ok_or_else(missing)?;
    if found.tenant == *tenant {
        return Ok(found);
    }
    let message = format!("tenant {id} of generation {} is gone", tenant.generation);
    Err(Error::not_found("tenant", message))
}

/// `tenant` and every tenant above it: itself first, the root of its tree last.
pub(crate) fn chain_of(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<Vec<Stamped<Tenant>>> {
    let mut chain = vec![at(view, txn, tenant)?];
    while let Some(above) = chain.last().and_then(|last| last.parent.clone()) {
        let corrupt = |what: &str| {
            let message = format!("tenant {} is below {}, which {what}", tenant.id, above.id);
            Error::new(ErrorKind::Corrupt, "tenant", message)
        };
        if chain.iter().any(|below| below.tenant == above) {
            return Err(corrupt("is below itself"));
        }
        if chain.len() >= MAX_DEPTH {
            return Err(corrupt(&format!("makes more than {MAX_DEPTH} levels")));
        }
        let found = tenants()?.get(view, txn, &key(&above.id)?)?;
        let found = found.filter(|found| found.tenant == above).ok_or_else(|| corrupt("is gone"))?;
        chain.push(found);
    }
    Ok(chain)
}

/// Whether who asks owns `tenant`. Who is impersonated brings no more than who really asks has.
pub(crate) fn is_owner(tenant: &Tenant, ctx: &TenantContext) -> bool {
    let owns = |ctx: &TenantContext| tenant.owners.iter().any(|owner| owner.is(ctx));
    let really = ctx.actor().map(|actor| {
        let own = TenantContext::new(ctx.tenant().clone(), actor.principal.clone(), ctx.request().clone());
        actor.groups.iter().cloned().fold(own, TenantContext::with_group)
    });
    owns(ctx) && really.as_ref().is_none_or(owns)
}
