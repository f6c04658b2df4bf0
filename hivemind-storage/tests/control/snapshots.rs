//! Snapshots, groups of them, restoring, clones.

use hivemind_core::store::Txn;
use hivemind_core::{ClaimId, ErrorKind, SnapshotId, block_on};
use hivemind_storage::{Capabilities, Capability, ClaimSource, SnapshotPhase};

use super::world::{World, gib, memory, spec};

fn id(name: &str) -> SnapshotId {
    name.parse().unwrap()
}

fn claim(name: &str) -> ClaimId {
    name.parse().unwrap()
}

fn write(world: &World, claim: &str, content: &[u8]) {
    world.attach(claim, "n1").unwrap();
    world.settle();
    world.provider.write(&world.volume(claim).made().unwrap(), &"n1".parse().unwrap(), content).unwrap();
    let (name, n1) = (self::claim(claim), super::world::node("n1"));
    world.commit(|s, view, txn| s.stage_detach(view, txn, &world.ctx("acme"), &name, &n1)).unwrap();
    world.settle();
}

fn content(world: &World, claim: &str) -> Vec<u8> {
    world.provider.content(&world.volume(claim).made().unwrap()).unwrap()
}

fn snapshot(world: &World, of: &str, name: &str) -> hivemind_core::Result<()> {
    world.commit(|s, view, txn| s.stage_snapshot(view, txn, &world.ctx("acme"), &claim(of), &id(name)))
}

fn phase(world: &World, volume: &str, name: &str) -> SnapshotPhase {
    let (view, acme) = (world.view(), world.ctx("acme"));
    let volume = volume.parse().unwrap();
    world.storage.snapshot(&view, &Txn::new(), &acme, &volume, &id(name)).unwrap().phase.clone()
}

#[test]
fn a_volume_is_made_of_a_snapshot_and_of_another_volume() {
    let world = World::new(memory().losing_one_in(3).delaying_one_in(2));
    world.ready("data");
    write(&world, "data", b"before");
    snapshot(&world, "data", "s1").unwrap();
    // It waits for the snapshot, which is not even taken yet.
    let source = ClaimSource::Snapshot { volume: "data".parse().unwrap(), snapshot: id("s1") };
    world.claim(&spec("restored").from_source(source.clone())).unwrap();
    world.settle();
    write(&world, "data", b"after");
    world.claim(&spec("copy").from_source(ClaimSource::Claim(claim("data")))).unwrap();
    world.settle();
    assert_eq!(
        (content(&world, "restored"), content(&world, "copy")),
        (b"before".to_vec(), b"after".to_vec())
    );

    let mut small = spec("small").from_source(source);
    small.size = hivemind_core::resources::ByteSize::from_mib(1);
    assert_eq!(world.claim(&small).unwrap_err().kind(), ErrorKind::Invalid);
    let foreign = ClaimSource::Snapshot { volume: "data".parse().unwrap(), snapshot: id("s9") };
    assert_eq!(world.claim(&spec("x").from_source(foreign)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn pitfall_05_a_snapshot_that_is_deleted_while_it_is_taken_leaves_nothing() {
    let world = World::new(memory().delaying_one_in(1).losing_one_in(2));
    world.ready("data");
    for number in 0..20 {
        let name = format!("s{number}");
        snapshot(&world, "data", &name).unwrap();
        for _ in 0..number % 4 {
            block_on(world.controller.tick()).unwrap();
        }
        let volume = "data".parse().unwrap();
        world
            .commit(|s, view, txn| {
                s.stage_snapshot_removal(view, txn, &world.ctx("acme"), &volume, &id(&name))
            })
            .unwrap();
    }
    world.settle();
    assert_eq!(world.there(), (1, 0));
    assert!(world.storage.snapshots(&world.view(), &world.ctx("acme")).unwrap().is_empty());
}

#[test]
fn restoring_in_place_keeps_what_was_there() {
    let world = World::new(memory().losing_one_in(2));
    world.ready("data");
    write(&world, "data", b"good");
    snapshot(&world, "data", "s1").unwrap();
    world.settle();
    write(&world, "data", b"bad");
    let restore = |from: &str, undo: &str| {
        world.commit(|s, view, txn| {
            s.stage_restore(view, txn, &world.ctx("acme"), &claim("data"), &id(from), &id(undo))
        })
    };
    world.attach("data", "n1").unwrap();
    assert_eq!(restore("s1", "undo-1").unwrap_err().kind(), ErrorKind::Conflict, "a node has it");
    let n1 = super::world::node("n1");
    world.commit(|s, view, txn| s.stage_detach(view, txn, &world.ctx("acme"), &claim("data"), &n1)).unwrap();
    world.settle();
    restore("s1", "undo-1").unwrap();
    restore("s1", "undo-1").unwrap();
    assert_eq!(world.attach("data", "n1").unwrap_err().kind(), ErrorKind::Conflict, "it is being restored");
    world.settle();
    assert_eq!(content(&world, "data"), b"good");
    restore("undo-1", "undo-2").unwrap();
    world.settle();
    assert_eq!(content(&world, "data"), b"bad");
}

#[test]
fn a_group_is_taken_whole_or_not_at_all() {
    let world = World::new(memory().losing_one_in(3).delaying_one_in(2));
    for name in ["data", "log"] {
        world.ready(name);
    }
    let take = |group: &str, of: &[&str]| {
        let of: Vec<_> = of.iter().map(|name| claim(name)).collect();
        world.commit(|s, view, txn| s.stage_group_snapshot(view, txn, &world.ctx("acme"), &id(group), &of))
    };
    assert_eq!(take("g1", &[]).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(take("g1", &["data", "nothing"]).unwrap_err().kind(), ErrorKind::NotFound);
    take("g1", &["data", "log", "data"]).unwrap();
    take("g1", &["log", "data"]).unwrap();
    world.settle();
    assert_eq!(world.there().1, 2);
    for volume in ["data", "log"] {
        assert_eq!(phase(&world, volume, "g1"), SnapshotPhase::Ready);
        let name = volume.parse().unwrap();
        let alone = world
            .commit(|s, view, txn| s.stage_snapshot_removal(view, txn, &world.ctx("acme"), &name, &id("g1")));
        assert_eq!(alone.unwrap_err().kind(), ErrorKind::Conflict, "a part of a group does not go alone");
    }
    let remove =
        || world.commit(|s, view, txn| s.stage_group_removal(view, txn, &world.ctx("acme"), &id("g1")));
    remove().unwrap();
    remove().unwrap();
    world.settle();
    assert_eq!(world.there().1, 0);
    assert_eq!(remove().unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_the_provider_cannot_take_is_told() {
    let world = World::new(memory().with_capabilities(Capabilities::new([Capability::Attach])));
    world.ready("data");
    snapshot(&world, "data", "s1").unwrap();
    let of = [claim("data")];
    world
        .commit(|s, view, txn| s.stage_group_snapshot(view, txn, &world.ctx("acme"), &id("g1"), &of))
        .unwrap();
    world.settle();
    for name in ["s1", "g1"] {
        assert!(
            matches!(phase(&world, "data", name), SnapshotPhase::Failed(why) if why.contains("no capability"))
        );
    }
    assert_eq!(world.there().1, 0);
}

#[test]
fn a_snapshot_outlives_its_volume_and_its_name_is_not_mixed_up() {
    let world = World::new(memory());
    world.ready("data");
    write(&world, "data", b"old");
    snapshot(&world, "data", "s1").unwrap();
    world.settle();
    world.release("data").unwrap();
    world.settle();
    world.ready("data");
    assert_eq!(world.volume("data").key.volume.as_str(), "data-2", "the name still has snapshots");
    let source = ClaimSource::Snapshot { volume: "data".parse().unwrap(), snapshot: id("s1") };
    world.claim(&spec("back").from_source(source)).unwrap();
    world.settle();
    assert_eq!(content(&world, "back"), b"old");
    assert_eq!(world.storage.usage(&world.view(), &world.ctx("acme")).unwrap().snapshot_bytes, gib(1));
}
