//! Volumes that somebody fills before anybody uses them.

use hivemind_core::ErrorKind;
use hivemind_storage::{AccessMode, AttachSpec, ClaimSource, Fenced, ReclaimPolicy, Volume, VolumeOptions};

use super::world::{World, memory, node, spec};

fn filled(world: &World, name: &str) {
    let source = ClaimSource::Populator { populator: "backup".to_owned(), from: "night-7".to_owned() };
    world.claim(&spec(name).from_source(source).with_reclaim(ReclaimPolicy::Retain)).unwrap();
    world.settle();
}

fn populate(world: &World, on: &str) -> hivemind_core::Result<()> {
    let (claim, spec) = ("data".parse().unwrap(), AttachSpec::new(node(on)).to_populate());
    world.commit(|s, view, txn| s.stage_attach_as(view, txn, &world.ctx("acme"), &claim, &spec))
}

fn done(world: &World, tenant: &str, filled: &Volume) -> hivemind_core::Result<()> {
    let claim = "data".parse().unwrap();
    world.commit(|s, view, txn| s.stage_populated(view, txn, &world.ctx(tenant), &claim, filled))
}

#[test]
fn nobody_gets_a_volume_before_it_is_filled_and_then_everybody_gets_what_is_in_it() {
    let world = World::new(memory());
    filled(&world, "data");
    let early = world.attach("data", "n1").unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Conflict);
    assert!(early.message().contains("is to be filled by backup first"), "{early}");
    let acme = world.ctx("acme");
    assert_eq!(world.storage.to_populate(&world.view(), &acme, "backup").unwrap().len(), 1);
    assert!(world.storage.to_populate(&world.view(), &acme, "image").unwrap().is_empty());
    populate(&world, "n9").unwrap();
    world.settle();
    let volume = world.volume("data");
    let made = volume.made().unwrap();
    world.provider.write(&made, &"n9".parse().unwrap(), b"of the night").unwrap();
    for _ in 0..2 {
        done(&world, "acme", &volume).unwrap();
    }
    world.settle();
    assert!(world.nodes_of("data").is_empty(), "it was taken from who filled it");
    // Who filled it does not come back, whatever it believes.
    assert!(populate(&world, "n9").unwrap_err().message().contains("filled already"));
    world.attach("data", "n1").unwrap();
    world.settle();
    assert_eq!(world.provider.content(&made).unwrap(), b"of the night");
    assert!(world.nodes_of("data").contains("n1"));
}

#[test]
fn what_failed_is_told_and_tried_again_and_nothing_else_is_done_with_it_meanwhile() {
    let world = World::new(memory());
    filled(&world, "data");
    let (claim, volume) = ("data".parse().unwrap(), world.volume("data"));
    let fail = |why: &str| {
        world.commit(|s, view, txn| {
            s.stage_population_failed(view, txn, &world.ctx("acme"), &claim, &volume, why)
        })
    };
    fail("no such backup").unwrap();
    let explained = world.storage.explain_claim(&world.view(), &world.ctx("acme"), &claim).unwrap();
    let told = "populator backup is to fill it from night-7; it failed: no such backup";
    assert_eq!(explained.waits_for, [told]);
    let snapshot = world.commit(|s, view, txn| {
        s.stage_snapshot(view, txn, &world.ctx("acme"), &claim, &"s1".parse().unwrap())
    });
    assert_eq!(snapshot.unwrap_err().kind(), ErrorKind::Conflict);
    let clone = world.claim(&spec("copy").from_source(ClaimSource::Claim(claim.clone())));
    assert_eq!(clone.unwrap_err().kind(), ErrorKind::Conflict);
    // Nobody else's claim can be called filled.
    assert_eq!(done(&world, "globex", &volume).unwrap_err().kind(), ErrorKind::NotFound);
    populate(&world, "n1").unwrap();
    world.settle();
    done(&world, "acme", &volume).unwrap();
    assert_eq!(fail("late").unwrap_err().kind(), ErrorKind::NotFound);
    world.settle();
    world.attach("data", "n1").unwrap();
}

#[test]
fn what_was_filled_is_known_again_and_what_never_was_is_not_kept() {
    let world = World::new(memory());
    filled(&world, "data");
    let first = world.volume("data");
    world.release("data").unwrap();
    world.settle();
    assert_eq!(world.there().0, 0, "there was nothing in it to keep");
    filled(&world, "data");
    // Another volume of the same name: who filled the first one is not believed.
    assert_eq!(first.key, world.volume("data").key);
    assert_eq!(done(&world, "acme", &first).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(world.attach("data", "n1").is_err());
}

#[test]
fn a_lost_node_brings_a_volume_that_is_to_be_filled_to_nobody() {
    let world = World::new(memory());
    filled(&world, "data");
    let move_to = |to: &str| {
        let (claim, proof) =
            ("data".parse().unwrap(), Fenced::operator("ada".parse().unwrap(), "the rack is dark"));
        let (lost, to) = (node("n1"), node(to));
        world.commit(|s, view, txn| s.stage_move(view, txn, &world.ctx("acme"), &claim, &lost, &to, &proof))
    };
    // A workload was to run on the lost node, and never got it.
    assert_eq!(move_to("n2").unwrap_err().kind(), ErrorKind::Conflict);
    populate(&world, "n1").unwrap();
    world.settle();
    move_to("n2").unwrap();
    world.settle();
    assert!(world.nodes_of("data").contains("n2"), "whoever fills it goes on elsewhere");
}

#[test]
fn what_is_only_to_be_read_cannot_be_filled() {
    let world = World::new(memory());
    let source = ClaimSource::Populator { populator: "image".to_owned(), from: "base".to_owned() };
    let options = VolumeOptions::default().with_access_modes([AccessMode::ReadOnlyMany]);
    let refused = world.claim(&spec("data").from_source(source).with_options(options)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains("nobody could fill its volume"), "{refused}");
}

#[test]
fn an_offered_volume_is_not_taken_for_one_that_is_to_be_filled() {
    let world = World::new(memory());
    world.claim(&spec("other").with_reclaim(ReclaimPolicy::Retain)).unwrap();
    world.settle();
    world.release("other").unwrap();
    world.settle();
    let volume = "other".parse().unwrap();
    world.commit(|s, view, txn| s.stage_offer(view, txn, &world.ctx("acme"), &volume)).unwrap();
    filled(&world, "fresh");
    assert_eq!(world.volume("fresh").key.volume.as_str(), "fresh");
    assert_eq!(world.there().0, 2);
}
