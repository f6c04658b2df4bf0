//! Role-based access: who may do what, and why.

mod authorizer;
mod binding;
mod conditions;
mod explain;
mod follow;
mod grants;
mod handle;
mod index;
mod lint;
mod model;
mod partial;
mod tree;
mod visible;

use hivemind_core::store::{Key, Prefix};
use hivemind_core::{Collection, Result, RoleName, TenantRef};

pub use self::authorizer::RoleAuthorizer;
pub use self::binding::{Inherit, RoleBinding, Stop};
pub use self::conditions::{Conditions, TimeWindow};
pub use self::explain::{DecidingRule, Explanation};
pub(crate) use self::grants::Change;
pub use self::grants::Escalation;
pub use self::handle::{AccessHandle, StalePolicy};
pub use self::index::{AccessIndex, Decision, PolicyChange};
pub use self::lint::{Lint, LintKind};
pub use self::model::{Effect, Role, Rule, Scope, Subject};
pub(crate) use self::partial::{index_around, index_for};
pub use self::visible::Predicate;

pub(crate) fn roles() -> Result<Collection<Role>> {
    crate::collection("roles")
}

/// Where a role is: those for every tenant by name, a tenant's own below its name and generation.
pub(crate) fn role_key(tenant: Option<&TenantRef>, name: &RoleName) -> Result<Key> {
    match tenant {
        None => roles()?.key([name.as_str()]),
        Some(tenant) => roles()?.key([tenant.to_string().as_str(), name.as_str()]),
    }
}

/// Where the own roles of `tenant` are.
pub(crate) fn roles_of(tenant: &TenantRef) -> Result<Prefix> {
    roles()?.below([tenant.to_string()])
}

pub(crate) fn bindings() -> Result<Collection<RoleBinding>> {
    crate::collection("bindings")
}

/// Where the bindings of `scope` are.
pub(crate) fn bindings_of(scope: &Scope) -> Result<Prefix> {
    bindings()?.below([scope.segment()])
}
