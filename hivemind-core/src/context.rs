//! Who asks, for which tenant, in which request: the first argument of every operation of every manager.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ComponentName, Error, ErrorKind, GroupName, NodeId, RequestId, Result, ServiceAccountName, TenantRef,
    TraceContext, UserId,
};

/// Who asks.
///
/// A service account belongs to a tenant, of one generation: an account of the same name elsewhere is another
/// principal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Principal {
    /// A person.
    User(UserId),
    /// A program of a tenant.
    ServiceAccount {
        /// The tenant it belongs to.
        tenant: TenantRef,
        /// Its name there.
        name: ServiceAccountName,
    },
    /// The agent on a node.
    Node(NodeId),
    /// A part of the control plane itself.
    System(ComponentName),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {user}"),
            Self::ServiceAccount { tenant, name } => write!(f, "service account {name} of {}", tenant.id),
            Self::Node(node) => write!(f, "node {node}"),
            Self::System(component) => write!(f, "system component {component}"),
        }
    }
}

/// The circumstances of one request.
///
/// There is no default and no way to build one without a tenant: an operation for nobody does not compile.
///
/// ```
/// use hivemind_core::{Generation, Principal, TenantContext, TenantRef};
///
/// let acme = TenantRef::new("acme".parse()?, Generation::from_u64(1));
/// let ctx = TenantContext::new(acme, Principal::User("ada".parse()?), "req-1".parse()?)
///     .with_group("developers".parse()?);
/// assert_eq!(ctx.to_string(), "user ada for tenant acme in request req-1");
/// # Ok::<(), hivemind_core::InvalidName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantContext {
    tenant: TenantRef,
    principal: Principal,
    #[serde(default)]
    groups: BTreeSet<GroupName>,
    request: RequestId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<TraceContext>,
}

impl TenantContext {
    /// `principal` asks for `tenant` in `request`.
    pub fn new(tenant: TenantRef, principal: Principal, request: RequestId) -> Self {
        Self { tenant, principal, groups: BTreeSet::new(), request, trace: None }
    }

    /// The principal is also a member of `group`.
    #[must_use]
    pub fn with_group(mut self, group: GroupName) -> Self {
        self.groups.insert(group);
        self
    }

    /// The request belongs to `trace`.
    #[must_use]
    pub fn with_trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// The same circumstances for another request.
    #[must_use]
    pub fn with_request(mut self, request: RequestId) -> Self {
        self.request = request;
        self
    }

    /// The tenant, of one generation.
    pub fn tenant(&self) -> &TenantRef {
        &self.tenant
    }

    /// Who asks.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The groups the principal is a member of.
    pub fn groups(&self) -> &BTreeSet<GroupName> {
        &self.groups
    }

    /// The request; the same request, repeated, has the same id.
    pub fn request(&self) -> &RequestId {
        &self.request
    }

    /// The trace the request belongs to.
    pub fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// Succeeds if a thing of `owner` is this tenant's own.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: a foreign thing looks as if it did not exist.
    pub fn owns(&self, operation: &'static str, owner: &TenantRef, what: impl fmt::Display) -> Result<()> {
        if *owner == self.tenant {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, operation, format!("tenant {} has no {what}", self.tenant.id)))
    }
}

impl fmt::Display for TenantContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for tenant {} in request {}", self.principal, self.tenant.id, self.request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generation;

    fn ctx() -> TenantContext {
        let acme = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
        TenantContext::new(acme, Principal::User("ada".parse().unwrap()), "r1".parse().unwrap())
    }

    #[test]
    fn a_context_without_tenant_is_refused() {
        let mut json = serde_json::to_value(ctx()).unwrap();
        json.as_object_mut().unwrap().remove("tenant");
        assert!(serde_json::from_value::<TenantContext>(json).unwrap_err().to_string().contains("tenant"));
    }

    #[test]
    fn an_older_generation_is_a_stranger() {
        let old = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(0));
        let error = ctx().owns("read", &old, "volume data").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.message(), "tenant acme has no volume data");
        assert!(ctx().owns("read", ctx().tenant(), "volume data").is_ok());
    }
}
