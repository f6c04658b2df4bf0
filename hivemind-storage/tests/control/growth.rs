//! Volumes grow, and never shrink; parameters change.

use std::collections::BTreeMap;

use hivemind_core::store::Txn;
use hivemind_core::{ErrorKind, block_on};
use hivemind_storage::{AccessMode, Capabilities, Capability, StorageProvider, VolumeMode};

use super::world::{World, class, gib, memory, node, spec};

fn expand(world: &World, size: u64) -> hivemind_core::Result<()> {
    let claim = "data".parse().unwrap();
    world.commit(|s, view, txn| s.stage_expand(view, txn, &world.ctx("acme"), &claim, gib(size)))
}

#[test]
fn a_volume_grows_at_the_provider_and_then_on_its_node() {
    let world = World::new(memory().losing_one_in(2).delaying_one_in(2));
    world.ready("data");
    world.attach("data", "n1").unwrap();
    world.settle();
    for _ in 0..2 {
        expand(&world, 3).unwrap();
    }
    world.settle();
    let volume = world.volume("data");
    assert_eq!(volume.size, gib(3));
    assert!(volume.growth.as_ref().is_some_and(|growth| growth.on_node), "the node has something to do");
    let claim = "data".parse().unwrap();
    for node in [node("n2"), node("n1")] {
        world
            .commit(|s, view, txn| s.stage_node_expanded(view, txn, &world.ctx("acme"), &claim, &node))
            .unwrap();
    }
    assert_eq!(world.volume("data").growth, None);
}

#[test]
fn pitfall_17_a_smaller_size_is_refused_without_a_call() {
    let world = World::new(memory());
    world.ready("data");
    expand(&world, 5).unwrap();
    world.settle();
    let calls = world.provider.calls();
    let refused = expand(&world, 2).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains("does not shrink"), "{refused}");
    expand(&world, 5).unwrap();
    world.settle();
    assert_eq!(world.provider.calls(), calls, "the provider was asked");
}

#[test]
fn a_claim_that_has_grown_is_still_the_one_that_was_asked_for() {
    let world = World::new(memory());
    world.ready("data");
    expand(&world, 5).unwrap();
    world.settle();
    for size in [1, 5] {
        let mut same = spec("data");
        same.size = gib(size);
        world.claim(&same).unwrap();
    }
    let mut other = spec("data");
    other.size = gib(3);
    assert_eq!(world.claim(&other).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(world.volume("data").size, gib(5));
}

#[test]
fn a_wish_that_is_too_large_can_be_lowered() {
    let world = World::new(memory().with_capacity(gib(4)));
    world.ready("data");
    expand(&world, 9).unwrap();
    for _ in 0..5 {
        assert!(block_on(world.controller.tick()).unwrap().changed());
    }
    let status =
        world.storage.explain_claim(&world.view(), &world.ctx("acme"), &"data".parse().unwrap()).unwrap();
    let (because, failures, _) = status.failing.unwrap();
    assert!(because.contains("asks for") && failures >= 1, "{because}");
    expand(&world, 3).unwrap();
    world.settle();
    assert_eq!(world.volume("data").size, gib(3));
}

#[test]
fn what_cannot_grow_on_a_node_waits_until_it_is_off() {
    let able = Capabilities::new([Capability::Attach, Capability::Expand, Capability::AttachedNodes]);
    let world = World::new(memory().with_capabilities(able));
    world.ready("data");
    world.attach("data", "n1").unwrap();
    world.settle();
    expand(&world, 2).unwrap();
    world.settle();
    assert_eq!(world.volume("data").size, gib(1));
    let (claim, n1) = ("data".parse().unwrap(), node("n1"));
    world.commit(|s, view, txn| s.stage_detach(view, txn, &world.ctx("acme"), &claim, &n1)).unwrap();
    world.settle();
    let volume = world.volume("data");
    assert_eq!(volume.size, gib(2));
    assert!(volume.growth.as_ref().is_some_and(|growth| growth.on_node), "its next node has something to do");
    world.attach("data", "n2").unwrap();
    world.settle();
    let (claim, n2) = ("data".parse().unwrap(), node("n2"));
    world.commit(|s, view, txn| s.stage_node_expanded(view, txn, &world.ctx("acme"), &claim, &n2)).unwrap();
    assert_eq!(world.volume("data").growth, None);
}

#[test]
fn a_class_may_forbid_growth() {
    let world = World::new(memory());
    world.commit(|s, view, txn| s.stage_class(view, txn, &class("fixed").with_expansion(false))).unwrap();
    world.claim(&spec("data").of_class("fixed".parse().unwrap())).unwrap();
    world.settle();
    assert_eq!(expand(&world, 2).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn parameters_change_once_and_a_dry_run_says_how() {
    let world = World::new(memory());
    world.ready("data");
    let claim = "data".parse().unwrap();
    let faster = BTreeMap::from([("iops".to_owned(), "9000".to_owned())]);
    let plan = || {
        world.storage.plan_modify(&world.view(), &Txn::new(), &world.ctx("acme"), &claim, &faster).unwrap()
    };
    assert_eq!(plan()["iops"], (None, "9000".to_owned()));
    let modify =
        || world.commit(|s, view, txn| s.stage_modify(view, txn, &world.ctx("acme"), &claim, &faster));
    modify().unwrap();
    world.settle();
    let calls = world.provider.calls();
    assert!(plan().is_empty());
    modify().unwrap();
    world.settle();
    assert_eq!(world.provider.calls(), calls, "a change of nothing is no call");
    assert_eq!(world.volume("data").options.mutable_parameters, faster);
}

#[test]
fn what_the_provider_cannot_do_is_refused_and_told() {
    let able = Capabilities::new([Capability::Attach]).with_access_modes([AccessMode::ReadWriteOnce]);
    let world = World::new(memory().with_capabilities(able));
    world.ready("data");
    expand(&world, 2).unwrap();
    let options = hivemind_storage::VolumeOptions::default().with_volume_mode(VolumeMode::Block);
    world.claim(&spec("raw").with_options(options)).unwrap();
    let before = world.provider.calls();
    world.settle();
    assert_eq!(world.provider.calls(), before, "what it cannot do is not even asked for");
    let why = world.volume("data").growth.unwrap().refused.unwrap();
    assert!(why.contains("no capability expand"), "{why}");
    let raw =
        world.storage.explain_claim(&world.view(), &world.ctx("acme"), &"raw".parse().unwrap()).unwrap();
    assert!(raw.waits_for[0].contains("no block devices"), "{:?}", raw.waits_for);
    assert_eq!(block_on(world.provider.get_provider_metrics()).unwrap().volumes, 1);
}
