//! How volumes are: seen, believed after several answers, kept, and told.

use std::time::Duration;

use hivemind_core::store::Key;
use hivemind_core::{Clock, OpToken, block_on};
use hivemind_storage::{HealthChange, StorageProvider, Usage, VolumeCondition, VolumeReport, VolumeStats};

use super::world::{World, gib, memory, node};

fn report(world: &World) -> VolumeReport {
    let claim = "data".parse().unwrap();
    world.storage.explain_claim(&world.view(), &world.ctx("acme"), &claim).unwrap().health
}

fn observe(world: &World, seen: &VolumeCondition) -> Vec<HealthChange> {
    world.clock.advance(Duration::from_secs(60));
    world.provider.set_condition(&world.volume("data").made().unwrap(), seen.clone()).unwrap();
    let changes = block_on(world.controller.observe()).unwrap();
    changes.into_iter().map(|(_, change)| change).collect()
}

fn ill() -> VolumeCondition {
    VolumeCondition::Abnormal("a copy is lost".to_owned())
}

#[test]
fn flapping_changes_nothing_and_an_illness_that_stays_is_kept_with_its_reason() {
    let world = World::new(memory());
    world.ready("data");
    assert_eq!(observe(&world, &VolumeCondition::Normal).len(), 1);
    let before = world.volume("data");
    for round in 0..30 {
        let seen = if round % 3 == 2 { VolumeCondition::Normal } else { ill() };
        assert_eq!(observe(&world, &seen), []);
        assert_eq!(report(&world).condition(), &VolumeCondition::Normal);
    }
    assert_eq!((observe(&world, &ill()), observe(&world, &ill())), (vec![], vec![]));
    let changed = observe(&world, &ill());
    let told = report(&world);
    assert_eq!((changed.len(), changed.last()), (1, told.changes.last()));
    assert_eq!((told.condition(), told.provider.since), (&ill(), world.clock.now()));
    assert_eq!((&changed[0].from, &changed[0].to), (&VolumeCondition::Normal, &ill()));
    // The record that names the tokens of its steps is not touched.
    assert_eq!(world.volume("data"), before);
}

#[test]
fn a_volume_that_its_provider_lost_is_ill() {
    let world = World::new(memory());
    let made = world.ready("data").made().unwrap();
    assert_eq!(observe(&world, &VolumeCondition::Normal).len(), 1);
    block_on(world.provider.delete_volume(&OpToken::new("behind"), &made)).unwrap();
    for _ in 0..3 {
        block_on(world.controller.observe()).unwrap();
    }
    let VolumeCondition::Abnormal(why) = report(&world).condition().clone() else { panic!("it is well") };
    assert_eq!(why, "provider memory has no such volume any more");
}

#[test]
fn a_node_is_believed_apart_from_the_provider_and_tells_how_full_a_volume_is() {
    let world = World::new(memory());
    world.ready("data");
    world.ready("other");
    world.attach("data", "n1").unwrap();
    world.settle();
    let name = "data".parse().unwrap();
    let say = |on: &str, used: u64, condition: VolumeCondition| {
        let stats = VolumeStats::new(Usage::new(100, used, 100 - used), None).with_condition(condition);
        let on = node(on);
        world
            .commit(|s, view, txn| s.stage_volume_stats(view, txn, &world.ctx("acme"), &name, &on, &stats))
            .unwrap()
    };
    let usage = || world.storage.usage(&world.view(), &world.ctx("acme")).unwrap();
    assert_eq!((usage().measured, usage().measured_since), (0, None));
    say("n1", 10, VolumeCondition::Normal);
    // The provider always says that all is well.
    for _ in 0..3 {
        observe(&world, &VolumeCondition::Normal);
        say("n1", 42, VolumeCondition::Abnormal("read-only".to_owned()));
    }
    let seen = world.clock.now();
    assert_eq!(report(&world).condition(), &VolumeCondition::Abnormal("read-only".to_owned()));
    assert_eq!(say("n9", 99, VolumeCondition::Normal), None, "it does not have the volume");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!((usage().used.as_bytes(), usage().measured, usage().volumes), (42, 1, 2));
    assert_eq!((usage().measured_since, usage().provisioned), (Some(seen), gib(2)));

    // Nothing of it is kept when the volume is gone.
    world.release("data").unwrap();
    world.settle();
    let of_it = ["storage", "health", &world.ctx("acme").tenant().to_string(), "data"];
    assert!(world.view().get(&Key::new(of_it).unwrap()).is_none());
}
