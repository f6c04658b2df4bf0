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

use hivemind_core::store::Key;
use hivemind_core::{Collection, Result, TenantId, TenantRef};

pub use self::ceiling::{Breach, Ceiling, Delegation, OverCeiling};
pub use self::chain::MAX_DEPTH;
pub(crate) use self::chain::{chain_of, is_owner};
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

pub(crate) fn children_key(tenant: &TenantRef) -> Result<Key> {
    children()?.key([tenant.to_string()])
}
