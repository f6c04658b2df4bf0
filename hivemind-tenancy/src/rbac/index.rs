//! Roles, bindings and the tenant tree, compiled so that a decision allocates nothing and does the same work however
//! many there are. No I/O, no clock, no async.

mod compile;
mod decide;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hivemind_core::store::{Prefix, Revision, Snapshot, Txn};
use hivemind_core::{GroupName, Principal, ResourceKind, Result, TenantRef};

pub use self::decide::Decision;
pub(super) use self::decide::{Asked, Asker, Hit};
use super::tree::{Place, Tree};
use super::{Effect, Role, RoleBinding, Subject};

/// Stands for nothing in a field that numbers something.
const NONE: u32 = u32::MAX;

/// The policy as of one revision. Clones share it.
///
/// ```
/// use hivemind_core::store::Revision;
/// use hivemind_core::{AccessRequest, Generation, Principal, TenantContext, TenantRef, Verb};
/// use hivemind_tenancy::{AccessIndex, Role, RoleBinding, Rule, Scope, Subject};
///
/// let acme = TenantRef::new("acme".parse()?, Generation::from_u64(1));
/// let ada = Principal::User("ada".parse()?);
/// let reader = Role::new("reader".parse()?, [Rule::allow().verbs([Verb::Get])]);
/// let subject = Subject::Principal(ada.clone());
/// let binding = RoleBinding::new("b".parse()?, "reader".parse()?, Scope::Tenant(acme.clone()), [subject]);
/// let index = AccessIndex::new(Revision::new(7), [(acme.clone(), None)], [reader], [binding]);
///
/// let ctx = TenantContext::new(acme, ada, "req-1".parse()?);
/// let decision = index.decide(&ctx, &AccessRequest::new(Verb::Get, "apps".parse()?));
/// assert!(decision.allowed && decision.revision == Revision::new(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AccessIndex {
    pub(super) policy: Arc<Policy>,
    revision: Revision,
}

/// What was compiled.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) tree: Tree,
    pub(super) roles: Vec<CompiledRole>,
    pub(super) bindings: Vec<Arc<RoleBinding>>,
    /// The bindings whose tenant does not exist, or whose role does not exist there.
    pub(super) dangling: Vec<u32>,
    kinds: HashMap<ResourceKind, u32, RandomState>,
    principals: HashMap<Principal, Span, RandomState>,
    groups: HashMap<GroupName, Span, RandomState>,
    /// Every subject with its grants, in order.
    pub(super) subjects: Vec<(Subject, Span)>,
    /// Subject by subject; each one's in the order of where they begin.
    grants: Vec<Grant>,
    limits: Vec<Limit>,
    impersonated: ImpersonatedKinds,
}

/// A part of the list of grants.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

/// A binding, as one of its subjects has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    /// The first place it reaches.
    pub(super) from: Place,
    /// One more than the last.
    pub(super) end: Place,
    /// The number of its role.
    pub(super) role: u32,
    /// The number of its binding.
    pub(super) binding: u32,
    /// Its exceptions; `NONE` if it has none.
    limit: u32,
}

/// Where a grant does not reach, and whether it must be asked when it applies.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// What it allows, it allows before this place.
    allow_end: Place,
    /// It leaves out the places from the first to before the second.
    stop: (Place, Place),
    /// It leaves out tenants further below than this.
    deepest: u32,
    /// Whether its binding has conditions, an expiry, or is for emergencies.
    conditional: bool,
}

#[derive(Debug)]
pub(super) struct CompiledRole {
    pub(super) role: Arc<Role>,
    pub(super) rules: Vec<CompiledRule>,
}

#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) effect: Effect,
    verbs: u16,
    kinds: Box<[u32]>,
    names: Box<[Box<str>]>,
}

/// The kinds under which principals are impersonated.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct ImpersonatedKinds {
    pub(super) users: u32,
    pub(super) service_accounts: u32,
    pub(super) nodes: u32,
    pub(super) components: u32,
    pub(super) groups: u32,
}

impl AccessIndex {
    /// The policy that `roles` and `bindings` make on `tenants`, each with its parent, as of `revision`.
    pub fn new<R: Into<Arc<Role>>, B: Into<Arc<RoleBinding>>>(
        revision: Revision,
        tenants: impl IntoIterator<Item = (TenantRef, Option<TenantRef>)>,
        roles: impl IntoIterator<Item = R>,
        bindings: impl IntoIterator<Item = B>,
    ) -> Self {
        let policy = compile::policy(
            Tree::new(tenants),
            roles.into_iter().map(Into::into).collect(),
            bindings.into_iter().map(Into::into).collect(),
        );
        Self { policy: Arc::new(policy), revision }
    }

    /// The policy in `view`, by what `txn` will have made of it.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read: a part of a policy is none.
    pub fn of(view: &Snapshot, txn: &Txn) -> Result<Self> {
        let bindings = super::bindings()?;
        Self::of_bindings(view, txn, &[bindings.prefix().clone()])
    }

    /// The same with the bindings below `prefixes` alone.
    pub(super) fn of_bindings(view: &Snapshot, txn: &Txn, prefixes: &[Prefix]) -> Result<Self> {
        let (all, roles, tenants) = (super::bindings()?, super::roles()?, crate::tenant::tenants()?);
        let mut bindings = Vec::new();
        for prefix in prefixes {
            bindings.extend(all.list(view, txn, prefix)?.into_iter().map(|binding| binding.value));
        }
        let roles = roles.list(view, txn, roles.prefix())?;
        let tenants = tenants.list(view, txn, tenants.prefix())?;
        Ok(Self::new(
            view.revision(),
            tenants.iter().map(|tenant| (tenant.tenant.clone(), tenant.parent.clone())),
            roles.into_iter().map(|role| role.value),
            bindings,
        ))
    }

    /// The transaction whose policy this is: every change up to it counts, none after it.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The same policy, known to be unchanged up to `revision`.
    #[must_use]
    pub(super) fn advanced(&self, revision: Revision) -> Self {
        Self { policy: Arc::clone(&self.policy), revision: self.revision.max(revision) }
    }

    /// How many bindings there are.
    pub fn len(&self) -> usize {
        self.policy.bindings.len()
    }

    /// Whether there is no binding at all, and so nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.policy.bindings.is_empty()
    }
}

impl fmt::Debug for AccessIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessIndex")
            .field("revision", &self.revision)
            .field("bindings", &self.len())
            .finish_non_exhaustive()
    }
}
