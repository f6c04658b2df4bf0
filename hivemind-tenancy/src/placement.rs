//! Which node runs what. The engine is [`place`]; staging is on the [`TenantManager`](crate::TenantManager).

mod cluster;
mod displaced;
mod engine;
mod evict;
mod filters;
mod index;
mod node;
mod preempt;
mod reason;
mod record;
mod request;
mod rules;
mod scores;
mod taint;

pub use self::cluster::{Ask, Cluster, Opinion, Seat};
pub use crate::manager::{ClusterMirror, NodeRemoval, Removal};

pub use self::displaced::{Displaced, DisplacedBy, broken_budget};
pub(crate) use self::displaced::{
    TenantBudgets, budgets, budgets_key, displaced, displaced_key, displaced_of, within_budgets,
};
pub(crate) use self::engine::groups;
pub use self::engine::{Engine, Placement, place};
pub use self::evict::{TaintEviction, evictions};
pub use self::filters::{
    Affinity, AntiAffinity, Check, Exclusion, Filter, Fit, Host, NodeLabels, Radius, Ready, Shares, Spread,
    Taints, filters,
};
pub use self::index::ClusterIndex;
pub use self::node::{Node, NodeAllocations, NodeState, PlacedWorkload};
pub(crate) use self::node::{allocations, nodes};
pub use self::preempt::{DisruptionBudget, Preemption, Reach, choose_victims};
pub use self::reason::{Rejection, Unplaceable, Unplaced};
pub use self::record::{Gang, GangState, PlacementRecord, StaleNode};
pub(crate) use self::record::{
    PlacementFence, fence_key, fences, gang_key, gangs, gangs_of, joined, placement_key, placements,
};
pub use self::request::{Packing, PlacementPolicy, PlacementRequest, WorkloadRequest};
pub use self::rules::{
    AffinityTerm, BlastRadius, DomainShare, NodeAffinity, NodeInclusion, NodeSelectorTerm, Topology,
    TopologySpread, Weighted, WhenUnsatisfiable, WorkloadAffinity,
};
pub use self::scores::{
    HostPreference, Load, NodePreference, Rate, Replicas, Score, SpreadPreference, TaintPreference,
    WorkloadPreference, scores,
};
pub use self::taint::{Taint, TaintEffect, Tolerated, Toleration, repelled_by};
