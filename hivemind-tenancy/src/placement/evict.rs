//! Which workloads a taint puts out, and when. No I/O, no clock, no async.

use std::time::Duration;

use hivemind_core::{NodeId, TenantRef, Timestamp, WorkloadId};
use serde::{Deserialize, Serialize};

use super::{Node, NodeAllocations, PlacedWorkload, Taint, TaintEffect};
use crate::isolation::mark;

/// A workload that a `NoExecute` taint puts out of its node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaintEviction {
    /// When it has to go; the beginning of time if it is late already, or nobody knows since when the taint is there.
    pub due: Timestamp,
    /// The node.
    pub node: NodeId,
    /// Whose.
    pub tenant: TenantRef,
    /// Which.
    pub workload: WorkloadId,
}

impl TaintEviction {
    /// Whether it has to be gone at `now`.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.due <= now
    }
}

/// When `placed` has to leave a node with these taints, as in Kubernetes: at once if it does not tolerate one of them;
/// never if it tolerates all for ever; else when the shortest of its tolerations ends. A toleration counts from when
/// the taint came, or the workload if that was later. The mark `own` of its tenant does not put it out.
pub(crate) fn due(taints: &[Taint], placed: &PlacedWorkload, own: &str) -> Option<Timestamp> {
    let mut first: Option<Timestamp> = None;
    for taint in taints.iter().filter(|taint| taint.puts_out(own)) {
        let tolerating: Vec<_> = placed.tolerations.iter().filter(|one| one.tolerates(taint)).collect();
        let since = taint.added.max(placed.since).unwrap_or_default();
        if tolerating.is_empty() {
            return Some(since);
        }
        let shortest = tolerating.iter().filter_map(|one| one.seconds).min();
        if let Some(seconds) = shortest {
            let until = since.after(Duration::from_secs(seconds));
            first = Some(first.map_or(until, |first| first.min(until)));
        }
    }
    first
}

/// What leaves which node for its `NoExecute` taints, and when, the first that is due first. The taint that marks a node
/// as a tenant's own does not put out what is that tenant's.
pub fn evictions(nodes: &[(&Node, &NodeAllocations)]) -> Vec<TaintEviction> {
    let mut all = Vec::new();
    for (node, running) in nodes {
        if !node.taints.iter().any(|taint| taint.effect == TaintEffect::NoExecute) {
            continue;
        }
        for (tenant, theirs) in &running.workloads {
            let own = mark(tenant);
            for (workload, placed) in theirs {
                if let Some(due) = due(&node.taints, placed, &own) {
                    let (node, tenant) = (node.id.clone(), tenant.clone());
                    all.push(TaintEviction { due, node, tenant, workload: workload.clone() });
                }
            }
        }
    }
    all.sort();
    all
}
