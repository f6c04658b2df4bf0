//! The `Authorizer` port on roles and bindings.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{AccessDecision, AccessRequest, Authorizer, Error, Result, TenantContext};

use super::partial::index_for;
use super::{AccessHandle, Explanation};

/// Decides by roles and bindings. Deny wins; what nothing allows is denied.
///
/// By itself it reads them from the view at each decision, which costs as much as there are bindings in the tenant, above it, and for all. With a
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
            None => index_for(view, &Txn::new(), ctx)?,
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
