//! Claims that wait for their first consumer.

use std::time::Duration;

use hivemind_core::store::Txn;
use hivemind_core::{Clock, ErrorKind, NodeId};
use hivemind_storage::{BindingMode, HoldDecision, NodeInfo, Placement, Topology, VolumePhase};

use super::world::{World, class, memory, name, node, spec};

fn zone(name: &str) -> Topology {
    Topology::everywhere().with("zone", name)
}

/// Two zones with a node each, and a class that waits.
fn zoned() -> World {
    let world = World::new(memory().with_places([zone("z1"), zone("z2")]));
    let late = class("late").with_binding(BindingMode::WaitForFirstConsumer);
    world.commit(|s, view, txn| s.stage_class(view, txn, &late)).unwrap();
    for (node, place) in [("n1", "z1"), ("n2", "z2")] {
        let info = NodeInfo::new(self::node(node)).with_topology(zone(place));
        world.commit(|s, view, txn| s.stage_node(view, txn, &name(), &info)).unwrap();
    }
    world.claim(&spec("data").of_class("late".parse().unwrap())).unwrap();
    world
}

fn on(world: &World, node: NodeId) -> Placement {
    Placement::new(node, ["data".parse().unwrap()], world.clock.now().after(Duration::from_secs(30)))
}

#[test]
fn the_volume_is_made_where_the_first_workload_runs() {
    let world = zoned();
    world.settle();
    assert_eq!(world.there().0, 0, "nothing is made before somebody wants it");
    let waits =
        world.storage.explain_claim(&world.view(), &world.ctx("acme"), &"data".parse().unwrap()).unwrap();
    assert_eq!(waits.waits_for, ["its first workload is to be placed"]);
    let placement = on(&world, node("n2"));
    let held = world.commit(|s, view, txn| s.stage_hold(view, txn, &world.ctx("acme"), &placement)).unwrap();
    assert_eq!(held, [HoldDecision::ToBeMade]);
    world.commit(|s, view, txn| s.stage_hold_commit(view, txn, &world.ctx("acme"), &placement)).unwrap();
    world.settle();
    assert_eq!(world.volume("data").topology, [zone("z2")]);

    let elsewhere = on(&world, node("n1"));
    let far =
        world.commit(|s, view, txn| s.stage_hold(view, txn, &world.ctx("acme"), &elsewhere)).unwrap_err();
    assert_eq!(far.kind(), ErrorKind::Conflict);
    assert_eq!(world.attach("data", "n1").unwrap_err().kind(), ErrorKind::Conflict);
    world.attach("data", "n2").unwrap();
}

#[test]
fn a_placement_excludes_others_until_it_is_given_up_or_over() {
    let world = zoned();
    let first = on(&world, node("n1"));
    let hold = |placement: &Placement| {
        world.commit(|s, view, txn| s.stage_hold(view, txn, &world.ctx("acme"), placement))
    };
    hold(&first).unwrap();
    hold(&first).unwrap();
    assert_eq!(hold(&on(&world, node("n2"))).unwrap_err().kind(), ErrorKind::Conflict);
    world.commit(|s, view, txn| s.stage_hold_abort(view, txn, &world.ctx("acme"), &first)).unwrap();
    hold(&on(&world, node("n2"))).unwrap();
    world.clock.advance(Duration::from_secs(31));
    // Its time is over: it cannot be committed, and another may take its place.
    let late = on(&world, node("n2"));
    let over = world.commit(|s, view, txn| s.stage_hold_commit(view, txn, &world.ctx("acme"), &late));
    assert_eq!(over.unwrap_err().kind(), ErrorKind::Conflict);
    let again = on(&world, node("n1"));
    hold(&again).unwrap();
    world.commit(|s, view, txn| s.stage_hold_commit(view, txn, &world.ctx("acme"), &again)).unwrap();
    world.settle();
    assert_eq!(world.volume("data").topology, [zone("z1")]);
}

#[test]
fn an_offer_is_kept_for_one_claim_at_a_time_and_comes_back() {
    let world = zoned();
    let kept =
        spec("kept").of_class("late".parse().unwrap()).with_reclaim(hivemind_storage::ReclaimPolicy::Retain);
    world.claim(&kept).unwrap();
    let place = |claim: &str| {
        let until = world.clock.now().after(Duration::from_secs(30));
        Placement::new(node("n1"), [claim.parse().unwrap()], until)
    };
    let acme = || world.ctx("acme");
    world.commit(|s, view, txn| s.stage_hold(view, txn, &acme(), &place("kept"))).unwrap();
    world.commit(|s, view, txn| s.stage_hold_commit(view, txn, &acme(), &place("kept"))).unwrap();
    world.settle();
    let volume = world.volume("kept").key.volume;
    world.release("kept").unwrap();
    world.commit(|s, view, txn| s.stage_offer(view, txn, &acme(), &volume)).unwrap();

    let first = world.commit(|s, view, txn| s.stage_hold(view, txn, &acme(), &place("data"))).unwrap();
    assert_eq!(first, [HoldDecision::Offered(volume.clone())]);
    world.clock.advance(Duration::from_secs(31));
    let swept = world.commit(|s, view, txn| s.stage_expired_holds(view, txn, &acme())).unwrap();
    assert_eq!(swept, 1);
    let again = world.commit(|s, view, txn| s.stage_hold(view, txn, &acme(), &place("data"))).unwrap();
    assert_eq!(again, [HoldDecision::Offered(volume.clone())]);
    world.commit(|s, view, txn| s.stage_hold_commit(view, txn, &acme(), &place("data"))).unwrap();
    let bound = world.storage.volume(&world.view(), &Txn::new(), &acme(), &"data".parse().unwrap()).unwrap();
    assert_eq!((&bound.key.volume, &bound.phase), (&volume, &VolumePhase::Ready));
}
