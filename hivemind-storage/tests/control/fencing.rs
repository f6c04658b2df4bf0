//! Nodes that are lost: their volumes move with proof, and only with it.

use hivemind_core::store::Txn;
use hivemind_core::{ErrorKind, UserId, block_on};
use hivemind_storage::{
    AccessMode, AttachSpec, AttachVolume, Capabilities, Capability, FenceEpoch, Fenced, NodeInfo,
    StorageProvider, VolumeOptions,
};

use super::world::{World, memory, name, node, spec};

fn move_to(world: &World, from: &str, to: &str, proof: &Fenced) -> hivemind_core::Result<()> {
    let claim = "data".parse().unwrap();
    let (from, to) = (node(from), node(to));
    world.commit(|s, view, txn| s.stage_move(view, txn, &world.ctx("acme"), &claim, &from, &to, proof))
}

fn with_nodes(max: u64) -> World {
    let world = World::new(memory());
    for name in ["n1", "n2"] {
        let info = NodeInfo::new(node(name)).with_max_volumes(max);
        world.commit(|s, view, txn| s.stage_node(view, txn, &self::name(), &info)).unwrap();
    }
    world
}

#[test]
fn pitfall_06_a_volume_on_a_node_is_not_taken_by_another() {
    let world = World::new(memory());
    world.ready("data");
    world.attach("data", "n1").unwrap();
    world.settle();
    let refused = world.attach("data", "n2").unwrap_err();
    assert_eq!(
        (refused.kind(), refused.message()),
        (ErrorKind::Conflict, "volume data is on node n1: detach it first")
    );
    assert!(world.nodes_of("data").contains("n1"));
}

#[test]
fn pitfall_07_a_slow_node_keeps_its_volumes_until_there_is_proof() {
    let world = with_nodes(9);
    world.ready("data");
    world.attach("data", "n1").unwrap();
    world.settle();
    // The storage does not refuse the node: whoever says so is not believed.
    let guess = move_to(&world, "n1", "n2", &Fenced::ByStorage).unwrap_err();
    assert_eq!(guess.message(), "provider memory does not fence node n1: fence it first");
    world.settle();
    assert_eq!(world.nodes_of("data").into_iter().collect::<Vec<_>>(), ["n1"]);
    let ada: UserId = "ada".parse().unwrap();
    move_to(&world, "n1", "n2", &Fenced::operator(ada, "the rack is dark")).unwrap();
    assert!(world.volume("data").maybe_attached[&node("n1")].proof.is_some(), "the proof is on record");
    world.settle();
    assert_eq!(world.nodes_of("data").into_iter().collect::<Vec<_>>(), ["n2"]);
}

#[test]
fn every_workload_of_a_lost_node_goes_along_and_a_stranger_ends_nothing() {
    let world = World::new(memory());
    world.ready("data");
    let claim = "data".parse().unwrap();
    let on = |workload: &str| AttachSpec::new(node("n1")).for_workload(workload.parse().unwrap());
    for workload in ["w1", "w2"] {
        world
            .commit(|s, view, txn| s.stage_attach_as(view, txn, &world.ctx("acme"), &claim, &on(workload)))
            .unwrap();
    }
    world.settle();
    move_to(&world, "n1", "n2", &Fenced::operator("ada".parse().unwrap(), "the rack is dark")).unwrap();
    world.settle();
    let wanted = || world.volume("data").desired.get(&node("n2")).map(|wish| wish.workloads.len());
    assert_eq!(wanted(), Some(2));
    for (gone, left) in [("w3", Some(2)), ("w1", Some(1)), ("w1", Some(1)), ("w2", None)] {
        let (n2, gone) = (node("n2"), gone.parse().unwrap());
        world
            .commit(|s, view, txn| s.stage_detach_from(view, txn, &world.ctx("acme"), &claim, &n2, &gone))
            .unwrap();
        assert_eq!(wanted(), left, "after {gone}");
    }
}

#[test]
fn workloads_of_a_lost_node_join_those_of_a_node_that_has_the_volume() {
    let world = World::new(memory());
    let options = VolumeOptions::default().with_access_modes([AccessMode::ReadWriteMany]);
    world.claim(&spec("data").with_options(options)).unwrap();
    world.settle();
    let claim = "data".parse().unwrap();
    for (on, workload) in [("n1", "w1"), ("n1", "w2"), ("n2", "w3")] {
        let of = AttachSpec::new(node(on)).for_workload(workload.parse().unwrap());
        world.commit(|s, view, txn| s.stage_attach_as(view, txn, &world.ctx("acme"), &claim, &of)).unwrap();
    }
    world.settle();
    move_to(&world, "n1", "n2", &Fenced::operator("ada".parse().unwrap(), "the rack is dark")).unwrap();
    assert_eq!(world.volume("data").desired[&node("n2")].workloads.len(), 3);
}

#[test]
fn pitfall_08_a_lost_node_gives_its_slots_back() {
    let world = with_nodes(1);
    world.ready("data");
    world.ready("other");
    world.attach("data", "n1").unwrap();
    let full = world.attach("other", "n1").unwrap_err();
    assert_eq!(
        (full.kind(), full.message()),
        (ErrorKind::Exhausted, "node n1 has 1 slots for volumes of memory, all taken")
    );
    move_to(&world, "n1", "n2", &Fenced::PowerOff).unwrap();
    // Until it is known to be gone from there, it counts.
    assert_eq!(world.attach("other", "n1").unwrap_err().kind(), ErrorKind::Exhausted);
    world.settle();
    world.attach("other", "n1").unwrap();
    world.settle();
    assert!(world.nodes_of("other").contains("n1") && world.nodes_of("data").contains("n2"));
}

#[test]
fn pitfall_09_the_storage_refuses_the_node_that_the_record_names() {
    let world = with_nodes(9);
    world.ready("data");
    world.ready("bystander");
    world.attach("data", "n1").unwrap();
    world.attach("bystander", "n2").unwrap();
    world.settle();
    let n1 = node("n1");
    world.commit(|s, view, txn| s.stage_fence(view, txn, &name(), &n1)).unwrap();
    assert!(move_to(&world, "n1", "n2", &Fenced::ByStorage).is_err(), "wanted is not done");
    world.settle();
    assert!(world.nodes_of("data").is_empty(), "the storage took it from the fenced node");
    assert!(world.nodes_of("bystander").contains("n2"), "and left the other alone");
    assert_eq!(world.attach("bystander", "n1").unwrap_err().kind(), ErrorKind::Conflict);

    move_to(&world, "n1", "n2", &Fenced::ByStorage).unwrap();
    world.settle();
    assert!(world.nodes_of("data").contains("n2"));
    // The lost node comes back with what it knew then.
    let made = world.volume("data").made().unwrap();
    let stale = AttachVolume::new(hivemind_core::OpToken::new("old"), made, n1.clone().into())
        .of_epoch(FenceEpoch::default());
    assert_eq!(block_on(world.provider.attach_volume(&stale)).unwrap_err().kind(), ErrorKind::Conflict);

    world.commit(|s, view, txn| s.stage_unfence(view, txn, &name(), &n1)).unwrap();
    world.settle();
    world.ready("fresh");
    world.attach("fresh", "n1").unwrap();
    world.settle();
    assert!(world.nodes_of("fresh").contains("n1"));
}

#[test]
fn volumes_of_a_fenced_node_go_on_whatever_was_decided_about_each_before() {
    let world = with_nodes(9);
    let options = || VolumeOptions::default().with_access_modes([AccessMode::ReadWriteMany]);
    for claim in ["moved", "still"] {
        world.ready(claim);
    }
    world.claim(&spec("shared").with_options(options())).unwrap();
    world.settle();
    // What was taken by force before has a higher epoch than the others.
    world.attach("moved", "n2").unwrap();
    world.settle();
    let ada = || Fenced::operator("ada".parse().unwrap(), "the rack is dark");
    let go = |claim: &str, from: &str, to: &str, proof: &Fenced| {
        let (claim, from, to) = (claim.parse().unwrap(), node(from), node(to));
        world
            .commit(|s, view, txn| s.stage_move(view, txn, &world.ctx("acme"), &claim, &from, &to, proof))
            .unwrap();
        world.settle();
    };
    for (from, to) in [("n2", "n1"), ("n1", "n2"), ("n2", "n1")] {
        go("moved", from, to, &ada());
    }
    world.attach("still", "n1").unwrap();
    for node in ["n1", "n2"] {
        world.attach("shared", node).unwrap();
    }
    world.settle();
    let n1 = node("n1");
    world.commit(|s, view, txn| s.stage_fence(view, txn, &name(), &n1)).unwrap();
    world.settle();
    assert_eq!(world.nodes_of("shared").into_iter().collect::<Vec<_>>(), ["n2"]);
    for claim in ["still", "moved", "shared"] {
        go(claim, "n1", "n2", &Fenced::ByStorage);
        assert_eq!(world.nodes_of(claim).into_iter().collect::<Vec<_>>(), ["n2"], "{claim}");
        assert!(world.volume(claim).attached.contains_key(&node("n2")), "{claim}");
    }
}

#[test]
fn a_provider_that_cannot_fence_says_so_and_leaves_the_node_as_it_was() {
    let world = World::new(memory().with_capabilities(Capabilities::new([Capability::Attach])));
    let n1 = node("n1");
    world.commit(|s, view, txn| s.stage_node(view, txn, &name(), &NodeInfo::new(n1.clone()))).unwrap();
    world.ready("data");
    world.attach("data", "n1").unwrap();
    world.settle();
    world.commit(|s, view, txn| s.stage_fence(view, txn, &name(), &n1)).unwrap();
    world.settle();
    let asked = world.storage.is_fenced(&world.view(), &Txn::new(), &name(), &n1).unwrap_err();
    assert_eq!(asked.kind(), ErrorKind::Unsupported);
    assert!(asked.message().contains("power it off instead"), "{asked}");
    assert_eq!(move_to(&world, "n1", "n2", &Fenced::ByStorage).unwrap_err().kind(), ErrorKind::Unsupported);
    world.ready("more");
    world.attach("more", "n1").unwrap();
    world.settle();
    assert!(world.nodes_of("more").contains("n1"));
    move_to(&world, "n1", "n2", &Fenced::PowerOff).unwrap();
    world.settle();
    assert!(world.nodes_of("data").contains("n2"));
}

#[test]
fn pitfall_21_slots_that_others_take_count() {
    let world = with_nodes(2);
    for claim in ["a", "b"] {
        world.ready(claim);
    }
    world.attach("a", "n1").unwrap();
    world.commit(|s, view, txn| s.stage_foreign_volumes(view, txn, &name(), &node("n1"), 1)).unwrap();
    assert_eq!(world.attach("b", "n1").unwrap_err().kind(), ErrorKind::Exhausted);
    world.settle();
    assert!(world.nodes_of("a").contains("n1"), "what runs goes on");
    world.commit(|s, view, txn| s.stage_foreign_volumes(view, txn, &name(), &node("n1"), 0)).unwrap();
    world.attach("b", "n1").unwrap();
}

#[test]
fn pitfall_20_a_flapping_node_makes_a_bounded_number_of_calls() {
    let world = World::new(memory());
    world.ready("data");
    let before = world.provider.calls();
    for _ in 0..50 {
        world.attach("data", "n1").unwrap();
        let (claim, n1) = ("data".parse().unwrap(), node("n1"));
        world.commit(|s, view, txn| s.stage_detach(view, txn, &world.ctx("acme"), &claim, &n1)).unwrap();
    }
    world.settle();
    let calls = world.provider.calls() - before;
    assert!(calls <= 2, "{calls} calls for a wish that was taken back each time");
    assert!(world.nodes_of("data").is_empty());
}

#[test]
fn one_node_writes_and_others_read() {
    let world = World::new(memory());
    let options = VolumeOptions::default().with_access_mode(AccessMode::SingleWriterMany);
    world.claim(&spec("data").with_options(options)).unwrap();
    world.attach("data", "n1").unwrap();
    assert_eq!(world.attach("data", "n2").unwrap_err().kind(), ErrorKind::Conflict);
    let (claim, reader) = ("data".parse().unwrap(), AttachSpec::new(node("n2")).for_reading());
    world.commit(|s, view, txn| s.stage_attach_as(view, txn, &world.ctx("acme"), &claim, &reader)).unwrap();
    world.settle();
    let made = world.volume("data").made().unwrap();
    world.provider.write(&made, &"n1".parse().unwrap(), b"x").unwrap();
    assert!(world.provider.write(&made, &"n2".parse().unwrap(), b"y").is_err());
}
