//! How the data of each kind of volume is made and removed.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result};
use rustix::mount::mount_bind;

use super::mounts::Mount;
use super::options::{Kind, MountWish};
use super::pool::Pool;
use super::record::VolumeRecord;
use super::sys::btrfs::{self, Btrfs};
use super::sys::loops;
use super::{During as _, image, sys, target};
use crate::{Beyond, StageVolume, Usage, VolumeMode, VolumeStats};

/// The name of the data in the directory of a volume or snapshot.
pub(super) const DATA: &str = "data";

/// Makes the empty data of a volume of `size` at `path`.
pub(super) fn make(
    operation: &'static str,
    kind: Kind,
    pool: &Path,
    path: &Path,
    size: ByteSize,
) -> Result<()> {
    match kind {
        Kind::Directory => DirBuilder::new().mode(0o755).create(path).during(operation, "make", path),
        Kind::Subvolume => {
            btrfs::create(path).during(operation, "make", path)?;
            resize(operation, kind, path, size)
        }
        _ => image::make(operation, kind, pool, path, size),
    }
}

/// Lets the data at `path` have `size`.
pub(super) fn resize(operation: &'static str, kind: Kind, path: &Path, size: ByteSize) -> Result<()> {
    match kind {
        Kind::Directory => Ok(()),
        Kind::Subvolume => {
            let at = Btrfs::at(path.parent().unwrap_or(path)).during(operation, "look at", path)?;
            let Some(btrfs) = at else { return Err(cannot(operation, kind, "be on another file system")) };
            btrfs.limit(path, size.as_bytes()).during(operation, "limit", path)
        }
        _ => image::resize(path, size).during(operation, "grow", path),
    }
}

/// Makes `to` a copy of `from` that can be written, and shares what does not change.
pub(super) fn copy(operation: &'static str, kind: Kind, from: &Path, to: &Path) -> Result<()> {
    match kind {
        Kind::Directory => Err(cannot(operation, kind, "be copied at one moment")),
        Kind::Subvolume => btrfs::snapshot(from, to, false).during(operation, "copy", from),
        _ => {
            let _halted = image::halt(operation, kind, from)?;
            image::share(from, to).during(operation, "copy", from)
        }
    }
}

/// A copy to be made that nobody can write.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) kind: Kind,
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
}

/// Makes all of `cuts`, as near to one moment as the file system can.
///
/// Snapshots of btrfs are cut when a transaction commits: those that are asked for together are in one transaction, so that
/// a crash leaves all of them or none. On a machine that is too busy to begin with all of them in time, some are in the
/// transaction that follows. File systems on images stand still until all of them are copied.
pub(super) fn cut(operation: &'static str, cuts: &[&Cut]) -> Result<()> {
    let one = |cut: &Cut| match cut.kind {
        Kind::Directory => Err(cannot(operation, cut.kind, "be copied at one moment")),
        Kind::Subvolume => btrfs::snapshot(&cut.from, &cut.to, true).during(operation, "snapshot", &cut.from),
        _ => image::share(&cut.from, &cut.to).during(operation, "snapshot", &cut.from),
    };
    // All of them stand still before the first is copied.
    let images = cuts.iter().filter(|cut| cut.kind.is_image());
    let halted = images.map(|cut| image::halt(operation, cut.kind, &cut.from));
    let _halted = halted.collect::<Result<Vec<_>>>()?;
    if cuts.iter().any(|cut| cut.kind != Kind::Subvolume) || cuts.len() < 2 {
        return cuts.iter().try_for_each(|cut| one(cut));
    }
    let prepare = |cut: &&Cut| {
        let prepared = btrfs::Snapshot::prepare(&cut.from, &cut.to, true);
        prepared.during(operation, "prepare a snapshot of", &cut.from)
    };
    let prepared = cuts.iter().map(prepare).collect::<Result<Vec<_>>>()?;
    // Whoever is first closes a transaction at once, to all that come later, unless the one before is still being written:
    // then it waits for that, and (from Linux 6.6 on) lets in who comes meanwhile. Without one before there would be as many
    // commits, the first of them with a few of the snapshots. Where none begins, there is nothing to wait for.
    let _ = prepared.first().map(btrfs::Snapshot::begin_commit);
    std::thread::scope(|scope| {
        let begin = |snapshot: btrfs::Snapshot| {
            let thread = std::thread::Builder::new().name("hivemind-snapshot".to_owned());
            thread.spawn_scoped(scope, || snapshot.take())
        };
        let running = prepared.into_iter().map(begin).collect::<io::Result<Vec<_>>>();
        let running = running.during(operation, "start threads for", Path::new("a group"))?;
        let ended = running.into_iter().zip(cuts).map(|(thread, cut)| match thread.join() {
            Ok(taken) => taken.during(operation, "snapshot", &cut.from),
            Err(_) => Err(Error::internal(operation, "a snapshot ended in a panic")),
        });
        // Every thread is waited for, also when one has failed.
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

fn cannot(operation: &'static str, kind: Kind, what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, operation, format!("a {kind} cannot {what}"))
}

/// Removes `path` with everything below it, where nothing may be mounted. What is left of it after an error is in the
/// directory that it is in, under names that nothing else has.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for subvolume in [path, &path.join(DATA)] {
        if btrfs::is_subvolume(subvolume) {
            btrfs::destroy(subvolume)?;
        }
    }
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(meta) if !meta.is_dir() => fs::remove_file(path),
        Ok(_) => remove_tree(path),
    }
}

/// Removes a directory, however deep: each one that is in it is moved beside it first. So no path grows too long, and
/// nothing is kept open or called within itself for each level, as many as a workload may have made. A subvolume that
/// cannot be written cannot be moved either, and goes as a whole.
fn remove_tree(path: &Path) -> io::Result<()> {
    let beside = path.parent().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut left = vec![path.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
            } else if btrfs::is_subvolume(&entry.path()) {
                btrfs::destroy(&entry.path())?;
            } else {
                let moved = beside.join(Pool::fresh("part"));
                fs::rename(entry.path(), &moved)?;
                left.push(moved);
            }
        }
        fs::remove_dir(&directory)?;
    }
    Ok(())
}

/// Refuses to use a volume with another file system than it has.
pub(super) fn check_mode(operation: &'static str, kind: Kind, mode: &VolumeMode) -> Result<()> {
    let VolumeMode::Filesystem { fs_type, mount_flags } = mode else { return Ok(()) };
    let wish = MountWish::of(mount_flags)?;
    match kind {
        Kind::Directory | Kind::Subvolume => {
            wish.for_bind()?;
        }
        _ => {}
    }
    if fs_type.is_empty() || kind.fs_type() == Some(fs_type.as_str()) {
        return Ok(());
    }
    let message = format!("the volume is a {kind}, and has no file system {fs_type}");
    Err(Error::invalid(operation, message).with_source(Beyond::Use))
}

/// Whether what is mounted at `path` is the data at `data` itself: it is the same directory. Of what is not bound, this
/// does not tell.
pub(super) fn is_bound(kind: Kind, data: &Path, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let which = |path: &Path| fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let bound = matches!(kind, Kind::Directory | Kind::Subvolume);
    bound && which(data).is_ok_and(|data| which(path).is_ok_and(|at| at == data))
}

/// Whether `mount` shows the data at `data`, and nothing else.
pub(super) fn shows(kind: Kind, data: &Path, mount: &Mount) -> bool {
    match kind {
        Kind::Directory | Kind::Subvolume => in_pool(data).is_some_and(|tail| mount.root.ends_with(tail)),
        // The device itself, bound: the root is its name in the file system of devices.
        Kind::Block => mount.root.file_name().is_some_and(|name| loops::is_behind(data, Path::new(name))),
        Kind::Ext4 | Kind::EncryptedExt4 | Kind::Xfs => loops::is_behind(data, &mount.source),
    }
}

/// The part of a path that says which volume it is, wherever the file system of the pool is mounted: a handle is
/// unique among all pools.
fn in_pool(data: &Path) -> Option<&Path> {
    data.strip_prefix(data.parent()?.parent()?.parent()?).ok()
}

/// Makes the volume usable at `at`.
pub(super) fn stage(
    operation: &'static str,
    record: &VolumeRecord,
    data: &Path,
    at: &Path,
    request: &StageVolume,
) -> Result<()> {
    match record.kind {
        Kind::Directory | Kind::Subvolume => mount_bind(data, at).during(operation, "mount at", at),
        kind => image::stage(operation, kind, data, at, request),
    }
}

/// Does what comes after mounting, again: whoever mounted it may have died before.
pub(super) fn finish(
    operation: &'static str,
    record: &VolumeRecord,
    at: &Path,
    request: &StageVolume,
) -> Result<()> {
    if record.kind == Kind::EncryptedExt4 { image::unlock(operation, at, request) } else { Ok(()) }
}

/// Frees the devices of a volume that nobody uses as one any more: whoever used it may have died before.
pub(super) fn free(operation: &'static str, record: &VolumeRecord, data: &Path) -> Result<()> {
    if record.kind == Kind::Block { image::free(operation, data) } else { Ok(()) }
}

/// What of a staged volume is published.
pub(super) fn published(record: &VolumeRecord, staged: PathBuf) -> PathBuf {
    match record.kind {
        Kind::Directory | Kind::Subvolume => staged,
        kind => image::published(kind, staged),
    }
}

/// Undoes staging.
pub(super) fn unstage(operation: &'static str, record: &VolumeRecord, data: &Path, at: &Path) -> Result<()> {
    match record.kind {
        Kind::Directory | Kind::Subvolume => target::unmount(operation, at),
        kind => image::unstage(operation, kind, data, at),
    }
}

/// Grows the file system at `at` to the volume.
pub(super) fn grow_mounted(
    operation: &'static str,
    record: &VolumeRecord,
    data: &Path,
    at: &Path,
) -> Result<()> {
    match record.kind {
        Kind::Directory | Kind::Subvolume => Ok(()),
        kind => image::grow_mounted(operation, kind, data, at),
    }
}

/// How full the volume at `at` is.
pub(super) fn stats(operation: &'static str, record: &VolumeRecord, at: &Path) -> Result<VolumeStats> {
    let room = sys::room(at).during(operation, "measure", at)?;
    match record.kind {
        Kind::Directory => Ok(VolumeStats::new(room.bytes, Some(room.inodes))),
        // The file system says how full the pool is; the quota says how full the volume is.
        Kind::Subvolume => {
            let btrfs = Btrfs::at(at).during(operation, "look at", at)?;
            let btrfs = btrfs.ok_or_else(|| cannot(operation, record.kind, "be on another file system"))?;
            let used = btrfs.used(at).during(operation, "measure", at)?;
            let size = record.size.as_bytes();
            let available = size.saturating_sub(used).min(room.bytes.available);
            Ok(VolumeStats::new(Usage::new(size, used, available), None))
        }
        Kind::Block => Ok(VolumeStats::new(Usage::new(record.size.as_bytes(), 0, 0), None)),
        _ => Ok(VolumeStats::new(room.bytes, Some(room.inodes))),
    }
}
