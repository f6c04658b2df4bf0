//! Placement as a pure function. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt;

use hivemind_core::labels::Selector;
use hivemind_core::resources::Resources;
use hivemind_core::{NodeId, TenantRef, WorkloadId};
use serde::{Deserialize, Serialize};

use super::{Node, NodeAllocations, NodeState};

/// How nodes are filled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Packing {
    /// The emptiest node first.
    #[default]
    Spread,
    /// The fullest node that still fits first.
    BinPack,
}

/// One workload to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkloadRequest {
    /// Its name, unique in the tenant.
    pub id: WorkloadId,
    /// What it uses.
    pub resources: Resources,
    /// Which nodes it may run on.
    pub selector: Selector,
    /// Workloads of the tenant with the same key are put on different nodes as far as possible.
    pub spread_key: Option<String>,
}

impl WorkloadRequest {
    /// A workload that may run anywhere.
    pub fn new(id: WorkloadId, resources: Resources) -> Self {
        Self { id, resources, selector: Selector::everything(), spread_key: None }
    }

    /// Only on nodes with these labels.
    #[must_use]
    pub fn on(mut self, selector: Selector) -> Self {
        self.selector = selector;
        self
    }

    /// Apart from others of the same key.
    #[must_use]
    pub fn spread_by(mut self, key: impl Into<String>) -> Self {
        self.spread_key = Some(key.into());
        self
    }
}

/// Workloads of one tenant, to be placed all or none.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlacementRequest<'a> {
    /// Whose.
    pub tenant: &'a TenantRef,
    /// Whether the tenant has nodes to itself.
    pub isolated: bool,
    /// How nodes are filled.
    pub packing: Packing,
    /// What.
    pub workloads: &'a [WorkloadRequest],
}

impl<'a> PlacementRequest<'a> {
    /// `workloads` of `tenant`, spread over the nodes.
    pub fn new(tenant: &'a TenantRef, isolated: bool, workloads: &'a [WorkloadRequest]) -> Self {
        Self { tenant, isolated, packing: Packing::Spread, workloads }
    }

    /// Filled so.
    #[must_use]
    pub fn packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }
}

/// Why a node cannot take a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rejection {
    /// It is cordoned or lost.
    NotReady,
    /// Its labels are others.
    Selector,
    /// An isolated tenant has it to itself.
    Dedicated,
    /// The tenant must have a node to itself, and others run here.
    Shared,
    /// Too little is free.
    Full,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "not ready",
            Self::Selector => "other labels than selected",
            Self::Dedicated => "dedicated to another tenant",
            Self::Shared => "shared with other tenants",
            Self::Full => "too little free",
        })
    }
}

/// A workload that fits nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unplaced {
    /// Which.
    pub workload: WorkloadId,
    /// What it asks for.
    pub resources: Resources,
    /// How many nodes were rejected, by the first reason found.
    pub rejected: BTreeMap<Rejection, usize>,
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): ", self.workload, self.resources)?;
        if self.rejected.is_empty() {
            return f.write_str("there are no nodes");
        }
        for (index, (reason, nodes)) in self.rejected.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{nodes} nodes {reason}")?;
        }
        Ok(())
    }
}

/// Some workload fits nowhere, so none was placed. Detail of an
/// [`Exhausted`](hivemind_core::ErrorKind::Exhausted) error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("no node for {}", few(.workloads))]
#[non_exhaustive]
pub struct Unplaceable {
    /// Every workload of the first group that does not fit.
    pub workloads: Vec<Unplaced>,
}

/// The first of them; the others of its group are like it.
fn few(workloads: &[Unplaced]) -> String {
    match workloads {
        [] => "anything".to_owned(),
        [one] => one.to_string(),
        [first, more @ ..] => format!("{first}; nor for {} more like it", more.len()),
    }
}

/// A node with what is left of it.
#[derive(Debug)]
struct Candidate<'a> {
    node: &'a Node,
    running: &'a NodeAllocations,
    free: Resources,
}

impl<'a> Candidate<'a> {
    fn new(node: &'a Node, running: &'a NodeAllocations) -> Self {
        Self { node, running, free: node.capacity.saturating_sub(&running.used) }
    }

    /// Why it cannot take the group, leaving room aside.
    fn rejects(&self, request: &PlacementRequest<'_>) -> Option<Rejection> {
        if self.node.state != NodeState::Ready {
            return Some(Rejection::NotReady);
        }
        if self.running.dedicated_to.as_ref().is_some_and(|owner| owner != request.tenant) {
            return Some(Rejection::Dedicated);
        }
        let shared = || self.running.workloads.keys().any(|tenant| tenant != request.tenant);
        (request.isolated && shared()).then_some(Rejection::Shared)
    }

    /// How much the packing would like to put `more` here, the lower the better; `None` if it does not fit.
    fn preference(&self, packing: Packing, more: &Resources) -> Option<u64> {
        let load = more.fits_in(&self.free).then(|| self.load_with(more))?;
        Some(match packing {
            Packing::Spread => load,
            Packing::BinPack => u64::MAX - load,
        })
    }

    /// How full it would be with `more`, in millionths of its scarcer resource.
    fn load_with(&self, more: &Resources) -> u64 {
        let part = |free: u64, more: u64, capacity: u64| {
            let used = capacity.saturating_sub(free).saturating_add(more);
            match used.checked_mul(1_000_000) {
                Some(scaled) => scaled.checked_div(capacity).unwrap_or_default(),
                // Petabytes: the narrow division does not hold them, and loses no time on anything else.
                None => used / (capacity / 1_000_000).max(1),
            }
        };
        let (free, capacity) = (&self.free, &self.node.capacity);
        let cpu = part(free.cpu().as_millis(), more.cpu().as_millis(), capacity.cpu().as_millis());
        let memory = part(free.memory().as_bytes(), more.memory().as_bytes(), capacity.memory().as_bytes());
        cpu.max(memory)
    }
}

/// Workloads that are alike for placement: they are scored once.
struct Group<'a> {
    first: &'a WorkloadRequest,
    members: Vec<&'a WorkloadRequest>,
}

fn groups<'a>(workloads: &'a [WorkloadRequest]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for workload in workloads {
        let alike = |group: &&mut Group<'a>| {
            group.first.resources == workload.resources
                && group.first.spread_key == workload.spread_key
                && group.first.selector == workload.selector
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.members.push(workload),
            None => groups.push(Group { first: workload, members: vec![workload] }),
        }
    }
    // Large ones first: they are the hardest to place.
    groups.sort_by_key(|group| {
        let ask = &group.first.resources;
        (std::cmp::Reverse(ask.memory()), std::cmp::Reverse(ask.cpu()), group.first.id.clone())
    });
    groups
}

/// Puts every workload of `request` on a node of `nodes`, or none.
///
/// Pure: the same input gives the same placement. `nodes` come with what runs on each, in any order; ties go to the
/// node that is named first.
///
/// # Errors
/// [`Unplaceable`] says, workload by workload, how many nodes were rejected for which reason.
pub fn place(
    request: &PlacementRequest<'_>,
    nodes: &[(&Node, &NodeAllocations)],
) -> Result<BTreeMap<WorkloadId, NodeId>, Unplaceable> {
    let mut candidates: Vec<_> = nodes.iter().map(|(node, running)| Candidate::new(node, running)).collect();
    candidates.sort_by(|a, b| a.node.id.cmp(&b.node.id));
    place_on(request, &mut candidates)
}

fn place_on(
    request: &PlacementRequest<'_>,
    candidates: &mut [Candidate<'_>],
) -> Result<BTreeMap<WorkloadId, NodeId>, Unplaceable> {
    let mut placed = BTreeMap::new();
    // Which workloads of this request went to a node, by spread key, so that replicas see each other.
    let mut spread: BTreeMap<(&str, usize), u32> = BTreeMap::new();
    for group in groups(request.workloads) {
        let selector = group.first.selector.compile();
        let key = group.first.spread_key.as_deref();
        let mut eligible: Vec<Slot> = Vec::new();
        let mut rejected: BTreeMap<Rejection, usize> = BTreeMap::new();
        for (index, candidate) in candidates.iter().enumerate() {
            let labels_differ = || !selector.matches(&candidate.node.labels);
            match candidate.rejects(request).or_else(|| labels_differ().then_some(Rejection::Selector)) {
                Some(reason) => *rejected.entry(reason).or_default() += 1,
                None => {
                    let replicas = key.map_or(0, |key| {
                        let ours = spread.get(&(key, index)).copied().unwrap_or_default();
                        candidate.running.replicas(request.tenant, key).saturating_add(ours)
                    });
                    let preference = candidate.preference(request.packing, &group.first.resources);
                    eligible.push(Slot { index, replicas, preference });
                }
            }
        }
        for (position, workload) in group.members.iter().enumerate() {
            let Some(slot) = best(&mut eligible) else {
                let full = eligible.len();
                rejected.extend((full > 0).then_some((Rejection::Full, full)));
                return Err(unplaceable(group.members.get(position..).unwrap_or_default(), &rejected));
            };
            let Some(candidate) = candidates.get_mut(slot.index) else { continue };
            candidate.free = candidate.free.saturating_sub(&workload.resources);
            placed.insert(workload.id.clone(), candidate.node.id.clone());
            slot.replicas += u32::from(key.is_some());
            slot.preference = candidate.preference(request.packing, &workload.resources);
            if let Some(key) = key {
                *spread.entry((key, slot.index)).or_default() += 1;
            }
        }
    }
    Ok(placed)
}

/// A node that may take the workloads of a group, as far as they fit.
struct Slot {
    index: usize,
    /// How many workloads of the same spread key it has.
    replicas: u32,
    /// The lower the better; `None` if one more does not fit. Only the node that is chosen changes.
    preference: Option<u64>,
}

/// The node with room that has the fewest replicas, then the load that the packing prefers, then the first name.
fn best(eligible: &mut [Slot]) -> Option<&mut Slot> {
    let with_room = eligible.iter_mut().filter(|slot| slot.preference.is_some());
    with_room.min_by_key(|slot| (slot.replicas, slot.preference, slot.index))
}

fn unplaceable(left: &[&WorkloadRequest], rejected: &BTreeMap<Rejection, usize>) -> Unplaceable {
    let unplaced = |workload: &&WorkloadRequest| Unplaced {
        workload: workload.id.clone(),
        resources: workload.resources.clone(),
        rejected: rejected.clone(),
    };
    Unplaceable { workloads: left.iter().map(unplaced).collect() }
}
