//! Targets: made and bound, unbound and removed. Nothing is ever deleted through a mount.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hivemind_core::{Error, ErrorKind, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount as umount};

use super::During as _;
use super::mounts::Mounts;
use super::options::MountWish;
use super::uses::Use;
use crate::VolumeMode;

/// Where below the staging path a volume is: a file system is there itself, a device is bound to a file.
pub(super) fn staged(path: &Path, mode: &VolumeMode) -> PathBuf {
    if mode.is_block() { path.join("device") } else { path.to_path_buf() }
}

/// Makes the target `path` if it is not there, a file or a directory, and says whether it was made.
pub(super) fn make(operation: &'static str, path: &Path, block: bool) -> Result<bool> {
    let made = if block {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(|_| ())
    } else {
        DirBuilder::new().mode(0o750).create(path)
    };
    match made {
        Ok(()) => return Ok(true),
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e).during(operation, "make", path),
        Err(_) => {}
    }
    let meta = fs::symlink_metadata(path).during(operation, "look at", path)?;
    let empty = if block {
        meta.is_file() && meta.len() == 0
    } else {
        meta.is_dir() && fs::read_dir(path).during(operation, "list", path)?.next().is_none()
    };
    if empty {
        return Ok(false);
    }
    let message = format!("{} is there already, and is not empty: take it away first", path.display());
    Err(Error::new(ErrorKind::AlreadyExists, operation, message))
}

/// Shows `source` at `path` as `wanted` says.
pub(super) fn show(operation: &'static str, source: &Path, path: &Path, wanted: &Use) -> Result<()> {
    let block = wanted.volume_mode.is_block();
    let made = make(operation, path, block)?;
    let shown = mount_bind(source, path).during(operation, "mount at", path);
    let shown = shown.and_then(|()| {
        let protected = protect(operation, path, wanted);
        if protected.is_err() {
            // Rather nothing than something that can be written and should not be.
            let _ = umount(path, UnmountFlags::NOFOLLOW);
        }
        protected
    });
    if shown.is_err() && made {
        let _ = remove(operation, path, block);
    }
    shown
}

/// Makes a bind mount read-only, or whatever else was asked for; a bind takes no flags when it is made.
pub(super) fn protect(operation: &'static str, path: &Path, wanted: &Use) -> Result<()> {
    let mut flags = match &wanted.volume_mode {
        VolumeMode::Filesystem { mount_flags, .. } => MountWish::of(mount_flags)?.flags,
        VolumeMode::Block => MountFlags::empty(),
    };
    flags.remove(MountFlags::SYNCHRONOUS);
    if flags.is_empty() && !wanted.read_only {
        return Ok(());
    }
    // A bind has the flags of what it shows, and a remount forgets those that it does not name.
    let here = Mounts::now(operation)?.at(path).map_or(MountFlags::empty(), |mount| mount.flags);
    let times = MountFlags::NOATIME | MountFlags::RELATIME | MountFlags::STRICTATIME;
    flags |= if flags.intersects(times) { here - times } else { here };
    flags.set(MountFlags::RDONLY, wanted.read_only || flags.contains(MountFlags::RDONLY));
    mount_remount(path, MountFlags::BIND | flags, c"").during(operation, "protect", path)
}

/// Unmounts `path`, unless it is in use.
#[allow(clippy::disallowed_methods, reason = "the thread is the adapter's own, and waits for the kernel")]
pub(super) fn unmount(operation: &'static str, path: &Path) -> Result<()> {
    let attempt = || umount(path, UnmountFlags::NOFOLLOW);
    // A process that this one is just starting has all that is open here, until it runs its own program.
    for _ in 0..5 {
        match attempt() {
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(10)),
            done => return done.during(operation, "unmount", path),
        }
    }
    attempt().during(operation, "unmount", path)
}

/// Removes the target, which nothing is mounted at: an empty directory, or an empty file.
pub(super) fn remove(operation: &'static str, path: &Path, block: bool) -> Result<()> {
    let removed = if block {
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.is_file() || meta.len() > 0 => {
                let message = format!("{} is no empty file: it is left alone", path.display());
                return Err(Error::new(ErrorKind::Conflict, operation, message));
            }
            _ => fs::remove_file(path),
        }
    } else {
        fs::remove_dir(path)
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
            let message = format!("{} is not empty: it is left alone", path.display());
            Err(Error::new(ErrorKind::Conflict, operation, message))
        }
        removed => removed.during(operation, "remove", path),
    }
}
