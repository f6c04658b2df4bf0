//! Where a volume is staged and published on the node: a file for each place, in the directory of the volume.
//!
//! A use is written before anything is mounted and removed after everything is unmounted, so that what is mounted has
//! one. It need not survive a loss of power, which unmounts everything: the start of the system that it belongs to is
//! in it. So it is written where it stays, without a flush: an empty file is what is left of one that a crash
//! interrupted, and nothing was mounted for it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use hivemind_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::pool::VOLUMES;
use super::sys::Lock;
use super::{During as _, below, missing};
use crate::{AccessMode, VolumeMode};

/// The name of the directory of uses in that of a volume.
pub(super) const USES: &str = "uses";

/// One place where a volume is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Use {
    /// In which start of the system.
    pub(super) boot: String,
    /// Where.
    pub(super) path: PathBuf,
    /// Whether it is staged there, and not published.
    pub(super) staged: bool,
    pub(super) access_mode: AccessMode,
    pub(super) volume_mode: VolumeMode,
    pub(super) read_only: bool,
}

/// The uses of a volume that is locked, as they are on the disk.
#[derive(Debug)]
pub(super) struct Uses {
    directory: PathBuf,
    /// Each with the number that its file has.
    all: Vec<(usize, Use)>,
}

/// Locks a volume: nobody else stages, publishes or deletes it.
pub(super) fn lock(operation: &'static str, pool: &Path, handle: &str) -> Result<Lock> {
    let place = below(pool, &[VOLUMES, handle]);
    let gone = || missing(operation, format_args!("volume {handle}"));
    // Whatever the handle says, it must not lead out of the pool.
    if handle.contains('/') || handle.starts_with('.') {
        return Err(gone());
    }
    let lock = match Lock::wait(&place) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(gone()),
        lock => lock.during(operation, "lock", &place)?,
    };
    // It may have been deleted while we waited.
    if lock.is_of(&place) { Ok(lock) } else { Err(gone()) }
}

/// Locks a volume, and reads its uses.
pub(super) fn locked(operation: &'static str, pool: &Path, handle: &str) -> Result<(Lock, Uses)> {
    let lock = lock(operation, pool, handle)?;
    let uses = Uses::read(operation, below(pool, &[VOLUMES, handle, USES]))?;
    Ok((lock, uses))
}

impl Uses {
    fn read(operation: &'static str, directory: PathBuf) -> Result<Self> {
        let mut numbers = Vec::new();
        match fs::read_dir(&directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            entries => {
                for entry in entries.during(operation, "list", &directory)? {
                    let name = entry.during(operation, "list", &directory)?.file_name();
                    let number =
                        name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<usize>().ok());
                    numbers.extend(number);
                }
            }
        }
        numbers.sort_unstable();
        let mut uses = Self { directory, all: Vec::new() };
        for number in numbers {
            let path = uses.file(number);
            let text = fs::read(&path).during(operation, "read", &path)?;
            if text.is_empty() {
                // If it stays, it means nothing the next time either.
                let _ = fs::remove_file(&path);
                continue;
            }
            let found = serde_json::from_slice(&text).map_err(|e| {
                let message =
                    format!("{} is damaged ({e}): see what is mounted, and remove it", path.display());
                Error::new(ErrorKind::Corrupt, operation, message)
            })?;
            uses.all.push((number, found));
        }
        Ok(uses)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Use> {
        self.all.iter().map(|(_, found)| found)
    }

    fn file(&self, number: usize) -> PathBuf {
        self.directory.join(format!("{number}.json"))
    }

    /// Writes one more down.
    pub(super) fn add(&mut self, operation: &'static str, new: Use) -> Result<()> {
        let text = serde_json::to_vec(&new).map_err(|e| Error::internal(operation, e.to_string()))?;
        let number = self.all.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
        let path = self.file(number);
        let created = match File::create(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&self.directory).and_then(|()| File::create(&path))
            }
            created => created,
        };
        let written = created.and_then(|mut file| file.write_all(&text));
        if written.is_err() {
            // Empty or gone, it is no use; in part it would be damage.
            let _ = fs::remove_file(&path);
        }
        written.during(operation, "write", &path)?;
        self.all.push((number, new));
        Ok(())
    }

    /// Removes those that are `over`.
    pub(super) fn remove(&mut self, operation: &'static str, over: impl Fn(&Use) -> bool) -> Result<()> {
        for (number, _) in self.all.iter().filter(|(_, found)| over(found)) {
            let path = self.file(*number);
            match fs::remove_file(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                removed => removed.during(operation, "remove", &path)?,
            }
        }
        self.all.retain(|(_, found)| !over(found));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Use {
        Use {
            boot: "this start".to_owned(),
            path: path.into(),
            staged: false,
            access_mode: AccessMode::ReadWriteOnce,
            volume_mode: VolumeMode::Block,
            read_only: false,
        }
    }

    fn pool() -> tempfile::TempDir {
        let pool = tempfile::tempdir().unwrap();
        fs::create_dir_all(below(pool.path(), &[VOLUMES, "vol-1"])).unwrap();
        pool
    }

    fn paths(pool: &Path) -> Vec<PathBuf> {
        let (_lock, uses) = locked("test", pool, "vol-1").unwrap();
        uses.iter().map(|found| found.path.clone()).collect()
    }

    #[test]
    fn what_was_written_is_read_and_what_stays_is_not_touched() {
        let pool = pool();
        let (lock, mut uses) = locked("test", pool.path(), "vol-1").unwrap();
        for path in ["/a", "/b", "/c"] {
            uses.add("test", at(path)).unwrap();
        }
        let last = uses.file(2);
        let before = fs::metadata(&last).unwrap().modified().unwrap();
        uses.remove("test", |found| found.path == Path::new("/b")).unwrap();
        assert_eq!(fs::metadata(&last).unwrap().modified().unwrap(), before);
        uses.add("test", at("/d")).unwrap();
        drop(lock);
        assert_eq!(paths(pool.path()), ["/a", "/c", "/d"].map(PathBuf::from));
    }

    #[test]
    fn one_that_a_crash_interrupted_is_none_and_a_damaged_one_is_told_of() {
        let pool = pool();
        let directory = below(pool.path(), &[VOLUMES, "vol-1", USES]);
        let (lock, mut uses) = locked("test", pool.path(), "vol-1").unwrap();
        uses.add("test", at("/a")).unwrap();
        drop(lock);
        fs::write(directory.join("1.json"), "").unwrap();
        fs::write(directory.join("new"), "{").unwrap();
        assert_eq!(paths(pool.path()), [PathBuf::from("/a")]);
        fs::write(directory.join("1.json"), "{").unwrap();
        let damaged = locked("test", pool.path(), "vol-1").unwrap_err();
        assert_eq!(damaged.kind(), ErrorKind::Corrupt);
    }
}
