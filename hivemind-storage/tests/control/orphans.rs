//! Volumes that leaked, and volumes that were lost.

use std::time::Duration;

use hivemind_core::{Clock, OpToken, block_on};
use hivemind_storage::{
    CreateGroupSnapshot, CreateSnapshot, CreateVolume, GroupHandle, GroupKey, SizeRange, SnapshotHandle,
    SnapshotKey, StorageProvider, VolumeKey, VolumeOptions,
};

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
    assert_eq!(
        block_on(world.controller.orphans()).unwrap().volumes.unrecorded.iter().collect::<Vec<_>>(),
        [&known]
    );
    for _ in 0..3 {
        assert!(sweep().volumes.quarantined.contains(&known));
    }
    world.clock.advance(QUARANTINE);
    assert!(sweep().volumes.deleted.contains(&known));
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
    assert_eq!(orphans.volumes.missing.into_iter().collect::<Vec<_>>(), [(name(), made.handle)]);
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
    assert_eq!(orphans.volumes.missing.into_iter().collect::<Vec<_>>(), [(name(), made.handle)]);
    assert_eq!(orphans.volumes.unrecorded.into_iter().collect::<Vec<_>>(), [(name(), other.handle)]);
    // Its name is a record's: it is told of, and not touched.
    for _ in 0..2 {
        world.clock.advance(QUARANTINE);
        assert!(block_on(world.controller.sweep_orphans(QUARANTINE)).unwrap().volumes.deleted.is_empty());
    }
}

/// Takes a snapshot at the provider, with a group or alone, of which nothing is written down.
fn leak_snapshots(world: &World) -> (SnapshotHandle, GroupHandle) {
    let (data, log) = (world.ready("data").made().unwrap(), world.ready("log").made().unwrap());
    let key = SnapshotKey::new(data.key.clone(), "alone".parse().unwrap());
    let request = CreateSnapshot::new(OpToken::new("s"), key, data.clone());
    let alone = block_on(world.provider.create_snapshot(&request)).unwrap().ready().unwrap();
    let key = GroupKey::new(data.key.tenant.clone(), "both".parse().unwrap());
    let request = CreateGroupSnapshot::new(OpToken::new("g"), key, vec![data, log]);
    let group = block_on(world.provider.create_group_snapshot(&request)).unwrap().ready().unwrap();
    (alone.handle, group.handle)
}

#[test]
fn leaked_snapshots_and_groups_are_collected_after_their_quarantine() {
    let world = World::new(memory());
    let (alone, group) = leak_snapshots(&world);
    let (alone, group) = ((name(), alone), (name(), group));
    // What is in flight has its record.
    let (claim, taken) = ("data".parse().unwrap(), "wanted".parse().unwrap());
    world.commit(|s, view, txn| s.stage_snapshot(view, txn, &world.ctx("acme"), &claim, &taken)).unwrap();
    let found = block_on(world.controller.orphans()).unwrap();
    assert_eq!(found.snapshots.unrecorded.len(), 3);
    assert_eq!(found.groups.unrecorded.iter().collect::<Vec<_>>(), [&group]);
    let sweep = || block_on(world.controller.sweep_orphans(QUARANTINE)).unwrap();
    for _ in 0..3 {
        let swept = sweep();
        assert!(swept.snapshots.quarantined.contains(&alone) && swept.groups.quarantined.contains(&group));
    }
    world.clock.advance(QUARANTINE);
    let swept = sweep();
    assert_eq!(swept.snapshots.deleted.iter().collect::<Vec<_>>(), [&alone], "one of a group goes with it");
    assert_eq!(swept.groups.deleted.iter().collect::<Vec<_>>(), [&group]);
    world.settle();
    assert_eq!((world.there(), sweep()), ((2, 1), hivemind_storage::OrphanSweep::default()));
}

#[test]
fn a_snapshot_that_the_provider_lost_is_told() {
    let world = World::new(memory());
    world.ready("data");
    let (claim, taken) = ("data".parse().unwrap(), "s1".parse().unwrap());
    world.commit(|s, view, txn| s.stage_snapshot(view, txn, &world.ctx("acme"), &claim, &taken)).unwrap();
    world.settle();
    let record = world.storage.snapshots(&world.view(), &world.ctx("acme")).unwrap().remove(0);
    let made = record.made().unwrap();
    block_on(world.provider.delete_snapshot(&OpToken::new("behind"), &made)).unwrap();
    let orphans = block_on(world.controller.orphans()).unwrap();
    assert_eq!(orphans.snapshots.missing.into_iter().collect::<Vec<_>>(), [(name(), made.handle)]);
}
