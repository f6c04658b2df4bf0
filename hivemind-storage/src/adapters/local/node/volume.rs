//! Staging, publishing, and undoing both, of one volume after the other.

use std::path::{Path, PathBuf};

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result};

use super::super::backing::{self, DATA};
use super::super::counters;
use super::super::image;
use super::super::mounts::Mounts;
use super::super::options::Kind;
use super::super::pool::VOLUMES;
use super::super::record::{self, VolumeRecord};
use super::super::sys::{self, Lock};
use super::super::uses::{self, Use, Uses};
use super::super::{During as _, below, missing, target};
use crate::{
    AccessMode, Beyond, ExpandOnNode, PublishVolume, StageVolume, VolumeCondition, VolumeMode, VolumeRef,
    VolumeStats,
};

/// A pool, seen from the node.
#[derive(Debug)]
pub(super) struct NodePool {
    directory: PathBuf,
    boot: String,
}

/// A volume that nobody else stages, publishes or deletes, with its uses.
struct Held {
    record: VolumeRecord,
    uses: Uses,
    _lock: Lock,
}

fn conflict(operation: &'static str, message: String) -> Error {
    Error::new(ErrorKind::Conflict, operation, message)
}

fn taken(operation: &'static str, path: &Path) -> Error {
    let message = format!("{} has another volume, or this one otherwise: unpublish it first", path.display());
    Error::new(ErrorKind::AlreadyExists, operation, message)
}

impl NodePool {
    pub(super) fn new(directory: PathBuf) -> Result<Self> {
        let boot = sys::boot().during("open pool", "read", Path::new("/proc/sys/kernel/random/boot_id"))?;
        Ok(Self { directory, boot })
    }

    fn hold(&self, operation: &'static str, of: &VolumeRef) -> Result<Held> {
        let handle = of.handle.as_str();
        let (lock, uses) = uses::locked(operation, &self.directory, handle)?;
        let record = record::read::<VolumeRecord>(operation, &below(&self.directory, &[VOLUMES, handle]))?;
        let record = record.filter(|record| record.is(of));
        let record = record.ok_or_else(|| missing(operation, format_args!("volume {}", of.key)))?;
        Ok(Held { record, uses, _lock: lock })
    }

    /// Refuses a path that is not absolute, is a link, or is in the pool.
    fn outside(&self, operation: &'static str, path: &Path) -> Result<()> {
        let wrong = if !path.is_absolute() || path.components().any(|c| c.as_os_str() == "..") {
            "is not absolute"
        } else if path.is_symlink() {
            "is a symbolic link"
        } else if path.starts_with(&self.directory) {
            "is in the pool"
        } else if path.parent().is_some_and(|parent| parent.canonicalize().is_ok_and(|real| real != parent)) {
            // The kernel lists mounts by their real paths: what is mounted there would not be found again.
            "goes through a symbolic link: name the directory itself"
        } else {
            return Ok(());
        };
        Err(Error::invalid(operation, format!("path {} {wrong}", path.display())))
    }

    fn fits(
        operation: &'static str,
        record: &VolumeRecord,
        access: AccessMode,
        mode: &VolumeMode,
    ) -> Result<()> {
        let wrong = if record.options.volume_mode.is_block() != mode.is_block() {
            "as a block device and with a file system at once".to_owned()
        } else if !record.options.access_modes.contains(&access) {
            format!("{access}: it was not made for that")
        } else {
            return backing::check_mode(operation, record.kind, mode);
        };
        let message = format!("volume {} cannot be used {wrong}", record.key);
        Err(Error::invalid(operation, message).with_source(Beyond::Use))
    }

    /// Whether the volume is mounted at `path`; an error if something else is.
    fn is_mounted(&self, operation: &'static str, held: &Held, path: &Path) -> Result<bool> {
        let data = below(&self.directory, &[VOLUMES, held.record.handle.as_str(), DATA]);
        // The list of mounts grows with the node, so it is only read where this does not tell.
        match sys::is_mount_root(path).during(operation, "look at", path)? {
            Some(false) => return Ok(false),
            Some(true) if backing::is_bound(held.record.kind, &data, path) => return Ok(true),
            _ => {}
        }
        let mounts = Mounts::now(operation)?;
        let Some(mount) = mounts.at(path) else {
            if sys::is_mount_root(path).during(operation, "look at", path)? == Some(true) {
                let message = format!(
                    "something is mounted at {}, and the list of mounts has it elsewhere",
                    path.display()
                );
                return Err(conflict(operation, message));
            }
            return Ok(false);
        };
        if backing::shows(held.record.kind, &data, mount) {
            return Ok(true);
        }
        Err(taken(operation, path))
    }

    pub(super) fn stage(&self, request: &StageVolume) -> Result<()> {
        const OPERATION: &str = "stage_volume";
        let path = &request.staging_path;
        self.outside(OPERATION, path)?;
        let mut held = self.hold(OPERATION, &request.volume)?;
        Self::fits(OPERATION, &held.record, request.access_mode, &request.volume_mode)?;
        let wanted = Use {
            boot: self.boot.clone(),
            path: path.clone(),
            staged: true,
            access_mode: request.access_mode,
            volume_mode: request.volume_mode.clone(),
            read_only: !request.access_mode.writes(),
        };
        let there = held.uses.iter().find(|found| found.staged && found.boot == self.boot);
        if there.is_some_and(|there| *there != wanted) {
            return Err(taken(OPERATION, path));
        }
        let known = there.is_some();
        let at = target::staged(path, &request.volume_mode);
        if self.is_mounted(OPERATION, &held, &at)? {
            // Whoever mounted it may have died before it was done.
            backing::finish(OPERATION, &held.record, &at, request)?;
            if !known {
                held.uses.remove(OPERATION, |found| found.staged)?;
                held.uses.add(OPERATION, wanted)?;
            }
            return Ok(());
        }
        // What an earlier start of the system had staged is not staged any more.
        held.uses.remove(OPERATION, |found| found.staged)?;
        held.uses.add(OPERATION, wanted)?;
        let place = below(&self.directory, &[VOLUMES, held.record.handle.as_str()]);
        let counts = held.record.kind.is_image();
        if counts {
            counters::end(&place);
        }
        let staged = backing::stage(OPERATION, &held.record, &place.join(DATA), &at, request);
        if staged.is_err() {
            held.uses.remove(OPERATION, |found| found.staged)?;
        } else if counts {
            counters::begin(&place, &self.boot);
        }
        staged
    }

    pub(super) fn unstage(&self, of: &VolumeRef, path: &Path) -> Result<()> {
        const OPERATION: &str = "unstage_volume";
        let Some(mut held) = self.hold_if_there(OPERATION, of)? else { return Ok(()) };
        if let Some(published) = held.uses.iter().find(|found| !found.staged && found.boot == self.boot) {
            let message = format!("volume {} is published at {}", of.key, published.path.display());
            return Err(conflict(OPERATION, format!("{message}: unpublish it first")));
        }
        let data = below(&self.directory, &[VOLUMES, held.record.handle.as_str(), DATA]);
        let Some(staged) = held.uses.iter().find(|found| found.staged && found.path == path) else {
            if held.uses.iter().all(|found| found.boot != self.boot) {
                backing::free(OPERATION, &held.record, &data)?;
            }
            return Ok(());
        };
        let at = target::staged(path, &staged.volume_mode);
        let mounted = match self.is_mounted(OPERATION, &held, &at) {
            // Somebody else's: not ours to take away.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
            mounted => mounted?,
        };
        if mounted {
            backing::unstage(OPERATION, &held.record, &data, &at)?;
        }
        backing::free(OPERATION, &held.record, &data)?;
        held.uses.remove(OPERATION, |found| found.staged)
    }

    /// Undoing is done already for a volume that is not there.
    fn hold_if_there(&self, operation: &'static str, of: &VolumeRef) -> Result<Option<Held>> {
        match self.hold(operation, of) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            held => held.map(Some),
        }
    }

    pub(super) fn publish(&self, request: &PublishVolume) -> Result<()> {
        const OPERATION: &str = "publish_volume";
        let path = &request.target_path;
        self.outside(OPERATION, path)?;
        let mut held = self.hold(OPERATION, &request.volume)?;
        Self::fits(OPERATION, &held.record, request.access_mode, &request.volume_mode)?;
        let source = self.staged(OPERATION, request, &held)?;
        let wanted = Use {
            boot: self.boot.clone(),
            path: path.clone(),
            staged: false,
            access_mode: request.access_mode,
            volume_mode: request.volume_mode.clone(),
            read_only: request.read_only || !request.access_mode.writes(),
        };
        let live = |found: &&Use| !found.staged && found.boot == self.boot;
        if held.uses.iter().filter(live).any(|found| found.path == *path && *found != wanted) {
            return Err(taken(OPERATION, path));
        }
        let single = |found: &&Use| {
            found.path != *path
                && (found.access_mode == AccessMode::ReadWriteOncePod
                    || request.access_mode == AccessMode::ReadWriteOncePod)
        };
        if let Some(other) = held.uses.iter().filter(live).find(single) {
            let message =
                format!("volume {} is for one workload, at {}", held.record.key, other.path.display());
            return Err(conflict(OPERATION, message));
        }
        if self.is_mounted(OPERATION, &held, path)? {
            let ours = held.uses.iter().any(|found| *found == wanted);
            return if ours {
                target::protect(OPERATION, path, &wanted)
            } else {
                Err(taken(OPERATION, path))
            };
        }
        held.uses.remove(OPERATION, |found| !found.staged && found.path == *path)?;
        held.uses.add(OPERATION, wanted.clone())?;
        let shown = self
            .shown(OPERATION, &held.record, source, &wanted)
            .and_then(|source| target::show(OPERATION, &source, path, &wanted));
        if shown.is_err() {
            held.uses.remove(OPERATION, |found| *found == wanted)?;
        }
        shown
    }

    /// What is mounted where the volume is staged, after a look at it.
    fn staged(&self, operation: &'static str, request: &PublishVolume, held: &Held) -> Result<PathBuf> {
        let staged = request.staging_path.as_ref().filter(|path| {
            held.uses.iter().any(|found| found.staged && found.boot == self.boot && found.path == **path)
        });
        let at = staged.map(|path| target::staged(path, &request.volume_mode));
        if let Some(at) = at
            && self.is_mounted(operation, held, &at)?
        {
            return Ok(backing::published(&held.record, at));
        }
        Err(conflict(operation, format!("volume {} is not staged there: stage it first", held.record.key)))
    }

    /// What is to be seen at a target: of a device that is not to be written, another one that cannot be.
    fn shown(
        &self,
        operation: &'static str,
        record: &VolumeRecord,
        staged: PathBuf,
        wanted: &Use,
    ) -> Result<PathBuf> {
        if record.kind != Kind::Block || !wanted.read_only {
            return Ok(staged);
        }
        let data = below(&self.directory, &[VOLUMES, record.handle.as_str(), DATA]);
        image::read_only_device(operation, &data)
    }

    pub(super) fn unpublish(&self, of: &VolumeRef, path: &Path) -> Result<()> {
        const OPERATION: &str = "unpublish_volume";
        let Some(mut held) = self.hold_if_there(OPERATION, of)? else { return Ok(()) };
        let Some(found) = held.uses.iter().find(|found| !found.staged && found.path == path) else {
            return Ok(());
        };
        let block = found.volume_mode.is_block();
        let mounted = match self.is_mounted(OPERATION, &held, path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                // Another volume's target now: it stays, and this one has nothing there.
                return held.uses.remove(OPERATION, |found| !found.staged && found.path == path);
            }
            mounted => mounted?,
        };
        if mounted {
            target::unmount(OPERATION, path)?;
        }
        target::remove(OPERATION, path, block)?;
        held.uses.remove(OPERATION, |found| !found.staged && found.path == path)
    }

    pub(super) fn expand(&self, request: &ExpandOnNode) -> Result<ByteSize> {
        const OPERATION: &str = "expand_on_node";
        let held = self.hold(OPERATION, &request.volume)?;
        let at = self.used(OPERATION, &held, &request.volume_path)?;
        if request.size.is_some_and(|size| size > held.record.size) {
            let message = format!("volume {} has {}: expand it first", held.record.key, held.record.size);
            return Err(Error::invalid(OPERATION, message));
        }
        let data = below(&self.directory, &[VOLUMES, held.record.handle.as_str(), DATA]);
        backing::grow_mounted(OPERATION, &held.record, &data, &at)?;
        Ok(held.record.size)
    }

    /// Where the volume really is, if it is staged or published at `path`.
    fn used(&self, operation: &'static str, held: &Held, path: &Path) -> Result<PathBuf> {
        let found = held.uses.iter().find(|found| found.boot == self.boot && found.path == path);
        let at = found
            .map(|found| if found.staged { target::staged(path, &found.volume_mode) } else { path.into() });
        if let Some(at) = at
            && self.is_mounted(operation, held, &at).unwrap_or(false)
        {
            return Ok(at);
        }
        let message = format!("volume {} is not at {}", held.record.key, path.display());
        Err(Error::not_found(operation, message))
    }

    pub(super) fn stats(&self, of: &VolumeRef, path: &Path) -> Result<VolumeStats> {
        const OPERATION: &str = "volume_stats";
        let held = self.hold(OPERATION, of)?;
        let at = self.used(OPERATION, &held, path)?;
        let mut stats = backing::stats(OPERATION, &held.record, &at)?;
        if held.record.kind.is_image() {
            let place = below(&self.directory, &[VOLUMES, held.record.handle.as_str()]);
            stats.counters = counters::since(&place, &self.boot);
        }
        // A file system that went read-only by itself has found an error.
        let mounts = Mounts::now(OPERATION)?;
        let asked = held.uses.iter().any(|found| found.path == path && found.read_only);
        let mount = mounts.at(&at);
        let broken = mount.is_some_and(|mount| mount.all_read_only || (mount.read_only && !asked));
        Ok(stats.with_condition(if broken {
            VolumeCondition::Abnormal("it can only be read: look for errors in the kernel's log".to_owned())
        } else {
            VolumeCondition::Normal
        }))
    }
}
