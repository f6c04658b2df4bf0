//! What the system is asked for that the standard library does not ask.

pub(super) mod btrfs;
pub(super) mod filesystems;
pub(super) mod loops;

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{
    AtFlags, FlockOperation, RenameFlags, StatxAttributes, StatxFlags, flock, renameat_with, statvfs, statx,
};

/// Keeps a directory to whoever has it; dropped, or with the process, it is free again.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    /// Closing alone would not do: a program that another thread is just starting has the file open until it runs.
    fn drop(&mut self) {
        // What cannot be unlocked is when the last has closed it.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Waits until nobody has `path`.
    pub(super) fn wait(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }

    /// `None` if somebody has `path`.
    pub(super) fn attempt(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether `path` is still what is locked, and no other thing, and not gone.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let now = std::fs::symlink_metadata(path).map(id);
        self.0.metadata().map(id).is_ok_and(|held| now.is_ok_and(|now| now == held))
    }
}

/// Gives each of two things the name of the other, at once.
pub(super) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let here = rustix::fs::CWD;
    Ok(renameat_with(here, one, here, other, RenameFlags::EXCHANGE)?)
}

/// Bytes and inodes of the file system of `path`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) bytes: crate::Usage,
    pub(super) inodes: crate::Usage,
}

/// How full the file system of `path` is.
pub(super) fn room(path: &Path) -> io::Result<Room> {
    let stat = statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    Ok(Room {
        bytes: crate::Usage::new(bytes(stat.f_blocks), bytes(used), bytes(stat.f_bavail)),
        inodes: crate::Usage::new(stat.f_files, stat.f_files.saturating_sub(stat.f_ffree), stat.f_favail),
    })
}

/// Whether something is mounted at exactly `path`; `None` if the kernel does not tell (before 5.8).
pub(super) fn is_mount_root(path: &Path) -> io::Result<Option<bool>> {
    let asked = StatxFlags::empty();
    match statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, asked) {
        Ok(found) if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(Some(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)))
        }
        Ok(_) | Err(rustix::io::Errno::NOSYS) => Ok(None),
        Err(rustix::io::Errno::NOENT) => Ok(Some(false)),
        Err(e) => Err(e.into()),
    }
}

/// Which start of the system this is: what was mounted in an earlier one is not mounted any more.
pub(super) fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Whether this process may let a mounted ext4 grow, which takes `CAP_SYS_RESOURCE`.
pub(super) fn may_grow_ext4() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| is_capable(&status, 24))
}

/// Whether the process of this `status` has that capability.
fn is_capable(status: &str, capability: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> capability & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_up_even_if_its_file_is_open_in_a_program_that_is_being_started() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::attempt(directory.path()).unwrap().unwrap();
        let inherited = lock.0.try_clone().unwrap();
        assert!(Lock::attempt(directory.path()).unwrap().is_none());
        drop(lock);
        assert!(Lock::attempt(directory.path()).unwrap().is_some());
        drop(inherited);
    }

    #[test]
    fn a_capability_is_read_from_the_effective_ones() {
        let status = |effective: &str| {
            format!("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{effective}\nCapBnd:\t000001ffffffffff\n")
        };
        assert!(is_capable(&status("000001ffffffffff"), 24));
        assert!(!is_capable(&status("000001fffeffffff"), 24));
        assert!(is_capable(&status("000001fffeffffff"), 21));
        assert!(!is_capable("", 24) && !is_capable(&status("what"), 24));
    }
}
