//! What an observation may take back, and what it never may.

use std::collections::BTreeSet;
use std::time::Duration;

use hivemind_core::store::Txn;
use hivemind_core::{ErrorKind, StateStore, block_on};
use hivemind_net::manager::Observation;
use proptest::prelude::*;

use crate::world::*;

#[derive(Debug, Clone)]
enum Step {
    Start(usize),
    Stop(usize),
    /// Somebody looks, and tells later, twice, or never.
    Look,
    Tell(usize),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0usize..6).prop_map(Step::Start),
        2 => (0usize..6).prop_map(Step::Stop),
        2 => Just(Step::Look),
        4 => (0usize..8).prop_map(Step::Tell),
        2 => Just(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Observations arrive late, twice and in any order. What runs is never freed; what is gone is, at the latest
    /// after two fresh ones.
    #[test]
    fn pitfall_02_collection_never_frees_what_is_in_use(steps in prop::collection::vec(step(), 1..60)) {
        let world = World::new([dual("10.0.0.0/24", "fd00::/64").with_cooldown(Duration::ZERO)]);
        let (mut running, mut looked) = (BTreeSet::new(), Vec::new());
        for (turn, step) in steps.into_iter().enumerate() {
            world.wait(Duration::from_millis(1));
            match step {
                // A workload that is gone comes back as another.
                Step::Start(n) => {
                    let n = n + 100 * turn;
                    world.ask((workload(n), node(n % 3))).unwrap();
                    running.insert(n);
                }
                Step::Stop(n) => {
                    let nth = running.iter().nth(n).copied();
                    nth.map(|n| running.remove(&n));
                }
                Step::Look => {
                    let seen = running.iter().fold(Observation::new(world.now()), |seen, n| seen.with(workload(*n), []));
                    looked.push(seen);
                }
                Step::Tell(n) => if let Some(seen) = looked.get(n) { world.see(seen); },
                Step::Wait => world.wait(Duration::from_secs(60)),
            }
            let leases = world.leases();
            prop_assert!(running.iter().all(|n| leases.contains_key(&workload(*n))), "freed in use");
            world.clean();
        }
        for _ in 0..2 {
            world.wait(Duration::from_millis(1));
            let seen = running.iter().fold(Observation::new(world.now()), |seen, n| seen.with(workload(*n), []));
            while world.see(&seen).more {}
        }
        let expected: BTreeSet<_> = running.iter().map(|n| workload(*n)).collect();
        prop_assert_eq!(world.leases().keys().cloned().collect::<BTreeSet<_>>(), expected);
    }
}

#[test]
fn an_observation_tells_leaks_conflicts_and_what_is_missing() {
    let world = World::new([dual("10.0.0.0/24", "fd00::/64")]);
    let leases: Vec<_> = (0..3).map(|n| world.ask((workload(n), node(n))).unwrap()).collect();
    let of = |n: usize| leases[n].addresses().collect::<Vec<_>>();
    let old = Observation::new(world.now());
    assert!(world.see(&old).suspected.is_empty(), "as old as the leases: it may not show them yet");
    let look = || {
        world.wait(Duration::from_secs(1));
        // The third uses an address of the first; the fourth has no lease; an address that is nobody's is not ours.
        let seen = Observation::new(world.now()).with(workload(0), of(0)).with(workload(7), []);
        seen.with(workload(2), [of(0)[0], "192.0.2.1".parse().unwrap()])
    };
    let first = look();
    let told = world.see(&first);
    assert_eq!((told.suspected, told.leaked.len()), ([workload(1)].into(), 0));
    assert_eq!(told.missing, [workload(7)].into());
    let conflict = told.conflicts.first().unwrap();
    assert_eq!(
        (conflict.address, &conflict.used_by, conflict.owner.as_ref()),
        (of(0)[0], &workload(2), Some(&workload(0)))
    );
    assert_eq!(told.conflicts.len(), 1);
    assert!(world.see(&first).leaked.is_empty(), "the same one twice is one");
    let told = world.see(&look());
    assert_eq!(told.leaked, [workload(1)].into());
    assert!(!world.leases().contains_key(&workload(1)));
    // Of one node only, what runs elsewhere is not missed.
    let one = |world: &World| {
        world.wait(Duration::from_secs(1));
        world.see(&Observation::new(world.now()).of_node(node(2)))
    };
    assert_eq!(one(&world).suspected, [workload(2)].into());
    assert_eq!(one(&world).leaked, [workload(2)].into());
    assert!(world.leases().contains_key(&workload(0)));
    world.clean();
}

#[test]
fn pitfall_02_what_was_begun_before_a_move_says_nothing_about_the_new_node() {
    let world = World::new([v4("10.0.0.0/24")]);
    let ctx = world.ctx("move");
    let look = |number: usize| {
        world.wait(Duration::from_secs(1));
        Observation::new(world.now()).of_node(node(number))
    };
    world.ask((workload(0), node(0))).unwrap();
    // Begun before the workload was at the node, told later: by a transfer, and by a new request.
    let before = [look(1), look(1)];
    world.commit(|v, t| world.ipam.stage_transfer(v, t, &ctx, &workload(0), (&node(0), &node(1)))).unwrap();
    world.wait(Duration::from_secs(1));
    let nowhere = world.see(&Observation::new(world.now()));
    assert_eq!(nowhere.suspected, [workload(0)].into());
    world.wait(Duration::from_secs(1));
    world.commit(|v, t| world.ipam.stage_transferred(v, t, &ctx, &workload(0), &node(1))).unwrap();
    let late = before.map(|seen| world.see(&seen));
    assert!(late.iter().all(|told| told.suspected.is_empty() && told.leaked.is_empty()), "{late:?}");
    let before = [look(2), look(2)];
    world.wait(Duration::from_secs(1));
    world.ask((workload(0), node(2))).unwrap();
    let late = before.map(|seen| world.see(&seen));
    assert!(late.iter().all(|told| told.suspected.is_empty() && told.leaked.is_empty()), "{late:?}");
    // What is missed at its new node is missed anew, twice.
    assert_eq!(world.see(&look(2)).suspected, [workload(0)].into());
    assert_eq!(world.see(&look(2)).leaked, [workload(0)].into());
}

#[test]
fn pitfall_02_what_was_seen_running_is_not_freed_by_older_observations() {
    let world = World::new([v4("10.0.0.0/24")]);
    world.ask((workload(0), node(0))).unwrap();
    let look = || {
        world.wait(Duration::from_secs(1));
        Observation::new(world.now())
    };
    let [first, late, later] = [look(), look(), look()];
    assert_eq!(world.see(&first).suspected, [workload(0)].into());
    world.see(&look().with(workload(0), []));
    for old in [late, later] {
        let told = world.see(&old);
        assert!(told.suspected.is_empty() && told.leaked.is_empty(), "{told:?}");
    }
    assert_eq!(world.see(&look()).suspected, [workload(0)].into());
    assert_eq!(world.see(&look()).leaked, [workload(0)].into());
}

#[test]
fn pitfall_05_a_move_to_a_node_that_is_lost_meanwhile_does_not_commit() {
    let world = World::new([v4("10.0.0.0/24")]);
    let ctx = world.ctx("move");
    world.ask((workload(0), node(0))).unwrap();
    let (view, mut txn) = (world.view(), Txn::new());
    world.ipam.stage_transfer(&view, &mut txn, &ctx, &workload(0), (&node(0), &node(1))).unwrap();
    // The node has no record until it is declared lost.
    world.commit(|v, t| world.ipam.stage_node_lost(v, t, &ctx, &node(1))).unwrap();
    assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
}
