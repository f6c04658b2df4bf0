//! What the pool writes down of volumes and snapshots: one JSON file for each, with a version.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result, Timestamp, sync_directory};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::During as _;
use super::options::Kind;
use crate::{
    GroupHandle, GroupKey, SnapshotHandle, SnapshotKey, VolumeHandle, VolumeKey, VolumeMode, VolumeOptions,
    VolumeRef,
};

/// The version that is written; records of newer ones are refused.
const VERSION: u32 = 1;

/// The name of the record in the directory of what it is about.
pub(super) const RECORD: &str = "record.json";

/// A record with its version around it.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    record: T,
}

/// Just the version, whatever else there is.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VolumeRecord {
    pub(super) key: VolumeKey,
    pub(super) handle: VolumeHandle,
    pub(super) size: ByteSize,
    pub(super) options: VolumeOptions,
    /// The handle of the volume or snapshot that it was made of.
    pub(super) source: Option<String>,
    pub(super) kind: Kind,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotRecord {
    pub(super) key: SnapshotKey,
    pub(super) handle: SnapshotHandle,
    pub(super) source: VolumeHandle,
    pub(super) size: ByteSize,
    pub(super) kind: Kind,
    pub(super) created_at: Timestamp,
    /// The group that it is part of, in whose record it is.
    pub(super) group: Option<GroupHandle>,
}

/// A group of snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupRecord {
    pub(super) key: GroupKey,
    pub(super) handle: GroupHandle,
    /// The snapshots in it, which have no record of their own: all of them are there with this one, or none.
    pub(super) snapshots: Vec<SnapshotRecord>,
    pub(super) created_at: Timestamp,
}

impl VolumeRecord {
    /// Whether `of` means this volume: a handle under another key does not.
    pub(super) fn is(&self, of: &VolumeRef) -> bool {
        self.key == of.key && self.handle == of.handle
    }

    /// What it was made to be like, with the file system that it has.
    pub(super) fn told_options(&self) -> VolumeOptions {
        let mut options = self.options.clone();
        if let (VolumeMode::Filesystem { fs_type, .. }, Some(has)) =
            (&mut options.volume_mode, self.kind.fs_type())
        {
            has.clone_into(fs_type);
        }
        options
    }
}

/// The name of what is in a directory that has no record yet, or none any more, and may be removed.
const PARTIAL: &str = "partial";

/// Without a record, `directory` may be removed from now on.
///
/// It is as durable as what happens next: file systems with a journal keep the order of names.
pub(super) fn mark_partial(operation: &'static str, directory: &Path) -> Result<()> {
    let path = directory.join(PARTIAL);
    File::create(&path).map(|_| ()).during(operation, "write", &path)
}

/// It has a record now. If the mark stays, it means nothing.
pub(super) fn unmark_partial(directory: &Path) {
    let _ = fs::remove_file(directory.join(PARTIAL));
}

/// Whether `directory` may be removed if it has no record.
pub(super) fn is_partial(directory: &Path) -> bool {
    directory.join(PARTIAL).exists()
}

/// Whether `directory` has no record.
///
/// An empty record is what a crash leaves of one that was being written first; nobody was told of it.
pub(super) fn is_blank(directory: &Path) -> bool {
    match fs::symlink_metadata(directory.join(RECORD)) {
        Ok(meta) => meta.len() == 0,
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

/// Makes the empty record of what is to become something: then its first one needs no new name.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    File::create(directory.join(RECORD)).map(|_| ())
}

/// Writes the first record into `directory` for good, where there is none or an empty one, with one flush: on file
/// systems where a file that is synced has its name for good, and of which a crash leaves all of a short file, or nothing
/// in it. Such is btrfs.
pub(super) fn write_first<T: Serialize>(operation: &'static str, directory: &Path, record: &T) -> Result<()> {
    let path = directory.join(RECORD);
    let text = text(operation, record)?;
    // Truncating takes as long as making a file, also where there is nothing to truncate.
    let opened = File::options().write(true).create(true).truncate(false).open(&path);
    let written = opened.and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    written.during(operation, "write", &path)
}

/// Writes the first record into `directory`, and lets the system begin with writing it out: it is there for good when the
/// file is synced, and may be before.
pub(super) fn begin_first<T: Serialize>(
    operation: &'static str,
    directory: &Path,
    record: &T,
) -> Result<File> {
    let path = directory.join(RECORD);
    let text = text(operation, record)?;
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&text)?;
        // Who does not begin now only takes longer when it is synced.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(file)
    });
    written.during(operation, "write", &path)
}

fn text<T: Serialize>(operation: &'static str, record: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(&Versioned { version: VERSION, record })
        .map_err(|e| Error::internal(operation, e.to_string()))
}

/// Writes `record` into `directory` for good, over what is there.
pub(super) fn write<T: Serialize>(operation: &'static str, directory: &Path, record: &T) -> Result<()> {
    let text = text(operation, record)?;
    let (fresh, path) = (directory.join("record.json.new"), directory.join(RECORD));
    let written = || -> io::Result<()> {
        let mut file = File::create(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        sync_directory(directory)
    };
    written().during(operation, "write", &path)
}

/// The record in `directory`; `None` if there is no such directory.
pub(super) fn read<T: DeserializeOwned>(operation: &'static str, directory: &Path) -> Result<Option<T>> {
    let path = directory.join(RECORD);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !directory.exists() => return Ok(None),
        Err(e) => return Err(e).during(operation, "read", &path),
    };
    let damaged = |why: String| {
        let message = format!("{} {why}; nothing was changed", path.display());
        Error::new(ErrorKind::Corrupt, operation, message)
    };
    let Version { version } =
        serde_json::from_slice(&text).map_err(|e| damaged(format!("is damaged ({e})")))?;
    if version > VERSION {
        return Err(damaged(format!(
            "has version {version}, and {VERSION} is the newest that is understood"
        )));
    }
    let Versioned { record, .. } =
        serde_json::from_slice(&text).map_err(|e| damaged(format!("is damaged ({e})")))?;
    Ok(Some(record))
}
