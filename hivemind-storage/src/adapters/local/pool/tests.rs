//! A pool on a disk that fails.

use std::sync::atomic::Ordering;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Generation, OpToken, SystemClock, TenantRef};

use super::*;
use crate::{
    CreateVolume, SizeRange, Topology, TopologyRequirement, VolumeCondition, VolumeKey, VolumeOptions,
    VolumeRef, VolumeStatus,
};

fn open(directory: &Path) -> Pool {
    let node = NodeInfo::new("n1".parse().unwrap()).with_topology(Topology::everywhere().with("node", "n1"));
    let backend = Some(LocalBackend::Directories);
    Pool::open(node, directory, Arc::new(SystemClock::new()), backend).unwrap()
}

fn wish() -> CreateVolume {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    let key = VolumeKey::new(tenant, "data".parse().unwrap());
    let size = SizeRange::at_least(ByteSize::from_mib(1)).unwrap();
    CreateVolume::new(OpToken::new("t"), key, size, VolumeOptions::default())
}

fn status(pool: &Pool, of: &VolumeRef) -> VolumeStatus {
    pool.status(of).unwrap()
}

#[test]
fn a_deletion_that_is_not_durable_is_neither_done_nor_forgotten_and_goes_on_when_it_is_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let pool = open(directory.path());
    let volume = pool.create(&wish()).unwrap().volume;
    assert_eq!(status(&pool, &volume).condition, VolumeCondition::Normal);
    pool.flushes_fail.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let failed = pool.delete(&volume).unwrap_err();
        assert_eq!((failed.kind(), failed.effect()), (ErrorKind::Unavailable, Effect::Unknown));
        // It may be back after a crash: nobody is told that it is there, or that it is not.
        let VolumeCondition::Abnormal(why) = status(&pool, &volume).condition else {
            panic!("nothing is wrong with it")
        };
        assert!(why.contains("delete it again"), "{why}");
        let again = pool.create(&wish()).unwrap_err();
        assert_eq!((again.kind(), again.effect()), (ErrorKind::Unavailable, Effect::NotStarted));
        let larger = SizeRange::at_least(ByteSize::from_mib(2)).unwrap();
        assert_eq!(pool.expand(&volume, larger).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(pool.index().provisioned(), ByteSize::from_mib(1));
    }
    pool.flushes_fail.store(false, Ordering::Relaxed);
    for _ in 0..2 {
        pool.delete(&volume).unwrap();
        assert_eq!(pool.status(&volume).unwrap_err().kind(), ErrorKind::NotFound);
    }
    let next = pool.create(&wish()).unwrap().volume;
    assert_ne!(next, volume);
    // The handle of the first one deletes nothing of the second.
    pool.delete(&volume).unwrap();
    assert_eq!(status(&pool, &next).condition, VolumeCondition::Normal);
}

#[test]
fn a_deletion_that_failed_is_over_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let pool = open(directory.path());
    let volume = pool.create(&wish()).unwrap().volume;
    pool.flushes_fail.store(true, Ordering::Relaxed);
    pool.delete(&volume).unwrap_err();
    drop(pool);
    let pool = open(directory.path());
    assert_eq!(pool.status(&volume).unwrap_err().kind(), ErrorKind::NotFound);
    pool.delete(&volume).unwrap();
    assert!(fs::read_dir(directory.path().join(TRASH)).unwrap().next().is_none());
}

#[test]
fn a_volume_in_another_place_than_is_asked_for_is_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let pool = open(directory.path());
    let on = |node: &str| {
        let place = Topology::everywhere().with("node", node);
        wish().with_topology(TopologyRequirement::new(vec![place], vec![]))
    };
    let made = pool.create(&on("n1")).unwrap();
    assert_eq!(pool.create(&on("n1")).unwrap(), made);
    let elsewhere = pool.create(&on("n2")).unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::AlreadyExists, "{elsewhere}");
}

#[test]
fn what_a_pool_can_do_is_remembered() {
    for backend in [LocalBackend::Subvolumes, LocalBackend::Images, LocalBackend::Directories] {
        assert_eq!(remembered(&format!("1\n{backend}\n")), Some(backend));
    }
    assert_eq!((remembered("1\n"), remembered("1\nclouds\n"), remembered("")), (None, None, None));
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let text = fs::read_to_string(directory.path().join(MARK)).unwrap();
    assert!(remembered(&text).is_some(), "{text:?}");
}

#[test]
fn what_was_left_empty_by_another_backend_is_cleared_away_and_what_was_used_is_not() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let spare = below(directory.path(), &[VOLUMES, "vol-1"]);
    fs::create_dir_all(spare.join(backing::DATA)).unwrap();
    drop(open(directory.path()));
    assert!(!spare.exists());
    // Whoever used it has lost its record, and is told.
    fs::create_dir_all(spare.join(backing::DATA)).unwrap();
    fs::create_dir_all(spare.join("uses")).unwrap();
    let node = NodeInfo::new("n1".parse().unwrap());
    let refused = Pool::open(node, directory.path(), Arc::new(SystemClock::new()), None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(spare.exists());
}

#[test]
fn a_directory_of_any_depth_and_width_is_removed_and_nothing_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (trash, kept) = (directory.path().join("trash"), directory.path().join("kept"));
    let data = below(&trash, &["gone", backing::DATA]);
    fs::create_dir_all(&data).unwrap();
    fs::write(&kept, "precious").unwrap();
    std::os::unix::fs::symlink(directory.path(), data.join("link")).unwrap();
    for nth in 0..300 {
        fs::create_dir(data.join(format!("d{nth}"))).unwrap();
        fs::write(data.join(format!("d{nth}/file")), "x").unwrap();
    }
    // Deeper than a path is long, and than files are open.
    let mut at = rustix::fs::open(&data, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..6000 {
        rustix::fs::mkdirat(&at, "deeper", rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "deeper", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .unwrap();
    }
    drop(at);
    backing::remove(&trash.join("gone")).unwrap();
    assert!(fs::read_dir(&trash).unwrap().next().is_none());
    assert_eq!(fs::read_to_string(&kept).unwrap(), "precious");
}
