//! Where a workload runs, as its own record. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::store::{Key, Prefix};
use hivemind_core::{
    Collection, NodeId, ReservationId, Result, Stored, TenantContext, TenantRef, Timestamp, WorkloadId,
};
use serde::{Deserialize, Serialize};

use super::{Placement, Rejection, Unplaceable};

/// Where one workload runs. Two requests that place the same workload both create this record, so one of them fails,
/// whichever nodes they chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlacementRecord {
    /// Where.
    pub node: NodeId,
}

impl Stored for PlacementRecord {
    const KIND: &'static str = "placement";
}

pub(crate) fn placements() -> Result<Collection<PlacementRecord>> {
    crate::collection("placements")
}

pub(crate) fn placement_key(tenant: &TenantRef, workload: &WorkloadId) -> Result<Key> {
    placements()?.key([tenant.to_string().as_str(), workload.as_str()])
}

/// Written by the first placement of a tenant with a rule over several nodes, and by every one after that: so none of
/// them commits beside one that it did not see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlacementFence {
    pub(crate) placed: u64,
}

impl Stored for PlacementFence {
    const KIND: &'static str = "fence of placements";
}

pub(crate) fn fences() -> Result<Collection<PlacementFence>> {
    crate::collection("placement-fences")
}

pub(crate) fn fence_key(tenant: &TenantRef) -> Result<Key> {
    fences()?.key([tenant.to_string()])
}

/// A node changed since the decision to use it. Detail of a [`Conflict`](hivemind_core::ErrorKind::Conflict) error:
/// decide again on the newer state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{workload} no longer fits on {node}, which is {reason}: read the newer state and decide again")]
#[non_exhaustive]
pub struct StaleNode {
    /// What was to run there.
    pub workload: WorkloadId,
    /// The node.
    pub node: NodeId,
    /// Why it is not possible now.
    pub reason: Rejection,
}

/// Workloads that run all or none, and hold room until all of them have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Gang {
    /// Whose.
    pub tenant: TenantRef,
    /// By when all must have room; at this time those that hold some give it back.
    pub deadline: Timestamp,
    /// Those that hold room, and where.
    pub held: Placement,
    /// Those that wait for room.
    pub missing: BTreeSet<WorkloadId>,
}

impl Stored for Gang {
    const KIND: &'static str = "gang";
}

impl Gang {
    /// Whether it gives back what it holds at `now`.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.deadline
    }
}

/// What became of a gang.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GangState {
    /// All have room, for good.
    Placed(Placement),
    /// Some hold room until the deadline; call again when there is more.
    Holding {
        /// What is held.
        gang: Gang,
        /// Why the others do not fit.
        why: Unplaceable,
    },
    /// The deadline has come: everything was given back.
    GivenBack,
}

pub(crate) fn gangs() -> Result<Collection<Gang>> {
    crate::collection("gangs")
}

pub(crate) fn gang_key(ctx: &TenantContext, id: &ReservationId) -> Result<Key> {
    gangs()?.key([ctx.tenant().to_string().as_str(), id.as_str()])
}

/// Where the gangs of `tenant` are.
pub(crate) fn gangs_of(tenant: &TenantRef) -> Result<Prefix> {
    gangs()?.below([tenant.to_string()])
}

/// `held` and `more` together.
pub(crate) fn joined(held: &Placement, more: &Placement) -> Placement {
    held.iter()
        .chain(more)
        .map(|(workload, node)| (workload.clone(), node.clone()))
        .collect::<BTreeMap<_, _>>()
}
