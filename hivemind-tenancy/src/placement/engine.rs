//! Placement as a pure function over all nodes. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{NodeId, WorkloadId};

use super::cluster::{Ask, Cluster, tie};
use super::filters::{Check, Filter, filters};
use super::scores::{Rate, Score, scores};
use super::{Node, NodeAllocations, PlacementRequest, Rejection, Unplaceable, Unplaced, WorkloadRequest};

/// Where every workload of a request goes.
pub type Placement = BTreeMap<WorkloadId, NodeId>;

/// Filters and scores, and nothing else: which nodes are possible, and which of them is best.
///
/// It looks at every node for every workload. It is what [`ClusterIndex`](super::ClusterIndex) is compared with, and
/// is fast enough for thousands of nodes a request.
///
/// ```
/// use hivemind_core::{Generation, TenantRef};
/// use hivemind_core::resources::{MilliCpu, Resources};
/// use hivemind_tenancy::Node;
/// use hivemind_tenancy::placement::{Ask, Cluster, Exclusion, Filter, NodeAllocations, WorkloadRequest};
///
/// let acme = TenantRef::new("acme".parse()?, Generation::from_u64(1));
/// let (node, nothing) = (Node::new("n1".parse()?, Resources::new()), NodeAllocations::default());
/// let workload = WorkloadRequest::new("w".parse()?, Resources::new().with_cpu(MilliCpu::from_cores(1)));
/// // One condition alone: may these tenants share the node? Whether there is room is another question.
/// let cluster = Cluster::new(&[(&node, &nothing)]);
/// let check = Exclusion.prepare(Ask::new(&acme, &workload), &cluster);
/// assert!(cluster.seats().iter().all(|seat| check(seat).is_none()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Engine {
    filters: Vec<Box<dyn Filter>>,
    scores: Vec<Box<dyn Score>>,
}

impl Default for Engine {
    /// Every filter and every score of this crate.
    fn default() -> Self {
        Self::new(filters(), scores())
    }
}

/// Filters and scores made ready for one workload.
struct Ready<'a> {
    checks: Vec<Check<'a>>,
    rates: Vec<Rate<'a>>,
}

/// What was found of one node: how much it is disliked, or why it is impossible.
type Verdict = Result<u64, Rejection>;

impl Ready<'_> {
    fn verdict(&self, seat: &super::Seat<'_>) -> Verdict {
        match self.checks.iter().find_map(|check| check(seat)) {
            Some(reason) => Err(reason),
            None => Ok(self.rates.iter().map(|rate| rate(seat)).fold(0, u64::saturating_add)),
        }
    }
}

impl Engine {
    /// These filters, in the order in which reasons are given, and these scores.
    pub fn new(filters: Vec<Box<dyn Filter>>, scores: Vec<Box<dyn Score>>) -> Self {
        Self { filters, scores }
    }

    /// With one more filter.
    #[must_use]
    pub fn with_filter(mut self, filter: impl Filter + 'static) -> Self {
        self.filters.push(Box::new(filter));
        self
    }

    /// With one more score.
    #[must_use]
    pub fn with_score(mut self, score: impl Score + 'static) -> Self {
        self.scores.push(Box::new(score));
        self
    }

    fn prepare<'a>(&self, ask: Ask<'a>, cluster: &Cluster<'_>) -> Ready<'a> {
        Ready {
            checks: self.filters.iter().map(|filter| filter.prepare(ask, cluster)).collect(),
            rates: self.scores.iter().map(|score| score.prepare(ask, cluster)).collect(),
        }
    }

    fn is_local(&self, ask: Ask<'_>) -> bool {
        self.filters.iter().all(|filter| filter.is_local(ask))
            && self.scores.iter().all(|score| score.is_local(ask))
    }

    /// Puts every workload of `request` on a node, or none. See [`place`].
    ///
    /// # Errors
    /// As [`place`].
    pub fn place(
        &self,
        request: &PlacementRequest<'_>,
        nodes: &[(&Node, &NodeAllocations)],
    ) -> Result<Placement, Unplaceable> {
        let mut cluster = Cluster::new(nodes);
        let ties: Vec<_> =
            cluster.seats().iter().map(|seat| tie(request.policy.seed, &seat.node.id)).collect();
        let mut placed = BTreeMap::new();
        for group in groups(request.workloads) {
            let Some(first) = group.first() else { continue };
            let local = self.is_local(request.ask(first));
            let mut ready = self.prepare(request.ask(first), &cluster);
            let mut verdicts: Vec<_> = cluster.seats().iter().map(|seat| ready.verdict(seat)).collect();
            for (position, workload) in group.iter().enumerate() {
                let Some(best) = best(&verdicts, &ties) else {
                    let left = group.get(position..).unwrap_or_default();
                    return Err(unplaceable(left, &cluster, &verdicts));
                };
                let Some(node) = cluster.seats().get(best).map(|seat| seat.node.id.clone()) else { continue };
                placed.insert(workload.id.clone(), node);
                cluster.assign(best, &request.ask(workload));
                if local {
                    // Nothing else has changed.
                    if let (Some(verdict), Some(seat)) = (verdicts.get_mut(best), cluster.seats().get(best)) {
                        *verdict = ready.verdict(seat);
                    }
                } else {
                    ready = self.prepare(request.ask(first), &cluster);
                    verdicts = cluster.seats().iter().map(|seat| ready.verdict(seat)).collect();
                }
            }
        }
        Ok(placed)
    }

    /// Everything that speaks against each node, in the order of filters; nodes without are possible.
    pub fn explain(
        &self,
        ask: Ask<'_>,
        nodes: &[(&Node, &NodeAllocations)],
    ) -> BTreeMap<NodeId, Vec<Rejection>> {
        let cluster = Cluster::new(nodes);
        let ready = self.prepare(ask, &cluster);
        let all = |seat: &super::Seat<'_>| ready.checks.iter().filter_map(|check| check(seat)).collect();
        cluster.seats().iter().map(|seat| (seat.node.id.clone(), all(seat))).collect()
    }
}

/// The node that is disliked the least, then by the seed, then the first name.
fn best(verdicts: &[Verdict], ties: &[u64]) -> Option<usize> {
    let possible = verdicts.iter().zip(ties).enumerate();
    let keyed = possible.filter_map(|(index, (verdict, tie))| Some((verdict.ok()?, *tie, index)));
    keyed.min().map(|(_, _, index)| index)
}

/// Workloads that are alike for placement, which are scored once; large ones first: they are the hardest to place.
pub(crate) fn groups(workloads: &[WorkloadRequest]) -> Vec<Vec<&WorkloadRequest>> {
    let mut groups: Vec<Vec<&WorkloadRequest>> = Vec::new();
    for workload in workloads {
        let alike = |group: &&mut Vec<&WorkloadRequest>| group.first().is_some_and(|one| one.alike(workload));
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(workload),
            None => groups.push(vec![workload]),
        }
    }
    groups.sort_by_key(|group| {
        let ask = group.first().map(|first| &first.resources);
        let size = ask.map(|ask| (ask.memory(), ask.cpu()));
        (std::cmp::Reverse(size), group.first().map(|first| first.id.clone()))
    });
    groups
}

fn unplaceable(left: &[&WorkloadRequest], cluster: &Cluster<'_>, verdicts: &[Verdict]) -> Unplaceable {
    let unplaced = |workload: &&WorkloadRequest| {
        let mut unplaced = Unplaced::new(workload.id.clone(), workload.resources.clone());
        for (seat, verdict) in cluster.seats().iter().zip(verdicts) {
            if let Err(reason) = verdict {
                unplaced.count(*reason, &seat.node.id);
            }
        }
        unplaced
    };
    Unplaceable { workloads: left.iter().map(unplaced).collect() }
}

/// Puts every workload of `request` on a node of `nodes`, or none.
///
/// Pure: the same input gives the same placement, so asking what would be is the same call. `nodes` come with what
/// runs on each, in any order; ties go by the seed of the request, or to the node that is named first. The workloads have
/// a name each, and none of them runs yet: that is checked where placements are recorded, not here.
///
/// # Errors
/// [`Unplaceable`] says, workload by workload, how many nodes were rejected for which reason, and the first of each.
pub fn place(
    request: &PlacementRequest<'_>,
    nodes: &[(&Node, &NodeAllocations)],
) -> Result<Placement, Unplaceable> {
    Engine::default().place(request, nodes)
}
