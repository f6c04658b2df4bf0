//! What becomes of volumes without a claim.

use std::time::Duration;

use hivemind_core::{ErrorKind, WorkloadId};
use hivemind_storage::{ReclaimPolicy, VolumePhase};

use super::world::{World, memory, spec};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn an_archived_volume_comes_back_within_its_time() {
    let world = World::new(memory());
    world.claim(&spec("data").with_reclaim(ReclaimPolicy::Archive(7 * DAY))).unwrap();
    world.attach("data", "n1").unwrap();
    world.settle();
    let made = world.volume("data").made().unwrap();
    world.provider.write(&made, &"n1".parse().unwrap(), b"precious").unwrap();
    world.release("data").unwrap();
    world.settle();
    assert_eq!(world.there().0, 1);
    // The name is free again at once.
    world.claim(&spec("data")).unwrap();
    assert_eq!(world.volume("data").key.volume.as_str(), "data-2");

    let volume = made.key.volume.clone();
    let back = |claim: &str| {
        let claim = claim.parse().unwrap();
        world.commit(|s, view, txn| s.stage_undelete(view, txn, &world.ctx("acme"), &volume, &claim))
    };
    assert_eq!(back("data").unwrap_err().kind(), ErrorKind::AlreadyExists);
    world.clock.advance(6 * DAY);
    back("rescued").unwrap();
    world.settle();
    world.clock.advance(30 * DAY);
    world.settle();
    assert_eq!(world.provider.content(&world.volume("rescued").made().unwrap()).unwrap(), b"precious");
}

#[test]
fn an_archived_volume_goes_when_its_time_is_over() {
    let world = World::new(memory());
    world.claim(&spec("data").with_reclaim(ReclaimPolicy::archive())).unwrap();
    world.settle();
    world.release("data").unwrap();
    world.settle();
    world.clock.advance(8 * DAY);
    let (volume, claim) = ("data".parse().unwrap(), "data".parse().unwrap());
    let late = world.commit(|s, view, txn| s.stage_undelete(view, txn, &world.ctx("acme"), &volume, &claim));
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
    world.settle();
    assert_eq!(world.there().0, 0);
    assert!(world.storage.volumes(&world.view(), &world.ctx("acme")).unwrap().is_empty());
}

#[test]
fn a_kept_volume_is_deleted_by_name_only() {
    let world = World::new(memory());
    world.claim(&spec("data").with_reclaim(ReclaimPolicy::Retain)).unwrap();
    world.settle();
    let volume = "data".parse().unwrap();
    let remove =
        || world.commit(|s, view, txn| s.stage_volume_removal(view, txn, &world.ctx("acme"), &volume));
    assert_eq!(remove().unwrap_err().kind(), ErrorKind::Conflict, "a claim has it");
    world.release("data").unwrap();
    world.settle();
    assert_eq!(world.there().0, 1);
    world.commit(|s, view, txn| s.stage_offer(view, txn, &world.ctx("acme"), &volume)).unwrap();
    remove().unwrap();
    world.settle();
    assert_eq!(world.there().0, 0);
    // Its offer went with it.
    world.claim(&spec("next")).unwrap();
    assert_eq!(world.volume("next").phase, VolumePhase::Creating);
}

#[test]
fn ephemeral_volumes_end_with_their_workload() {
    let world = World::new(memory());
    let owner: WorkloadId = "web-0".parse().unwrap();
    for name in ["scratch", "cache"] {
        world.claim(&spec(name).owned_by(owner.clone())).unwrap();
    }
    world.claim(&spec("kept")).unwrap();
    world.settle();
    let gone =
        world.commit(|s, view, txn| s.stage_owner_gone(view, txn, &world.ctx("acme"), &owner)).unwrap();
    assert_eq!(gone, 2);
    world.settle();
    assert_eq!(world.there().0, 1);
}

#[test]
fn pitfall_01_a_claim_that_goes_while_its_volume_is_made_leaves_nothing() {
    // Each volume is pending at first, and each reply is lost at times.
    for lose in [0, 2, 3] {
        let world = World::new(memory().delaying_one_in(1).losing_one_in(lose));
        for number in 0..20 {
            let name = format!("c{number}");
            world.claim(&spec(&name)).unwrap();
            for _ in 0..number % 4 {
                hivemind_core::block_on(world.controller.tick()).unwrap();
            }
            world.release(&name).unwrap();
        }
        world.settle();
        assert_eq!(world.there().0, 0);
        assert!(world.storage.volumes(&world.view(), &world.ctx("acme")).unwrap().is_empty());
    }
}
