//! Quotas in memory: what is admitted never exceeds a limit on any level, whoever asks at the same time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hivemind_core::resources::{MilliCpu, ResourceName, Resources};
use hivemind_core::{ErrorKind, Timestamp};
use hivemind_tenancy::{OverQuota, QuotaRule, QuotaSpec, QuotaTree, TreeTenant};
use proptest::prelude::*;
use proptest::sample::Index;

fn gpu() -> ResourceName {
    "nvidia.com/gpu".parse().unwrap()
}

fn amount(cpu: u64, gpus: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_millis(cpu)).with(gpu(), gpus)
}

fn limits(cpu: u64, gpus: u64) -> QuotaSpec {
    QuotaSpec::new()
        .with_rule(ResourceName::Cpu, QuotaRule::default().with_max(cpu))
        .with_rule(gpu(), QuotaRule::default().with_max(gpus))
}

fn tree() -> QuotaTree {
    QuotaTree::new([ResourceName::Cpu, gpu()])
}

fn never() -> Timestamp {
    Timestamp::from_secs(1_000_000)
}

#[test]
fn a_denial_lists_every_level_and_charges_none() {
    let mut tree = tree();
    let corp = tree.add_root("corp".parse().unwrap(), &limits(10, 1)).unwrap();
    let red = tree.add("red".parse().unwrap(), corp, &limits(5, 9)).unwrap();
    let error = tree.reserve(red, &tree.amount(&amount(11, 2)).unwrap(), never()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    let told: Vec<_> = error.detail::<OverQuota>().unwrap().short.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "cpu: limit 5m, used 0, reserved 0, asked 11m, short by 6m",
            "cpu at tenant corp: limit 10m, used 0, reserved 0, asked 11m, short by 1m",
            "nvidia.com/gpu at tenant corp: limit 1, used 0, reserved 0, asked 2, short by 1",
        ]
    );
    assert_eq!(tree.usage(corp).unwrap(), Default::default());
}

#[test]
fn what_expires_is_gone_for_its_holder_and_nobody_gives_it_back_twice() {
    let mut tree = tree();
    let corp = tree.add_root("corp".parse().unwrap(), &limits(10, 1)).unwrap();
    let six = tree.amount(&amount(6, 0)).unwrap();
    let late = tree.reserve(corp, &six, Timestamp::from_secs(5)).unwrap();
    assert_eq!(tree.expire(Timestamp::from_secs(4)), 0);
    assert_eq!(tree.expire(Timestamp::from_secs(5)), 1);
    // Another now has the place of the one that expired.
    let other = tree.reserve(corp, &six, never()).unwrap();
    assert_eq!(tree.commit(late).unwrap_err().kind(), ErrorKind::NotFound);
    let other = tree.commit(other).unwrap();
    assert_eq!(tree.expire(never()), 0);
    assert_eq!(tree.usage(corp).unwrap().used, amount(6, 0));
    tree.release(other).unwrap();
    assert_eq!(tree.usage(corp).unwrap(), Default::default());
}

#[test]
fn nothing_of_one_tree_is_taken_by_another() {
    let (mut one, mut two) = (tree(), tree());
    let tenant = one.add_root("corp".parse().unwrap(), &limits(10, 1)).unwrap();
    let other = two.add_root("corp".parse().unwrap(), &limits(10, 1)).unwrap();
    let six = one.amount(&amount(6, 0)).unwrap();
    assert_eq!(two.reserve(other, &six, never()).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(two.usage(tenant).unwrap_err().kind(), ErrorKind::NotFound);
    let held = one.reserve(tenant, &six, never()).unwrap();
    let theirs = two.reserve(other, &two.amount(&amount(6, 0)).unwrap(), never()).unwrap();
    assert_eq!(two.abort(held).unwrap_err().kind(), ErrorKind::NotFound);
    two.abort(theirs).unwrap();
}

/// A tenant of the reference: the one above, most, guarantee, what of it is held back, and what it takes itself.
type Row = (Option<usize>, u64, u64, u64, u64);

/// Usage and load at and below `at`, added up anew.
fn taken(rows: &[Row], at: usize) -> (u64, u64) {
    let below = rows.iter().enumerate().filter(|(_, row)| row.0 == Some(at));
    below.fold((rows[at].4, rows[at].4), |sum, (child, row)| {
        let (usage, load) = taken(rows, child);
        (sum.0 + usage, sum.1 + load.max(row.3))
    })
}

fn legal(rows: &[Row]) -> bool {
    (0..rows.len()).all(|at| taken(rows, at).1 <= rows[at].1)
}

proptest! {
    #[test]
    fn admits_what_the_naive_model_admits(
        tenants in prop::collection::vec((any::<Index>(), 0u64..40, 0u64..10, 0u64..10), 1..7),
        steps in prop::collection::vec((any::<Index>(), 0u64..9, 0u8..5, any::<Index>()), 0..60),
    ) {
        let mut tree = tree();
        let (mut rows, mut all): (Vec<Row>, Vec<TreeTenant>) = (Vec::new(), Vec::new());
        for (number, (above, max, guaranteed, lending)) in tenants.into_iter().enumerate() {
            let (guaranteed, above) = (guaranteed.min(max), (!all.is_empty()).then(|| above.index(all.len())));
            let lending = lending.min(guaranteed);
            let rule = QuotaRule::default().with_max(max).with_guaranteed(guaranteed).with_lending_limit(lending);
            let (id, spec) = (format!("t{number}").parse().unwrap(), QuotaSpec::new().with_rule(ResourceName::Cpu, rule));
            let added = match above {
                Some(above) => tree.add(id, all[above], &spec),
                None => tree.add_root(id, &spec),
            };
            rows.push((above, max, guaranteed, guaranteed - lending, 0));
            prop_assert_eq!(added.is_ok(), legal(&rows));
            match added {
                Ok(tenant) => all.push(tenant),
                Err(_) => { rows.pop(); }
            }
        }
        let (mut held, mut charges) = (Vec::new(), Vec::new());
        for (at, cpu, act, which) in steps {
            let at = at.index(all.len());
            match act {
                0 | 1 => {
                    let mut next = rows.clone();
                    next[at].4 += cpu;
                    let done = tree.reserve(all[at], &tree.amount(&amount(cpu, 0)).unwrap(), never());
                    prop_assert_eq!(done.is_ok(), legal(&next));
                    if let Ok(new) = done {
                        rows = next;
                        held.push((at, cpu, new));
                    }
                }
                2 if !held.is_empty() => {
                    let (at, cpu, one) = held.swap_remove(which.index(held.len()));
                    charges.push((at, cpu, tree.commit(one).unwrap()));
                }
                3 if !held.is_empty() => {
                    let (at, cpu, one) = held.swap_remove(which.index(held.len()));
                    tree.abort(one).unwrap();
                    rows[at].4 -= cpu;
                }
                4 if !charges.is_empty() => {
                    let (at, cpu, one) = charges.swap_remove(which.index(charges.len()));
                    tree.release(one).unwrap();
                    rows[at].4 -= cpu;
                }
                _ => {}
            }
            for (number, tenant) in all.iter().enumerate() {
                let usage = tree.usage(*tenant).unwrap();
                let sum = usage.used.checked_add(&usage.reserved).unwrap();
                prop_assert_eq!(sum, amount(taken(&rows, number).0, 0));
            }
        }
    }
}

/// Sixteen threads reserve, commit, abort and release as fast as they can below one root, and one watches.
#[test]
fn pitfall_04_sixteen_threads_on_one_quota_are_never_over_on_any_level() {
    const ROUNDS: u64 = 20_000;
    let mut tree = tree();
    let root = tree.add_root("root".parse().unwrap(), &limits(40, 20)).unwrap();
    let middle = tree.add("middle".parse().unwrap(), root, &limits(30, 20)).unwrap();
    let leaves: Vec<_> = (0..4)
        .map(|n| tree.add(format!("leaf{n}").parse().unwrap(), middle, &limits(12, 20)).unwrap())
        .collect();
    let (tree, leaves) = (&tree, &leaves);
    let (admitted, denied, done) = (&AtomicU64::new(0), &AtomicU64::new(0), &AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..16u64)
            .map(|worker| {
                scope.spawn(move || {
                    let leaf = leaves[usize::try_from(worker % 4).unwrap()];
                    let mut held = Vec::new();
                    for round in 0..ROUNDS {
                        let ask =
                            tree.amount(&amount(1 + (worker + round) % 5, (worker + round) % 3)).unwrap();
                        match tree.reserve(leaf, &ask, never()) {
                            Ok(one) if round % 3 == 0 => tree.abort(one).unwrap(),
                            Ok(one) => held.push(tree.commit(one).unwrap()),
                            Err(e) => {
                                assert_eq!(e.kind(), ErrorKind::QuotaExceeded);
                                denied.fetch_add(1, Ordering::Relaxed);
                                held.drain(..).for_each(|one| tree.release(one).unwrap());
                                continue;
                            }
                        }
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                    held.drain(..).for_each(|one| tree.release(one).unwrap());
                })
            })
            .collect();
        scope.spawn(move || {
            let levels = leaves.iter().map(|leaf| (*leaf, 12)).chain([(root, 40), (middle, 30)]);
            let levels: Vec<_> = levels.collect();
            while !done.load(Ordering::Relaxed) {
                for (tenant, most) in &levels {
                    let usage = tree.usage(*tenant).unwrap();
                    let sum = usage.used.checked_add(&usage.reserved).unwrap();
                    assert!(sum.fits_in(&amount(*most, 20)), "{sum}");
                }
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    // Both happened, or the test shows nothing.
    assert!(admitted.load(Ordering::Relaxed) > 1_000 && denied.load(Ordering::Relaxed) > 1_000);
    assert_eq!(tree.usage(root).unwrap(), Default::default());
}
