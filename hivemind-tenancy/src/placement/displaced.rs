//! What had to leave its node, and how many may have to. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::store::{Key, Prefix};
use hivemind_core::{Collection, NodeId, Result, Stored, TenantRef, WorkloadId};
use serde::{Deserialize, Serialize};

use super::{DisruptionBudget, Node, NodeAllocations, NodeState, PlacedWorkload};

/// Why a workload had to leave its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DisplacedBy {
    /// A more important workload took its room.
    Preemption,
    /// The node is being emptied.
    Drain,
    /// The node is gone.
    Removal,
    /// A taint of the node that it does not put up with, or no longer.
    Taint,
}

/// A workload that holds no room any more where it ran, and may still run there: stop it before anything that came in
/// its place starts, give back its charge, then forget this record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Displaced {
    /// Whose.
    pub tenant: TenantRef,
    /// Which.
    pub workload: WorkloadId,
    /// Where it ran.
    pub node: NodeId,
    /// Why it had to go. For whom is not told: that may be another tenant.
    pub by: DisplacedBy,
    /// What it was there.
    pub was: PlacedWorkload,
}

impl Stored for Displaced {
    const KIND: &'static str = "displaced workload";
}

pub(crate) fn displaced() -> Result<Collection<Displaced>> {
    crate::collection("displaced")
}

pub(crate) fn displaced_key(tenant: &TenantRef, workload: &WorkloadId, node: &NodeId) -> Result<Key> {
    displaced()?.key([tenant.to_string().as_str(), workload.as_str(), node.as_str()])
}

/// Where those of `tenant` are.
pub(crate) fn displaced_of(tenant: &TenantRef) -> Result<Prefix> {
    displaced()?.below([tenant.to_string()])
}

/// The budgets of a tenant. Whatever takes one of its workloads away writes this record too, so that no two of them
/// count the same workload as left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TenantBudgets {
    pub(crate) budgets: Vec<DisruptionBudget>,
    pub(crate) disruptions: u64,
}

impl Stored for TenantBudgets {
    const KIND: &'static str = "disruption budgets";
}

pub(crate) fn budgets() -> Result<Collection<TenantBudgets>> {
    crate::collection("disruption-budgets")
}

pub(crate) fn budgets_key(tenant: &TenantRef) -> Result<Key> {
    budgets()?.key([tenant.to_string()])
}

/// Those of `victims` that may go, in their order, so that no budget is broken.
pub(crate) fn within_budgets(
    budgets: &[DisruptionBudget],
    nodes: &[(&Node, &NodeAllocations)],
    victims: Vec<(TenantRef, WorkloadId)>,
) -> Vec<(TenantRef, WorkloadId)> {
    let nobody: [(TenantRef, WorkloadId); 0] = [];
    let mut left: Vec<_> = budgets
        .iter()
        .map(|budget| protected(budget, nodes, &nobody).0.saturating_sub(budget.min_available))
        .collect();
    let counts = |budget: &DisruptionBudget, victim: &(TenantRef, WorkloadId)| {
        budget.tenant == victim.0 && protected(budget, nodes, std::slice::from_ref(victim)).1 > 0
    };
    let mut may_go = Vec::new();
    for victim in victims {
        let counted: Vec<_> = (0..budgets.len())
            .filter(|at| budgets.get(*at).is_some_and(|one| counts(one, &victim)))
            .collect();
        if counted.iter().any(|at| left.get(*at) == Some(&0)) {
            continue;
        }
        for at in counted {
            if let Some(left) = left.get_mut(at) {
                *left = left.saturating_sub(1);
            }
        }
        may_go.push(victim);
    }
    may_go
}

/// How many workloads that `budget` protects are live on `nodes`, and how many of them are `victims`.
fn protected(
    budget: &DisruptionBudget,
    nodes: &[(&Node, &NodeAllocations)],
    victims: &[(TenantRef, WorkloadId)],
) -> (u64, u64) {
    let selector = budget.workloads.compile();
    let up = nodes.iter().filter(|(node, _)| node.state != NodeState::Failed);
    let theirs = up.filter_map(|(_, running)| running.workloads.get(&budget.tenant)).flat_map(BTreeMap::iter);
    let (mut live, mut going) = (0_u64, 0_u64);
    for (id, _) in theirs.filter(|(_, placed)| !placed.terminating && selector.matches(&placed.labels)) {
        live = live.saturating_add(1);
        let goes = victims.iter().any(|(tenant, victim)| *tenant == budget.tenant && victim == id);
        going = going.saturating_add(u64::from(goes));
    }
    (live, going)
}

/// The first of `budgets` that would be broken if `victims` left `nodes`: what goes must be more than may. A budget
/// that has less than it wants already keeps everything it protects.
pub fn broken_budget<'b>(
    budgets: &'b [DisruptionBudget],
    nodes: &[(&Node, &NodeAllocations)],
    victims: &[(TenantRef, WorkloadId)],
) -> Option<&'b DisruptionBudget> {
    budgets.iter().find(|budget| {
        let (live, going) = protected(budget, nodes, victims);
        going > live.saturating_sub(budget.min_available)
    })
}
