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

mod adoption;
#[cfg(feature = "hash-chain")]
mod audit;
#[cfg(feature = "cedar")]
pub mod cedar;
mod claims;
mod isolation;
mod living;
mod manager;
pub mod placement;
pub mod quota;
mod rbac;
mod share;
pub mod tenant;

pub use adoption::{
    Adoptable, AdoptableResource, AdoptedMove, AdoptedRecord, Adoption, AdoptionPhase, AdoptionPlan,
    AdoptionProblem, AdoptionRule, AdoptionStatus, AdoptionStep, LeftBehind, PlannedMove, Unresolved,
};
#[cfg(feature = "hash-chain")]
pub use audit::{BrokenChain, ChainHead, ChainedAudit, SealedEvent, verify_chain};
pub use claims::{InvalidUniqueName, NameClaim, NameClaims, NameStanding, NameTaken, UniqueName};
pub use isolation::{
    BackupFacts, BackupIntent, ChangePlan, ClusterFacts, DEDICATED_KEY, Finding, Intents, IpFamily,
    IsolationLevel, IsolationSettings, LevelSharing, Move, NetworkFacts, NetworkIntent, NodeFacts,
    NodeIntent, NodeSharing, ObserveIntent, Obstacle, OwnPlace, StorageIntent, Unsatisfiable, Violation,
    VolumeFacts, compile, plan_change, verify,
};
pub use manager::{DrainPlan, Eviction, StillExpired, TenantManager, TenantUpdate};
pub use placement::{
    Affinity, AffinityTerm, AntiAffinity, Ask, BlastRadius, Check, Cluster, ClusterIndex, DisruptionBudget,
    Engine, Exclusion, Filter, Fit, Gang, GangState, Load, Node, NodeAffinity, NodeAllocations, NodeLabels,
    NodePreference, NodeState, Packing, PlacedWorkload, Placement, PlacementPolicy, PlacementRecord,
    PlacementRequest, Preemption, Radius, Rate, Reach, Ready, Rejection, Replicas, Score, Seat, Spread,
    SpreadPreference, StaleNode, Taint, TaintEffect, TaintPreference, Taints, Tolerated, Toleration,
    Topology, TopologySpread, Unplaceable, Unplaced, Weighted, WhenUnsatisfiable, WorkloadAffinity,
    WorkloadPreference, WorkloadRequest, choose_victims, filters, place, repelled_by, scores,
};
pub use quota::{
    Amounts, Borrower, Charge, Charged, Drift, Hold, MAX_RESOURCES, OverQuota, QuotaChange, QuotaNode,
    QuotaRequest, QuotaRule, QuotaSpec, QuotaTree, Reclaim, Returned, RunningCharge, ScopedQuota, Shortage,
    TenantQuota, TreeError, TreeUsage, Usage, WhenOver, reclaim,
};
pub use quota::{
    Bounds, Budget, BudgetExceeded, BudgetState, Crossing, Demand, DominantShare, EmptyPriorityRange, Escrow,
    EscrowError, FairQueue, GroupCommit, HighWater, InvalidLimitRange, InvalidPeriod, InvalidRate,
    InvalidWindows, LimitRange, OutOfBounds, OverRate, PriorityRange, Problem, QueueFit, QueuePolicy,
    QuotaScope, RangeViolation, RangeViolations, RateExceeded, RateLimit, RateState, RateStates,
    RequestAttributes, Slice, SlowDown, SoftCrossing, SoftExceeded, SoftLimit, SoftState, TemporaryLimit,
    TemporaryLimits, Trend, UsageEvent, WaitingRequest,
};
pub use rbac::{
    AccessHandle, AccessIndex, Conditions, DecidingRule, Decision, Effect, Escalation, Explanation, Inherit,
    Lint, LintKind, PolicyChange, Predicate, Role, RoleAuthorizer, RoleBinding, Rule, Scope, StalePolicy,
    Stop, Subject, TimeWindow,
};
pub use share::{Share, ShareChange, ShareId, ShareOffer, ShareStanding, Shares};
pub use tenant::{
    Breach, Ceiling, Delegation, DeletionOutcome, DeletionProgress, Finalizer, FinalizerState, LabelPolicy,
    LabelViolation, LabelViolations, Leftover, MAX_DEPTH, OverCeiling, ResourceQuotas, StateRow,
    TENANT_LABEL, Tenant, TenantResolver, TenantSpec, TenantState, ValuePattern, VerbClass, check_labels,
};

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
