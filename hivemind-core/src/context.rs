//! Who asks, for which tenant, in which request: the first argument of every operation of every manager.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    ComponentName, Error, ErrorKind, GroupName, NodeId, RequestId, Result, ServiceAccountName, TenantRef,
    Timestamp, TraceContext, TraceState, UserId,
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

/// Who really asks, when the principal of a context is impersonated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Actor {
    /// Who.
    pub principal: Principal,
    /// The groups the actor is a member of.
    #[serde(default)]
    pub groups: BTreeSet<GroupName>,
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
    #[serde(default, skip_serializing_if = "TraceState::is_empty")]
    trace_state: TraceState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<Box<Actor>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    emergency: Option<String>,
}

impl TenantContext {
    /// `principal` asks for `tenant` in `request`.
    pub fn new(tenant: TenantRef, principal: Principal, request: RequestId) -> Self {
        Self {
            tenant,
            principal,
            groups: BTreeSet::new(),
            request,
            trace: None,
            trace_state: TraceState::default(),
            at: None,
            source: None,
            actor: None,
            emergency: None,
        }
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

    /// What tracing systems hand on beside the trace.
    #[must_use]
    pub fn with_trace_state(mut self, state: TraceState) -> Self {
        self.trace_state = state;
        self
    }

    /// The request is decided at `now`. Without a time, whatever depends on one is refused: a grant that expires
    /// counts as expired.
    #[must_use]
    pub fn with_time(mut self, now: Timestamp) -> Self {
        self.at = Some(now);
        self
    }

    /// The request came from this address. Without one, whatever is bound to a network is refused.
    #[must_use]
    pub fn with_source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// The same request in the name of another: `principal` of `groups`. Who asks now becomes the
    /// [`actor`](Self::actor), and may do no more by it than before; who was the actor already stays it.
    #[must_use]
    pub fn impersonating(
        mut self,
        principal: Principal,
        groups: impl IntoIterator<Item = GroupName>,
    ) -> Self {
        let was = Actor { principal: self.principal, groups: self.groups };
        self.actor.get_or_insert_with(|| Box::new(was));
        self.principal = principal;
        self.groups = groups.into_iter().collect();
        self
    }

    /// The principal claims an emergency, for this reason: grants for emergencies apply, and it goes on record.
    #[must_use]
    pub fn with_emergency(mut self, reason: impl Into<String>) -> Self {
        self.emergency = Some(reason.into());
        self
    }

    /// The same circumstances for another tenant: what a manager does for one of its own accord.
    #[must_use]
    pub fn for_tenant(mut self, tenant: TenantRef) -> Self {
        self.tenant = tenant;
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

    /// What tracing systems hand on beside the trace.
    pub fn trace_state(&self) -> &TraceState {
        &self.trace_state
    }

    /// When the request is decided.
    pub fn at(&self) -> Option<Timestamp> {
        self.at
    }

    /// Where the request came from.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// Who really asks, if the principal is impersonated.
    pub fn actor(&self) -> Option<&Actor> {
        self.actor.as_deref()
    }

    /// Why the principal claims an emergency.
    pub fn emergency(&self) -> Option<&str> {
        self.emergency.as_deref()
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
        write!(f, "{}", self.principal)?;
        if let Some(actor) = &self.actor {
            write!(f, " (impersonated by {})", actor.principal)?;
        }
        write!(f, " for tenant {} in request {}", self.tenant.id, self.request)
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
    fn who_impersonates_stays_on_record() {
        let user = |name: &str| Principal::User(name.parse().unwrap());
        let as_bob = ctx().with_group("ops".parse().unwrap()).impersonating(user("bob"), []);
        assert_eq!(as_bob.to_string(), "user bob (impersonated by user ada) for tenant acme in request r1");
        assert!(as_bob.groups().is_empty());
        let as_eve = as_bob.impersonating(user("eve"), []);
        let actor = as_eve.actor().unwrap();
        assert_eq!((&actor.principal, actor.groups.len()), (&user("ada"), 1));
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
