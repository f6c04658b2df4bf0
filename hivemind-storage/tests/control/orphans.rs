//! Volumes that leaked, and volumes that were lost.

use std::time::Duration;

use hivemind_core::{Clock, OpToken, block_on};
use hivemind_storage::{CreateVolume, SizeRange, StorageProvider, VolumeKey, VolumeOptions};

use super::world::{World, gib, memory, name};

const QUARANTINE: Duration = Duration::from_secs(3600);

#[test]
fn a_leaked_volume_is_collected_after_its_quarantine() {
    let world = World::new(memory());
    world.ready("data");
    let key = VolumeKey::new(world.ctx("acme").tenant().clone(), "leaked".parse().unwrap());
    let request = CreateVolume::new(
        OpToken::new("t"),
        key,
        SizeRange::at_least(gib(1)).unwrap(),
        VolumeOptions::default(),
    );
    let leaked = block_on(world.provider.create_volume(&request)).unwrap().ready().unwrap().volume;
    let known = (name(), leaked.handle);
    let sweep = || block_on(world.controller.sweep_orphans(QUARANTINE)).unwrap();
    assert_eq!(block_on(world.controller.orphans()).unwrap().unrecorded.iter().collect::<Vec<_>>(), [&known]);
    for _ in 0..3 {
        assert!(sweep().quarantined.contains(&known));
    }
    world.clock.advance(QUARANTINE);
    assert!(sweep().deleted.contains(&known));
    // It has a record now, by which it goes: nobody gets its name meanwhile.
    world.settle();
    assert_eq!((world.there().0, sweep()), (1, hivemind_storage::OrphanSweep::default()));
    assert!(world.clock.now().as_secs() >= QUARANTINE.as_secs());
}

#[test]
fn a_volume_that_the_provider_lost_is_told() {
    let world = World::new(memory());
    let volume = world.ready("data");
    let made = volume.made().unwrap();
    block_on(world.provider.delete_volume(&OpToken::new("behind"), &made)).unwrap();
    let orphans = block_on(world.controller.orphans()).unwrap();
    assert_eq!(orphans.missing.into_iter().collect::<Vec<_>>(), [(name(), made.handle)]);
}

#[test]
fn another_volume_of_a_name_that_is_taken_has_leaked() {
    let world = World::new(memory());
    let made = world.ready("data").made().unwrap();
    // Somebody replaced it at the provider, behind our back.
    block_on(world.provider.delete_volume(&OpToken::new("behind"), &made)).unwrap();
    let size = SizeRange::at_least(gib(1)).unwrap();
    let request =
        CreateVolume::new(OpToken::new("behind-2"), made.key.clone(), size, VolumeOptions::default());
    let other = block_on(world.provider.create_volume(&request)).unwrap().ready().unwrap().volume;
    let orphans = block_on(world.controller.orphans()).unwrap();
    assert_eq!(orphans.missing.into_iter().collect::<Vec<_>>(), [(name(), made.handle)]);
    assert_eq!(orphans.unrecorded.into_iter().collect::<Vec<_>>(), [(name(), other.handle)]);
    // Its name is a record's: it is told of, and not touched.
    for _ in 0..2 {
        world.clock.advance(QUARANTINE);
        assert!(block_on(world.controller.sweep_orphans(QUARANTINE)).unwrap().deleted.is_empty());
    }
}
