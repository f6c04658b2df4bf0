//! What a loss of power leaves, at any moment: states of the disk, kept while groups of snapshots are taken on it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hivemind_core::block_on;
use hivemind_storage::{CreateGroupSnapshot, GroupKey, LocalProvider, StorageProvider, VolumeRef};

use crate::ground::{Ground, create, provider, ready, run, token};
use crate::subvolumes::{data, plain};

const GROUPS: usize = 6;
const MEMBERS: usize = 8;

fn mount(disk: &Path, at: &Path) {
    run("mount", [OsStr::new("-o"), OsStr::new("loop"), disk.as_os_str(), at.as_os_str()]);
}

fn take(provider: &LocalProvider, pool: &Path, volumes: &[VolumeRef], nth: usize) {
    for volume in volumes {
        fs::write(data(pool, volume).join("file"), format!("g{nth}")).unwrap();
    }
    let group = GroupKey::new(volumes[0].key.tenant.clone(), format!("g{nth}").parse().unwrap());
    let request = CreateGroupSnapshot::new(token(), group, volumes.to_vec());
    ready(block_on(provider.create_group_snapshot(&request)));
}

/// The state of the disk at some moments, each with how many groups somebody had been told of before.
fn states(disk: &Path, told: &AtomicUsize, over: &AtomicBool) -> Vec<(PathBuf, usize)> {
    let mut states = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let known = told.load(Ordering::SeqCst);
        let copy = disk.with_file_name(format!("state-{}", states.len()));
        // The file system copies it at one moment.
        rustix::fs::ioctl_ficlone(File::create(&copy).unwrap(), File::open(disk).unwrap()).unwrap();
        states.push((copy, known));
    }
    states
}

/// How many groups there are, each of which is whole, with what was in the volumes when it was taken.
fn whole_groups(provider: &LocalProvider, pool: &Path) -> usize {
    let all = block_on(provider.list_snapshots(None, 1000)).unwrap().items;
    for one in &all {
        let name = one.key.as_ref().unwrap().snapshot.as_str();
        let frozen = pool.join("snapshots").join(one.handle.as_str()).join("data/file");
        assert_eq!(fs::read_to_string(frozen).unwrap(), name);
        let members = all.iter().filter(|other| other.group.is_some() && other.group == one.group);
        assert_eq!(members.count(), MEMBERS, "{name} is there in part");
    }
    let there = fs::read_dir(pool.join("snapshots")).unwrap().count();
    assert_eq!(there, all.len(), "what never came to be stays");
    all.len() / MEMBERS
}

#[test]
fn a_loss_of_power_leaves_groups_whole_and_each_that_somebody_was_told_of() {
    let Some(ground) = Ground::new() else { return };
    let (disk, pool) = (ground.xfs("outer").join("disk"), ground.directory("pool"));
    File::create(&disk).unwrap().set_len(512 << 20).unwrap();
    run("mkfs.btrfs", [OsStr::new("-q"), disk.as_os_str()]);
    mount(&disk, &pool);
    let local = provider(&pool);
    let volumes: Vec<_> =
        (0..MEMBERS).map(|nth| create(&local, &plain(&format!("data-{nth}"))).volume).collect();
    let (told, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let states = std::thread::scope(|scope| {
        let states = scope.spawn(|| states(&disk, &told, &over));
        for nth in 0..GROUPS {
            take(&local, &pool, &volumes, nth);
            told.store(nth + 1, Ordering::SeqCst);
        }
        over.store(true, Ordering::SeqCst);
        states.join().unwrap()
    });
    assert_eq!(whole_groups(&local, &pool), GROUPS);
    drop(local);
    // Two disks of one name are not mounted beside each other.
    run("umount", [pool.as_os_str()]);
    for (state, known) in states.iter().step_by(states.len().div_ceil(24)) {
        mount(state, &pool);
        let again = provider(&pool);
        let there = whole_groups(&again, &pool);
        assert!((*known..=GROUPS).contains(&there), "{there} groups, and {known} were told of");
        assert!(volumes.iter().all(|volume| block_on(again.get_volume_status(volume)).is_ok()));
        // It goes on from there.
        take(&again, &pool, &volumes, GROUPS);
        drop(again);
        run("umount", [pool.as_os_str()]);
    }
}
