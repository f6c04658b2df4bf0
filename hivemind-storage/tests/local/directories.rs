//! What holds for every pool, seen on one of plain directories.

use std::fs;
use std::sync::Arc;

use hivemind_core::{ErrorKind, SystemClock, block_on};
use hivemind_storage::{
    AccessMode, LocalBackend, LocalProvider, NodeStorage, PublishVolume, SizeRange, StageVolume,
    StorageProvider, VolumeOptions, VolumeRef,
};

use crate::ground::{Ground, create, mounted_below, node_info, provider, publish, token, unpublish, wish};

#[test]
fn volumes_outlive_their_provider_and_a_pool_has_one_at_a_time() {
    let Some(ground) = Ground::new() else { return };
    let pool = ground.directory("pool");
    let first = provider(&pool);
    let made = create(&first, &wish("data", 1, VolumeOptions::default()));
    let second = LocalProvider::open("local".parse().unwrap(), node_info(), &pool);
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Conflict);
    drop(first);
    let again = provider(&pool);
    assert_eq!(create(&again, &wish("data", 1, VolumeOptions::default())), made);
}

#[test]
fn a_directory_with_something_else_in_it_is_no_pool() {
    let Some(ground) = Ground::new() else { return };
    let pool = ground.directory("home");
    fs::write(pool.join("thesis.tex"), "x").unwrap();
    let refused = LocalProvider::open("local".parse().unwrap(), node_info(), &pool).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().contains("thesis.tex"), "{refused}");
    assert_eq!(fs::read_dir(&pool).unwrap().count(), 1);
}

#[test]
fn what_a_crash_left_half_made_or_half_removed_is_gone_after_opening() {
    let Some(ground) = Ground::new() else { return };
    let pool = ground.directory("pool");
    drop(provider(&pool));
    for part in ["tmp/vol-1", "trash/vol-2"] {
        fs::create_dir_all(pool.join(part).join("data/deep")).unwrap();
    }
    let opened = provider(&pool);
    assert_eq!(fs::read_dir(pool.join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(pool.join("trash")).unwrap().count(), 0);
    assert_eq!(block_on(opened.get_provider_metrics()).unwrap().volumes, 0);
}

#[test]
fn a_volume_that_was_being_made_is_gone_after_opening_and_one_that_lost_its_record_is_not() {
    let Some(ground) = Ground::new() else { return };
    let pool = ground.directory("pool");
    let opened = provider(&pool);
    let made = create(&opened, &wish("data", 1, VolumeOptions::default()));
    drop(opened);
    let place = pool.join("volumes").join(made.volume.handle.as_str());
    fs::write(place.join("data/file"), "content").unwrap();
    fs::remove_file(place.join("record.json")).unwrap();
    let lost = LocalProvider::open("local".parse().unwrap(), node_info(), &pool).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Corrupt, "{lost}");
    assert_eq!(fs::read_to_string(place.join("data/file")).unwrap(), "content");
    fs::write(place.join("partial"), "").unwrap();
    drop(provider(&pool));
    assert!(!place.exists());
}

#[test]
fn a_record_that_is_damaged_or_newer_stops_everything_before_it_is_touched() {
    let Some(ground) = Ground::new() else { return };
    let pool = ground.directory("pool");
    let opened = provider(&pool);
    let made = create(&opened, &wish("data", 1, VolumeOptions::default()));
    drop(opened);
    let record = pool.join("volumes").join(made.volume.handle.as_str()).join("record.json");
    let good = fs::read_to_string(&record).unwrap();
    for bad in [good.replace("\"version\": 1", "\"version\": 2"), "{".to_owned()] {
        fs::write(&record, &bad).unwrap();
        let refused = LocalProvider::open("local".parse().unwrap(), node_info(), &pool).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
        assert_eq!(fs::read_to_string(&record).unwrap(), bad);
    }
}

#[test]
fn what_is_published_is_seen_by_the_workload_and_keeps_the_volume() {
    let Some(ground) = Ground::new() else { return };
    let provider = provider(&ground.directory("pool"));
    let node = provider.node().unwrap();
    let volume = create(&provider, &wish("data", 1, VolumeOptions::default())).volume;
    let target = publish(&node, &ground, &volume, "target");
    fs::write(target.join("file"), "content").unwrap();
    let refused = block_on(provider.delete_volume(&token(), &volume)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let status = block_on(provider.get_volume_status(&volume)).unwrap();
    assert_eq!(status.attached_to.len(), 1);
    unpublish(&node, &ground, &volume, &target);
    assert!(!target.exists());
    assert!(block_on(provider.get_volume_status(&volume)).unwrap().attached_to.is_empty());
    let target = publish(&node, &ground, &volume, "target");
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "content");
    unpublish(&node, &ground, &volume, &target);
    block_on(provider.delete_volume(&token(), &volume)).unwrap();
    assert_eq!(mounted_below(&ground.path("")), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_read_only_target_cannot_be_written_and_a_second_workload_is_refused() {
    let Some(ground) = Ground::new() else { return };
    let provider = provider(&ground.directory("pool"));
    let node = provider.node().unwrap();
    let options = VolumeOptions::default().with_access_mode(AccessMode::ReadWriteOncePod);
    let volume = create(&provider, &wish("data", 1, options)).volume;
    let staging = ground.directory("staging");
    let (mode, at) = (AccessMode::ReadWriteOncePod, |name: &str| {
        PublishVolume::new(volume.clone(), None, ground.path(name)).staged_at(&staging)
    });
    let request = StageVolume::new(volume.clone(), None, &staging).with_access_mode(mode);
    let early = block_on(node.publish_volume(&at("a").with_access_mode(mode))).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Conflict);
    block_on(node.stage_volume(&request)).unwrap();
    let first = at("a").with_access_mode(mode).with_read_only(true);
    block_on(node.publish_volume(&first)).unwrap();
    block_on(node.publish_volume(&first)).unwrap();
    assert!(fs::write(ground.path("a/file"), "x").is_err());
    let second = block_on(node.publish_volume(&at("b").with_access_mode(mode))).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Conflict);
    assert!(!ground.path("b").exists());
    let other = block_on(node.publish_volume(&at("a").with_access_mode(mode))).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn pitfall_25_no_handle_leads_out_of_the_pool() {
    let Some(ground) = Ground::new() else { return };
    let pool = ground.directory("pool");
    let provider = provider(&pool);
    let node = provider.node().unwrap();
    let volume = create(&provider, &wish("data", 1, VolumeOptions::default())).volume;
    let own = pool.join("volumes").join(volume.handle.as_str());
    fs::write(own.join("data/file"), "content").unwrap();
    let outside = ground.directory("outside");
    fs::create_dir(outside.join("data")).unwrap();
    fs::write(outside.join("data/file"), "precious").unwrap();
    std::os::unix::fs::symlink(&outside, pool.join("volumes/vol-link")).unwrap();
    let absolute = outside.display().to_string();
    let handles = [
        "..",
        ".",
        "../../outside",
        "x/../../../outside",
        &absolute,
        "../volumes",
        "vol-link",
        "vol-link/data",
        &format!("{}/../../../outside", volume.handle),
        &format!("{}/", volume.handle),
    ];
    let mut tried = 0;
    for handle in handles.iter().filter_map(|handle| handle.parse().ok()) {
        let of = VolumeRef::new(volume.key.clone(), handle);
        // It is not there, so it is gone already; or it is refused.
        let _ = block_on(provider.delete_volume(&token(), &of));
        let at = ground.path(&format!("staging-{tried}"));
        fs::create_dir(&at).unwrap();
        assert!(block_on(node.stage_volume(&StageVolume::new(of.clone(), None, &at))).is_err(), "{of:?}");
        assert!(block_on(provider.get_volume_status(&of)).is_err(), "{of:?}");
        tried += 1;
    }
    assert!(tried > 0, "every handle was refused as none, which is as good, and nothing is tested");
    assert_eq!(fs::read_to_string(outside.join("data/file")).unwrap(), "precious");
    assert_eq!(fs::read_to_string(own.join("data/file")).unwrap(), "content");
    fs::remove_file(pool.join("volumes/vol-link")).unwrap();
}

#[test]
fn pitfall_14_nothing_is_deleted_through_a_mount() {
    let Some(ground) = Ground::new() else { return };
    let provider = provider(&ground.directory("pool"));
    let node = provider.node().unwrap();
    let volume = create(&provider, &wish("data", 1, VolumeOptions::default())).volume;
    let target = publish(&node, &ground, &volume, "target");
    fs::write(target.join("file"), "content").unwrap();
    // A workload that is still in there keeps the mount; what is in it stays.
    let busy = fs::File::open(target.join("file")).unwrap();
    let refused = block_on(node.unpublish_volume(&volume, &target)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "content");
    drop(busy);
    // What somebody put under the mount stays as well.
    crate::ground::eventually(|| rustix::mount::unmount(&target, rustix::mount::UnmountFlags::empty()))
        .unwrap();
    fs::write(target.join("other"), "not ours").unwrap();
    let refused = block_on(node.unpublish_volume(&volume, &target)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert_eq!(fs::read_to_string(target.join("other")).unwrap(), "not ours");
    fs::remove_file(target.join("other")).unwrap();
    unpublish(&node, &ground, &volume, &target);
    // A volume with a mount inside is not deleted, nor is what is mounted there.
    let data = ground.path("pool").join("volumes").join(volume.handle.as_str()).join("data");
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "content");
    let (inside, precious) = (data.join("inside"), ground.directory("precious"));
    fs::create_dir(&inside).unwrap();
    fs::write(precious.join("file"), "precious").unwrap();
    rustix::mount::mount_bind(&precious, &inside).unwrap();
    let refused = block_on(provider.delete_volume(&token(), &volume)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "precious");
}

#[test]
fn pitfall_17_a_volume_never_shrinks() {
    let Some(ground) = Ground::new() else { return };
    let pool = ground.directory("pool");
    let clock = Arc::new(SystemClock::new());
    let backend = Some(LocalBackend::Directories);
    let provider =
        LocalProvider::open_with("local".parse().unwrap(), node_info(), &pool, clock, backend).unwrap();
    let made = create(&provider, &wish("data", 4, VolumeOptions::default()));
    let mib = hivemind_core::resources::ByteSize::from_mib;
    let smaller = SizeRange::at_least(mib(1)).unwrap();
    let kept = block_on(provider.expand_volume(&token(), &made.volume, smaller)).unwrap().ready().unwrap();
    assert_eq!(kept.size, made.size);
    let below = SizeRange::new(mib(1), Some(mib(2))).unwrap();
    let refused = block_on(provider.expand_volume(&token(), &made.volume, below)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(block_on(provider.get_volume_status(&made.volume)).unwrap().size, made.size);
}

#[test]
fn what_was_used_before_a_restart_of_the_system_is_not_used_any_more() {
    let Some(ground) = Ground::new() else { return };
    let provider = provider(&ground.directory("pool"));
    let node = provider.node().unwrap();
    let volume = create(&provider, &wish("data", 1, VolumeOptions::default())).volume;
    let target = publish(&node, &ground, &volume, "target");
    // A restart unmounts everything, and what is written down is of another start.
    for point in mounted_below(&ground.path("")) {
        rustix::mount::unmount(&point, rustix::mount::UnmountFlags::empty()).unwrap();
    }
    let uses = ground.path("pool").join("volumes").join(volume.handle.as_str()).join("uses");
    let refused = block_on(provider.delete_volume(&token(), &volume)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "in this start it counts, whatever is mounted");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for entry in fs::read_dir(&uses).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(boot.trim()), "{text}");
        fs::write(&path, text.replace(boot.trim(), "another start")).unwrap();
    }
    assert!(block_on(provider.get_volume_status(&volume)).unwrap().attached_to.is_empty());
    // What a crash interrupted while it was written is no use: nothing was mounted for it.
    fs::write(uses.join("7.json"), "").unwrap();
    assert!(block_on(provider.get_volume_status(&volume)).unwrap().attached_to.is_empty());
    // The target is left over, and is taken again or away.
    assert_eq!(publish(&node, &ground, &volume, "target"), target);
    unpublish(&node, &ground, &volume, &target);
    block_on(provider.delete_volume(&token(), &volume)).unwrap();
}

#[test]
fn a_handle_does_not_lead_out_of_the_pool() {
    let Some(ground) = Ground::new() else { return };
    let provider = provider(&ground.directory("pool"));
    let node = provider.node().unwrap();
    let mut volume = create(&provider, &wish("data", 1, VolumeOptions::default())).volume;
    let staging = ground.directory("staging");
    let other = volume.handle.clone();
    for wrong in ["../volumes", "..", "vol-none", "/"] {
        volume.handle = wrong.parse().unwrap();
        let staged = block_on(node.stage_volume(&StageVolume::new(volume.clone(), None, &staging)));
        assert_eq!(staged.unwrap_err().kind(), ErrorKind::NotFound, "{wrong}");
        block_on(provider.delete_volume(&token(), &volume)).unwrap();
    }
    // Nor does the right handle under another key.
    volume.handle = other;
    let right = volume.clone();
    volume.key.volume = "another".parse().unwrap();
    let staged = block_on(node.stage_volume(&StageVolume::new(volume.clone(), None, &staging)));
    assert_eq!(staged.unwrap_err().kind(), ErrorKind::NotFound);
    block_on(provider.delete_volume(&token(), &volume)).unwrap();
    assert!(block_on(provider.get_volume_status(&right)).is_ok());
}

#[test]
fn a_path_in_the_pool_or_through_a_link_is_no_target() {
    let Some(ground) = Ground::new() else { return };
    let pool = ground.directory("pool");
    let provider = provider(&pool);
    let node = provider.node().unwrap();
    let volume = create(&provider, &wish("data", 1, VolumeOptions::default())).volume;
    std::os::unix::fs::symlink(ground.directory("elsewhere"), ground.path("link")).unwrap();
    for wrong in [pool.join("volumes"), ground.path("link"), "relative".into(), ground.path("a/../b")] {
        let staged = block_on(node.stage_volume(&StageVolume::new(volume.clone(), None, &wrong)));
        assert_eq!(staged.unwrap_err().kind(), ErrorKind::Invalid, "{}", wrong.display());
    }
    assert_eq!(mounted_below(&ground.path("")), Vec::<std::path::PathBuf>::new());
}
