//! The directory in which everything is, and how things appear in it and go.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hivemind_core::resources::ByteSize;
use hivemind_core::{Clock, Effect, Error, ErrorKind, IdSource as _, Result, SystemIds, sync_directory};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::index::{Index, Spare};
use super::mounts::Mounts;
use super::sys::btrfs::Btrfs;
use super::sys::loops;
use super::sys::{self, Lock};
use super::uses::{self, USES, Uses};
use super::{During as _, LocalBackend, backing, below, image, record, templates};
use crate::NodeInfo;

/// Where volumes are.
pub(super) const VOLUMES: &str = "volumes";
/// Where snapshots are.
pub(super) const SNAPSHOTS: &str = "snapshots";
/// Where groups of snapshots are.
pub(super) const GROUPS: &str = "groups";
/// Where things are made.
pub(super) const TMP: &str = "tmp";
/// Where things go that are being removed.
pub(super) const TRASH: &str = "trash";

const PARTS: [&str; 5] = [VOLUMES, SNAPSHOTS, GROUPS, TMP, TRASH];
const OPEN: &str = "open pool";

/// With fewer empty subvolumes than this, more are made.
const FEW_SPARES: usize = 4;
/// As many as this at once.
const MANY_SPARES: usize = 16;

/// A pool that is open.
#[derive(Debug)]
pub(super) struct Pool {
    directory: PathBuf,
    node: NodeInfo,
    backend: LocalBackend,
    /// Whether an ext4 that is mounted may grow.
    ext4_online: bool,
    /// How many hundredths are never promised.
    reserve: AtomicU8,
    /// The file system of the pool, if it is one that commits what we tell it to.
    btrfs: Option<Btrfs>,
    clock: Arc<dyn Clock>,
    index: Mutex<Index>,
    /// A disk that does not write out any more.
    #[cfg(test)]
    flushes_fail: std::sync::atomic::AtomicBool,
    _lock: Lock,
}

impl Pool {
    pub(super) fn open(
        node: NodeInfo,
        directory: &Path,
        clock: Arc<dyn Clock>,
        backend: Option<LocalBackend>,
    ) -> Result<Self> {
        let directory = canonical(directory)?;
        let remembered = prepare(&directory)?;
        let Some(lock) = Lock::attempt(&directory.join(VOLUMES)).during(OPEN, "lock", &directory)? else {
            let message = format!("pool {} is open already, by another provider", directory.display());
            return Err(Error::new(ErrorKind::Conflict, OPEN, message));
        };
        let btrfs = Btrfs::at(&directory).during(OPEN, "look at", &directory)?;
        let best = best(&directory, btrfs.is_some(), remembered)?;
        mark(&directory, remembered, best)?;
        let backend = backend.unwrap_or(best);
        templates::prepare(&directory).during(OPEN, "make templates in", &directory)?;
        match (&btrfs, backend) {
            (Some(btrfs), LocalBackend::Subvolumes) => {
                btrfs.enable_quotas().during(OPEN, "enable quotas of", &directory)?;
            }
            (_, wanted) if wanted < best => {
                let message = format!(
                    "{} is on a file system that cannot have {wanted}: the best is {best}",
                    directory.display()
                );
                return Err(Error::new(ErrorKind::Unsupported, OPEN, message));
            }
            _ => {}
        }
        let pool = Self {
            directory,
            node,
            backend,
            ext4_online: sys::may_grow_ext4(),
            reserve: AtomicU8::new(0),
            btrfs,
            clock,
            index: Mutex::default(),
            #[cfg(test)]
            flushes_fail: false.into(),
            _lock: lock,
        };
        image::go_on(OPEN, &pool.directory)?;
        pool.sweep();
        *pool.index() = Index::load(&pool)?;
        pool.limit_all()?;
        Ok(pool)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn node(&self) -> &NodeInfo {
        &self.node
    }

    pub(super) fn backend(&self) -> LocalBackend {
        self.backend
    }

    pub(super) fn ext4_online(&self) -> bool {
        self.ext4_online
    }

    /// Of so many bytes, those that are never promised.
    pub(super) fn reserved(&self, of: u64) -> u64 {
        of / 100 * u64::from(self.reserve.load(Ordering::Relaxed))
    }

    pub(super) fn set_reserve(&self, percent: u8) {
        self.reserve.store(percent, Ordering::Relaxed);
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory of `handle` in that part of the pool.
    pub(super) fn place(&self, part: &str, handle: &str) -> PathBuf {
        below(&self.directory, &[part, handle])
    }

    /// A name that nothing ever had.
    pub(super) fn fresh(prefix: &str) -> String {
        format!("{prefix}-{:032x}", SystemIds::new().next_u128())
    }

    /// Every record in that part of the pool, and the names of what has none.
    pub(super) fn records<T: DeserializeOwned>(&self, part: &str) -> Result<(Vec<T>, Vec<String>)> {
        let path = self.directory.join(part);
        let (mut found, mut blank) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&path).during(OPEN, "list", &path)? {
            let entry = entry.during(OPEN, "list", &path)?;
            if record::is_blank(&entry.path()) {
                blank.extend(entry.file_name().into_string());
            } else {
                found.extend(record::read(OPEN, &entry.path())?);
            }
        }
        Ok((found, blank))
    }

    /// Makes `handle` appear, with what `fill` makes in its directory and, last, its record: all of it or nothing, for
    /// good.
    pub(super) fn appear<T: Serialize>(
        &self,
        operation: &'static str,
        part: &str,
        handle: &str,
        record: &T,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let place = self.place(part, handle);
        let appeared = (|| {
            self.begin(operation, &place)?;
            fill(&place)?;
            self.record(operation, &place, record)
        })();
        appeared.map_err(|e| self.gone(e, &place))
    }

    /// Makes the directory of something that is removed after a crash, until it has a record.
    pub(super) fn begin(&self, operation: &'static str, place: &Path) -> Result<()> {
        DirBuilder::new().mode(0o700).create(place).during(operation, "make", place)?;
        record::mark_partial(operation, place)
    }

    /// Removes what a crash left without a record; what should have one is left alone.
    pub(super) fn discard(&self, part: &str, handle: &str) -> Result<()> {
        let place = self.place(part, handle);
        // A crash may come before the mark; then there is nothing else either.
        let empty = fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_none());
        if empty || record::is_partial(&place) {
            self.clear(part, handle);
            return Ok(());
        }
        let message = format!("{} has lost its record: bring it back, or take it away", place.display());
        Err(Error::new(ErrorKind::Corrupt, OPEN, message))
    }

    /// Removes what does not count. If it stays, because the disk is full or broken, it is removed another time: that is
    /// no reason to keep the pool closed.
    pub(super) fn clear(&self, part: &str, handle: &str) {
        let _ = self.disappear(OPEN, part, handle);
    }

    /// Removes what was half made; an error that leaves something tells so.
    pub(super) fn gone(&self, error: Error, place: &Path) -> Error {
        match self.throw_away(place) {
            Ok(()) => error,
            Err(_) => error.with_effect(Effect::Unknown),
        }
    }

    /// Removes what has no record. Its mark stays with it to the end, so that a crash meanwhile leaves what is known.
    pub(super) fn throw_away(&self, place: &Path) -> io::Result<()> {
        let trash = self.place(TRASH, &Self::fresh("partial"));
        match fs::rename(place, &trash) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        backing::remove(&trash)
    }

    /// Writes the first record of what is at `place`, and is durable.
    pub(super) fn record<T: Serialize>(
        &self,
        operation: &'static str,
        place: &Path,
        record: &T,
    ) -> Result<()> {
        if self.btrfs.is_some() {
            record::write_first(operation, place, record)?;
        } else {
            let part = place.parent().unwrap_or(place);
            sync_directory(part).during(operation, "sync", part)?;
            record::write(operation, place, record)?;
        }
        record::unmark_partial(place);
        Ok(())
    }

    /// No more than `size` in the subvolume of that number.
    pub(super) fn limit(&self, number: u64, size: ByteSize) -> io::Result<()> {
        let btrfs = self.btrfs.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        btrfs.limit_number(number, size.as_bytes())
    }

    /// Whether [`refill`](Self::refill) has something to do.
    pub(super) fn is_low(&self) -> bool {
        self.backend == LocalBackend::Subvolumes && self.index().spares.len() < FEW_SPARES
    }

    /// Keeps some empty subvolumes ready, so that making a volume of one takes a flush and not a commit, and using it no
    /// new names but those of its uses.
    pub(super) fn refill(&self) {
        let Some(btrfs) = self.btrfs.as_ref().filter(|_| self.is_low()) else { return };
        let fresh: Vec<_> = (0..MANY_SPARES).map(|_| Self::fresh("vol")).collect();
        let made = fresh.into_iter().filter_map(|handle| {
            let place = self.place(VOLUMES, &handle);
            let made = DirBuilder::new().mode(0o700).create(&place);
            let made = made.and_then(|()| {
                let data = place.join(backing::DATA);
                sys::btrfs::create(&data)?;
                record::prepare(&place)?;
                fs::create_dir(place.join(USES))?;
                sys::btrfs::id(&data)
            });
            if made.is_err() {
                let _ = self.throw_away(&place);
            }
            made.ok().map(|number| Spare { handle, number })
        });
        let made: Vec<_> = made.collect();
        // What is not durable is no spare, and is removed when the pool is opened next.
        if btrfs.commit().is_ok() {
            self.index().spares.extend(made);
        }
    }

    /// Makes `handle` disappear for good; its data goes after it.
    pub(super) fn disappear(&self, operation: &'static str, part: &str, handle: &str) -> Result<()> {
        let (place, trash) = (self.place(part, handle), self.place(TRASH, &Self::fresh(handle)));
        match fs::rename(&place, &trash) {
            // Whoever took it away may not have seen it become durable.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.persist(operation, part),
            renamed => renamed.during(operation, "remove", &place)?,
        }
        self.persist(operation, part)?;
        // It is gone for everybody; what is left of it goes when the pool is opened next.
        let _ = backing::remove(&trash);
        Ok(())
    }

    /// The same for what has a record in the index, which must not forget it before it is gone for good.
    pub(super) fn end(&self, operation: &'static str, part: &str, handle: &str) -> Result<()> {
        let ended = self.disappear(operation, part, handle);
        let going = ended.is_err() && !self.place(part, handle).exists();
        self.index().set_going(handle, going);
        ended
    }

    /// Makes what appeared in that part of the pool, or went, durable.
    pub(super) fn persist(&self, operation: &'static str, part: &str) -> Result<()> {
        let path = self.directory.join(part);
        #[cfg(test)]
        if self.flushes_fail.load(std::sync::atomic::Ordering::Relaxed) {
            let failed: io::Result<()> = Err(io::Error::other("the disk is broken"));
            return failed.during(operation, "sync", &path).map_err(|e| e.with_effect(Effect::Unknown));
        }
        let synced = match &self.btrfs {
            // What is new may have a subvolume in it, which only a commit makes durable.
            Some(btrfs) => btrfs.commit(),
            None => sync_directory(&path),
        };
        let synced = synced.during(operation, "sync", &path);
        synced.map_err(|e| e.with_effect(Effect::Unknown))
    }

    /// Removes what crashes left half made and half removed.
    fn sweep(&self) {
        for part in [TMP, TRASH] {
            let entries = fs::read_dir(self.directory.join(part)).into_iter().flatten().flatten();
            entries.for_each(|entry| {
                let _ = backing::remove(&entry.path());
            });
        }
    }

    /// Refuses whatever must not happen to a volume that somebody uses; until the lock is dropped nobody does.
    pub(super) fn idle(&self, operation: &'static str, handle: &str) -> Result<Lock> {
        let (lock, uses) = uses::locked(operation, &self.directory, handle)?;
        if let Some(path) = self.used_at(operation, handle, &uses)? {
            let message = format!("volume {handle} is in use at {}: unpublish it first", path.display());
            return Err(Error::new(ErrorKind::Conflict, operation, message));
        }
        Ok(lock)
    }

    /// One place where the volume is used, if there is any.
    pub(super) fn used_at(
        &self,
        operation: &'static str,
        handle: &str,
        uses: &Uses,
    ) -> Result<Option<PathBuf>> {
        let boot = sys::boot().during(operation, "read", Path::new("/proc/sys/kernel/random/boot_id"))?;
        if let Some(found) = uses.iter().find(|found| found.boot == boot) {
            return Ok(Some(found.path.clone()));
        }
        // What nobody wrote down, and is used all the same.
        let image = self.place(VOLUMES, handle).join(backing::DATA);
        if let Some(device) = loops::of(&image).during(operation, "look for devices of", &image)?.pop() {
            return Ok(Some(device));
        }
        let mounts = Mounts::now(operation)?;
        Ok(mounts.iter().find(|mount| mount.involves(handle)).map(|mount| mount.at.clone()))
    }
}

/// The directory by its only name; mounts and loop devices are told by it.
pub(super) fn canonical(directory: &Path) -> Result<PathBuf> {
    let found = fs::canonicalize(directory).during(OPEN, "find", directory)?;
    if found.is_dir() {
        return Ok(found);
    }
    Err(Error::invalid(OPEN, format!("{} is no directory", directory.display())))
}

/// The name of the file that says that a directory is a pool, and what its file system was found to be able to do.
const MARK: &str = "hivemind-pool";

/// The best that the file system can do. A full disk does not tell: then it is what was found out before.
fn best(directory: &Path, btrfs: bool, remembered: Option<LocalBackend>) -> Result<LocalBackend> {
    if btrfs {
        return Ok(LocalBackend::Subvolumes);
    }
    match image::can_share(&directory.join(TMP)) {
        Ok(true) => Ok(LocalBackend::Images),
        Ok(false) => Ok(LocalBackend::Directories),
        Err(e) => match remembered {
            Some(known) if known != LocalBackend::Subvolumes => Ok(known),
            _ => Err(e).during(OPEN, "find out what can be done in", directory),
        },
    }
}

/// Writes down that `directory` is a pool, and what can be done in it, where that is not known already.
fn mark(directory: &Path, remembered: Option<LocalBackend>, best: LocalBackend) -> Result<()> {
    let mark = directory.join(MARK);
    let there = mark.exists();
    if there && remembered == Some(best) {
        return Ok(());
    }
    let fresh = directory.join(TMP).join(MARK);
    let written = fs::write(&fresh, format!("1\n{best}\n"))
        .and_then(|()| fs::rename(&fresh, &mark))
        .and_then(|()| sync_directory(directory));
    // A pool of which it is not remembered is one all the same.
    if there { Ok(()) } else { written.during(OPEN, "write", &mark) }
}

/// What is remembered in the mark of a pool.
fn remembered(mark: &str) -> Option<LocalBackend> {
    let known = mark.lines().nth(1)?;
    use LocalBackend::{Directories, Images, Subvolumes};
    [Subvolumes, Images, Directories].into_iter().find(|backend| backend.to_string() == known)
}

/// Makes the parts of the pool, if the directory is a pool already, or empty; what is remembered of what it can do.
fn prepare(directory: &Path) -> Result<Option<LocalBackend>> {
    let mark = directory.join(MARK);
    if !mark.exists() {
        let others = fs::read_dir(directory).during(OPEN, "list", directory)?.flatten();
        let known = |name: &str| PARTS.contains(&name) || ["templates", "lost+found"].contains(&name);
        let foreign = others.map(|entry| entry.file_name()).find(|name| !name.to_str().is_some_and(known));
        if let Some(name) = foreign {
            let message = format!(
                "{} is no pool, and has {name:?} in it: give an empty directory",
                directory.display()
            );
            return Err(Error::invalid(OPEN, message));
        }
    }
    for part in PARTS {
        let path = directory.join(part);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(e).during(OPEN, "make", &path);
            }
            _ => {}
        }
    }
    // The mark comes later, so that a crash before leaves a directory that is still taken for a pool to be.
    Ok(fs::read_to_string(&mark).ok().as_deref().and_then(remembered))
}

#[cfg(test)]
mod tests;
