//! The authorizer: policies of one revision, and Cedar's answer in our words.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use cedar_policy::{AuthorizationError, Authorizer as Engine, Decision, Diagnostics, Effect};
use hivemind_core::store::{Revision, Snapshot};
use hivemind_core::{
    AccessDecision, AccessRequest, Authorizer, Error, ErrorKind, GroupName, Principal, Result, TenantContext,
    Verb,
};

use super::PolicySet;
use super::entities::question;
use super::policies::name;
use crate::rbac::Decision as Access;

/// Decides by policies in the Cedar language. `forbid` wins; what nothing permits is denied.
///
/// What only an emergency would permit is denied through the port, which keeps no record: decide by
/// [`decide`](Self::decide) for that, and put it on record.
///
/// A denial says which policy forbids it only to whom another policy permits it: otherwise reasons would tell a tenant of
/// others from one that is not there. Operators [`diagnose`](Self::diagnose).
///
/// Each decision looks at every policy, as Cedar does: it is meant for hundreds, not for millions. See the
/// [module](super) for what policies can say, and for an example.
#[derive(Debug)]
pub struct CedarAuthorizer(RwLock<Arc<Loaded>>);

#[derive(Debug)]
struct Loaded {
    policies: PolicySet,
    /// Those that permit; `None` if they could not be told apart, which then tells nobody of what forbids.
    permits: Option<PolicySet>,
    revision: Revision,
}

impl Loaded {
    fn new(policies: PolicySet, revision: Revision) -> Self {
        Self { permits: policies.permits().ok(), policies, revision }
    }
}

/// For whom the reasons of a decision are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// Who asks, and must not learn what is there.
    Asker,
    /// Who writes the policies.
    Operator,
}

impl CedarAuthorizer {
    /// Decides by `policies`, as they were at `revision`: whatever counts their versions, such as the revision of
    /// the store they were read at.
    pub fn new(policies: PolicySet, revision: Revision) -> Self {
        Self(RwLock::new(Arc::new(Loaded::new(policies, revision))))
    }

    /// Decides by other policies from now on. A decision is made by the old ones or by the new ones, never by some of
    /// both.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if `revision` is not newer than [`revision`](Self::revision): then nothing changes.
    pub fn swap(&self, policies: PolicySet, revision: Revision) -> Result<()> {
        let new = Arc::new(Loaded::new(policies, revision));
        // A panic elsewhere cannot have left half a policy set: the lock holds one pointer.
        let mut loaded = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if revision <= loaded.revision {
            let message =
                format!("policies of revision {} are in force, not older {revision}", loaded.revision);
            return Err(Error::new(ErrorKind::Conflict, "swap policies", message));
        }
        *loaded = new;
        Ok(())
    }

    /// Of which revision the policies in force are.
    pub fn revision(&self) -> Revision {
        self.loaded().revision
    }

    /// May `ctx` do `request`, by the state in `view`? Unlike through the port, what only the claimed emergency makes
    /// allowed is allowed, and marked as such. A question that cannot be put allows nothing.
    pub fn decide(&self, view: &Snapshot, ctx: &TenantContext, request: &AccessRequest) -> Access {
        let loaded = self.loaded();
        let (allowed, emergency) = decide(&loaded, For::Asker, view, ctx, request)
            .map_or((false, false), |(told, only)| (told.allowed, only));
        Access { allowed, emergency, revision: loaded.revision }
    }

    /// The decision of the port with all its reasons: every policy that forbids, and those that could not be evaluated.
    /// For operators and logs; it tells whoever sees it which tenants there are.
    pub fn diagnose(&self, view: &Snapshot, ctx: &TenantContext, request: &AccessRequest) -> AccessDecision {
        self.told(For::Operator, view, ctx, request)
    }

    fn told(
        &self,
        reader: For,
        view: &Snapshot,
        ctx: &TenantContext,
        request: &AccessRequest,
    ) -> AccessDecision {
        match decide(&self.loaded(), reader, view, ctx, request) {
            Ok((_, true)) => {
                let only = "it is permitted in an emergency alone, and here nobody would put that on record";
                AccessDecision::deny([only.to_owned()])
            }
            Ok((decision, false)) => decision,
            // A question that cannot be put allows nothing.
            Err(error) => AccessDecision::deny([error.to_string()]),
        }
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Authorizer for CedarAuthorizer {
    fn authorize(&self, view: &Snapshot, ctx: &TenantContext, request: &AccessRequest) -> AccessDecision {
        self.told(For::Asker, view, ctx, request)
    }
}

/// The decision, and whether it is yes only because of an emergency.
fn decide(
    loaded: &Loaded,
    reader: For,
    view: &Snapshot,
    ctx: &TenantContext,
    request: &AccessRequest,
) -> Result<(AccessDecision, bool)> {
    let decision = everybody(loaded, reader, view, ctx, request)?;
    if !decision.allowed || ctx.emergency().is_none() {
        return Ok((decision, false));
    }
    // A blank reason is none.
    let calm = everybody(loaded, reader, view, &ctx.clone().with_emergency(""), request)?;
    Ok((decision, !calm.allowed))
}

/// The decision about the principal, and about who impersonates it.
fn everybody(
    loaded: &Loaded,
    reader: For,
    view: &Snapshot,
    ctx: &TenantContext,
    request: &AccessRequest,
) -> Result<AccessDecision> {
    let mut decision = judge(loaded, reader, view, ctx, (ctx.principal(), ctx.groups()), request)?;
    let Some(actor) = ctx.actor() else { return Ok(decision) };
    let also = std::iter::once((ctx.clone(), request.clone()));
    for (ctx, request) in also.chain(impersonation(ctx)?) {
        if !decision.allowed {
            break;
        }
        let by = judge(loaded, reader, view, &ctx, (&actor.principal, &actor.groups), &request)?;
        let because = by.because.iter().map(|why| format!("{}, who impersonates: {why}", actor.principal));
        decision = if by.allowed {
            AccessDecision::allow(decision.because.into_iter().chain(because))
        } else {
            AccessDecision::deny(because)
        };
    }
    Ok(decision)
}

/// What an actor asks for to act as the principal of `ctx`: as itself, and as a member of each group.
fn impersonation(ctx: &TenantContext) -> Result<Vec<(TenantContext, AccessRequest)>> {
    let ask = |kind: &str, name: &str| -> Result<AccessRequest> {
        let kind = kind.parse().map_err(|e| Error::of(ErrorKind::Internal, "cedar", e))?;
        Ok(AccessRequest::new(Verb::Impersonate, kind).named(name))
    };
    let (kind, name) = match ctx.principal() {
        Principal::User(name) => ("users", name.as_str()),
        Principal::ServiceAccount { name, .. } => ("service-accounts", name.as_str()),
        Principal::Node(name) => ("nodes", name.as_str()),
        Principal::System(name) => ("system-components", name.as_str()),
        other => return Err(Error::new(ErrorKind::Unsupported, "cedar", format!("{other} has no kind"))),
    };
    let home = match ctx.principal() {
        Principal::ServiceAccount { tenant, .. } => ctx.clone().for_tenant(tenant.clone()),
        _ => ctx.clone(),
    };
    let mut all = vec![(home, ask(kind, name)?)];
    for group in ctx.groups() {
        all.push((ctx.clone(), ask("groups", group.as_str())?));
    }
    Ok(all)
}

/// Cedar's decision about one principal.
fn judge(
    loaded: &Loaded,
    reader: For,
    view: &Snapshot,
    ctx: &TenantContext,
    who: (&Principal, &BTreeSet<GroupName>),
    request: &AccessRequest,
) -> Result<AccessDecision> {
    let nothing = format!("no policy permits {} to {request}", who.0);
    let (question, entities) = match question(view, ctx, who, request) {
        // Whether there is such a tenant is not told to everybody who asks.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(AccessDecision::deny([nothing])),
        found => found?,
    };
    let policies = &loaded.policies;
    let response = Engine::new().is_authorized(&question, policies.as_cedar(), &entities);
    let (mut forbids, broken) = failures(policies, response.diagnostics());
    let mut determining: Vec<_> = response.diagnostics().reason().map(name).collect();
    determining.sort();
    let says = |what: &str| determining.iter().map(|id| format!("policy {id} {what} it")).collect::<Vec<_>>();
    if response.decision() == Decision::Allow && forbids.is_empty() {
        return Ok(AccessDecision::allow(says("permits")));
    }
    if forbids.is_empty() {
        forbids = says("forbids");
    }
    // Who is permitted it but for this knows the tenant. To anybody else it must look as if it were not there.
    let permitted = || {
        let permits = loaded.permits.as_ref().map(PolicySet::as_cedar);
        permits.is_some_and(|all| {
            Engine::new().is_authorized(&question, all, &entities).decision() == Decision::Allow
        })
    };
    Ok(AccessDecision::deny(match reader {
        _ if !forbids.is_empty() && (reader == For::Operator || permitted()) => forbids,
        For::Asker => vec![nothing],
        For::Operator => std::iter::once(nothing).chain(broken).collect(),
    }))
}

/// What could not be evaluated: policies that forbid, and all others. Cedar takes both for not applying.
fn failures(policies: &PolicySet, diagnostics: &Diagnostics) -> (Vec<String>, Vec<String>) {
    let (mut forbids, mut permits) = (Vec::new(), Vec::new());
    for error in diagnostics.errors() {
        let AuthorizationError::PolicyEvaluationError(failure) = error;
        let (id, why) = (failure.policy_id(), failure.inner());
        match policies.as_cedar().policy(id).map(|policy| policy.effect()) {
            Some(Effect::Permit) => permits.push(format!("policy {} permits nothing: {why}", name(id))),
            Some(Effect::Forbid) | None => forbids.push(format!("policy {} forbids it: {why}", name(id))),
        }
    }
    forbids.sort();
    permits.sort();
    (forbids, permits)
}
