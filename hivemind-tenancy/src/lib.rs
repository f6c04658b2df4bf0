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

mod manager;
mod placement;
mod quota;
mod rbac;
mod tenant;

pub use manager::{TenantManager, TenantUpdate};
pub use placement::{
    Node, NodeAllocations, NodeState, Packing, PlacedWorkload, PlacementRequest, Rejection, Unplaceable,
    Unplaced, WorkloadRequest, place,
};
pub use quota::{
    Borrower, Charged, Drift, OverQuota, QuotaChange, QuotaRequest, QuotaRule, QuotaSpec, QuotaTree, Reclaim,
    Returned, RunningCharge, ScopedQuota, Shortage, TenantQuota, TreeAmount, TreeCharge, TreeReservation,
    TreeTenant, Usage, WhenOver, reclaim,
};
pub use quota::{
    Bounds, Budget, BudgetState, Crossing, Demand, DominantShare, EmptyPriorityRange, Escrow, EscrowError,
    FairQueue, Fit, HighWater, InvalidLimitRange, InvalidPeriod, InvalidRate, InvalidWindows, LimitRange,
    OutOfBounds, PriorityRange, Problem, QueuePolicy, QuotaScope, RateExceeded, RateLimit, RateState,
    RateStates, RequestAttributes, Slice, SoftExceeded, SoftLimit, SoftState, TemporaryLimit,
    TemporaryLimits, Trend, UsageEvent, WaitingRequest,
};
pub use rbac::{Effect, Role, RoleAuthorizer, RoleBinding, Rule, Scope, Subject};
pub use tenant::{IsolationLevel, IsolationSettings, ResourceQuotas, Tenant, TenantSpec, TenantState};

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
