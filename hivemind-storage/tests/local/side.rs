//! A pool that sends and receives.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hivemind_core::{Error, Result, SystemClock, block_on};
use hivemind_storage::{
    CreateSnapshot, LocalBackend, LocalProvider, SnapshotKey, SnapshotRef, StorageProvider, VolumeRef,
    VolumeSnapshot,
};
use rustix::fs::XattrFlags;

use crate::ground::{Ground, create, node_info, provider, token};
use crate::subvolumes::{data, plain, snapshot};

/// A pool with a volume in it.
pub(crate) struct Side {
    pub(crate) pool: PathBuf,
    pub(crate) provider: Arc<LocalProvider>,
    pub(crate) volume: VolumeRef,
}

impl Side {
    pub(crate) fn new(ground: &Ground, name: &str) -> Self {
        Self::at(ground.btrfs(name))
    }

    pub(crate) fn at(pool: PathBuf) -> Self {
        let provider = provider(&pool);
        let volume = create(&provider, &plain("data")).volume;
        Self { pool, provider, volume }
    }

    pub(crate) fn data(&self) -> PathBuf {
        data(&self.pool, &self.volume)
    }

    pub(crate) fn take(&self, name: &str) -> SnapshotRef {
        snapshot(&self.provider, &self.volume, name)
    }

    pub(crate) fn frozen(&self, of: &SnapshotRef) -> PathBuf {
        self.pool.join("snapshots").join(of.handle.as_str()).join("data")
    }

    pub(crate) fn send(&self, of: &SnapshotRef, since: Option<&SnapshotRef>, to: &Path) {
        block_on(self.provider.send(of, since, File::create(to).unwrap().into())).unwrap();
    }

    pub(crate) fn wish(&self, name: &str) -> CreateSnapshot {
        let key = SnapshotKey::new(self.volume.key.clone(), name.parse().unwrap());
        CreateSnapshot::new(token(), key, self.volume.clone())
    }

    pub(crate) fn attempt(
        &self,
        name: &str,
        since: Option<&SnapshotRef>,
        from: &Path,
    ) -> Result<VolumeSnapshot> {
        block_on(self.provider.receive(&self.wish(name), since, File::open(from).unwrap().into()))
    }

    pub(crate) fn receive(&self, name: &str, since: Option<&SnapshotRef>, from: &Path) -> SnapshotRef {
        let received = self.attempt(name, since, from).unwrap();
        assert_eq!(received.source, self.volume.handle);
        received.reference(self.wish(name).key)
    }

    /// All that is there, but the empty subvolumes that are kept ready.
    pub(crate) fn all(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for part in ["snapshots", "tmp", "trash"] {
            let entries = fs::read_dir(self.pool.join(part)).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        }
        found.sort();
        found
    }

    /// That this is refused, and nothing is there afterwards that was not there before.
    pub(crate) fn refuses(&self, since: Option<&SnapshotRef>, from: &Path) -> Error {
        let before = (self.all(), block_on(self.provider.get_provider_metrics()).unwrap());
        let refused = self.attempt("refused", since, from).unwrap_err();
        assert_eq!(before, (self.all(), block_on(self.provider.get_provider_metrics()).unwrap()));
        refused
    }
}

pub(crate) fn words<'a>(words: &'a [&'a str], paths: &'a [&'a Path]) -> Vec<&'a OsStr> {
    words.iter().map(OsStr::new).chain(paths.iter().map(|path| path.as_os_str())).collect()
}

pub(crate) fn provider_of(pool: &Path, backend: Option<LocalBackend>) -> LocalProvider {
    let clock = Arc::new(SystemClock::new());
    LocalProvider::open_with("local".parse().unwrap(), node_info(), pool, clock, backend).unwrap()
}

pub(crate) fn write_tree(at: &Path) {
    fs::create_dir(at.join("dir")).unwrap();
    fs::write(at.join("dir/file"), "content").unwrap();
    std::os::unix::fs::chown(at.join("dir/file"), Some(1234), Some(4321)).unwrap();
    fs::set_permissions(at.join("dir/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(at.join("dir/file"), at.join("twin")).unwrap();
    symlink("../outside", at.join("link")).unwrap();
    rustix::fs::setxattr(at.join("dir"), "user.colour", b"blue", XattrFlags::empty()).unwrap();
    fs::write(at.join("large"), [7; 1 << 20]).unwrap();
    // As layered file systems mark what was deleted.
    let mode = rustix::fs::Mode::empty();
    let character = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, at.join("gone"), character, mode, 0).unwrap();
}

pub(crate) fn check_tree(at: &Path) {
    assert_eq!(fs::read_to_string(at.join("dir/file")).unwrap(), "content");
    let (file, twin) = (fs::metadata(at.join("dir/file")).unwrap(), fs::metadata(at.join("twin")).unwrap());
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o4751, 1234, 4321));
    assert_eq!((file.ino(), file.nlink()), (twin.ino(), 2));
    assert_eq!(fs::read_link(at.join("link")).unwrap(), Path::new("../outside"));
    let mut colour = [0; 16];
    let length = rustix::fs::getxattr(at.join("dir"), "user.colour", &mut colour[..]).unwrap();
    assert_eq!(&colour[..length], b"blue");
    assert_eq!(fs::read(at.join("large")).unwrap(), [7; 1 << 20]);
    assert_eq!(fs::symlink_metadata(at.join("gone")).unwrap().rdev(), 0);
}
