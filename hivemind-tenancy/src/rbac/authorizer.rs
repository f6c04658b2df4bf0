//! The `Authorizer` port on roles and bindings.

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    AccessDecision, AccessRequest, Authorizer, Error, ErrorKind, Principal, Result, TenantContext, TenantRef,
};

use super::{AccessHandle, AccessIndex, Explanation, Scope, bindings_of};
use crate::Tenant;

/// Decides by roles and bindings. Deny wins; what nothing allows is denied.
///
/// By itself it reads them from the view at each decision, which costs as much as there are tenants and roles. With a
/// handle it decides by that, as long as the handle is not older than the view.
///
/// What only an emergency would allow is denied here: a port without a record cannot put it on record. Ask
/// [`TenantManager::authorize_recorded`](crate::TenantManager::authorize_recorded) for that.
#[derive(Debug, Clone, Default)]
pub struct RoleAuthorizer {
    policy: Option<AccessHandle>,
}

impl RoleAuthorizer {
    /// Reads the policy from the view of each decision.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides by the policy that `handle` holds.
    pub fn with_handle(handle: AccessHandle) -> Self {
        Self { policy: Some(handle) }
    }

    fn explain(&self, view: &Snapshot, ctx: &TenantContext, request: &AccessRequest) -> Result<Explanation> {
        let held = self.policy.as_ref().map(AccessHandle::current);
        let index = match held.filter(|index| index.revision() >= view.revision()) {
            Some(index) => index,
            None => match index_for(view, &Txn::new(), ctx) {
                // Whether there is such a tenant is not told to everybody who asks.
                Err(e) if e.kind() == ErrorKind::NotFound => AccessIndex::of(view, &Txn::new())?,
                index => index?,
            },
        };
        Ok(index.explain(ctx, request))
    }
}

impl Authorizer for RoleAuthorizer {
    fn authorize(&self, view: &Snapshot, ctx: &TenantContext, request: &AccessRequest) -> AccessDecision {
        match self.explain(view, ctx, request) {
            Ok(told) if told.decision.emergency => {
                let only = "it is allowed in an emergency alone, and here nobody would put that on record";
                AccessDecision::deny([only.to_owned()])
            }
            Ok(told) if told.decision.allowed => AccessDecision::allow(told.because),
            Ok(told) => AccessDecision::deny(told.because),
            // A policy that cannot be read allows nothing.
            Err(error) => AccessDecision::deny([Error::to_string(&error)]),
        }
    }
}

/// The policy as far as it matters to `ctx`.
///
/// # Errors
/// [`NotFound`](hivemind_core::ErrorKind::NotFound) if the tenant is gone, and as [`AccessIndex::of`].
pub(crate) fn index_for(view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<AccessIndex> {
    let mut prefixes = vec![bindings_of(&Scope::Global)?];
    add_chain(view, txn, ctx, &mut prefixes)?;
    if let Principal::ServiceAccount { tenant, .. } = ctx.principal() {
        add_chain(view, txn, &ctx.clone().for_tenant(tenant.clone()), &mut prefixes)?;
    }
    AccessIndex::of_bindings(view, txn, &prefixes)
}

/// The policy as far as it matters to what `ctx` does with bindings of `scope`; with those below it, if `deep`.
///
/// # Errors
/// [`NotFound`](hivemind_core::ErrorKind::NotFound) if a tenant is gone, and as [`AccessIndex::of`].
pub(crate) fn index_around(
    view: &Snapshot,
    txn: &Txn,
    ctx: &TenantContext,
    scope: &Scope,
    deep: bool,
) -> Result<AccessIndex> {
    let (Scope::Tenant(tenant), false) = (scope, deep) else { return AccessIndex::of(view, txn) };
    let mut prefixes = vec![bindings_of(&Scope::Global)?];
    add_chain(view, txn, ctx, &mut prefixes)?;
    add_chain(view, txn, &ctx.clone().for_tenant(tenant.clone()), &mut prefixes)?;
    if let Principal::ServiceAccount { tenant, .. } = ctx.principal() {
        add_chain(view, txn, &ctx.clone().for_tenant(tenant.clone()), &mut prefixes)?;
    }
    AccessIndex::of_bindings(view, txn, &prefixes)
}

fn add_chain(view: &Snapshot, txn: &Txn, ctx: &TenantContext, prefixes: &mut Vec<Prefix>) -> Result<()> {
    let mut chain = Vec::new();
    if *ctx.tenant() == TenantRef::system() {
        chain.push(TenantRef::system());
    } else {
        chain.extend(Tenant::chain(view, txn, ctx)?.iter().map(|tenant| tenant.tenant.clone()));
    }
    for tenant in chain {
        let prefix = bindings_of(&Scope::Tenant(tenant))?;
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    Ok(())
}
