//! Who gives back, and in which order, so that a lender gets its guarantee. No I/O, no clock, no async.

use std::cmp::Reverse;
use std::time::Duration;

use hivemind_core::resources::Resources;
use hivemind_core::{ReservationId, TenantRef, Timestamp};

/// Something that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunningCharge {
    /// What it is charged under.
    pub id: ReservationId,
    /// How much.
    pub amount: Resources,
    /// How urgent it is; higher is more urgent.
    pub priority: i32,
    /// Since when it runs.
    pub since: Timestamp,
}

impl RunningCharge {
    /// Something ordinary that runs since `since`.
    pub fn new(id: ReservationId, amount: Resources, since: Timestamp) -> Self {
        Self { id, amount, priority: 0, since }
    }

    /// With a priority.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }
}

/// A tenant that may have borrowed from its siblings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Borrower {
    /// Which.
    pub tenant: TenantRef,
    /// What it gets in any case.
    pub guaranteed: Resources,
    /// What of it runs.
    pub running: Vec<RunningCharge>,
}

impl Borrower {
    /// A tenant of this guarantee, with what runs.
    pub fn new(tenant: TenantRef, guaranteed: Resources, running: Vec<RunningCharge>) -> Self {
        Self { tenant, guaranteed, running }
    }
}

/// What to evict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reclaim {
    /// In this order. Empty if it cannot be enough: nothing is evicted in vain.
    pub evict: Vec<(TenantRef, ReservationId)>,
    /// What is missing even if everything borrowed were given back.
    pub missing: Resources,
}

/// What to evict so that `needed` becomes free for a lender.
///
/// Only what is borrowed is evicted: no borrower falls below its guarantee, so none has a claim to take it back. What
/// has run for less than `min_run` at `now` stays. The least urgent goes first, then the newest; what turns out not to
/// be needed stays, the most important first. Each step takes one charge off the list, so there are no more steps than
/// charges.
pub fn reclaim(needed: &Resources, borrowers: &[Borrower], min_run: Duration, now: Timestamp) -> Reclaim {
    // What each may lose. A sum too large to be counted is at least as large as any guarantee.
    let mut spare: Vec<_> = borrowers
        .iter()
        .map(|one| {
            let sum = |sum: Resources, running: &RunningCharge| {
                running.amount.iter().fold(sum, |sum, (name, more)| {
                    let total = sum.amount(&name).saturating_add(more);
                    sum.with(name, total)
                })
            };
            one.running.iter().fold(Resources::new(), sum).saturating_sub(&one.guaranteed)
        })
        .collect();
    let mut all: Vec<_> = borrowers
        .iter()
        .enumerate()
        .flat_map(|(number, one)| one.running.iter().map(move |running| (number, one, running)))
        .filter(|(_, _, running)| running.since <= now && now.since(running.since) >= min_run)
        .collect();
    all.sort_by_key(|(_, one, running)| {
        (running.priority, Reverse(running.since), one.tenant.clone(), running.id.clone())
    });
    let (mut missing, mut victims) = (needed.clone(), Vec::new());
    for (number, one, running) in all {
        let helps = running.amount.iter().any(|(name, _)| missing.amount(&name) > 0);
        let Some(spare) = spare.get_mut(number).filter(|_| helps) else { continue };
        if running.amount.fits_in(spare) {
            *spare = spare.saturating_sub(&running.amount);
            missing = missing.saturating_sub(&running.amount);
            victims.push((one, running));
        }
    }
    if !missing.is_zero() {
        return Reclaim { evict: Vec::new(), missing };
    }
    spared(needed, &mut victims);
    let evict = victims.into_iter().map(|(one, running)| (one.tenant.clone(), running.id.clone())).collect();
    Reclaim { evict, missing }
}

/// Takes off the list, from its end, whatever is not needed after all.
fn spared(needed: &Resources, victims: &mut Vec<(&Borrower, &RunningCharge)>) {
    for number in (0..victims.len()).rev() {
        let others = victims.iter().enumerate().filter(|(other, _)| *other != number);
        let left = others.fold(needed.clone(), |left, (_, (_, one))| left.saturating_sub(&one.amount));
        if left.is_zero() {
            victims.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use hivemind_core::Generation;
    use hivemind_core::resources::MilliCpu;
    use proptest::prelude::*;

    use super::*;

    fn cpu(millis: u64) -> Resources {
        Resources::new().with_cpu(MilliCpu::from_millis(millis))
    }

    fn borrower(name: usize, guaranteed: u64, running: &[(u64, i32, u64)]) -> Borrower {
        let tenant = TenantRef::new(format!("t{name}").parse().unwrap(), Generation::from_u64(1));
        let charge = |(number, (amount, priority, since)): (usize, &(u64, i32, u64))| {
            RunningCharge::new(
                format!("r{number}").parse().unwrap(),
                cpu(*amount),
                Timestamp::from_secs(*since),
            )
            .with_priority(*priority)
        };
        Borrower::new(tenant, cpu(guaranteed), running.iter().enumerate().map(charge).collect())
    }

    fn evicted(reclaim: &Reclaim) -> Vec<String> {
        reclaim.evict.iter().map(|(tenant, id)| format!("{}/{id}", tenant.id)).collect()
    }

    fn decide(needed: u64, borrowers: &[Borrower]) -> Reclaim {
        reclaim(&cpu(needed), borrowers, Duration::from_secs(10), Timestamp::from_secs(100))
    }

    #[test]
    fn the_least_urgent_goes_first_then_the_newest_and_what_is_not_needed_stays() {
        let all = [borrower(0, 0, &[(2, 0, 1), (2, 0, 2), (2, -1, 1)]), borrower(1, 9, &[(9, -5, 1)])];
        assert_eq!(evicted(&decide(2, &all)), ["t0/r2"]);
        assert_eq!(evicted(&decide(3, &all)), ["t0/r2", "t0/r1"]);
        // One that is enough with a later one is spared by it.
        let all = [borrower(0, 0, &[(3, 0, 9), (1, 0, 5), (4, 0, 1)])];
        assert_eq!(evicted(&decide(5, &all)), ["t0/r0", "t0/r2"]);
    }

    #[test]
    fn nothing_is_evicted_in_vain_or_too_soon() {
        let all = [borrower(0, 1, &[(2, 0, 1), (2, 0, 91)])];
        let reclaim = decide(3, &all);
        assert_eq!((reclaim.evict.len(), reclaim.missing), (0, cpu(1)));
        assert_eq!(evicted(&decide(2, &all)), ["t0/r0"]);
    }

    proptest! {
        #[test]
        fn a_lender_gets_what_it_needs_and_no_borrower_less_than_its_guarantee(
            borrowers in prop::collection::vec(
                (0u64..20, prop::collection::vec((1u64..8, -2i32..3, 0u64..110), 0..6)), 0..5),
            needed in 0u64..30,
        ) {
            let all: Vec<_> = borrowers.iter().enumerate().map(|(n, (g, running))| borrower(n, *g, running)).collect();
            let reclaim = decide(needed, &all);
            let mut freed = 0;
            for one in &all {
                let gone = |running: &&RunningCharge| {
                    reclaim.evict.contains(&(one.tenant.clone(), running.id.clone()))
                };
                let sum = |all: Vec<&RunningCharge>| all.iter().map(|one| one.amount.cpu().as_millis()).sum::<u64>();
                let before = sum(one.running.iter().collect());
                let lost = sum(one.running.iter().filter(gone).collect());
                prop_assert!(lost == 0 || before - lost >= one.guaranteed.cpu().as_millis());
                prop_assert!(one.running.iter().filter(gone).all(|one| one.since <= Timestamp::from_secs(90)));
                freed += lost;
            }
            if reclaim.missing.is_zero() {
                prop_assert!(freed >= needed);
                // Each of them is needed.
                for (tenant, id) in &reclaim.evict {
                    let one = all.iter().find(|one| one.tenant == *tenant).unwrap();
                    let one = one.running.iter().find(|running| running.id == *id).unwrap();
                    prop_assert!(freed - one.amount.cpu().as_millis() < needed);
                }
            } else {
                prop_assert!(reclaim.evict.is_empty());
            }
        }
    }
}
