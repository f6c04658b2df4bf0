//! What an observation may take back, and what it never may.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hivemind_core::store::Txn;
use hivemind_core::{ErrorKind, StateStore, Timestamp, block_on};
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

#[derive(Debug, Clone)]
enum Event {
    /// A workload is given a lease on a node, or moves there.
    Place(usize, usize),
    /// It begins to run, late, or ceases to.
    Run(usize, bool),
    /// Somebody looks at a node, or at all.
    Look(Option<usize>),
    /// One of what was seen is told: late, twice, or never.
    Tell(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0usize..3, 0usize..2).prop_map(|(w, n)| Event::Place(w, n)),
        3 => (0usize..3, any::<bool>()).prop_map(|(w, up)| Event::Run(w, up)),
        4 => prop::option::of(0usize..2).prop_map(Event::Look),
        5 => (0usize..12).prop_map(Event::Tell),
    ]
}

/// What is known of one workload in the model: its node, since when, and what was told of it since.
struct Known {
    node: usize,
    since: Timestamp,
    saw: Option<Timestamp>,
    missed: BTreeSet<Timestamp>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The model remembers everything told. A lease is freed only if two observations newer than it, and newer than
    /// any that saw the workload, missed it.
    #[test]
    fn pitfall_02_collection_frees_what_two_newer_observations_missed(events in prop::collection::vec(event(), 1..50)) {
        let world = World::new([v4("10.0.0.0/24").with_cooldown(Duration::ZERO)]);
        let (mut model, mut up, mut looked) = (BTreeMap::<usize, Known>::new(), BTreeSet::new(), Vec::new());
        for event in events {
            world.wait(Duration::from_millis(1));
            let now = world.now();
            match event {
                Event::Place(w, n) => {
                    world.ask((workload(w), node(n))).unwrap();
                    let known = model.entry(w).or_insert(Known { node: n, since: now, saw: None, missed: BTreeSet::new() });
                    if known.node != n {
                        *known = Known { node: n, since: now, saw: None, missed: BTreeSet::new() };
                    }
                }
                Event::Run(w, true) => {
                    up.insert(w);
                }
                Event::Run(w, false) => {
                    up.remove(&w);
                }
                Event::Look(scope) => {
                    let all = up.iter().filter(|w| scope.is_none() || model.get(w).map(|known| known.node) == scope);
                    let seen = all.fold(Observation::new(now), |seen, w| seen.with(workload(*w), []));
                    looked.push((scope, if let Some(n) = scope { seen.of_node(node(n)) } else { seen }));
                }
                Event::Tell(which) => {
                    let Some((scope, seen)) = looked.get(which) else { continue };
                    for (w, known) in model.iter_mut().filter(|(_, known)| seen.at > known.since) {
                        if seen.running.contains_key(&workload(*w)) {
                            known.saw = known.saw.max(Some(seen.at));
                        } else if scope.is_none_or(|n| n == known.node) {
                            known.missed.insert(seen.at);
                        }
                    }
                    for leaked in world.see(seen).leaked {
                        let w = leaked.as_str()[1..].parse::<usize>().unwrap();
                        let known = model.remove(&w).unwrap();
                        let newer = known.missed.iter().filter(|at| known.saw.is_none_or(|saw| **at > saw)).count();
                        prop_assert!(newer >= 2, "{leaked} was freed after {newer}, seen at {:?}", known.saw);
                    }
                }
            }
            let held: BTreeSet<_> = model.keys().map(|w| workload(*w)).collect();
            prop_assert_eq!(world.leases().into_keys().collect::<BTreeSet<_>>(), held);
        }
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
fn pitfall_02_what_runs_late_and_was_never_suspected_is_not_freed_by_older_observations() {
    // Whatever the older and the newer ones are of: the node, or all.
    for (old_of, new_of) in [(None, None), (Some(0), None), (None, Some(0)), (Some(0), Some(0))] {
        let world = World::new([v4("10.0.0.0/24")]);
        for n in 0..2 {
            world.ask((workload(n), node(n))).unwrap();
        }
        let look = |of: Option<usize>| {
            world.wait(Duration::from_secs(1));
            let seen = Observation::new(world.now());
            if let Some(n) = of { seen.of_node(node(n)) } else { seen }
        };
        // Nothing runs yet; then it does, and that is told first.
        let late = [look(old_of), look(old_of)];
        let fresh = look(new_of).with(workload(0), []);
        assert_eq!(world.see(&fresh).superseded_by, None);
        for old in &late {
            let told = world.see(old);
            assert!(
                ![&told.suspected, &told.leaked].iter().any(|set| set.contains(&workload(0))),
                "{told:?}"
            );
            assert_eq!(told.stale.get(&workload(0)), Some(&fresh.at), "{old_of:?} {new_of:?}");
            // An observation of one node does not make one of all useless.
            let superseded = (old_of.is_some() || new_of.is_none()).then_some(fresh.at);
            assert_eq!(told.superseded_by, superseded, "{old_of:?} {new_of:?}");
        }
        // What is missed from now on is missed anew, twice.
        assert!(world.see(&look(None)).suspected.contains(&workload(0)));
        assert!(world.see(&look(None)).leaked.contains(&workload(0)));
    }
}

#[test]
fn pitfall_02_two_that_tell_at_once_do_not_both_commit() {
    // The newer one saw the workload, so it writes no lease; the older one would suspect it.
    for (old_of, new_of) in [(None, None), (Some(0), None), (None, Some(0)), (Some(0), Some(0))] {
        let world = World::new([v4("10.0.0.0/24")]);
        world.ask((workload(0), node(0))).unwrap();
        let look = |of: Option<usize>| {
            world.wait(Duration::from_secs(1));
            let seen = Observation::new(world.now());
            if let Some(n) = of { seen.of_node(node(n)) } else { seen }
        };
        let (old, new) = (look(old_of), look(new_of).with(workload(0), []));
        let (view, mut txn) = (world.view(), Txn::new());
        let told = world.ipam.stage_reconcile(&view, &mut txn, &world.ctx("old"), &old).unwrap();
        assert_eq!(told.suspected, [workload(0)].into());
        world.see(&new);
        assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
        assert!(world.see(&old).suspected.is_empty(), "{old_of:?} {new_of:?}");
    }
}

#[test]
fn pitfall_02_what_is_seen_at_another_node_than_its_own_was_seen() {
    let world = World::new([v4("10.0.0.0/24")]);
    let ctx = world.ctx("move");
    world.ask((workload(0), node(0))).unwrap();
    let look = |number: usize| {
        world.wait(Duration::from_secs(1));
        Observation::new(world.now()).of_node(node(number))
    };
    let late = [look(0), look(0)];
    // On its way it is seen where it goes; then the move is given up.
    world.commit(|v, t| world.ipam.stage_transfer(v, t, &ctx, &workload(0), (&node(0), &node(1)))).unwrap();
    world.see(&look(1).with(workload(0), []));
    world.commit(|v, t| world.ipam.stage_transfer_back(v, t, &ctx, &workload(0))).unwrap();
    for old in &late {
        let told = world.see(old);
        assert!(told.suspected.is_empty() && told.leaked.is_empty(), "{told:?}");
    }
    assert!(world.leases().contains_key(&workload(0)));
}

#[test]
fn watermarks_are_as_few_as_the_nodes_that_have_leases() {
    let world = World::new([v4("10.0.0.0/24")]);
    let marks = || {
        let view = world.view();
        let below = hivemind_core::store::Prefix::new(["net", "watermarks"]).unwrap();
        view.scan(&below).count()
    };
    let leases: Vec<_> = (0..4).map(|n| world.ask((workload(n), node(n))).unwrap()).collect();
    let all = |seen: Observation| (0..4).fold(seen, |seen, n| seen.with(workload(n), []));
    for n in 0..6 {
        world.wait(Duration::from_secs(1));
        world.see(&all(Observation::new(world.now())).of_node(node(n)));
    }
    assert_eq!(marks(), 4, "one for each node with a lease, none for the others");
    world.release(3, &leases[3]).unwrap();
    world.wait(Duration::from_secs(1));
    world.see(&Observation::new(world.now()).of_node(node(3)));
    assert_eq!(marks(), 3);
    let quiet = all(Observation::new(world.now()));
    world.see(&quiet);
    assert_eq!(marks(), 1, "one of all makes those of nodes useless");
    let before = world.view().revision();
    let (view, mut again) = (world.view(), Txn::new());
    world.ipam.stage_reconcile(&view, &mut again, &world.ctx("again"), &quiet).unwrap();
    assert_eq!((again.writes().count(), world.view().revision()), (0, before), "told twice, written once");
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
