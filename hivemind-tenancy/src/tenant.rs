//! What a tenant is, where it is in its life, and what may be done to it. No I/O, no clock, no async.

mod ceiling;
mod chain;
mod finalizer;
mod metadata;
mod model;
mod quotas;
mod resolver;
mod sizes;
mod spec;
mod state;
mod teardown;

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{Collection, Result, Stamped, TenantId, TenantRef};

pub use self::ceiling::{Breach, Ceiling, Delegation, OverCeiling};
pub use self::chain::MAX_DEPTH;
pub(crate) use self::chain::{all_allow, chain_of, is_owner, named};
pub use self::finalizer::{Finalizer, FinalizerState};
pub(crate) use self::finalizer::{advance as finalizers_advance, due as finalizers_due};
pub use self::metadata::{
    LabelPolicy, LabelViolation, LabelViolations, TENANT_LABEL, ValuePattern, check_labels,
};
pub use self::model::Tenant;
pub(crate) use self::model::TenantChildren;
pub use self::quotas::ResourceQuotas;
pub use self::resolver::TenantResolver;
pub(crate) use self::sizes::check_sizes;
pub use self::sizes::{MAX_LABELS, MAX_NAME_BYTES, MAX_NAMESPACES};
pub use self::spec::TenantSpec;
pub use self::state::{StateRow, TenantState, VerbClass};
pub use self::teardown::{DeletionOutcome, DeletionProgress, Leftover};

pub(crate) fn tenants() -> Result<Collection<Tenant>> {
    crate::collection("tenants")
}

pub(crate) fn key(id: &TenantId) -> Result<Key> {
    tenants()?.key([id.as_str()])
}

/// How many tenants are directly below each: what a deletion and a limit on children must be able to guard.
pub(crate) fn children() -> Result<Collection<TenantChildren>> {
    crate::collection("children")
}

/// `tenant`, if it is there and its count says that nothing is below it: most are such, and then nobody need look through
/// all tenants for those below. Where there is no count, such as in a view of the tenants alone, that is not known.
pub(crate) fn leaf(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<Option<Stamped<Tenant>>> {
    let count = children()?.get(view, txn, &children_key(tenant)?)?;
    if count.is_none_or(|count| count.count > 0) {
        return Ok(None);
    }
    let found = tenants()?.get(view, txn, &key(&tenant.id)?)?;
    Ok(found.filter(|found| found.tenant == *tenant))
}

pub(crate) fn children_key(tenant: &TenantRef) -> Result<Key> {
    children()?.key([tenant.to_string()])
}
