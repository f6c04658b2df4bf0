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
    /// As [`chain`](Self::chain); [`Conflict`](ErrorKind::Conflict) names the tenant whose state does not allow it,
    /// to be tried again once that has changed.
    pub fn allowing(
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        class: VerbClass,
    ) -> Result<Vec<Stamped<Self>>> {
        let chain = Self::chain(view, txn, ctx)?;
        for one in &chain {
            one.allow(class)?;
            tenants()?.expect(txn, one)?;
        }
        Ok(chain)
    }

    /// Succeeds if its state allows `class`.
    pub(crate) fn allow(&self, class: VerbClass) -> Result<()> {
        if self.state.allows(class) {
            return Ok(());
        }
        let message = format!("tenant {} is {}: that allows no {class}", self.tenant.id, self.state);
        Err(Error::new(ErrorKind::Conflict, "tenant", message).with_retry(Retry::AfterChange))
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
