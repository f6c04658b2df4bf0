//! Roles, bindings and the tenant tree, compiled so that a decision allocates nothing and does the same work however
//! many there are. No I/O, no clock, no async.
//!
//! What a subject holds is a function of its bindings alone: roles and tenants are spoken of by number, whether they exist
//! or not. So a change of a role or of a tenant leaves all bindings as they are.

mod change;
mod compile;
mod decide;
mod grant;
mod roles;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use hivemind_core::store::{Revision, Snapshot, Txn};
use hivemind_core::{Principal, Result, TenantRef};

pub use self::change::PolicyChange;
pub use self::decide::Decision;
pub(super) use self::decide::{Asked, Asker, Hit};
pub(super) use self::grant::{Grant, Held, spoken_of};
pub(super) use self::roles::CompiledRole;
use self::roles::Roles;
pub(super) use self::table::{Keyed, Seek, Table};
use super::tree::Tree;
use super::{Role, RoleBinding, Subject};

/// The policy as of one revision. Clones share it.
///
/// ```
/// use hivemind_core::store::Revision;
/// use hivemind_core::{AccessRequest, Generation, Principal, TenantContext, TenantRef, Verb};
/// use hivemind_tenancy::{Role, RoleBinding};
/// use hivemind_tenancy::rbac::{AccessIndex, Rule, Scope, Subject};
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

/// What was compiled. Copies share all that does not change.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    keyed: Keyed,
    pub(super) tree: Arc<Tree>,
    pub(super) roles: Roles,
    /// By the place of the scope and the name.
    pub(super) bindings: Table<u32, Arc<RoleBinding>>,
    /// By what kind of subject it is, and the name.
    subjects: Table<u32, Held>,
    /// With more tenants and roles that have numbers, all are given anew.
    worn: usize,
}

/// What each kind of subject is kept under; the accounts of the tenant of number n under `ACCOUNTS` and n.
const USERS: u32 = 0;
const NODES: u32 = 1;
const COMPONENTS: u32 = 2;
const GROUPS: u32 = 3;
const ACCOUNTS: u32 = 4;

impl AccessIndex {
    /// The policy that `roles` and `bindings` make on `tenants`, each with its parent, as of `revision`. Of several
    /// roles or bindings of one name in one place, the last one counts.
    pub fn new<R: Into<Arc<Role>>, B: Into<Arc<RoleBinding>>>(
        revision: Revision,
        tenants: impl IntoIterator<Item = (TenantRef, Option<TenantRef>)>,
        roles: impl IntoIterator<Item = R>,
        bindings: impl IntoIterator<Item = B>,
    ) -> Self {
        let roles = roles.into_iter().map(Into::into);
        let bindings = bindings.into_iter().map(Into::into).collect();
        let policy = Policy::compiled(&Keyed::new(), tenants, roles, bindings);
        Self { policy: Arc::new(policy), revision }
    }

    /// The policy in `view`, by what `txn` will have made of it.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read: a part of a policy is none.
    pub fn of(view: &Snapshot, txn: &Txn) -> Result<Self> {
        let (bindings, roles, tenants) = (super::bindings()?, super::roles()?, crate::tenant::tenants()?);
        let bindings = bindings.list(view, txn, bindings.prefix())?;
        let roles = roles.list(view, txn, roles.prefix())?;
        let tenants = tenants.list(view, txn, tenants.prefix())?;
        Ok(Self::new(
            view.revision(),
            tenants.iter().map(|tenant| (tenant.tenant.clone(), tenant.parent.clone())),
            roles.into_iter().map(|role| role.value),
            bindings.into_iter().map(|binding| binding.value),
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

    /// Whether both are one and the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.policy, &other.policy) && self.revision == other.revision
    }

    /// How many bindings there are.
    pub fn len(&self) -> usize {
        self.policy.bindings.len()
    }

    /// Whether there is no binding at all, and so nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

/// Under what a principal's grants are; `None` if nothing speaks of it.
fn key_of<'a>(tree: &Tree, principal: &'a Principal) -> Option<(u32, &'a str)> {
    Some(match principal {
        Principal::User(name) => (USERS, name.as_str()),
        Principal::Node(name) => (NODES, name.as_str()),
        Principal::System(name) => (COMPONENTS, name.as_str()),
        Principal::ServiceAccount { tenant, name } => {
            (ACCOUNTS.checked_add(tree.known(tenant)?)?, name.as_str())
        }
        _ => return None,
    })
}

impl Policy {
    /// Whom a key stands for.
    fn subject_of(&self, space: u32, name: &str) -> Option<Subject> {
        Some(match space {
            USERS => Subject::Principal(Principal::User(name.parse().ok()?)),
            NODES => Subject::Principal(Principal::Node(name.parse().ok()?)),
            COMPONENTS => Subject::Principal(Principal::System(name.parse().ok()?)),
            GROUPS => Subject::Group(name.parse().ok()?),
            account => {
                let tenant = self.tree.tenant(account.checked_sub(ACCOUNTS)?)?.clone();
                Subject::Principal(Principal::ServiceAccount { tenant, name: name.parse().ok()? })
            }
        })
    }

    /// Every subject with its grants, in no order that means anything.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (Subject, &[Grant])> {
        self.subjects
            .iter()
            .filter_map(|(space, name, held)| Some((self.subject_of(space, name)?, held.grants())))
    }
}
