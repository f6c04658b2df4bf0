//! Volumes as subvolumes of btrfs: limits that hold, snapshots, clones, groups, restoring in place.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use hivemind_core::resources::ByteSize;
use hivemind_core::{ErrorKind, block_on};
use hivemind_storage::{
    CreateGroupSnapshot, CreateSnapshot, GroupKey, LocalBackend, LocalNode, LocalProvider, NodeStorage,
    SizeRange, SnapshotKey, SnapshotRef, StorageProvider, VolumeOptions, VolumeRef, VolumeSource,
};

use crate::ground::{Ground, create, key, provider, publish, ready, run, token, unpublish, wish};

/// Where the data of a volume is, for a look behind the scenes.
pub(crate) fn data(pool: &Path, volume: &VolumeRef) -> PathBuf {
    pool.join("volumes").join(volume.handle.as_str()).join("data")
}

pub(crate) fn snapshot(provider: &LocalProvider, volume: &VolumeRef, name: &str) -> SnapshotRef {
    let key = SnapshotKey::new(volume.key.clone(), name.parse().unwrap());
    let request = CreateSnapshot::new(token(), key.clone(), volume.clone());
    ready(block_on(provider.create_snapshot(&request))).reference(key)
}

pub(crate) fn plain(name: &str) -> hivemind_storage::CreateVolume {
    wish(name, 8, VolumeOptions::default())
}

/// Writes until nothing more goes in, or `most` bytes are written; how many went in.
pub(crate) fn fill(path: &Path, most: usize) -> (usize, Option<io::Error>) {
    let (mut file, mut written) = (fs::File::create(path).unwrap(), 0);
    let chunk = vec![7; 256 << 10];
    while written < most {
        match file.write_all(&chunk).and_then(|()| file.sync_data()) {
            Ok(()) => written += chunk.len(),
            Err(e) => return (written, Some(e)),
        }
    }
    (written, None)
}

fn published(ground: &Ground, name: &str) -> (PathBuf, std::sync::Arc<LocalProvider>, LocalNode) {
    let pool = ground.btrfs(name);
    let provider = provider(&pool);
    assert_eq!(provider.backend(), LocalBackend::Subvolumes);
    let node = provider.node().unwrap();
    (pool, provider, node)
}

#[test]
fn a_volume_holds_its_size_and_no_more_and_grows_while_it_is_used() {
    let Some(ground) = Ground::new() else { return };
    let (_, provider, node) = published(&ground, "pool");
    let volume = create(&provider, &plain("data")).volume;
    let target = publish(&node, &ground, &volume, "target");
    let (written, error) = fill(&target.join("file"), 64 << 20);
    assert_eq!(error.map(|e| e.kind()), Some(io::ErrorKind::QuotaExceeded));
    assert!((6 << 20..=8 << 20).contains(&written), "{written} bytes went in");
    let stats = block_on(node.volume_stats(&volume, &target)).unwrap();
    assert_eq!(stats.bytes.total, 8 << 20);
    assert!(stats.bytes.used >= 6 << 20, "{stats:?}");
    let size = SizeRange::at_least(ByteSize::from_mib(24)).unwrap();
    let grown = ready(block_on(provider.expand_volume(&token(), &volume, size)));
    assert_eq!((grown.size, grown.node_expansion_required), (ByteSize::from_mib(24), false));
    let (more, error) = fill(&target.join("more"), 12 << 20);
    assert_eq!((more, error.map(|e| e.to_string())), (12 << 20, None));
}

#[test]
fn pitfall_16_a_larger_copy_has_its_own_limit_and_the_content() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, node) = published(&ground, "pool");
    let volume = create(&provider, &plain("data")).volume;
    fs::write(data(&pool, &volume).join("file"), "content").unwrap();
    let taken = snapshot(&provider, &volume, "s1");
    let larger = wish("copy", 32, VolumeOptions::default());
    let copy = create(&provider, &larger.clone().from_source(VolumeSource::Snapshot(taken.clone())));
    assert_eq!(copy.size, ByteSize::from_mib(32));
    let target = publish(&node, &ground, &copy.volume, "target");
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "content");
    assert_eq!(fill(&target.join("more"), 24 << 20).0, 24 << 20);
    // Without a word about the size it is the one of the source; less than that is refused by a limit.
    let small = SizeRange::new(ByteSize::from_mib(1), Some(ByteSize::from_mib(2))).unwrap();
    let mut request = plain("small").from_source(VolumeSource::Snapshot(taken));
    request.size = small;
    let refused = block_on(provider.create_volume(&request)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[test]
fn snapshots_keep_what_was_there_and_bring_it_back() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, node) = published(&ground, "pool");
    let volume = create(&provider, &plain("data")).volume;
    let target = publish(&node, &ground, &volume, "target");
    fs::write(target.join("file"), "old").unwrap();
    let taken = snapshot(&provider, &volume, "s1");
    fs::write(target.join("file"), "new").unwrap();
    let frozen = pool.join("snapshots").join(taken.handle.as_str()).join("data/file");
    assert_eq!(fs::read_to_string(&frozen).unwrap(), "old");
    assert!(fs::write(&frozen, "changed").is_err());
    let busy = block_on(provider.restore_snapshot(&token(), &taken, &volume)).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    unpublish(&node, &ground, &volume, &target);
    ready(block_on(provider.restore_snapshot(&token(), &taken, &volume)));
    let target = publish(&node, &ground, &volume, "target");
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "old");
    // It is the same volume, with its limit.
    assert!(fill(&target.join("full"), 64 << 20).1.is_some());
}

#[test]
fn pitfall_18_source_snapshot_and_clone_go_in_any_order() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = published(&ground, "pool");
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let source = create(&provider, &plain("data")).volume;
        fs::write(data(&pool, &source).join("file"), "content").unwrap();
        let taken = snapshot(&provider, &source, "s1");
        let from = VolumeSource::Snapshot(taken.clone());
        let clone = create(&provider, &plain("clone").from_source(from)).volume;
        for (nth, which) in order.into_iter().enumerate() {
            match which {
                0 => ready(block_on(provider.delete_volume(&token(), &source))),
                1 => ready(block_on(provider.delete_snapshot(&token(), &taken))),
                _ => ready(block_on(provider.delete_volume(&token(), &clone))),
            }
            if !order[..=nth].contains(&2) {
                let kept = fs::read_to_string(data(&pool, &clone).join("file")).unwrap();
                assert_eq!(kept, "content", "{order:?}");
            }
        }
        let left = block_on(provider.get_provider_metrics()).unwrap();
        assert_eq!((left.volumes, left.snapshots), (0, 0), "{order:?}");
    }
    for part in ["snapshots", "tmp", "trash"] {
        assert_eq!(fs::read_dir(pool.join(part)).unwrap().count(), 0, "{part}");
    }
    // Only empty subvolumes for volumes to come are left.
    for entry in fs::read_dir(pool.join("volumes")).unwrap() {
        let place = entry.unwrap().path();
        let record = fs::metadata(place.join("record.json")).map_or(0, |meta| meta.len());
        assert_eq!(record, 0, "{}", place.display());
        assert_eq!(fs::read_dir(place.join("data")).unwrap().count(), 0);
    }
}

#[test]
fn a_group_is_all_or_none_and_goes_as_one() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = published(&ground, "pool");
    let volumes: Vec<_> =
        (0..8).map(|nth| create(&provider, &plain(&format!("data-{nth}"))).volume).collect();
    for volume in &volumes {
        fs::write(data(&pool, volume).join("file"), volume.handle.as_str()).unwrap();
    }
    let group = GroupKey::new(key("data-0").tenant, "g1".parse().unwrap());
    let request = CreateGroupSnapshot::new(token(), group.clone(), volumes.clone());
    let taken = ready(block_on(provider.create_group_snapshot(&request)));
    assert_eq!(taken.snapshots.len(), 8);
    for snapshot in &taken.snapshots {
        let frozen = pool.join("snapshots").join(snapshot.handle.as_str()).join("data/file");
        assert_eq!(fs::read_to_string(frozen).unwrap(), snapshot.source.as_str());
    }
    let again = ready(block_on(provider.create_group_snapshot(&request)));
    assert_eq!((again.handle, again.snapshots.len()), (taken.handle.clone(), 8));
    // One that is not there spoils it all, and leaves nothing.
    let mut missing = volumes.clone();
    missing.push(VolumeRef::new(key("none"), "vol-none".parse().unwrap()));
    let other = GroupKey::new(group.tenant.clone(), "g2".parse().unwrap());
    let refused =
        block_on(provider.create_group_snapshot(&CreateGroupSnapshot::new(token(), other, missing)));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(pool.join("snapshots")).unwrap().count(), 8);
    let member = taken.snapshots[0].reference(taken.snapshots[0].key.clone().unwrap());
    let refused = block_on(provider.delete_snapshot(&token(), &member)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let members: Vec<_> = taken.snapshots.iter().map(|s| s.reference(s.key.clone().unwrap())).collect();
    ready(block_on(provider.delete_group_snapshot(&token(), &group, &taken.handle, &members)));
    assert_eq!(fs::read_dir(pool.join("snapshots")).unwrap().count(), 0);
}

/// By which transaction of the file system a subvolume was made.
fn made_by(subvolume: &Path) -> String {
    let shown = Command::new("btrfs").args(["subvolume", "show"]).arg(subvolume).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let line = shown.lines().find_map(|line| line.trim().strip_prefix("Gen at creation:"));
    line.unwrap().trim().to_owned()
}

/// Kernels before 6.6 let in nobody while one transaction waits for another one.
fn lets_in_who_comes_meanwhile() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(6))
}

#[test]
fn a_group_is_cut_in_one_transaction() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = published(&ground, "pool");
    let volumes: Vec<_> =
        (0..8).map(|nth| create(&provider, &plain(&format!("data-{nth}"))).volume).collect();
    // A machine that is busy may miss it; not each time.
    let mut groups = (0..10).map(|nth| {
        for volume in &volumes {
            fs::write(data(&pool, volume).join("file"), nth.to_string()).unwrap();
        }
        let group = GroupKey::new(key("data-0").tenant, format!("g{nth}").parse().unwrap());
        let request = CreateGroupSnapshot::new(token(), group, volumes.clone());
        let taken = ready(block_on(provider.create_group_snapshot(&request))).snapshots;
        let place = |handle: &str| pool.join("snapshots").join(handle).join("data");
        let made: BTreeSet<_> = taken.iter().map(|one| made_by(&place(one.handle.as_str()))).collect();
        made.len()
    });
    assert!(groups.any(|transactions| transactions == 1) || !lets_in_who_comes_meanwhile());
}

#[test]
fn members_of_a_group_that_never_came_to_be_are_gone_after_opening() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = published(&ground, "pool");
    let volumes = vec![create(&provider, &plain("a")).volume, create(&provider, &plain("b")).volume];
    let group = GroupKey::new(key("a").tenant, "g1".parse().unwrap());
    let taken = ready(block_on(provider.create_group_snapshot(&CreateGroupSnapshot::new(
        token(),
        group,
        volumes.clone(),
    ))));
    let alone = snapshot(&provider, &volumes[0], "s1");
    drop(provider);
    // As after a crash just before the group appeared.
    fs::remove_dir_all(pool.join("groups").join(taken.handle.as_str())).unwrap();
    for member in &taken.snapshots {
        fs::write(pool.join("snapshots").join(member.handle.as_str()).join("partial"), "").unwrap();
    }
    let again = crate::ground::provider(&pool);
    assert!(block_on(again.get_snapshot_status(&alone)).is_ok());
    assert_eq!(fs::read_dir(pool.join("snapshots")).unwrap().count(), 1);
}

#[test]
fn a_group_whose_record_was_there_before_its_snapshots_never_came_to_be() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = published(&ground, "pool");
    let volumes = vec![create(&provider, &plain("a")).volume, create(&provider, &plain("b")).volume];
    let group = |name: &str| {
        let key = GroupKey::new(key("a").tenant, name.parse().unwrap());
        CreateGroupSnapshot::new(token(), key, volumes.clone())
    };
    let whole = ready(block_on(provider.create_group_snapshot(&group("g1"))));
    let half = ready(block_on(provider.create_group_snapshot(&group("g2"))));
    drop(provider);
    let place = |part: &str, handle: &str| pool.join(part).join(handle);
    let mark = |place: &Path| fs::write(place.join("partial"), "").unwrap();
    // As after a crash between the two commits that may cut a group: the mark of one is there, and one snapshot is not.
    mark(&place("groups", half.handle.as_str()));
    half.snapshots.iter().for_each(|member| mark(&place("snapshots", member.handle.as_str())));
    let cut = place("snapshots", half.snapshots[1].handle.as_str()).join("data");
    run("btrfs", ["subvolume", "delete"].map(std::ffi::OsStr::new).into_iter().chain([cut.as_os_str()]));
    // As after one that came later: every snapshot is there.
    mark(&place("groups", whole.handle.as_str()));
    let provider = crate::ground::provider(&pool);
    assert_eq!(fs::read_dir(pool.join("groups")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(pool.join("snapshots")).unwrap().count(), 2);
    let again = ready(block_on(provider.create_group_snapshot(&group("g1"))));
    assert_eq!((again.handle.clone(), again.snapshots.len()), (whole.handle, 2));
    let anew = ready(block_on(provider.create_group_snapshot(&group("g2"))));
    assert_ne!(anew.handle, half.handle);
    drop(provider);
    // What has come to be is no more taken for what is being made, whatever is lost of it.
    for member in again.snapshots.iter().chain(&anew.snapshots) {
        assert!(!place("snapshots", member.handle.as_str()).join("partial").exists());
    }
    for group in [&again.handle, &anew.handle] {
        assert!(!place("groups", group.as_str()).join("partial").exists());
    }
}

#[test]
fn subvolumes_that_a_workload_made_go_with_the_volume() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = published(&ground, "pool");
    let volume = create(&provider, &plain("data")).volume;
    let inner = data(&pool, &volume).join("deep/inner");
    fs::create_dir(inner.parent().unwrap()).unwrap();
    run("btrfs", ["subvolume", "create"].map(std::ffi::OsStr::new).into_iter().chain([inner.as_os_str()]));
    ready(block_on(provider.delete_volume(&token(), &volume)));
    assert_eq!(fs::read_dir(pool.join("trash")).unwrap().count(), 0);
}

#[test]
fn subvolumes_that_a_workload_made_go_with_a_volume_that_is_full() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = published(&ground, "pool");
    let volume = create(&provider, &plain("data")).volume;
    let inner = data(&pool, &volume).join("inner");
    run("btrfs", ["subvolume", "create"].map(std::ffi::OsStr::new).into_iter().chain([inner.as_os_str()]));
    // To the last byte: small files, when there is no room for large ones.
    let mut room = 1 << 20;
    for nth in 0.. {
        let full = data(&pool, &volume).join(format!("{nth}"));
        let written = fs::write(&full, vec![7; room]).and_then(|()| fs::File::open(&full)?.sync_all());
        match written {
            Ok(()) => {}
            Err(_) if room > 1 => room /= 2,
            Err(e) => {
                assert_eq!(e.kind(), std::io::ErrorKind::QuotaExceeded, "{e}");
                break;
            }
        }
    }
    ready(block_on(provider.delete_volume(&token(), &volume)));
    assert_eq!(fs::read_dir(pool.join("trash")).unwrap().count(), 0);
}

#[test]
fn a_volume_that_a_crash_interrupted_never_was_and_its_subvolume_is_used_again() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = published(&ground, "pool");
    // The first one is made from nothing, and then some more are kept ready.
    create(&provider, &plain("first"));
    let second = create(&provider, &plain("second")).volume;
    let third = create(&provider, &plain("third")).volume;
    drop(provider);
    // As a crash leaves them while a record is written: empty, or not there.
    fs::write(data(&pool, &second).parent().unwrap().join("record.json"), "").unwrap();
    fs::remove_file(data(&pool, &third).parent().unwrap().join("record.json")).unwrap();
    // What has been used is no empty volume to be if it has no record at all, nor if it is still used.
    let uses = data(&pool, &third).parent().unwrap().join("uses");
    assert!(uses.exists(), "room for uses is made with it");
    let open = || LocalProvider::open("local".parse().unwrap(), crate::ground::node_info(), &pool);
    assert_eq!(open().unwrap_err().kind(), ErrorKind::Corrupt);
    fs::write(uses.parent().unwrap().join("record.json"), "").unwrap();
    fs::write(uses.join("0.json"), "").unwrap();
    assert_eq!(open().unwrap_err().kind(), ErrorKind::Corrupt);
    fs::remove_file(uses.join("0.json")).unwrap();
    // What has something in it is none either: its record was lost otherwise, and it is left alone.
    let content = data(&pool, &third).join("file");
    fs::write(&content, "content").unwrap();
    let lost = open().unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Corrupt, "{lost}");
    assert_eq!(fs::read_to_string(&content).unwrap(), "content");
    fs::remove_file(&content).unwrap();
    let provider = crate::ground::provider(&pool);
    assert_eq!(block_on(provider.get_provider_metrics()).unwrap().volumes, 1);
    assert!(data(&pool, &third).exists() && data(&pool, &second).exists());
    let made: Vec<_> = (0..20).map(|nth| create(&provider, &plain(&format!("v-{nth}"))).volume).collect();
    let handles: BTreeSet<_> = made.iter().map(|volume| &volume.handle).collect();
    assert_eq!(handles.len(), 20);
    for volume in &made {
        assert_eq!(fs::read_dir(data(&pool, volume)).unwrap().count(), 0);
        let (_, error) = fill(&data(&pool, volume).join("full"), 16 << 20);
        assert_eq!(error.map(|e| e.kind()), Some(io::ErrorKind::QuotaExceeded), "{volume:?}");
    }
}

#[test]
fn subvolumes_deeper_than_any_path_go_with_the_volume() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = published(&ground, "pool");
    let volume = create(&provider, &plain("data")).volume;
    let flags = rustix::fs::OFlags::DIRECTORY;
    let mode = rustix::fs::Mode::RWXU;
    let mut at = rustix::fs::open(data(&pool, &volume), flags, mode).unwrap();
    let name = "n".repeat(200);
    for nth in 0..120 {
        rustix::fs::mkdirat(&at, &name, mode).unwrap();
        at = rustix::fs::openat(&at, &name, flags, mode).unwrap();
        // Subvolumes in subvolumes, and several in one, far from each other.
        if nth % 20 == 19 {
            use std::os::fd::AsRawFd as _;
            let here = format!("/proc/{}/fd/{}", std::process::id(), at.as_raw_fd());
            for inner in ["inner", "beside"] {
                let inner = format!("{here}/{inner}");
                run("btrfs", ["subvolume", "create", &inner].map(std::ffi::OsStr::new));
            }
            at = rustix::fs::openat(&at, "inner", flags, mode).unwrap();
        }
    }
    drop(at);
    ready(block_on(provider.delete_volume(&token(), &volume)));
    assert_eq!(fs::read_dir(pool.join("trash")).unwrap().count(), 0);
}

#[test]
fn a_pool_is_opened_with_another_backend_and_what_was_kept_ready_is_cleared_away() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = published(&ground, "pool");
    let volume = create(&provider, &plain("data")).volume;
    fs::write(data(&pool, &volume).join("file"), "content").unwrap();
    drop(provider);
    let count = || fs::read_dir(pool.join("volumes")).unwrap().count();
    assert!(count() > 1, "nothing was kept ready");
    let open = |backend| {
        let clock = std::sync::Arc::new(hivemind_core::SystemClock::new());
        let name = "local".parse().unwrap();
        LocalProvider::open_with(name, crate::ground::node_info(), &pool, clock, Some(backend)).unwrap()
    };
    let images = open(LocalBackend::Images);
    assert_eq!((count(), images.backend()), (1, LocalBackend::Images));
    assert_eq!(block_on(images.get_volume_status(&volume)).unwrap().size, ByteSize::from_mib(8));
    drop(images);
    drop(open(LocalBackend::Directories));
    let again = open(LocalBackend::Subvolumes);
    assert_eq!(block_on(again.get_provider_metrics()).unwrap().volumes, 1);
    assert_eq!(fs::read_to_string(data(&pool, &volume).join("file")).unwrap(), "content");
}

#[test]
fn a_full_pool_of_subvolumes_is_opened_as_one_and_what_is_in_it_can_be_deleted() {
    let Some(ground) = Ground::new() else { return };
    let (pool, provider, _) = published(&ground, "pool");
    let volume = create(&provider, &plain("data")).volume;
    drop(provider);
    crate::ground::fill_up(&pool);
    let again = crate::ground::provider(&pool);
    assert_eq!(again.backend(), LocalBackend::Subvolumes);
    let refused = block_on(again.create_volume(&plain("more"))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exhausted, "{refused}");
    ready(block_on(again.delete_volume(&token(), &volume)));
}
