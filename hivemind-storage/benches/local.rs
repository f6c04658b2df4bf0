//! The speed of local volumes on btrfs, beside what the machine needs for one flush and one call in the same run.
//!
//! `cargo bench -p hivemind-storage --features local --bench local`, as root. It makes a btrfs in a file of its own, in
//! the directory `HIVEMIND_BENCH_DIR` (a temporary one if nothing is said), and takes it away again. A directory in
//! memory shows what the code costs, one on a disk what a flush of that disk costs.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench measures and tells"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hivemind_core::resources::ByteSize;
use hivemind_core::{Generation, OpToken, TenantRef, block_on};
use hivemind_storage::{
    CreateGroupSnapshot, CreateSnapshot, CreateVolume, GroupKey, LocalNode, LocalProvider, NodeInfo,
    NodeStorage, PublishVolume, SizeRange, SnapshotKey, StageVolume, StorageProvider, VolumeKey,
    VolumeOptions, VolumeRef,
};

/// A btrfs in a file, mounted as long as this lives.
struct Disk {
    directory: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let directory = match std::env::var_os("HIVEMIND_BENCH_DIR") {
            Some(parent) => tempfile::tempdir_in(parent).unwrap(),
            None => tempfile::tempdir().unwrap(),
        };
        let (image, at) = (directory.path().join("image"), directory.path().join("at"));
        written(&image, 2 << 10);
        fs::create_dir(&at).unwrap();
        assert!(Command::new("mkfs.btrfs").arg("-q").arg(&image).status().unwrap().success());
        assert!(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at).status().unwrap().success());
        Self { directory }
    }

    fn at(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("at")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for name in ["target", "staging", "at"] {
            let path = self.directory.path().join(name);
            let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// A file whose blocks are all written: the flush of one with holes is that of the file system below, which has to note
/// each block that it finds for one, and a disk has nothing of the kind to do.
fn written(image: &Path, mib: usize) {
    let mut file = File::create(image).unwrap();
    for _ in 0..mib {
        file.write_all(&[0; 1 << 20]).unwrap();
    }
    file.sync_all().unwrap();
}

fn measured(times: usize, mut one: impl FnMut(usize)) -> Vec<Duration> {
    let mut all: Vec<_> = (0..times)
        .map(|nth| {
            let begun = Instant::now();
            one(nth);
            begun.elapsed()
        })
        .collect();
    all.sort_unstable();
    all
}

fn tell(what: &str, all: &[Duration]) -> Duration {
    let at = |share: usize| all[(all.len() - 1) * share / 100];
    println!("{what:<52} p50 {:>10.1?}  p99 {:>10.1?}  least {:>10.1?}", at(50), at(99), all[0]);
    at(50)
}

fn key(name: &str) -> VolumeKey {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    VolumeKey::new(tenant, name.parse().unwrap())
}

fn create(provider: &LocalProvider, name: &str, mib: u64) -> VolumeRef {
    let size = SizeRange::at_least(ByteSize::from_mib(mib)).unwrap();
    let request = CreateVolume::new(OpToken::new("t"), key(name), size, VolumeOptions::default());
    block_on(provider.create_volume(&request)).unwrap().ready().unwrap().volume
}

fn floor(pool: &Path) {
    let mut file = File::create(pool.join("floor")).unwrap();
    let flush = measured(200, |_| {
        file.write_all(&[1; 512]).unwrap();
        file.sync_data().unwrap();
    });
    tell("floor: 512 bytes written and flushed", &flush);
    let call = measured(1000, |_| {
        rustix::fs::ioctl_getflags(&file).unwrap();
    });
    tell("floor: one ioctl", &call);
}

fn provision(disk: &Disk, provider: &LocalProvider, node: &LocalNode) {
    let (staging, target) = (disk.directory.path().join("staging"), disk.directory.path().join("target"));
    fs::create_dir(&staging).unwrap();
    let (mut created, mut shown) = (Vec::new(), Vec::new());
    let mut whole = Vec::new();
    for nth in 0..200 {
        let begun = Instant::now();
        let volume = create(provider, &format!("p-{nth}"), 1);
        created.push(begun.elapsed());
        block_on(node.stage_volume(&StageVolume::new(volume.clone(), None, &staging))).unwrap();
        let publish = PublishVolume::new(volume.clone(), None, &target).staged_at(&staging);
        block_on(node.publish_volume(&publish)).unwrap();
        whole.push(begun.elapsed());
        shown.push(begun.elapsed() - created[nth]);
        block_on(node.unpublish_volume(&volume, &target)).unwrap();
        block_on(node.unstage_volume(&volume, &staging)).unwrap();
    }
    for (what, mut all) in
        [("create", created), ("stage and publish", shown), ("create, stage and publish", whole)]
    {
        all.sort_unstable();
        tell(what, &all);
    }
}

fn snapshots(provider: &LocalProvider, pool: &Path) {
    let snapshot = |volume: &VolumeRef, name: String| {
        let key = SnapshotKey::new(volume.key.clone(), name.parse().unwrap());
        let request = CreateSnapshot::new(OpToken::new("t"), key, volume.clone());
        block_on(provider.create_snapshot(&request)).unwrap();
    };
    for mib in [1usize, 256] {
        let volume = create(provider, &format!("s-{mib}"), 512);
        let file = pool.join("volumes").join(volume.handle.as_str()).join("data/file");
        fs::write(&file, vec![7; mib << 20]).unwrap();
        File::open(&file).unwrap().sync_all().unwrap();
        let all = measured(30, |nth| snapshot(&volume, format!("s-{nth}")));
        tell(&format!("snapshot of {mib} MiB"), &all);
    }
    let volumes: Vec<_> = (0..8).map(|nth| create(provider, &format!("g-{nth}"), 1)).collect();
    let touch = |nth: usize| {
        for volume in &volumes {
            let file = pool.join("volumes").join(volume.handle.as_str()).join("data/file");
            fs::write(file, nth.to_string()).unwrap();
        }
    };
    let mut ones = Vec::new();
    let mut groups = Vec::new();
    for nth in 0..30 {
        touch(nth);
        ones.extend(measured(1, |_| snapshot(&volumes[0], format!("one-{nth}"))));
        touch(nth);
        let key = GroupKey::new(key("g").tenant, format!("group-{nth}").parse().unwrap());
        let request = CreateGroupSnapshot::new(OpToken::new("t"), key, volumes.clone());
        groups.extend(measured(1, |_| {
            block_on(provider.create_group_snapshot(&request)).unwrap();
        }));
    }
    ones.sort_unstable();
    groups.sort_unstable();
    let one = tell("snapshot of one of eight", &ones);
    let group = tell("group of eight", &groups);
    println!("a group of eight takes {:.2} times one", group.as_secs_f64() / one.as_secs_f64());
}

fn main() {
    if !rustix::process::geteuid().is_root() {
        println!("not measured: it needs root, to mount");
        return;
    }
    let disk = Disk::new();
    let pool = disk.at().join("pool");
    fs::create_dir(&pool).unwrap();
    floor(&disk.at());
    let node = NodeInfo::new("n1".parse().unwrap());
    let provider = LocalProvider::open("local".parse().unwrap(), node, &pool).unwrap();
    let node = provider.node().unwrap();
    provision(&disk, &provider, &node);
    snapshots(&provider, &pool);
}
