//! A whole store in another file, and a look at everything in one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use redb::Database;

use super::disk;
use super::fault::Fault;
use super::pipeline::{open, sheltered};
use super::table;
use crate::store::Revision;
use crate::{Error, ErrorKind, Result, publish_file};

/// What a sound file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedbCheck {
    /// The oldest revision that can be read.
    pub oldest: Revision,
    /// The newest transaction.
    pub newest: Revision,
    /// How many records there are at the newest revision.
    pub records: usize,
    /// The size of the file, in bytes.
    pub bytes: u64,
}

pub(super) fn write(database: &Database, path: &Path) -> Result<()> {
    if path.exists() {
        let message = format!("{} is there already: choose another name", path.display());
        return Err(Error::new(ErrorKind::AlreadyExists, "snapshot", message));
    }
    let done = whole(path, |copy| table::copy(database, copy));
    done.map_err(|fault| fault.error("snapshot", &path.display().to_string()))
}

/// Makes an empty store at `path`, unless there is a file.
pub(super) fn create(path: &Path) -> Result<()> {
    let done = if path.exists() { Ok(()) } else { whole(path, table::initialise) };
    match done {
        // Somebody else made one meanwhile.
        Err(Fault::Engine(redb::Error::Io(e))) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(|fault| fault.error("open", &path.display().to_string())),
    }
}

/// Makes the file at `path`, which has that name only once it is whole and on the disk.
fn whole(path: &Path, fill: impl FnOnce(&Database) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    let done = sheltered(|| {
        let _ = fs::remove_file(&partial);
        let database = Database::create(&partial)?;
        fill(&database)?;
        drop(database);
        Ok(publish_file(&partial, path)?)
    });
    let _ = fs::remove_file(&partial);
    done
}

pub(super) fn check(path: &Path) -> Result<RedbCheck> {
    let opener = disk::file(path.to_owned());
    let checked = sheltered(|| {
        let bytes = fs::metadata(path)?.len();
        let mut database = open(&opener, &Arc::new(AtomicBool::new(false)))?;
        let sound = database.check_integrity()?;
        let (history, meta) = table::load(&database)?;
        if !sound {
            return Err(Fault::Damaged("pages of the engine are damaged".to_owned()));
        }
        Ok(RedbCheck { oldest: meta.oldest, newest: meta.newest, records: history.len(), bytes })
    });
    checked.map_err(|fault| fault.error("check", &path.display().to_string()))
}
