//! Whom a more important workload puts out. No I/O, no clock, no async.
//!
//! Only workloads of a strictly lower priority are put out. So whoever was put out can never put out who did it, and
//! each step makes the list of priorities that run, the highest first, larger: no sequence of steps goes in circles.

use hivemind_core::labels::Selector;
use hivemind_core::resources::Resources;
use hivemind_core::{NodeId, TenantRef, WorkloadId};
use serde::{Deserialize, Serialize};

/// Whose workloads may be put out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reach {
    /// Those of the same tenant.
    #[default]
    OwnTenant,
    /// Those of all tenants: priorities mean the same in the whole cluster.
    AllTenants,
}

/// So many of a tenant's workloads must be left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DisruptionBudget {
    /// Whose.
    pub tenant: TenantRef,
    /// Which, by their labels.
    pub workloads: Selector,
    /// How many live ones must be left, in the whole cluster.
    pub min_available: u64,
}

impl DisruptionBudget {
    /// At least `min_available` of the tenant's `workloads`.
    pub fn new(tenant: TenantRef, workloads: Selector, min_available: u64) -> Self {
        Self { tenant, workloads, min_available }
    }
}

/// Room for a workload, made by putting out others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Preemption {
    /// Where.
    pub node: NodeId,
    /// Who must go, the least important first; none if there is room already.
    pub victims: Vec<(TenantRef, WorkloadId)>,
}

impl Preemption {
    /// Room on `node` by putting out `victims`.
    pub fn new(node: NodeId, victims: Vec<(TenantRef, WorkloadId)>) -> Self {
        Self { node, victims }
    }
}

/// `room` and `more`; more than can be counted is enough of anything.
fn with(room: Resources, more: &Resources) -> Resources {
    more.iter().fold(room, |room, (name, amount)| {
        let sum = room.amount(&name).saturating_add(amount);
        room.with(name, sum)
    })
}

/// The fewest of `running` that must go so that `need` fits into what is `free` with what they use: none can stay, and
/// the most important of them is as unimportant as possible. Each is a priority and an amount, the least important
/// first; the answer is their positions. `None` if it does not help if all go.
pub fn choose_victims(
    need: &Resources,
    free: &Resources,
    running: &[(i32, &Resources)],
) -> Option<Vec<usize>> {
    let mut room = free.clone();
    let mut enough = 0;
    while !need.fits_in(&room) {
        let (_, more) = running.get(enough)?;
        room = with(room, more);
        enough += 1;
    }
    // All of the highest priority that is needed count: a larger one may save several.
    let highest = enough.checked_sub(1).and_then(|last| running.get(last)).map(|(priority, _)| *priority);
    while let Some((_, more)) = running.get(enough).filter(|(priority, _)| Some(*priority) == highest) {
        room = with(room, more);
        enough += 1;
    }
    let mut order: Vec<_> = running.iter().take(enough).enumerate().collect();
    // The most important stay first, and of those the small ones: then the few that go are large.
    order
        .sort_by_key(|(at, (priority, uses))| (std::cmp::Reverse(*priority), uses.memory(), uses.cpu(), *at));
    let mut victims = Vec::new();
    for (at, (_, uses)) in order {
        match room.checked_sub(uses) {
            Ok(left) if need.fits_in(&left) => room = left,
            _ => victims.push(at),
        }
    }
    victims.sort_unstable();
    Some(victims)
}

#[cfg(test)]
mod tests {
    use hivemind_core::resources::MilliCpu;
    use proptest::prelude::*;

    use super::*;

    fn cpu(millis: u64) -> Resources {
        Resources::new().with_cpu(MilliCpu::from_millis(millis))
    }

    fn chosen(need: u64, free: u64, running: &[(i32, u64)]) -> Option<Vec<usize>> {
        let amounts: Vec<_> = running.iter().map(|(_, uses)| cpu(*uses)).collect();
        let running: Vec<_> =
            running.iter().zip(&amounts).map(|((priority, _), uses)| (*priority, uses)).collect();
        choose_victims(&cpu(need), &cpu(free), &running)
    }

    #[test]
    fn few_and_unimportant_ones_go() {
        for (case, need, free, running, expected) in [
            ("there is room", 2, 2, &[(0, 5)][..], Some(vec![])),
            ("one large instead of two small", 4, 0, &[(0, 2), (0, 2), (0, 4)], Some(vec![2])),
            ("the unimportant first", 2, 0, &[(0, 2), (1, 2)], Some(vec![0])),
            ("who would not help stays", 4, 0, &[(0, 1), (1, 4)], Some(vec![1])),
            ("all are not enough", 9, 1, &[(0, 2), (1, 2)], None),
            ("nobody to put out", 2, 1, &[], None),
        ] {
            assert_eq!(chosen(need, free, running), expected, "{case}");
        }
    }

    proptest! {
        /// Against every subset: it fits, nobody who goes could stay, and no choice spares a higher priority.
        #[test]
        fn no_victim_could_stay(
            need in 0u64..12,
            free in 0u64..4,
            running in prop::collection::vec((0i32..3, 0u64..5), 0..8),
        ) {
            let mut running = running;
            running.sort();
            let fits = |gone: &dyn Fn(usize) -> bool| {
                let more: u64 = running.iter().enumerate().filter(|(at, _)| gone(*at)).map(|(_, one)| one.1).sum();
                need <= free + more
            };
            match chosen(need, free, &running) {
                None => prop_assert!(!fits(&|_| true)),
                Some(victims) => {
                    prop_assert!(fits(&|at| victims.contains(&at)));
                    for spared in &victims {
                        prop_assert!(!fits(&|at| at != *spared && victims.contains(&at)));
                    }
                    let highest = victims.iter().map(|at| running[*at].0).max();
                    for subset in 0u32..(1 << running.len()) {
                        let gone = |at: usize| subset & (1 << at) != 0;
                        let their = (0..running.len()).filter(|at| gone(*at)).map(|at| running[at].0).max();
                        prop_assert!(!fits(&gone) || their >= highest);
                    }
                }
            }
        }
    }
}
