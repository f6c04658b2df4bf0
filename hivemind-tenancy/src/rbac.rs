//! Role-based access: who may do what, and why.

mod decide;
mod model;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{AccessDecision, AccessRequest, Authorizer, Collection, Error, Result, TenantContext};

pub use self::model::{Effect, Role, RoleBinding, Rule, Scope, Subject};

/// Decides by the roles and bindings in the store. Deny wins; what nothing allows is denied.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "it has no state and never will: all of it is in the store")]
pub struct RoleAuthorizer;

pub(crate) fn roles() -> Result<Collection<Role>> {
    crate::collection("roles")
}

pub(crate) fn bindings() -> Result<Collection<RoleBinding>> {
    crate::collection("bindings")
}

/// Where the bindings of `scope` are.
pub(crate) fn bindings_of(scope: &Scope) -> Result<Prefix> {
    bindings()?.below([scope.segment()])
}

impl RoleAuthorizer {
    fn decide(view: &Snapshot, ctx: &TenantContext, request: &AccessRequest) -> Result<AccessDecision> {
        let txn = Txn::new();
        let mut applying = Vec::new();
        for scope in [Scope::Global, Scope::Tenant(ctx.tenant().clone())] {
            for binding in bindings()?.list(view, &txn, &bindings_of(&scope)?)? {
                if binding.subjects.iter().any(|subject| subject.is(ctx)) {
                    let role = roles()?.get(view, &txn, &roles()?.key([binding.role.as_str()])?)?;
                    applying.push((binding, role));
                }
            }
        }
        Ok(decide::decide(ctx, request, &applying))
    }
}

impl Authorizer for RoleAuthorizer {
    fn authorize(&self, view: &Snapshot, ctx: &TenantContext, request: &AccessRequest) -> AccessDecision {
        // A policy that cannot be read allows nothing.
        Self::decide(view, ctx, request).unwrap_or_else(|e: Error| AccessDecision::deny([e.to_string()]))
    }
}
