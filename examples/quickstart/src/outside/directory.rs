//! The directory of a world that outlives the process: backups, volumes, the key, and how late it is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hivemind_core::{Error, ErrorKind, IdSource, Result, Runtime, ThreadRuntime, Timestamp, block_on};
use serde::{Deserialize, Serialize};

use super::files::{io, make_directory, private, refuse_strangers, replace, tidy};
use super::key::FileKey;
use super::volumes;

pub(super) const BACKUPS: &str = "backups";
const LOCK: &str = "lock";
/// Written last: with it a directory is a world.
const MARK: &str = "world";
const KNOWN: [&str; 5] = [BACKUPS, LOCK, MARK, "key", "volumes"];

/// How often, and how long after each other, a directory in use is looked at again.
const PATIENCE: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);
/// How far the simulated time of one life of the program may go.
const LIFE: Duration = Duration::from_secs(3600);

/// What the mark says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    version: u32,
    /// Says which store belongs to this world.
    id: String,
    /// Before this instant of simulated time no later life may begin; `None` before the first one.
    clock: Option<Timestamp>,
}

/// A world in a directory, for as long as this value lives used by this process only.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    mark: Mark,
    _lock: File,
}

impl Directory {
    /// The world in the directory `path`, if there is one, without what a crash left of files.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it holds something else, [`ErrorKind::Unavailable`] if another process uses it.
    pub(super) fn find(path: &Path) -> Result<Option<Self>> {
        refuse_strangers(path, &KNOWN)?;
        if !path.join(MARK).exists() {
            return Ok(None);
        }
        let lock = lock(path)?;
        tidy(path)?;
        let at = path.join(MARK);
        let bytes = fs::read(&at).map_err(io(&at))?;
        let mark: Mark = serde_json::from_slice(&bytes)
            .map_err(|e| Error::new(ErrorKind::Corrupt, "world", format!("{}: {e}", at.display())))?;
        if mark.version != 1 {
            let message = format!("{} is of version {}: upgrade this program", at.display(), mark.version);
            return Err(Error::new(ErrorKind::Corrupt, "world", message));
        }
        Ok(Some(Self { path: path.to_owned(), mark, _lock: lock }))
    }

    /// Makes a world in the directory `path`, whose parents are made, too. What a crash left of one is replaced.
    pub(super) fn create(path: &Path, ids: &dyn IdSource) -> Result<Self> {
        make_directory(&path.join(BACKUPS))?;
        let lock = lock(path)?;
        if path.join(MARK).exists() {
            return Err(in_use(path));
        }
        FileKey::create(path, ids)?;
        volumes::create(path)?;
        let mark = Mark { version: 1, id: format!("{:032x}", ids.next_u128()), clock: None };
        let new = Self { path: path.to_owned(), mark, _lock: lock };
        new.write()?;
        Ok(new)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn id(&self) -> &str {
        &self.mark.id
    }

    /// Whether a run may have left anything here.
    pub(super) fn used(&self) -> bool {
        self.mark.clock.is_some()
    }

    /// Begins a life at `now`, or after the one before, whichever is later: time never goes back in a world, though
    /// sleeping takes none outside of it.
    pub(super) fn begin(&mut self, now: Timestamp) -> Result<Timestamp> {
        let now = self.mark.clock.unwrap_or_default().max(now);
        self.mark.clock = Some(now.after(LIFE));
        self.write()?;
        Ok(now)
    }

    fn write(&self) -> Result<()> {
        let text = serde_json::to_vec(&self.mark)
            .map_err(|e| Error::internal("world", "the mark cannot be written").with_source(e))?;
        replace(&self.path, MARK, &text)
    }
}

fn in_use(path: &Path) -> Error {
    let message = format!(
        "{} is in use by another process: wait for it to end, or give another --store",
        path.display()
    );
    Error::new(ErrorKind::Unavailable, "world", message)
}

fn lock(path: &Path) -> Result<File> {
    let at = path.join(LOCK);
    let file =
        private(OpenOptions::new().write(true).create(true).truncate(false)).open(&at).map_err(io(&at))?;
    for _ in 0..PATIENCE {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // Somebody who was killed a moment ago may not be quite dead.
            Err(TryLockError::WouldBlock) => block_on(ThreadRuntime::new().sleep(PAUSE)),
            Err(TryLockError::Error(e)) => return Err(io(&at)(e)),
        }
    }
    Err(in_use(path))
}

#[cfg(test)]
mod tests {
    use hivemind_core::SeededIds;

    use super::*;

    #[test]
    fn time_never_goes_back_from_one_life_to_the_next() {
        let (own, ids) = (tempfile::tempdir().unwrap(), SeededIds::new(1));
        let mut first = Directory::create(own.path(), &ids).unwrap();
        assert!(!first.used());
        let start = first.begin(Timestamp::from_secs(100)).unwrap();
        assert_eq!((start, first.used()), (Timestamp::from_secs(100), true));
        let id = first.id().to_owned();
        drop(first);
        let mut second = Directory::find(own.path()).unwrap().unwrap();
        assert_eq!((second.id(), second.used()), (&*id, true));
        assert!(second.begin(Timestamp::from_secs(101)).unwrap() >= start.after(LIFE));
        assert_eq!(second.begin(Timestamp::from_secs(1_000_000)).unwrap(), Timestamp::from_secs(1_000_000));
    }

    #[test]
    fn a_world_that_was_not_finished_is_none_and_can_be_made_again() {
        let (own, ids) = (tempfile::tempdir().unwrap(), SeededIds::new(1));
        assert!(Directory::find(&own.path().join("missing")).unwrap().is_none());
        fs::create_dir(own.path().join(BACKUPS)).unwrap();
        for name in ["lock", "key", "volumes", ".tmp-key"] {
            fs::write(own.path().join(name), "half").unwrap();
        }
        assert!(Directory::find(own.path()).unwrap().is_none());
        let made = Directory::create(own.path(), &ids).unwrap();
        assert_eq!(Directory::find(own.path()).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(Directory::create(own.path(), &ids).unwrap_err().kind(), ErrorKind::Unavailable);
        drop(made);
        assert!(Directory::find(own.path()).unwrap().is_some());
        assert!(!own.path().join(".tmp-key").exists());
    }
}
