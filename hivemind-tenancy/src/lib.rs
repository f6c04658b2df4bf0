//! Tenants that cannot hurt each other: isolation levels, quotas, role-based access, tenant-aware placement.
//!
//! Every decision is a pure function of a snapshot that stages into the host's transaction. A host with its own
//! scheduler can use only the quota ([`TenantQuota`]), only the authorizer ([`RoleAuthorizer`]) or only the placement
//! ([`place`]).
//!
//! ```
//! use std::sync::Arc;
//! use hivemind_core::resources::{MilliCpu, Resources};
//! use hivemind_core::store::{Prefix, Txn};
//! use hivemind_core::{block_on, MemoryStore, Principal, QuotaGate, StateStore, StateStoreExt};
//! use hivemind_core::{SystemClock, SystemIds, TenantContext, TenantRef};
//! use hivemind_tenancy::{ResourceQuotas, TenantManager, TenantQuota, TenantSpec};
//!
//! # block_on(async {
//! let store = Arc::new(MemoryStore::new());
//! let tenants = TenantManager::new(store.clone(), Arc::new(SystemClock::new()), Arc::new(SystemIds::new()));
//! let operator = Principal::User("root".parse()?);
//! let admin = TenantContext::new(TenantRef::system(), operator.clone(), "req-1".parse()?);
//!
//! let two_cores = ResourceQuotas::default().with_cpu_limit(MilliCpu::from_cores(2));
//! let acme = tenants.create(&admin, TenantSpec::new("acme".parse()?).with_quotas(two_cores)).await?;
//!
//! let ctx = TenantContext::new(acme.tenant.clone(), operator, "req-2".parse()?);
//! let view = store.snapshot(&[Prefix::ROOT]).await?;
//! let mut txn = Txn::new();
//! let three_cores = Resources::new().with_cpu(MilliCpu::from_cores(3));
//! let denied = TenantQuota.reserve(&view, &mut txn, &ctx, &"web".parse()?, &three_cores).unwrap_err();
//! assert_eq!(denied.message(), "tenant acme: cpu: limit 2, used 0, reserved 0, asked 3, short by 1");
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

#[cfg(test)]
extern crate self as hivemind_tenancy;

pub mod adoption;
#[cfg(feature = "hash-chain")]
pub mod audit;
#[cfg(feature = "cedar")]
pub mod cedar;
pub mod claims;
pub mod isolation;
mod living;
mod manager;
pub mod placement;
pub mod quota;
pub mod rbac;
pub mod share;
pub mod tenant;

pub use adoption::Adoption;
pub use claims::NameClaims;
pub use isolation::{IsolationLevel, IsolationSettings};
pub use manager::{ClusterMirror, DrainPlan, Eviction, StillExpired, TenantManager, TenantUpdate};
pub use placement::{ClusterIndex, Node, PlacementRequest, place};
pub use quota::{OverQuota, QuotaRequest, QuotaTree, TenantQuota};
pub use rbac::{Role, RoleAuthorizer, RoleBinding};
pub use share::Shares;
pub use tenant::{ResourceQuotas, Tenant, TenantSpec, TenantState};

use hivemind_core::store::Prefix;
use hivemind_core::{Collection, Error, ErrorKind, Result, Stored};

/// The collection of `T` at `tenancy/<name>`.
fn collection<T: Stored>(name: &str) -> Result<Collection<T>> {
    let prefix = Prefix::new(["tenancy", name]).map_err(|e| Error::of(ErrorKind::Internal, "tenancy", e))?;
    Ok(Collection::new(prefix))
}

/// Everything this crate keeps in the store.
///
/// # Errors
/// None in practice; the prefix is constant.
pub fn prefix() -> Result<Prefix> {
    Prefix::new(["tenancy"]).map_err(|e| Error::of(ErrorKind::Internal, "tenancy", e))
}
