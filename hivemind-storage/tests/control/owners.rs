//! One owner for each volume, whatever is decided on at the same time.

use std::collections::BTreeSet;
use std::time::Duration;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Clock, ErrorKind, OpToken, Result, StateStore, block_on};
use hivemind_storage::{
    Adoption, BindingMode, Capabilities, Capability, ClaimSource, CreateVolume, Fenced, NodeInfo, Placement,
    ReclaimPolicy, SizeRange, StorageManager, StorageProvider, VolumeKey, VolumeOptions, VolumePhase,
};

use super::world::{World, class, gib, memory, name, node, spec};

/// A world with an offered volume `kept` and a claim `late` that waits.
fn with_offer() -> World {
    let world = World::new(memory());
    let late = class("late").with_binding(BindingMode::WaitForFirstConsumer);
    world.commit(|s, view, txn| s.stage_class(view, txn, &late)).unwrap();
    let wish = spec("kept").of_class("late".parse().unwrap()).with_reclaim(ReclaimPolicy::Retain);
    world.claim(&wish).unwrap();
    hold(&world, "kept").unwrap();
    let placement = placement(&world, "kept");
    world.commit(|s, view, txn| s.stage_hold_commit(view, txn, &world.ctx("acme"), &placement)).unwrap();
    world.settle();
    world.release("kept").unwrap();
    world.claim(&spec("late").of_class("late".parse().unwrap())).unwrap();
    offer(&world).unwrap();
    world
}

fn placement(world: &World, claim: &str) -> Placement {
    Placement::new(node("n1"), [claim.parse().unwrap()], world.clock.now().after(Duration::from_secs(30)))
}

fn hold(world: &World, claim: &str) -> Result<()> {
    let placement = placement(world, claim);
    world.commit(|s, view, txn| s.stage_hold(view, txn, &world.ctx("acme"), &placement)).map(|_| ())
}

fn offer(world: &World) -> Result<()> {
    let volume = "kept".parse().unwrap();
    world.commit(|s, view, txn| s.stage_offer(view, txn, &world.ctx("acme"), &volume))
}

/// What claims are bound to, each once.
fn bound(world: &World) -> BTreeSet<String> {
    let claims = world.storage.claims(&world.view(), &Txn::new(), &world.ctx("acme")).unwrap();
    let all: Vec<_> =
        claims.iter().filter_map(|claim| claim.volume.as_ref()).map(ToString::to_string).collect();
    let distinct: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!(all.len(), distinct.len(), "a volume has two claims: {all:?}");
    distinct
}

#[test]
fn a_held_volume_is_nobody_elses() {
    let world = with_offer();
    hold(&world, "late").unwrap();
    let volume = "kept".parse().unwrap();
    for refused in [
        offer(&world),
        world.commit(|s, view, txn| s.stage_volume_removal(view, txn, &world.ctx("acme"), &volume)),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    }
    // Released instead of placed: the volume is offered again.
    world.release("late").unwrap();
    world.claim(&spec("next").of_class("late".parse().unwrap()).bound_to(volume)).unwrap();
    assert_eq!(bound(&world).len(), 1);
}

#[test]
fn what_is_restored_over_is_kept_anew() {
    let world = World::new(memory());
    world.ready("data");
    let snapshot = |name: &str| {
        let (claim, name) = ("data".parse().unwrap(), name.parse().unwrap());
        world.commit(|s, view, txn| s.stage_snapshot(view, txn, &world.ctx("acme"), &claim, &name)).unwrap();
        world.settle();
    };
    snapshot("s1");
    snapshot("monday");
    let restore = |undo: &str| {
        let (claim, from, undo) = ("data".parse().unwrap(), "s1".parse().unwrap(), undo.parse().unwrap());
        world.commit(|s, view, txn| s.stage_restore(view, txn, &world.ctx("acme"), &claim, &from, &undo))
    };
    assert_eq!(restore("monday").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(restore("s1").unwrap_err().kind(), ErrorKind::AlreadyExists);
    restore("today").unwrap();
    let volume = "data".parse().unwrap();
    for needed in ["s1", "today"] {
        let name = needed.parse().unwrap();
        let gone = world
            .commit(|s, view, txn| s.stage_snapshot_removal(view, txn, &world.ctx("acme"), &volume, &name));
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::Conflict, "{needed}");
    }
    world.settle();
}

#[test]
fn a_refused_restoration_does_not_keep_the_volume_from_nodes() {
    let able = Capabilities::new([Capability::Attach, Capability::Snapshots]);
    let world = World::new(memory().with_capabilities(able));
    world.ready("data");
    let (claim, s1, undo) = ("data".parse().unwrap(), "s1".parse().unwrap(), "undo".parse().unwrap());
    world.commit(|s, view, txn| s.stage_snapshot(view, txn, &world.ctx("acme"), &claim, &s1)).unwrap();
    world.settle();
    world.commit(|s, view, txn| s.stage_restore(view, txn, &world.ctx("acme"), &claim, &s1, &undo)).unwrap();
    world.settle();
    assert!(world.volume("data").restoration.unwrap().refused.is_some());
    world.attach("data", "n1").unwrap();
}

#[test]
fn a_node_that_is_let_in_is_not_fenced() {
    let world = World::new(memory());
    let n1 = node("n1");
    world.commit(|s, view, txn| s.stage_node(view, txn, &name(), &NodeInfo::new(n1.clone()))).unwrap();
    world.ready("data");
    world.commit(|s, view, txn| s.stage_fence(view, txn, &name(), &n1)).unwrap();
    world.settle();
    world.commit(|s, view, txn| s.stage_unfence(view, txn, &name(), &n1)).unwrap();
    // Not let in yet by the provider: neither is it fenced, nor does it get anything.
    assert!(!world.storage.is_fenced(&world.view(), &Txn::new(), &name(), &n1).unwrap());
    assert_eq!(world.attach("data", "n1").unwrap_err().kind(), ErrorKind::Conflict);
    world.settle();
    world.attach("data", "n1").unwrap();
    // Fenced, let in and fenced again before anybody looked: it is fenced in the end.
    world.settle();
    let (claim, proof) = ("data".parse().unwrap(), Fenced::PowerOff);
    world
        .commit(|s, view, txn| s.stage_force_detach(view, txn, &world.ctx("acme"), &claim, &n1, &proof))
        .unwrap();
    world.settle();
    for fenced in [true, false, true] {
        world
            .commit(|s, view, txn| match fenced {
                true => s.stage_fence(view, txn, &name(), &n1),
                false => s.stage_unfence(view, txn, &name(), &n1),
            })
            .unwrap();
    }
    world.settle();
    assert!(world.storage.is_fenced(&world.view(), &Txn::new(), &name(), &n1).unwrap());
}

#[test]
fn two_adoptions_of_one_volume_do_not_both_commit() {
    let world = World::new(memory());
    let key = VolumeKey::new(world.ctx("acme").tenant().clone(), "legacy".parse().unwrap());
    let size = SizeRange::at_least(gib(1)).unwrap();
    let request = CreateVolume::new(OpToken::new("by hand"), key, size, VolumeOptions::default());
    let made = block_on(world.provider.create_volume(&request)).unwrap().ready().unwrap().volume;
    let mut status = block_on(world.provider.get_volume_status(&made)).unwrap();
    // A provider that does not know our names, as any CSI driver.
    status.key = None;
    let view = world.view();
    let decide = |tenant: &str, volume: &str| {
        let (mut txn, wish) =
            (Txn::new(), Adoption::new(volume.parse().unwrap(), name(), made.handle.clone()));
        world.storage.stage_adoption(&view, &mut txn, &world.ctx(tenant), &wish, &status).unwrap();
        block_on(world.store.commit(&txn))
    };
    decide("acme", "one").unwrap();
    assert_eq!(decide("globex", "two").unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_snapshot_that_is_not_taken_yet_comes_before_the_end_of_its_volume() {
    let world = World::new(memory().delaying_one_in(1));
    world.ready("data");
    let decide = |s: &StorageManager, view: &Snapshot, txn: &mut Txn| {
        let (claim, name) = ("data".parse().unwrap(), "last".parse().unwrap());
        s.stage_snapshot(view, txn, &world.ctx("acme"), &claim, &name)?;
        s.stage_release(view, txn, &world.ctx("acme"), &claim)
    };
    world.commit(decide).unwrap();
    world.settle();
    assert_eq!(world.there(), (0, 1), "the volume is gone, and its last snapshot is there");
}

#[test]
fn a_volume_goes_after_its_clones_are_made() {
    let world = World::new(memory().delaying_one_in(1));
    world.ready("data");
    world.claim(&spec("copy").from_source(ClaimSource::Claim("data".parse().unwrap()))).unwrap();
    world.release("data").unwrap();
    world.settle();
    assert_eq!((world.volume("copy").phase, world.there().0), (VolumePhase::Ready, 1));
}

#[test]
fn a_volume_that_was_never_made_gives_its_slot_back() {
    let able = Capabilities::new([Capability::Attach, Capability::Fence]);
    let world = World::new(memory().with_capabilities(able));
    let info = NodeInfo::new(node("n1")).with_max_volumes(1);
    world.commit(|s, view, txn| s.stage_node(view, txn, &name(), &info)).unwrap();
    world.claim(&spec("never").with_options(VolumeOptions::default().with_encryption(true))).unwrap();
    world.attach("never", "n1").unwrap();
    world.settle();
    world.release("never").unwrap();
    world.settle();
    world.ready("data");
    world.attach("data", "n1").unwrap();
}

#[test]
fn a_node_becomes_known_with_what_it_has() {
    let world = World::new(memory());
    world.ready("data");
    world.ready("more");
    world.attach("data", "n1").unwrap();
    let info = NodeInfo::new(node("n1")).with_max_volumes(1);
    world.commit(|s, view, txn| s.stage_node(view, txn, &name(), &info)).unwrap();
    assert_eq!(world.attach("more", "n1").unwrap_err().kind(), ErrorKind::Exhausted);
    let renamed = info.called("i-0123".parse().unwrap());
    let refused = world.commit(|s, view, txn| s.stage_node(view, txn, &name(), &renamed));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict, "it would be detached from another machine");
}
