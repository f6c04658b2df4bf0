//! The tree in memory against a naive model that counts everything again each time, and under many threads.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod model;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hivemind_core::TenantId;
use hivemind_core::resources::{ByteSize, MilliCpu, ResourceName, Resources};
use hivemind_tenancy::QuotaTree;
use hivemind_tenancy::quota::{Amounts, QuotaNode, QuotaRule, TreeError};

const WIDTH: usize = 2;

type Limits = [QuotaRule; WIDTH];
type Pair = [u64; WIDTH];

fn resources(pair: Pair) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_millis(pair[0])).with_memory(ByteSize::from_bytes(pair[1]))
}

fn rules(limits: &Limits) -> BTreeMap<ResourceName, QuotaRule> {
    [ResourceName::Cpu, ResourceName::Memory].into_iter().zip(limits.clone()).collect()
}

fn name(text: &str) -> TenantId {
    text.parse().unwrap()
}

fn none() -> QuotaRule {
    QuotaRule::default()
}

fn at_most(max: u64) -> QuotaRule {
    none().with_max(max)
}

fn tree(limits: &Limits) -> (QuotaTree, QuotaNode) {
    QuotaTree::new([ResourceName::Cpu, ResourceName::Memory], name("root"), &rules(limits)).unwrap()
}

fn amounts(tree: &QuotaTree, pair: Pair) -> Amounts {
    tree.amounts(&resources(pair)).unwrap()
}

#[test]
fn a_denial_names_every_limit_that_is_short() {
    let (tree, root) = tree(&[at_most(10), at_most(100)]);
    let team = tree.add(name("team"), root, &rules(&[at_most(4), none()])).unwrap();
    let Err(TreeError::Denied(over)) = tree.reserve(team, &amounts(&tree, [11, 101]), None) else {
        panic!("admitted")
    };
    let told: Vec<_> = over.in_full().iter().map(|s| (s.depth, s.resource.to_string(), s.short_by)).collect();
    assert_eq!(
        over.to_string(),
        "tenant team: cpu: limit 4m, used 0, reserved 0, asked 11m, short by 7m; \
         cpu: a tenant above has too little left; memory: a tenant above has too little left"
    );
    let expected = [(0, "cpu".to_owned(), 7), (1, "cpu".to_owned(), 1), (1, "memory".to_owned(), 1)];
    assert_eq!(told, expected);
}

#[test]
fn an_amount_that_overflows_is_denied() {
    let (tree, root) = tree(&[none(), none()]);
    let most = amounts(&tree, [u64::MAX, 0]);
    let held = tree.reserve(root, &most, None).unwrap();
    assert!(matches!(tree.reserve(root, &amounts(&tree, [1, 0]), None), Err(TreeError::Denied(_))));
    held.abort();
    assert!(tree.reserve(root, &amounts(&tree, [1, 0]), None).is_ok());
}

#[test]
fn handles_of_another_tree_or_of_one_who_is_gone_do_nothing() {
    let (mine, root) = tree(&[none(), none()]);
    let (theirs, other_root) = tree(&[none(), none()]);
    let one = amounts(&mine, [1, 1]);
    assert_eq!(mine.reserve(other_root, &one, None).err(), Some(TreeError::UnknownNode));
    assert_eq!(theirs.reserve(other_root, &one, None).err(), Some(TreeError::ForeignAmounts));
    assert_eq!(mine.charge(other_root, &one).err(), Some(TreeError::UnknownNode));
    assert_eq!(theirs.charge(other_root, &one).err(), Some(TreeError::ForeignAmounts));
    let theirs_one = amounts(&theirs, [1, 1]);
    let charge = theirs.reserve(other_root, &theirs_one, None).unwrap().commit().unwrap();
    let mine_too = mine.reserve(root, &one, None).unwrap().commit().unwrap();
    assert_eq!(mine.resize(&charge, &one), Err(TreeError::Gone));
    let charge = mine.release(charge).unwrap_err();
    assert!(theirs.release(charge).is_ok());
    assert!(mine.release(mine_too).is_ok());

    let team = mine.add(name("team"), root, &BTreeMap::new()).unwrap();
    mine.remove(team).unwrap();
    let again = mine.add(name("team"), root, &BTreeMap::new()).unwrap();
    assert_ne!(team, again);
    assert_eq!(mine.reserve(team, &one, None).err(), Some(TreeError::UnknownNode));
}

#[test]
fn a_dropped_reservation_is_given_back() {
    let (tree, root) = tree(&[at_most(1), none()]);
    for _ in 0..10_000 {
        drop(tree.reserve(root, &amounts(&tree, [1, 0]), None).unwrap());
    }
    assert_eq!(tree.usage(root).unwrap()[0].1.load, 0);
}

/// What `pitfall_04` is about: between a check and its act nobody else gets in.
#[test]
#[allow(clippy::disallowed_methods, reason = "real threads are what is tested")]
fn pitfall_04_sixteen_threads_never_get_more_than_there_is() {
    const LIMIT: u64 = 37;
    let (tree, root) = tree(&[at_most(LIMIT), at_most(LIMIT * 2)]);
    let teams: Vec<_> =
        (0..4).map(|_| tree.add(name("team"), root, &rules(&[at_most(13), none()])).unwrap()).collect();
    let (inside, denied, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    // All keep what they have until the last one has tried: whatever the order, they meet the limit.
    let all_tried = Barrier::new(16);
    std::thread::scope(|scope| {
        for thread in 0..16_usize {
            let (tree, teams, inside, denied, over) = (&tree, &teams, &inside, &denied, &over);
            let all_tried = &all_tried;
            scope.spawn(move || {
                let three = amounts(tree, [3, 6]);
                let mut charges = Vec::new();
                for turn in 0..20_000_usize {
                    match tree.reserve(teams[(thread + turn) % 4], &three, None) {
                        Ok(hold) => {
                            if inside.fetch_add(3, Ordering::SeqCst) + 3 > LIMIT {
                                over.store(true, Ordering::SeqCst);
                            }
                            charges.push(hold.commit().unwrap());
                        }
                        Err(TreeError::Denied(_)) => {
                            denied.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(other) => panic!("{other}"),
                    }
                    if (turn % 3 == 0 || charges.len() > 2)
                        && let Some(charge) = charges.pop()
                    {
                        // Counted out before it is given back, so that the count is never above the truth.
                        inside.fetch_sub(3, Ordering::SeqCst);
                        assert!(tree.release(charge).is_ok());
                    }
                }
                if let Ok(hold) = tree.reserve(teams[thread % 4], &three, None) {
                    inside.fetch_add(3, Ordering::SeqCst);
                    charges.push(hold.commit().unwrap());
                } else {
                    denied.fetch_add(1, Ordering::Relaxed);
                }
                all_tried.wait();
                for charge in charges {
                    inside.fetch_sub(3, Ordering::SeqCst);
                    assert!(tree.release(charge).is_ok());
                }
            });
        }
    });
    assert!(!over.load(Ordering::SeqCst), "more was charged than there is");
    assert!(denied.load(Ordering::Relaxed) > 0, "the threads never met the limit");
    assert_eq!(tree.usage(root).unwrap()[0].1.load, 0);
    assert!(tree.is_consistent());
}
