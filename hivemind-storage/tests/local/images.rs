//! Volumes as image files behind loop devices: block devices, ext4, xfs, encrypted ones.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hivemind_core::resources::ByteSize;
use hivemind_core::{ErrorKind, SecretBytes, block_on};
use hivemind_storage::{
    Capability, CapacityQuery, CreateSnapshot, CreateVolume, ExpandOnNode, LocalBackend, LocalNode,
    LocalProvider, NodeStorage, PublishVolume, Secrets, SizeRange, SnapshotKey, SnapshotRef, StageVolume,
    StorageProvider, Topology, VolumeMode, VolumeOptions, VolumeRef, VolumeSource,
};

use crate::ground::{
    Ground, create, devices_of, eventually, file_system, fill_up, node_info, provider, publish, ready, run,
    token, unpublish, wish,
};

fn pool(ground: &Ground) -> (PathBuf, Arc<LocalProvider>, LocalNode) {
    let pool = ground.xfs("pool");
    let provider = provider(&pool);
    assert_eq!(provider.backend(), LocalBackend::Images);
    let node = provider.node().unwrap();
    (pool, provider, node)
}

fn image(pool: &Path, volume: &VolumeRef) -> PathBuf {
    pool.join("volumes").join(volume.handle.as_str()).join("data")
}

fn of(name: &str, mib: u64, fs_type: &str) -> CreateVolume {
    wish(name, mib, VolumeOptions::default().with_volume_mode(file_system(fs_type)))
}

fn snapshot(provider: &LocalProvider, volume: &VolumeRef, name: &str) -> SnapshotRef {
    let key = SnapshotKey::new(volume.key.clone(), name.parse().unwrap());
    let request = CreateSnapshot::new(token(), key.clone(), volume.clone());
    ready(block_on(provider.create_snapshot(&request))).reference(key)
}

fn room(path: &Path) -> u64 {
    let found = rustix::fs::statvfs(path).unwrap();
    found.f_blocks * found.f_frsize
}

#[test]
fn a_block_volume_is_a_device_keeps_its_content_and_grows_while_it_is_used() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, node) = pool(&ground);
    let options = VolumeOptions::default().with_volume_mode(VolumeMode::Block);
    let volume = create(&provider, &wish("raw", 8, options)).volume;
    let (staging, target) = (ground.directory("staging"), ground.path("target"));
    let stage = StageVolume::new(volume.clone(), None, &staging).with_volume_mode(VolumeMode::Block);
    let show = PublishVolume::new(volume.clone(), None, &target)
        .staged_at(&staging)
        .with_volume_mode(VolumeMode::Block);
    for _ in 0..2 {
        block_on(node.stage_volume(&stage)).unwrap();
        block_on(node.publish_volume(&show)).unwrap();
    }
    assert_eq!(devices_of(&pool).len(), 1);
    let mut device = fs::OpenOptions::new().read(true).write(true).open(&target).unwrap();
    device.write_all(b"content").unwrap();
    device.sync_all().unwrap();
    let refused = block_on(provider.delete_volume(&token(), &volume)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let size = SizeRange::at_least(ByteSize::from_mib(16)).unwrap();
    assert!(ready(block_on(provider.expand_volume(&token(), &volume, size))).node_expansion_required);
    let grow = ExpandOnNode::new(volume.clone(), &target).with_volume_mode(VolumeMode::Block);
    assert_eq!(block_on(node.expand_on_node(&grow)).unwrap(), ByteSize::from_mib(16));
    assert_eq!(std::io::Seek::seek(&mut device, std::io::SeekFrom::End(0)).unwrap(), 16 << 20);
    drop(device);
    block_on(node.unpublish_volume(&volume, &target)).unwrap();
    block_on(node.unstage_volume(&volume, &staging)).unwrap();
    assert!(!target.exists() && devices_of(&pool).is_empty());
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
    let mut head = [0; 7];
    fs::File::open(image(&pool, &volume)).unwrap().read_exact(&mut head).unwrap();
    assert_eq!(&head, b"content");
}

#[test]
fn a_device_that_is_published_to_be_read_cannot_be_written() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, node) = pool(&ground);
    let options = VolumeOptions::default().with_volume_mode(VolumeMode::Block);
    let volume = create(&provider, &wish("raw", 8, options)).volume;
    let (staging, target, beside) =
        (ground.directory("staging"), ground.path("target"), ground.path("beside"));
    let stage = StageVolume::new(volume.clone(), None, &staging).with_volume_mode(VolumeMode::Block);
    block_on(node.stage_volume(&stage)).unwrap();
    let show = |at: &Path| {
        PublishVolume::new(volume.clone(), None, at).staged_at(&staging).with_volume_mode(VolumeMode::Block)
    };
    for _ in 0..2 {
        block_on(node.publish_volume(&show(&target).with_read_only(true))).unwrap();
    }
    block_on(node.publish_volume(&show(&beside))).unwrap();
    let write = |at: &Path| {
        let mut device = fs::OpenOptions::new().write(true).open(at)?;
        device.write_all(b"content")?;
        device.sync_all()
    };
    write(&beside).unwrap();
    assert!(write(&target).is_err(), "it was written");
    let mut head = [0; 7];
    fs::File::open(&target).unwrap().read_exact(&mut head).unwrap();
    assert_eq!(&head, b"content");
    for at in [&target, &beside] {
        block_on(node.unpublish_volume(&volume, at)).unwrap();
    }
    block_on(node.unstage_volume(&volume, &staging)).unwrap();
    assert!(!target.exists() && devices_of(&pool).is_empty());
}

#[test]
fn what_holds_for_a_mount_holds_for_what_is_shown_of_it() {
    let Some(ground) = Ground::new() else { return };
    let (_, provider, node) = pool(&ground);
    let mode = VolumeMode::Filesystem {
        fs_type: "xfs".to_owned(),
        mount_flags: vec!["nosuid".to_owned(), "nodev".to_owned()],
    };
    let options = VolumeOptions::default().with_volume_mode(mode.clone());
    let volume = create(&provider, &wish("data", 300, options)).volume;
    let staging = ground.directory(&format!("staging-{}", volume.handle));
    let target = ground.directory("target");
    let stage = StageVolume::new(volume.clone(), None, &staging).with_volume_mode(mode);
    block_on(node.stage_volume(&stage)).unwrap();
    // Who publishes says nothing of flags, and wants it to be read only.
    let show = PublishVolume::new(volume.clone(), None, &target).staged_at(&staging).with_read_only(true);
    block_on(node.publish_volume(&show)).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(target.to_str().unwrap())).unwrap();
    let flags = line.split(' ').nth(5).unwrap();
    assert!(["ro", "nosuid", "nodev"].iter().all(|flag| flags.split(',').any(|one| one == *flag)), "{flags}");
    unpublish(&node, &ground, &volume, &target);
}

#[test]
fn a_halt_that_nobody_ended_ends_when_the_pool_is_opened() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, node) = pool(&ground);
    let volume = create(&provider, &of("data", 300, "xfs")).volume;
    let target = publish(&node, &ground, &volume, "data");
    // As a provider does that is killed in the middle of a snapshot.
    let frozen = std::process::Command::new("fsfreeze").arg("--freeze").arg(&target).status().unwrap();
    assert!(frozen.success());
    drop(provider);
    let again = self::provider(&pool);
    fs::write(target.join("file"), "content").unwrap();
    drop(again);
    unpublish(&node, &ground, &volume, &target);
}

#[test]
fn pitfall_19_a_pool_that_is_promised_out_refuses_more_before_anything_is_full() {
    let Some(ground) = Ground::new() else { return };
    let (_, provider, node) = pool(&ground);
    let query = CapacityQuery::new(VolumeOptions::default(), Topology::default());
    let left = || block_on(provider.get_capacity(&query)).unwrap().available.as_bytes() >> 20;
    // Promised, and not written: an image has holes.
    let first = create(&provider, &of("first", left() / 2, "ext4")).volume;
    let second = create(&provider, &of("second", left() / 2, "ext4")).volume;
    let rest = left();
    let over = block_on(provider.create_volume(&of("over", rest + 1, "ext4"))).unwrap_err();
    assert_eq!(over.kind(), ErrorKind::Exhausted, "{over}");
    assert!(over.message().contains("left"), "{over}");
    let grown = SizeRange::at_least(ByteSize::from_mib(4096)).unwrap();
    let grows = block_on(provider.expand_volume(&token(), &first, grown)).unwrap_err();
    assert_eq!(grows.kind(), ErrorKind::Exhausted, "{grows}");
    // So both can be written to the last, and neither file system goes read-only.
    for (volume, name) in [(&first, "first"), (&second, "second")] {
        let target = publish(&node, &ground, volume, name);
        fs::write(target.join("file"), vec![7; 8 << 20]).unwrap();
        rustix::fs::syncfs(fs::File::open(&target).unwrap()).unwrap();
        unpublish(&node, &ground, volume, &target);
    }
}

#[test]
fn pitfall_15_a_clone_of_xfs_is_mounted_beside_its_source_with_its_identity() {
    let Some(ground) = Ground::new() else { return };
    let (_, provider, node) = pool(&ground);
    let source = create(&provider, &of("data", 300, "xfs")).volume;
    let target = publish(&node, &ground, &source, "source");
    fs::write(target.join("file"), "content").unwrap();
    // Taken while it is mounted and has not been synced.
    let taken = snapshot(&provider, &source, "s1");
    fs::write(target.join("file"), "changed").unwrap();
    let request = of("clone", 300, "xfs").from_source(VolumeSource::Snapshot(taken));
    let clone = create(&provider, &request).volume;
    let beside = publish(&node, &ground, &clone, "clone");
    assert_eq!(fs::read_to_string(beside.join("file")).unwrap(), "content");
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "changed");
    fs::write(beside.join("file"), "of the clone").unwrap();
    unpublish(&node, &ground, &clone, &beside);
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "changed");
}

#[test]
fn pitfall_16_a_file_system_is_as_large_as_the_volume_it_was_restored_to() {
    let Some(ground) = Ground::new() else { return };
    let (_, provider, node) = pool(&ground);
    let source = create(&provider, &of("data", 16, "ext4")).volume;
    let target = publish(&node, &ground, &source, "source");
    fs::write(target.join("file"), "content").unwrap();
    let taken = snapshot(&provider, &source, "s1");
    let request = of("larger", 64, "ext4").from_source(VolumeSource::Snapshot(taken));
    let larger = create(&provider, &request).volume;
    let seen = publish(&node, &ground, &larger, "larger");
    assert_eq!(fs::read_to_string(seen.join("file")).unwrap(), "content");
    assert!(room(&seen) >= (64 << 20) / 10 * 8, "{} bytes", room(&seen));
    for _ in 0..2 {
        let grow = ExpandOnNode::new(larger.clone(), &seen);
        assert_eq!(block_on(node.expand_on_node(&grow)).unwrap(), ByteSize::from_mib(64));
    }
}

#[test]
fn ext4_grows_when_nobody_uses_it_and_xfs_while_it_is_used() {
    let Some(ground) = Ground::new() else { return };
    let (_, provider, node) = pool(&ground);
    let ext4 = create(&provider, &of("ext4", 16, "ext4")).volume;
    let target = publish(&node, &ground, &ext4, "ext4");
    let before = room(&target);
    let size = SizeRange::at_least(ByteSize::from_mib(48)).unwrap();
    // Whether a mounted one grows is up to what the process may do.
    let online = provider.capabilities().has(Capability::ExpandOnline);
    let grown = block_on(provider.expand_volume(&token(), &ext4, size));
    if online {
        assert!(ready(grown).node_expansion_required);
        block_on(node.expand_on_node(&ExpandOnNode::new(ext4.clone(), &target))).unwrap();
        assert!(room(&target) > before * 2, "{} and then {}", before, room(&target));
        unpublish(&node, &ground, &ext4, &target);
    } else {
        assert_eq!(grown.unwrap_err().kind(), ErrorKind::Conflict);
        unpublish(&node, &ground, &ext4, &target);
        ready(block_on(provider.expand_volume(&token(), &ext4, size)));
    }
    let target = publish(&node, &ground, &ext4, "ext4");
    assert!(room(&target) > before * 2, "{} and then {}", before, room(&target));

    let xfs = create(&provider, &of("xfs", 300, "xfs")).volume;
    let target = publish(&node, &ground, &xfs, "xfs");
    let before = room(&target);
    let size = SizeRange::at_least(ByteSize::from_mib(400)).unwrap();
    ready(block_on(provider.expand_volume(&token(), &xfs, size)));
    block_on(node.expand_on_node(&ExpandOnNode::new(xfs.clone(), &target))).unwrap();
    assert!(room(&target) >= before + (90 << 20), "{} and then {}", before, room(&target));
}

#[test]
fn pitfall_13_an_image_with_something_else_on_it_is_never_formatted() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, node) = pool(&ground);
    let volume = create(&provider, &of("data", 16, "ext4")).volume;
    let foreign = vec![0xa5; 16 << 20];
    fs::write(image(&pool, &volume), &foreign).unwrap();
    let staging = ground.directory("staging");
    let refused = block_on(node.stage_volume(&StageVolume::new(volume.clone(), None, &staging))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert_eq!(fs::read(image(&pool, &volume)).unwrap(), foreign);
    assert!(devices_of(&pool).is_empty());
    block_on(node.unstage_volume(&volume, &staging)).unwrap();
    ready(block_on(provider.delete_volume(&token(), &volume)));
}

#[test]
fn what_is_encrypted_cannot_be_read_without_the_key() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, node) = pool(&ground);
    let request = wish("data", 16, VolumeOptions::default().with_encryption(true));
    let volume = create(&provider, &request).volume;
    let staging = ground.directory("staging");
    let (right, wrong) = ([7; 64], [8; 64]);
    let stage = |key: &[u8]| {
        let secrets = Secrets::none().with("encryption-key", SecretBytes::new(key.to_vec()));
        let request = StageVolume::new(volume.clone(), None, &staging).with_secrets(secrets);
        block_on(node.stage_volume(&request))
    };
    let target = ground.path("target");
    let show = PublishVolume::new(volume.clone(), None, &target).staged_at(&staging);
    assert_eq!(stage(&[7; 32]).unwrap_err().kind(), ErrorKind::Invalid);
    stage(&right).unwrap();
    block_on(node.publish_volume(&show)).unwrap();
    let secret = "a secret that must not be on the disk";
    fs::write(target.join("a-name-that-is-secret"), secret).unwrap();
    block_on(node.unpublish_volume(&volume, &target)).unwrap();
    block_on(node.unstage_volume(&volume, &staging)).unwrap();
    let raw = fs::read(image(&pool, &volume)).unwrap();
    for word in [secret, "a-name-that-is-secret"] {
        assert!(!raw.windows(word.len()).any(|found| found == word.as_bytes()), "{word:?} is there");
    }
    assert_eq!(stage(&wrong).unwrap_err().kind(), ErrorKind::Denied);
    assert!(devices_of(&pool).is_empty(), "the wrong key left something behind");
    stage(&right).unwrap();
    block_on(node.publish_volume(&show)).unwrap();
    assert_eq!(fs::read_to_string(target.join("a-name-that-is-secret")).unwrap(), secret);
}

#[test]
fn a_snapshot_of_a_mounted_image_leaves_it_writable_and_brings_it_back() {
    let Some(ground) = Ground::new() else { return };
    let (_, provider, node) = pool(&ground);
    let volume = create(&provider, &of("data", 16, "ext4")).volume;
    let target = publish(&node, &ground, &volume, "target");
    fs::write(target.join("file"), "old").unwrap();
    let taken = snapshot(&provider, &volume, "s1");
    fs::write(target.join("file"), "new").unwrap();
    unpublish(&node, &ground, &volume, &target);
    ready(block_on(provider.restore_snapshot(&token(), &taken, &volume)));
    let target = publish(&node, &ground, &volume, "target");
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "old");
}

#[test]
fn images_are_on_btrfs_as_well_and_more_than_the_pool_has_is_not_promised() {
    let Some(ground) = Ground::new() else { return };
    let provider = provider(&ground.btrfs("pool"));
    let node = provider.node().unwrap();
    let volume = create(&provider, &of("data", 16, "ext4")).volume;
    let target = publish(&node, &ground, &volume, "target");
    fs::write(target.join("file"), "content").unwrap();
    unpublish(&node, &ground, &volume, &target);
    let refused = block_on(provider.create_volume(&of("huge", 500, "ext4"))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    let left = block_on(provider.get_provider_metrics()).unwrap();
    assert_eq!((left.volumes, left.provisioned), (1, ByteSize::from_mib(16)));
}

#[test]
fn pitfall_12_an_image_in_use_under_another_name_is_in_use() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, node) = pool(&ground);
    let volume = create(&provider, &of("data", 16, "ext4")).volume;
    let other = pool.join("other-name");
    fs::hard_link(image(&pool, &volume), &other).unwrap();
    run("losetup", ["--find".as_ref(), other.as_os_str()]);
    let busy = block_on(provider.delete_volume(&token(), &volume)).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict, "{busy}");
    let staging = ground.directory("staging");
    let second = block_on(node.stage_volume(&StageVolume::new(volume.clone(), None, &staging))).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Conflict, "{second}");
    for device in devices_of(&pool) {
        run("losetup", ["--detach".as_ref(), device.as_os_str()]);
    }
    fs::remove_file(&other).unwrap();
    ready(block_on(provider.delete_volume(&token(), &volume)));
}

#[test]
fn a_full_pool_of_images_is_opened_as_one() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, node) = pool(&ground);
    let volume = create(&provider, &of("data", 16, "ext4")).volume;
    let target = publish(&node, &ground, &volume, "target");
    fs::write(target.join("file"), "content").unwrap();
    unpublish(&node, &ground, &volume, &target);
    drop(provider);
    fill_up(&pool);
    let again = self::provider(&pool);
    assert_eq!(again.backend(), LocalBackend::Images);
    drop(again);
    // Where nothing is remembered, nothing is guessed.
    let make_room = || ["full", "small"].map(|name| fs::remove_file(pool.join(name)).unwrap());
    make_room();
    fs::write(pool.join("hivemind-pool"), "1\n").unwrap();
    fill_up(&pool);
    let unknown = LocalProvider::open("local".parse().unwrap(), node_info(), &pool).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Exhausted, "{unknown}");
    make_room();
    let again = self::provider(&pool);
    assert_eq!(again.backend(), LocalBackend::Images);
    ready(block_on(again.delete_volume(&token(), &volume)));
}

#[test]
fn templates_are_a_few_however_many_sizes_there_are() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = pool(&ground);
    for nth in 0..20 {
        let volume = create(&provider, &of("data", 8 + nth, "ext4")).volume;
        ready(block_on(provider.delete_volume(&token(), &volume)));
        create(&provider, &of(&format!("other-{nth}"), 8, "ext4"));
    }
    let names = fs::read_dir(pool.join("templates")).unwrap().map(|entry| entry.unwrap().file_name());
    let names: std::collections::BTreeSet<_> = names.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(names.len(), 16, "{names:?}");
    let used = format!("ext4-image-{}", 8 << 20);
    assert!(names.contains(&used), "what is used all the time was removed: {names:?}");
}

#[test]
fn what_is_read_and_written_is_counted_for_the_volume_and_not_for_its_device() {
    let Some(ground) = Ground::new() else { return };
    let (_, provider, node) = pool(&ground);
    let counters = |volume: &VolumeRef, target: &Path, name: &str| {
        block_on(node.volume_stats(volume, target)).unwrap().counters[name]
    };
    let first = create(&provider, &of("first", 64, "ext4")).volume;
    let target = publish(&node, &ground, &first, "first");
    fs::write(target.join("file"), vec![7; 16 << 20]).unwrap();
    rustix::fs::syncfs(fs::File::open(&target).unwrap()).unwrap();
    let written = counters(&first, &target, "written-bytes");
    assert!((16 << 20..24 << 20).contains(&written), "{written} bytes");
    assert!(counters(&first, &target, "writes") > 0);
    unpublish(&node, &ground, &first, &target);
    // The next one has the same device, most likely, and nothing was written to it.
    let second = create(&provider, &of("second", 64, "ext4")).volume;
    let target = publish(&node, &ground, &second, "second");
    let written = counters(&second, &target, "written-bytes");
    assert!(written < 4 << 20, "{written} bytes");
    unpublish(&node, &ground, &second, &target);
}

#[test]
fn what_is_reserved_is_never_promised() {
    let Some(ground) = Ground::new() else { return };
    let pool = ground.xfs("pool");
    let open = || eventually(|| LocalProvider::open("local".parse().unwrap(), node_info(), &pool)).unwrap();
    let query = CapacityQuery::new(VolumeOptions::default(), Topology::default());
    let left = |provider: &LocalProvider| {
        block_on(provider.get_capacity(&query)).unwrap().available.as_bytes() >> 20
    };
    let all = left(&open());
    let half = open().with_reserve(50).unwrap();
    let may = left(&half);
    assert!(may < all - 400 && may > 300, "{may} of {all} MiB");
    let refused = block_on(half.create_volume(&of("large", may + 8, "ext4"))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted, "{refused}");
    create(&half, &of("data", may - 8, "ext4"));
    drop(half);
    assert_eq!(open().with_reserve(100).unwrap_err().kind(), ErrorKind::Invalid);
}
