//! The ground that tests stand on: directories and file systems of their own, all of it gone afterwards.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Generation, OpToken, Progress, TenantRef, block_on};
use hivemind_storage::{
    CreateVolume, LocalNode, LocalProvider, NodeInfo, NodeStorage, ProvisionedVolume, PublishVolume,
    SizeRange, StageVolume, StorageProvider, VolumeKey, VolumeMode, VolumeOptions, VolumeRef,
};

/// A directory, and everything that is mounted below it; both go when it is dropped, also by a panic.
pub(crate) struct Ground(tempfile::TempDir);

impl Ground {
    /// An empty directory, on whatever file system there is.
    ///
    /// `None`, loudly, without root; a failure under `CI`.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "these tests must run as root under CI");
            println!("SKIPPED: not root, so nothing can be mounted");
            return None;
        }
        Some(Self(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    /// A new directory.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A new file system of that size, mounted; what the command makes it with is in `mkfs`.
    pub(crate) fn mounted(&self, name: &str, mib: u64, mkfs: &[&str]) -> PathBuf {
        let (image, at) = (self.path(&format!("{name}.img")), self.directory(name));
        fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        run(mkfs[0], mkfs[1..].iter().map(OsStr::new).chain([image.as_os_str()]));
        run("mount", [OsStr::new("-o"), OsStr::new("loop"), image.as_os_str(), at.as_os_str()]);
        at
    }

    /// A new xfs, mounted, whose files can share what is in them.
    pub(crate) fn xfs(&self, name: &str) -> PathBuf {
        self.mounted(name, 1024, &["mkfs.xfs", "-q", "-m", "reflink=1"])
    }

    /// A new ext4, mounted: for directories on a disk of their own, whose room nobody else takes.
    pub(crate) fn ext4(&self, name: &str) -> PathBuf {
        self.mounted(name, 512, &["mkfs.ext4", "-q"])
    }

    /// A new btrfs, mounted.
    pub(crate) fn btrfs(&self, name: &str) -> PathBuf {
        self.mounted(name, 512, &["mkfs.btrfs", "-q"])
    }
}

/// Takes all the room there is on the file system of `pool`.
pub(crate) fn fill_up(pool: &Path) {
    let file = fs::File::create(pool.join("tmp/full")).unwrap();
    let mut small = fs::File::create(pool.join("tmp/small")).unwrap();
    let (mut at, mut size) = (0, 1 << 28);
    while size >= 4096 {
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), at, size) {
            Ok(()) => at += size,
            Err(_) => size /= 2,
        }
    }
    rustix::fs::syncfs(&file).unwrap();
    // What is only given to small writes, too.
    let full = (0..1 << 16)
        .any(|_| std::io::Write::write_all(&mut small, &[7; 4096]).and_then(|()| small.sync_data()).is_err());
    assert!(full, "there is room left");
    fs::rename(pool.join("tmp/small"), pool.join("small")).unwrap();
    // So that it is not taken for what a crash left: the pool would make room by itself.
    fs::rename(pool.join("tmp/full"), pool.join("full")).unwrap();
}

/// Runs a command that must succeed.
pub(crate) fn run<'a>(command: &str, arguments: impl IntoIterator<Item = &'a OsStr>) {
    let done = Command::new(command).args(arguments).output();
    let done = done.unwrap_or_else(|e| panic!("{command} cannot be run, is its package installed? {e}"));
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Where something is mounted below `path`, the newest first.
pub(crate) fn mounted_below(path: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut found: Vec<_> = points.filter(|point| point.starts_with(path)).collect();
    found.reverse();
    found
}

/// The loop devices with a file below `path` behind them.
pub(crate) fn devices_of(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").unwrap().flatten() {
        let behind = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if behind.starts_with(&format!("{}/", path.display())) {
            found.push(Path::new("/dev").join(entry.file_name()));
        }
    }
    found
}

impl Drop for Ground {
    fn drop(&mut self) {
        let Ok(path) = self.0.path().canonicalize() else { return };
        // First the devices, while it can still be seen what is behind them; each goes with the last who has it.
        for device in devices_of(&path) {
            let _ = Command::new("losetup").arg("-d").arg(device).output();
        }
        for point in mounted_below(&path) {
            let _ = rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

pub(crate) fn provider(pool: &Path) -> Arc<LocalProvider> {
    Arc::new(LocalProvider::open("local".parse().unwrap(), node_info(), pool).unwrap())
}

pub(crate) fn node_info() -> NodeInfo {
    NodeInfo::new("n1".parse().unwrap())
}

pub(crate) fn key(name: &str) -> VolumeKey {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    VolumeKey::new(tenant, name.parse().unwrap())
}

pub(crate) fn token() -> OpToken {
    OpToken::new("token")
}

pub(crate) fn wish(name: &str, mib: u64, options: VolumeOptions) -> CreateVolume {
    let size = SizeRange::at_least(ByteSize::from_mib(mib)).unwrap();
    CreateVolume::new(token(), key(name), size, options)
}

pub(crate) fn ready<T>(progress: hivemind_core::Result<Progress<T>>) -> T {
    progress.unwrap().ready().unwrap()
}

pub(crate) fn create(provider: &LocalProvider, request: &CreateVolume) -> ProvisionedVolume {
    ready(block_on(provider.create_volume(request)))
}

/// A file system of that name, for options.
pub(crate) fn file_system(name: &str) -> VolumeMode {
    VolumeMode::Filesystem { fs_type: name.to_owned(), mount_flags: Vec::new() }
}

/// Stages and publishes `volume`; what the workload sees.
pub(crate) fn publish(node: &LocalNode, ground: &Ground, volume: &VolumeRef, name: &str) -> PathBuf {
    let (staging, target) = (ground.directory(&format!("staging-{}", volume.handle)), ground.path(name));
    block_on(node.stage_volume(&StageVolume::new(volume.clone(), None, &staging))).unwrap();
    let request = PublishVolume::new(volume.clone(), None, &target).staged_at(&staging);
    block_on(node.publish_volume(&request)).unwrap();
    target
}

/// What fails only for a moment: a process that another test starts has all that is open here until it runs its own
/// program.
#[allow(clippy::disallowed_methods, reason = "a test of a kernel waits for the kernel")]
pub(crate) fn eventually<T, E>(mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    for _ in 0..100 {
        if let Ok(done) = attempt() {
            return Ok(done);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    attempt()
}

/// Undoes what [`publish`] did.
pub(crate) fn unpublish(node: &LocalNode, ground: &Ground, volume: &VolumeRef, target: &Path) {
    let staging = ground.path(&format!("staging-{}", volume.handle));
    eventually(|| block_on(node.unpublish_volume(volume, target))).unwrap();
    eventually(|| block_on(node.unstage_volume(volume, &staging))).unwrap();
}
