//! What the store holds about VNIs. No I/O, no clock, no async.

use std::time::Duration;

use hivemind_core::{NodeId, Stored, TenantRef, Timestamp};
use serde::{Deserialize, Serialize};

use super::Vni;

/// A tenant's VNI, and the handle with which it is given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VniLease {
    /// The VNI.
    pub vni: Vni,
    /// The revision of the state that the grant was decided on. A later grant has a larger one, so an old handle
    /// never releases a new grant.
    pub granted: u64,
}

impl VniLease {
    pub(super) fn new(vni: Vni, granted: u64) -> Self {
        Self { vni, granted }
    }
}

impl Stored for VniLease {
    const KIND: &'static str = "tenant's VNI";
}

/// What is known of a VNI that is not simply free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum VniState {
    /// A tenant has it.
    Held { tenant: TenantRef, granted: u64 },
    /// It was released, and rests.
    Cooling { until: Timestamp },
}

/// The record of one VNI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VniRecord {
    pub(super) vni: Vni,
    pub(super) state: VniState,
}

impl Stored for VniRecord {
    const KIND: &'static str = "VNI";
}

/// A node that may still have a tunnel end with a VNI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VniNode {
    pub(super) vni: Vni,
    pub(super) node: NodeId,
    /// By which grant.
    pub(super) granted: u64,
}

impl VniNode {
    pub(super) fn new(lease: &VniLease, node: &NodeId) -> Self {
        Self { vni: lease.vni, node: node.clone(), granted: lease.granted }
    }
}

impl Stored for VniNode {
    const KIND: &'static str = "node's VNI";
}

impl VniRecord {
    /// Whether it has rested long enough. A node may still have it.
    pub(super) fn has_rested(&self, now: Timestamp) -> bool {
        matches!(self.state, VniState::Cooling { until } if until <= now)
    }
}

/// No VNI can be given now. It goes to the tenant that asked, so it says nothing of how many others there are;
/// [`VniRegistry::usage`](super::VniRegistry::usage) tells an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no VNI is free{}", wait(*retry_after))]
#[non_exhaustive]
pub struct VnisExhausted {
    /// When the first that rests can be given again; `None` if none does by itself: widen the pool, release tenants, or
    /// see to nodes that have not confirmed that they took theirs down.
    pub retry_after: Option<Duration>,
}

fn wait(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(after) => format!(": the first that rests is free in {} s", after.as_secs().saturating_add(1)),
        None => ": the operator must widen the pool, remove tenants, or fence nodes that are away".to_owned(),
    }
}

/// How full a pool of VNIs is, for whoever operates the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VniUsage {
    /// How many the pool has.
    pub capacity: u32,
    /// How many tenants hold, those outside of a pool that was made smaller included.
    pub held: u32,
    /// How many of the pool rest.
    pub cooling: u32,
    /// How many of the pool were released, and nodes have not confirmed that they took them down.
    pub unconfirmed: u32,
    /// When the first of those can be given again.
    pub next_free_in: Option<Duration>,
}
