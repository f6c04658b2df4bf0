//! What two requests, a tenant's state and a lost member do to placements in the store.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use crate::common;

use std::collections::BTreeMap;

use common::{World, admin, ctx};
use hivemind_core::labels::Labels;
use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::store::{Prefix, Txn};
use hivemind_core::{ErrorKind, NodeId, Result, StateStore, TenantContext, Timestamp, block_on};
use hivemind_tenancy::placement::{
    AffinityTerm, GangState, Topology, TopologySpread, WorkloadAffinity, WorkloadRequest,
};
use hivemind_tenancy::{Node, TenantSpec};

fn cores(n: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(n))
}

fn node(world: &World, name: &str, n: u64, zone: &str) {
    let labels = Labels::new().with("zone", zone).unwrap();
    let node = Node::new(name.parse().unwrap(), cores(n)).with_labels(labels);
    block_on(world.tenants.add_node(&admin(&format!("add-{name}")), node)).unwrap();
}

fn tenant(world: &World, name: &str) -> TenantContext {
    ctx(&world.tenant(TenantSpec::new(name.parse().unwrap())).tenant, "r")
}

fn workload(name: &str) -> WorkloadRequest {
    let labels = Labels::new().with("app", "db").unwrap();
    WorkloadRequest::new(name.parse().unwrap(), cores(1)).with_labels(labels)
}

fn zone() -> Topology {
    Topology::Label("zone".parse().unwrap())
}

fn db() -> AffinityTerm {
    AffinityTerm::new("app=db".parse().unwrap(), zone())
}

fn apart(name: &str) -> WorkloadRequest {
    let mut affinity = WorkloadAffinity::default();
    affinity.anti_required.push(db());
    workload(name).with_affinity(affinity)
}

fn used(world: &World) -> u64 {
    let all = world.tenants.nodes(&world.view(), &Txn::new()).unwrap();
    all.iter().map(|(_, running)| running.used.cpu().as_millis() / 1000).sum()
}

/// Both decide on the same state and commit one after the other; how the second fares.
fn race(
    world: &World,
    acme: &TenantContext,
    one: (&str, WorkloadRequest),
    two: (&str, WorkloadRequest),
) -> Result<()> {
    let view = world.view();
    let decide = |(at, asks): (&str, WorkloadRequest)| {
        let mut txn = Txn::new();
        let decided = [(asks, at.parse::<NodeId>().unwrap())];
        world.tenants.stage_assign(&view, &mut txn, acme, &decided).map(|_| txn).unwrap()
    };
    let (first, second) = (decide(one), decide(two));
    block_on(world.store.commit(&first)).unwrap();
    block_on(world.store.commit(&second)).map(drop)
}

#[test]
fn two_requests_that_a_rule_over_several_nodes_keeps_apart_meet() {
    let spread = |name| workload(name).with_spread(TopologySpread::new(zone(), "app=db".parse().unwrap()));
    let mut beside = WorkloadAffinity::default();
    beside.required.push(db());
    let first_of = |name| workload(name).with_affinity(beside.clone());
    for (case, known, one, two, meet) in [
        ("both keep others away", false, apart("a"), apart("b"), true),
        ("the first does", false, apart("a"), workload("b"), true),
        ("the second does, of a tenant that has such rules", true, workload("a"), apart("b"), true),
        ("spread", false, spread("a"), spread("b"), true),
        ("each is the first of its kind", false, first_of("a"), first_of("b"), true),
        ("no rules", false, workload("a"), workload("b"), false),
    ] {
        let world = World::new();
        node(&world, "n1", 4, "z");
        node(&world, "n2", 4, "z");
        node(&world, "n3", 4, "y");
        let acme = tenant(&world, "acme");
        if known {
            let before = [(apart("c"), "n3".parse().unwrap())];
            world.commit(|view, txn| world.tenants.stage_assign(view, txn, &acme, &before)).unwrap();
        }
        let second = race(&world, &acme, ("n1", one), ("n2", two)).map_err(|e| e.kind());
        assert_eq!(second, if meet { Err(ErrorKind::Conflict) } else { Ok(()) }, "{case}");
    }
}

#[test]
fn requests_of_other_tenants_do_not_meet_at_a_rule() {
    let world = World::new();
    node(&world, "n1", 4, "z");
    node(&world, "n2", 4, "z");
    let (acme, other) = (tenant(&world, "acme"), tenant(&world, "other"));
    let view = world.view();
    let decide = |who: &TenantContext, at: &str| {
        let mut txn = Txn::new();
        let decided = [(apart("a"), at.parse::<NodeId>().unwrap())];
        world.tenants.stage_assign(&view, &mut txn, who, &decided).map(|_| txn).unwrap()
    };
    let (first, second) = (decide(&acme, "n1"), decide(&other, "n2"));
    block_on(world.store.commit(&first)).unwrap();
    block_on(world.store.commit(&second)).unwrap();
}

#[test]
fn a_suspended_tenant_places_nothing_new_and_may_move_what_it_has() {
    let world = World::new();
    node(&world, "n1", 4, "z");
    let acme = tenant(&world, "acme");
    let place =
        |name: &str| world.commit(|view, txn| world.tenants.stage_place(view, txn, &acme, &[workload(name)]));
    let placed = place("a").unwrap();
    block_on(world.tenants.suspend(&admin("s"), &acme.tenant().id, None)).unwrap();
    assert_eq!(place("b").unwrap_err().kind(), ErrorKind::Conflict);
    let decided = [(workload("b"), "n1".parse().unwrap())];
    let assigned = world.commit(|view, txn| world.tenants.stage_assign(view, txn, &acme, &decided));
    assert_eq!(assigned.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(used(&world), 1);
    node(&world, "n2", 4, "z");
    let grown = world.commit(|view, txn| {
        world.tenants.stage_unplace(view, txn, &acme, &placed)?;
        let larger = WorkloadRequest::new("a".parse().unwrap(), cores(2));
        world.tenants.stage_place(view, txn, &acme, &[larger])
    });
    assert_eq!(grown.unwrap_err().kind(), ErrorKind::Conflict, "what is moved does not grow");
    let moved = world.commit(|view, txn| {
        world.tenants.stage_unplace(view, txn, &acme, &placed)?;
        let to = [(workload("a"), "n2".parse().unwrap())];
        world.tenants.stage_assign(view, txn, &acme, &to)
    });
    assert_eq!(moved.unwrap(), BTreeMap::from([("a".parse().unwrap(), "n2".parse().unwrap())]));
}

fn gang(
    world: &World,
    who: &TenantContext,
    now: u64,
    id: &str,
    asks: &[WorkloadRequest],
) -> Result<GangState> {
    let who = who.clone().with_time(Timestamp::from_secs(now));
    let deadline = Timestamp::from_secs(60);
    world.commit(|view, txn| world.tenants.stage_gang(view, txn, &who, &id.parse().unwrap(), asks, deadline))
}

#[test]
fn a_gang_is_not_whole_because_one_member_is_named_twice() {
    let world = World::new();
    node(&world, "n1", 1, "z");
    let acme = tenant(&world, "acme");
    gang(&world, &acme, 1, "g", &[workload("a"), workload("b")]).unwrap();
    let twice = gang(&world, &acme, 2, "g", &[workload("a"), workload("a")]);
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::Invalid);
}

fn put_out(world: &World, who: &TenantContext, name: &str, node: &str) {
    let gone = BTreeMap::from([(name.parse().unwrap(), node.parse().unwrap())]);
    world.commit(|view, txn| world.tenants.stage_unplace(view, txn, who, &gone)).unwrap();
}

#[test]
fn pitfall_07_a_member_that_was_put_out_does_not_keep_gangs_from_giving_back() {
    let world = World::new();
    node(&world, "n1", 2, "z");
    let (acme, other) = (tenant(&world, "acme"), tenant(&world, "other"));
    assert!(matches!(
        gang(&world, &acme, 1, "g", &["a", "b", "c"].map(workload)),
        Ok(GangState::Holding { .. })
    ));
    node(&world, "n2", 1, "z");
    assert!(matches!(gang(&world, &other, 1, "g", &["x", "y"].map(workload)), Ok(GangState::Holding { .. })));
    assert_eq!(used(&world), 3);
    put_out(&world, &acme, "a", "n1");
    put_out(&world, &acme, "b", "n1");
    // On its own, it runs elsewhere now: the gang has no part in that.
    node(&world, "n3", 1, "z");
    let to = [(workload("b"), "n3".parse().unwrap())];
    world.commit(|view, txn| world.tenants.stage_assign(view, txn, &acme, &to)).unwrap();
    let sweep = admin("sweep").with_time(Timestamp::from_secs(60));
    assert!(!world.commit(|view, txn| world.tenants.stage_sweep_gangs(view, txn, &sweep)).unwrap());
    assert_eq!((used(&world), world.tenants.next_gang_deadline(&world.view()).unwrap()), (1, None));
}

#[test]
fn pitfall_07_a_gang_is_whole_only_if_all_run() {
    let world = World::new();
    node(&world, "n1", 2, "z");
    let acme = tenant(&world, "acme");
    let members = ["a", "b", "c"].map(workload);
    assert!(matches!(gang(&world, &acme, 1, "g", &members), Ok(GangState::Holding { .. })));
    put_out(&world, &acme, "a", "n1");
    let GangState::Holding { gang: held, .. } = gang(&world, &acme, 2, "g", &members).unwrap() else {
        panic!("there is room for two");
    };
    assert_eq!((held.held.len(), held.missing.len(), used(&world)), (2, 1, 2));
    put_out(&world, &acme, "b", "n1");
    node(&world, "n2", 2, "z");
    assert!(
        matches!(gang(&world, &acme, 3, "g", &members), Ok(GangState::Placed(placed)) if placed.len() == 3)
    );
    assert_eq!(used(&world), 3);
}

#[test]
fn a_gang_is_small_enough_to_be_given_back_at_once() {
    let world = World::new();
    for number in 0..40 {
        node(&world, &format!("n{number}"), 1, "z");
    }
    let acme = tenant(&world, "acme");
    let members = |count: usize| (0..count).map(|n| workload(&format!("w{n}"))).collect::<Vec<_>>();
    let error = gang(&world, &acme, 1, "g", &members(33)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("at most 32"), "{error}");
    let large = WorkloadRequest::new("large".parse().unwrap(), cores(2));
    let most = [members(31), vec![large]].concat();
    assert!(matches!(gang(&world, &acme, 1, "g", &most), Ok(GangState::Holding { .. })));
    assert_eq!(used(&world), 31);
    assert_eq!(gang(&world, &acme, 60, "g", &most).unwrap(), GangState::GivenBack);
    assert_eq!(used(&world), 0);
}

/// All that run on a node share one value of the store: few must not fill it for all.
#[test]
fn a_workload_with_endless_labels_is_refused() {
    let world = World::new();
    node(&world, "n1", 1, "z");
    let acme = tenant(&world, "acme");
    let mut labels = Labels::new();
    for number in 0..40 {
        labels = labels.with(&format!("key-{number}-{}", "x".repeat(50)), &"y".repeat(60)).unwrap();
    }
    let asks = [workload("a").with_labels(labels)];
    let placed = world.commit(|view, txn| world.tenants.stage_place(view, txn, &acme, &asks));
    let error = placed.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("of 4096: give it fewer"), "{error}");
    let decided = [(asks[0].clone(), "n1".parse().unwrap())];
    let assigned = world.commit(|view, txn| world.tenants.stage_assign(view, txn, &acme, &decided));
    assert_eq!(assigned.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_tenant_that_is_gone_leaves_no_fence() {
    let world = World::new();
    node(&world, "n1", 1, "z");
    let acme = tenant(&world, "acme");
    let asks = [apart("a")];
    let placed = world.commit(|view, txn| world.tenants.stage_place(view, txn, &acme, &asks)).unwrap();
    let fences = || {
        let of_fence = |key: String| key.contains("placement-fences");
        world.view().scan(&Prefix::ROOT).filter(|record| of_fence(record.key.to_string())).count()
    };
    assert_eq!(fences(), 1);
    world.commit(|view, txn| world.tenants.stage_unplace(view, txn, &acme, &placed)).unwrap();
    for request in ["d1", "d2", "d3"] {
        let _ = block_on(world.tenants.delete(&admin(request), &acme.tenant().id));
    }
    assert_eq!(fences(), 0);
}
