//! Placement through the store: schedulers that race, gangs that wait, questions without effect.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::common;

use std::collections::BTreeMap;

use common::{World, admin, ctx};
use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    ErrorKind, NodeId, Result, Retry, StateStore, StateStoreExt, TenantContext, Timestamp, block_on,
};
use hivemind_tenancy::placement::{
    BlastRadius, GangState, NodeState, Packing, Placement, PlacementPolicy, Rejection, StaleNode, Topology,
    WorkloadRequest,
};
use hivemind_tenancy::{IsolationLevel, Node, TenantSpec};
use proptest::prelude::*;

fn cores(n: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(n))
}

fn node(world: &World, name: &str, n: u64) {
    let node = Node::new(name.parse().unwrap(), cores(n));
    block_on(world.tenants.add_node(&admin(&format!("add-{name}")), node)).unwrap();
}

fn tenant(world: &World, name: &str, level: IsolationLevel) -> TenantContext {
    ctx(&world.tenant(TenantSpec::new(name.parse().unwrap()).with_isolation(level)).tenant, "r")
}

fn workload(name: &str, n: u64) -> WorkloadRequest {
    WorkloadRequest::new(name.parse().unwrap(), cores(n))
}

fn used(world: &World) -> u64 {
    let all = world.tenants.nodes(&world.view(), &Txn::new()).unwrap();
    all.iter().map(|(_, running)| running.used.cpu().as_millis() / 1000).sum()
}

#[test]
fn pitfall_04_sixteen_threads_and_one_last_slot() {
    for round in 0..20 {
        let world = World::new();
        node(&world, "n1", 1);
        let acme = tenant(&world, "acme", IsolationLevel::Soft);
        let start = std::sync::Barrier::new(16);
        let won: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|n| {
                    let (world, acme, start) = (&world, &acme, &start);
                    scope.spawn(move || {
                        start.wait();
                        loop {
                            let asks = [workload(&format!("w{n}"), 1)];
                            match world.commit(|view, txn| world.tenants.stage_place(view, txn, acme, &asks))
                            {
                                Ok(_) => return 1,
                                Err(e) if e.kind() == ErrorKind::Conflict => {
                                    assert_eq!(e.retry(), Retry::AfterReread);
                                }
                                Err(e) => {
                                    assert_eq!(e.kind(), ErrorKind::Exhausted, "{e}");
                                    return 0;
                                }
                            }
                        }
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((won, used(&world)), (1, 1), "round {round}");
    }
}

/// A decision on a snapshot that may be old by the time it is committed.
type Decided = Result<(Txn, Placement)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Several schedulers read, decide and commit in any order: no node is overfull, no workload runs twice.
    #[test]
    fn pitfall_04_interleaved_schedulers_never_overfill(
        steps in prop::collection::vec((0usize..4, any::<bool>(), 0u64..6), 1..40),
    ) {
        let world = World::new();
        node(&world, "n1", 3);
        node(&world, "n2", 2);
        let acme = tenant(&world, "acme", IsolationLevel::Soft);
        let mut open: Vec<Option<Decided>> = (0..4).map(|_| None).collect();
        let mut runs = Placement::new();
        for (who, commits, name) in steps {
            if !commits {
                let (view, mut txn) = (world.view(), Txn::new());
                let asks = [workload(&format!("w{name}"), 1 + name % 2)];
                let decided = world.tenants.stage_place(&view, &mut txn, &acme, &asks);
                open[who] = Some(decided.map(|placed| (txn, placed)));
            } else if let Some(Ok((txn, placed))) = open[who].take()
                && block_on(world.store.commit(&txn)).is_ok()
            {
                for (id, node) in placed {
                    prop_assert!(runs.insert(id, node).is_none(), "it runs twice");
                }
            }
            let mut found = Placement::new();
            for (node, running) in world.tenants.nodes(&world.view(), &Txn::new()).unwrap() {
                prop_assert!(running.used.fits_in(&node.capacity));
                let here = running.workloads.values().flat_map(BTreeMap::keys);
                found.extend(here.map(|id| (id.clone(), node.id.clone())));
            }
            prop_assert_eq!(&found, &runs);
        }
    }
}

#[test]
fn two_requests_that_place_the_same_workload_meet_also_on_different_nodes() {
    let world = World::new();
    node(&world, "n1", 1);
    node(&world, "n2", 1);
    let acme = tenant(&world, "acme", IsolationLevel::Soft);
    let view = world.view();
    let decide = |at: &str| {
        let mut txn = Txn::new();
        let decided = [(workload("w", 1), at.parse::<NodeId>().unwrap())];
        world.tenants.stage_assign(&view, &mut txn, &acme, &decided).map(|_| txn).unwrap()
    };
    let (first, second) = (decide("n1"), decide("n2"));
    block_on(world.store.commit(&first)).unwrap();
    let error = block_on(world.store.commit(&second)).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::AfterReread));
    assert_eq!(used(&world), 1);
    // Once it is taken away, the name is free again.
    let placed = BTreeMap::from([("w".parse().unwrap(), "n1".parse().unwrap())]);
    world.commit(|view, txn| world.tenants.stage_unplace(view, txn, &acme, &placed)).unwrap();
    world.commit(|view, txn| world.tenants.stage_place(view, txn, &acme, &[workload("w", 1)])).unwrap();
}

#[test]
fn a_decision_on_a_node_that_changed_is_a_conflict_that_says_why() {
    let world = World::new();
    node(&world, "n1", 2);
    node(&world, "n2", 2);
    let (acme, hard) =
        (tenant(&world, "acme", IsolationLevel::Soft), tenant(&world, "h", IsolationLevel::Hard));
    let assign = |ctx: &TenantContext, decided: &[(WorkloadRequest, NodeId)]| {
        world.commit(|view, txn| world.tenants.stage_assign(view, txn, ctx, decided))
    };
    let at = |name: &str, size, node: &str| (workload(name, size), node.parse::<NodeId>().unwrap());
    let stale = |error: hivemind_core::Error| {
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::AfterReread));
        error.detail::<StaleNode>().unwrap().reason
    };
    // Each fits, both do not; and then nothing happened.
    let both = [at("a", 1, "n1"), at("b", 2, "n1")];
    assert_eq!(stale(assign(&acme, &both).unwrap_err()), Rejection::Full);
    assert_eq!(used(&world), 0);
    assign(&acme, &both[..1]).unwrap();
    assert_eq!(stale(assign(&hard, &[at("h", 1, "n1")]).unwrap_err()), Rejection::Shared);
    assign(&hard, &[at("h", 1, "n2")]).unwrap();
    assert_eq!(stale(assign(&acme, &[at("c", 1, "n2")]).unwrap_err()), Rejection::Dedicated);
    block_on(world.tenants.set_node_state(&admin("c"), &"n1".parse().unwrap(), NodeState::Cordoned)).unwrap();
    assert_eq!(stale(assign(&acme, &[at("c", 1, "n1")]).unwrap_err()), Rejection::NotReady);
    assert_eq!(assign(&acme, &[at("c", 1, "n9")]).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_if_answers_as_placing_would_and_changes_nothing() {
    let world = World::new();
    node(&world, "n1", 4);
    let acme = tenant(&world, "acme", IsolationLevel::Soft);
    let batches = [vec![workload("a", 2), workload("b", 1)], vec![workload("c", 2)], vec![workload("d", 1)]];
    let (view, txn) = (world.view(), Txn::new());
    let answers = world.tenants.what_if(&view, &txn, &acme, &batches, &PlacementPolicy::default()).unwrap();
    assert_eq!(answers.iter().map(std::result::Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!((txn.is_empty(), used(&world), world.view().revision()), (true, 0, view.revision()));
    for (batch, answer) in batches.iter().zip(answers) {
        let done = world.commit(|view, txn| world.tenants.stage_place(view, txn, &acme, batch));
        assert_eq!(done.ok(), answer.ok());
    }
}

#[test]
fn a_policy_of_the_host_is_followed() {
    let world = World::new();
    node(&world, "n1", 4);
    node(&world, "n2", 4);
    let acme = tenant(&world, "acme", IsolationLevel::Soft);
    let asks: Vec<_> = ["a", "b", "c", "d"].map(|name| workload(name, 1)).into();
    let on = |policy: &PlacementPolicy| {
        let (view, mut txn) = (world.view(), Txn::new());
        let placed = world.tenants.stage_place_by(&view, &mut txn, &acme, &asks, policy).unwrap();
        placed.values().collect::<std::collections::BTreeSet<_>>().len()
    };
    let packed = PlacementPolicy::default().with_packing(Packing::BinPack);
    assert_eq!((on(&PlacementPolicy::default()), on(&packed)), (2, 1));
    assert_eq!(on(&packed.with_blast_radius(BlastRadius::new(Topology::Node, 50))), 2);
}

fn at(ctx: &TenantContext, seconds: u64) -> TenantContext {
    ctx.clone().with_time(Timestamp::from_secs(seconds))
}

fn gang(
    world: &World,
    ctx: &TenantContext,
    id: &str,
    asks: &[WorkloadRequest],
    by: u64,
) -> Result<GangState> {
    world.commit(|view, txn| {
        world.tenants.stage_gang(view, txn, ctx, &id.parse().unwrap(), asks, Timestamp::from_secs(by))
    })
}

#[test]
fn a_gang_holds_room_and_is_placed_when_the_rest_has_some() {
    let world = World::new();
    node(&world, "n1", 2);
    let acme = tenant(&world, "acme", IsolationLevel::Soft);
    let asks: Vec<_> = ["g1", "g2", "g3"].map(|name| workload(name, 1)).into();
    let GangState::Holding { gang: held, why } = gang(&world, &at(&acme, 10), "g", &asks, 60).unwrap() else {
        panic!("one does not fit");
    };
    assert_eq!((held.held.len(), held.missing.len(), used(&world)), (2, 1, 2));
    assert_eq!(why.workloads[0].rejected, BTreeMap::from([(Rejection::Full, 1)]));
    node(&world, "n2", 2);
    // A later deadline does not extend the first.
    let GangState::Placed(placed) = gang(&world, &at(&acme, 59), "g", &asks, 900).unwrap() else {
        panic!("all fit now");
    };
    assert_eq!((placed.len(), used(&world)), (3, 3));
    assert_eq!(world.tenants.next_gang_deadline(&world.view()).unwrap(), None);
}

#[test]
fn a_gang_needs_time_a_deadline_ahead_and_the_same_members() {
    let world = World::new();
    node(&world, "n1", 1);
    let acme = tenant(&world, "acme", IsolationLevel::Soft);
    let asks = [workload("g1", 1), workload("g2", 1)];
    let refused = |outcome: Result<GangState>, says: &str| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains(says), "{error}");
    };
    refused(gang(&world, &acme, "g", &asks, 60), "the context no time");
    refused(gang(&world, &at(&acme, 60), "g", &asks, 60), "has passed");
    gang(&world, &at(&acme, 1), "g", &asks, 60).unwrap();
    refused(gang(&world, &at(&acme, 2), "g", &asks[..1], 60), "has other workloads");
    refused(
        gang(&world, &at(&acme, 2), "g", &[workload("g1", 1), workload("x", 1)], 60),
        "has other workloads",
    );
}

#[test]
fn pitfall_07_a_stranded_gang_gives_everything_back_by_its_deadline() {
    let world = World::new();
    node(&world, "n1", 3);
    let (acme, other) =
        (tenant(&world, "acme", IsolationLevel::Soft), tenant(&world, "o", IsolationLevel::Soft));
    let asks = |of: &str| (0..3).map(|n| workload(&format!("{of}{n}"), 1)).collect::<Vec<_>>();
    let (mine, theirs) = (asks("a"), asks("b"));
    // Each holds what the other needs: neither would ever be whole.
    node(&world, "n2", 1);
    gang(&world, &at(&acme, 0), "g", &[mine.clone(), asks("c")].concat(), 60).unwrap();
    assert!(matches!(gang(&world, &at(&other, 1), "g", &theirs, 90), Ok(GangState::Holding { .. })));
    assert_eq!(
        (used(&world), world.tenants.next_gang_deadline(&world.view()).unwrap()),
        (4, Some(Timestamp::from_secs(60)))
    );

    let sweep = |now| {
        let ctx = at(&admin("sweep"), now);
        world.commit(|view, txn| world.tenants.stage_sweep_gangs(view, txn, &ctx))
    };
    assert!(!sweep(59).unwrap());
    assert_eq!(used(&world), 4, "not before the deadline");
    assert!(!sweep(60).unwrap());
    assert_eq!(used(&world), 0);
    assert!(matches!(gang(&world, &at(&other, 61), "g", &theirs, 90), Ok(GangState::Placed(_))));
    // Without a sweep, the gang's own next call gives back, whatever it says.
    assert!(matches!(gang(&world, &at(&acme, 61), "h", &mine, 70), Ok(GangState::Holding { .. })));
    assert_eq!(gang(&world, &at(&acme, 70), "h", &mine[..1], 99).unwrap(), GangState::GivenBack);
    assert_eq!(used(&world), 3);
    let denied = world.commit(|view, txn| world.tenants.stage_sweep_gangs(view, txn, &at(&acme, 99)));
    assert_eq!(denied.unwrap_err().kind(), ErrorKind::Denied);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Gangs of any sizes come, retry and are swept in any order: after the last deadline only whole ones hold room.
    #[test]
    fn pitfall_07_only_whole_gangs_are_left_after_the_last_deadline(
        steps in prop::collection::vec((0usize..4, 0u64..3), 1..24),
        sizes in prop::collection::vec(1usize..4, 4),
    ) {
        let world = World::new();
        node(&world, "n1", 3);
        node(&world, "n2", 2);
        let acme = tenant(&world, "acme", IsolationLevel::Soft);
        let (mut now, mut whole) = (0, [false; 4]);
        for (which, later) in steps {
            now += later;
            if whole[which] { continue }
            let asks: Vec<_> = (0..sizes[which]).map(|n| workload(&format!("g{which}-{n}"), 1)).collect();
            if let GangState::Placed(placed) = gang(&world, &at(&acme, now), &format!("g{which}"), &asks, now + 5).unwrap() {
                prop_assert_eq!(placed.len(), sizes[which]);
                whole[which] = true;
            }
            prop_assert!(used(&world) <= 5);
        }
        let last = at(&admin("sweep"), now + 5);
        world.commit(|view, txn| world.tenants.stage_sweep_gangs(view, txn, &last)).unwrap();
        let expected: usize = sizes.iter().zip(whole).filter(|(_, whole)| *whole).map(|(size, _)| size).sum();
        prop_assert_eq!(used(&world), expected as u64);
        let left: Snapshot = block_on(world.store.snapshot(&[Prefix::new(["tenancy", "gangs"]).unwrap()])).unwrap();
        prop_assert!(left.is_empty());
        let records = block_on(world.store.snapshot(&[Prefix::new(["tenancy", "placements"]).unwrap()])).unwrap();
        prop_assert_eq!(records.len(), expected);
    }
}
