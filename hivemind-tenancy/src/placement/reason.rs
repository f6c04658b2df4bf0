//! Why a workload was placed nowhere. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt;

use hivemind_core::resources::Resources;
use hivemind_core::{NodeId, WorkloadId};
use serde::{Deserialize, Serialize};

/// Why a node cannot take a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rejection {
    /// It is cordoned or lost.
    NotReady,
    /// Its labels are others.
    Selector,
    /// No required term of the node affinity matches it, or its name is not among those allowed.
    NodeAffinity,
    /// It has a taint that is not tolerated.
    Taint,
    /// An isolated tenant has it to itself.
    Dedicated,
    /// The tenant must have a node to itself, and others run here.
    Shared,
    /// The workloads it must run beside are not there.
    Affinity,
    /// A workload it must not run beside is there, or one that must not have it beside.
    AntiAffinity,
    /// It would make the spread too uneven.
    Spread,
    /// Too much of the tenant would be lost with the place.
    BlastRadius,
    /// The tenant would have too much of the place.
    DomainShare,
    /// A filter of the host's own says no.
    Custom,
    /// Too little is free.
    Full,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "not ready",
            Self::Selector => "other labels than selected",
            Self::NodeAffinity => "with other labels or names than required",
            Self::Taint => "with a taint that is not tolerated",
            Self::Dedicated => "dedicated to another tenant",
            Self::Shared => "shared with other tenants",
            Self::Affinity => "without the workloads it must run beside",
            Self::AntiAffinity => "with a workload it must not run beside",
            Self::Spread => "where the spread would be too uneven",
            Self::BlastRadius => "where too much of the tenant would be lost at once",
            Self::DomainShare => "where the tenant would have too much of the place",
            Self::Custom => "refused by a filter of the host",
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
    /// The first node, by name, that was rejected for each reason.
    #[serde(default)]
    pub first: BTreeMap<Rejection, NodeId>,
}

impl Unplaced {
    /// Nothing rejected yet.
    pub(crate) fn new(workload: WorkloadId, resources: Resources) -> Self {
        Self { workload, resources, rejected: BTreeMap::new(), first: BTreeMap::new() }
    }

    /// `node` was rejected too.
    pub(crate) fn count(&mut self, reason: Rejection, node: &NodeId) {
        *self.rejected.entry(reason).or_default() += 1;
        let first = self.first.entry(reason).or_insert_with(|| node.clone());
        if node < first {
            *first = node.clone();
        }
    }
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
