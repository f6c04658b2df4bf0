//! Where a volume is staged and published on the node: a file for each place, in the directory of the volume.
//!
//! A use is written before anything is mounted and removed after everything is unmounted, so that what is mounted has
//! one. It need not survive a loss of power, which unmounts everything: the start of the system that it belongs to is
//! in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hivemind_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::pool::VOLUMES;
use super::sys::Lock;
use super::{During as _, below, missing};
use crate::{AccessMode, VolumeMode};

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

/// The uses of a volume that is locked: nobody else stages, publishes or deletes it.
pub(super) fn locked(operation: &'static str, pool: &Path, handle: &str) -> Result<(Lock, Vec<Use>)> {
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
    if !lock.is_of(&place) {
        return Err(gone());
    }
    let uses = read(operation, &place.join("uses"))?;
    Ok((lock, uses))
}

fn read(operation: &'static str, directory: &Path) -> Result<Vec<Use>> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.during(operation, "list", directory)?,
    };
    let mut numbered = Vec::new();
    for entry in entries {
        let path = entry.during(operation, "list", directory)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<usize>().ok());
            numbered.push((number.unwrap_or(usize::MAX), path));
        }
    }
    // In the order in which they were written: what is written back stays where it is, and a full disk loses none.
    numbered.sort();
    let mut found = Vec::new();
    for (_, path) in numbered {
        let text = fs::read(&path).during(operation, "read", &path)?;
        found.push(serde_json::from_slice(&text).map_err(|e| {
            let message = format!("{} is damaged ({e}): see what is mounted, and remove it", path.display());
            Error::new(ErrorKind::Corrupt, operation, message)
        })?);
    }
    Ok(found)
}

/// Replaces all uses of a locked volume.
pub(super) fn replace(operation: &'static str, pool: &Path, handle: &str, uses: &[Use]) -> Result<()> {
    let directory = below(pool, &[VOLUMES, handle, "uses"]);
    match fs::create_dir(&directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(e).during(operation, "make", &directory);
        }
        _ => {}
    }
    let name = |nth: usize| directory.join(format!("{nth}.json"));
    for (nth, found) in uses.iter().enumerate() {
        let text = serde_json::to_vec(found).map_err(|e| Error::internal(operation, e.to_string()))?;
        let (fresh, path) = (directory.join("new"), name(nth));
        // Most of them stay as they are, and replacing a file makes some file systems write it out.
        if fs::read(&path).is_ok_and(|there| there == text) {
            continue;
        }
        fs::write(&fresh, text).during(operation, "write", &fresh)?;
        fs::rename(&fresh, &path).during(operation, "name", &path)?;
    }
    for nth in uses.len().. {
        match fs::remove_file(name(nth)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            removed => removed.during(operation, "remove", &name(nth))?,
        }
    }
    Ok(())
}
