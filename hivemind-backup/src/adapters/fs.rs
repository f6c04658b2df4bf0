//! Backups as files of one directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt, stream};
use hivemind_core::{BackupId, Error, ErrorKind, Result, Worker, publish_file, sync_directory};

use super::memory::{exists, missing, named};

use crate::{BackupListing, BackupMetadata, BackupStorage, BrokenBackup, ByteStream, SealedMetadata};

const SUFFIX: &str = ".backup";
const TEMPORARY: &str = ".tmp-";
/// Ends a file: length of body u64, length of metadata u32, BLAKE3 of the metadata, magic.
const FOOTER: usize = 8 + 4 + 32 + 8;
const MAGIC: &[u8] = b"HIVEMETA";
const MAX_METADATA: u64 = 64 << 20;
const PIECE: usize = 256 << 10;

/// One file a backup in a directory, which one process at a time may write to.
///
/// A file is written under a temporary name, synced, named, and its directory synced; so a crash leaves a whole
/// backup or none. What a crash leaves behind is removed when the directory is next opened. File work runs on a
/// thread of its own.
#[derive(Debug)]
pub struct FsBackups {
    directory: PathBuf,
    worker: Worker,
    temporaries: AtomicU64,
}

/// Removes a temporary file unless the backup got its name; also when its future is dropped.
struct Temporary(PathBuf, Worker);

impl Drop for Temporary {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        self.1.queue(move || drop(fs::remove_file(path)));
    }
}

fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::new(ErrorKind::Unavailable, operation, format!("{path}: {e}")).with_source(e)
}

impl FsBackups {
    /// The backups in `directory`, which must exist. Removes what an interrupted store left behind.
    ///
    /// Blocks for as long as that takes: open it at the start of a program.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is not a directory, [`ErrorKind::Unavailable`] if it cannot be read.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        if !directory.is_dir() {
            let message = format!("{} is not a directory: create it first", directory.display());
            return Err(Error::invalid("open_backups", message));
        }
        for entry in fs::read_dir(&directory).map_err(io("open_backups", &directory))? {
            let path = entry.map_err(io("open_backups", &directory))?.path();
            if path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(TEMPORARY)) {
                fs::remove_file(&path).map_err(io("open_backups", &path))?;
            }
        }
        Ok(Self { directory, worker: Worker::start("backup-files")?, temporaries: AtomicU64::new(0) })
    }

    /// An id is a DNS label, so it cannot name a file elsewhere.
    fn path(&self, id: &BackupId) -> PathBuf {
        self.directory.join(format!("{id}{SUFFIX}"))
    }
}

#[async_trait]
impl BackupStorage for FsBackups {
    async fn store_backup(
        &self,
        id: &BackupId,
        mut body: ByteStream,
        metadata: SealedMetadata,
    ) -> Result<()> {
        let path = self.path(id);
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let (there, target) = (exists(id), path.clone());
        let guard = Temporary(temporary.clone(), self.worker.clone());
        let mut file = self
            .worker
            .run({
                let temporary = temporary.clone();
                move || {
                    if target.exists() {
                        return Err(there);
                    }
                    File::create_new(&temporary).map_err(io("store_backup", &temporary))
                }
            })
            .await?;
        let mut length = 0_u64;
        while let Some(piece) = body.try_next().await? {
            length = length.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            let at = temporary.clone();
            let write = move || file.write_all(&piece).map(|()| file).map_err(io("store_backup", &at));
            file = self.worker.run(write).await?;
        }
        let tail = footer(length, &named(id, metadata.await?)?)?;
        let there = exists(id);
        let publish = move || publish(file, &tail, &temporary, &path, there);
        let outcome = self.worker.run(publish).await;
        drop(guard);
        outcome
    }

    async fn retrieve_backup(&self, id: &BackupId) -> Result<(BackupMetadata, ByteStream)> {
        let (path, missing, id) = (self.path(id), missing(id), id.clone());
        let (metadata, file, length) = self
            .worker
            .run(move || match File::open(&path) {
                Err(e) if e.kind() == IoKind::NotFound => Err(missing),
                Err(e) => Err(io("retrieve_backup", &path)(e)),
                Ok(file) => read_metadata(file, &path, &id),
            })
            .await?;
        let worker = self.worker.clone();
        let body = stream::try_unfold((worker, file, length), |(worker, file, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let (file, piece) = worker.run(move || read_piece(file, left)).await?;
            let left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            Ok(Some((piece, (worker, file, left))))
        });
        Ok((metadata, body.boxed()))
    }

    async fn list_backups(&self) -> Result<BackupListing> {
        let directory = self.directory.clone();
        self.worker.run(move || list(&directory)).await
    }

    async fn delete_backup(&self, id: &BackupId) -> Result<()> {
        let (path, directory) = (self.path(id), self.directory.clone());
        self.worker
            .run(move || match fs::remove_file(&path) {
                Err(e) if e.kind() == IoKind::NotFound => Ok(()),
                Err(e) => Err(io("delete_backup", &path)(e)),
                Ok(()) => sync_directory(&directory).map_err(io("delete_backup", &directory)),
            })
            .await
    }
}

fn footer(length: u64, metadata: &BackupMetadata) -> Result<Vec<u8>> {
    let mut tail = serde_json::to_vec(metadata)
        .map_err(|e| Error::internal("store_backup", "the metadata cannot be written").with_source(e))?;
    let digest = blake3::hash(&tail);
    let size = u32::try_from(tail.len())
        .map_err(|_| Error::invalid("store_backup", "the metadata are larger than 4 GiB"))?;
    tail.extend_from_slice(&length.to_le_bytes());
    tail.extend_from_slice(&size.to_le_bytes());
    tail.extend_from_slice(digest.as_bytes());
    tail.extend_from_slice(MAGIC);
    Ok(tail)
}

fn publish(mut file: File, tail: &[u8], from: &Path, to: &Path, there: Error) -> Result<()> {
    file.write_all(tail).and_then(|()| file.sync_all()).map_err(io("store_backup", from))?;
    match publish_file(from, to) {
        Err(e) if e.kind() == IoKind::AlreadyExists => Err(there),
        done => done.map_err(io("store_backup", to)),
    }
}

fn corrupt(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "retrieve_backup", format!("{}: {why}", path.display()))
}

/// The metadata, the file at the begin of its body, and the length of the body.
fn read_metadata(mut file: File, path: &Path, id: &BackupId) -> Result<(BackupMetadata, File, u64)> {
    let failed = || io("retrieve_backup", path);
    let size = file.metadata().map_err(failed())?.len();
    let footer_size = u64::try_from(FOOTER).unwrap_or_default();
    let Some(footer_at) = size.checked_sub(footer_size) else {
        return Err(corrupt(path, "the file is too short"));
    };
    let mut tail = vec![0; FOOTER];
    file.seek(SeekFrom::Start(footer_at)).and_then(|_| file.read_exact(&mut tail)).map_err(failed())?;
    let mut tail = Bytes::from(tail);
    let (body, metadata_len) = (tail.get_u64_le(), u64::from(tail.get_u32_le()));
    let digest = tail.split_to(32);
    if tail != MAGIC || metadata_len > MAX_METADATA || body.checked_add(metadata_len) != Some(footer_at) {
        return Err(corrupt(path, "the file does not end as a backup does"));
    }
    let mut json = vec![0; usize::try_from(metadata_len).unwrap_or_default()];
    file.seek(SeekFrom::Start(body)).and_then(|_| file.read_exact(&mut json)).map_err(failed())?;
    if blake3::hash(&json).as_bytes() != &digest[..] {
        return Err(corrupt(path, "the metadata are damaged"));
    }
    let metadata: BackupMetadata = serde_json::from_slice(&json)
        .map_err(|e| corrupt(path, "the metadata are unknown").with_source(e))?;
    if metadata.id != *id {
        return Err(corrupt(path, "the file holds another backup than its name says"));
    }
    file.seek(SeekFrom::Start(0)).map_err(failed())?;
    Ok((metadata, file, body))
}

fn read_piece(mut file: File, left: u64) -> Result<(File, Bytes)> {
    let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
    file.read_exact(&mut piece)
        .map_err(|e| Error::new(ErrorKind::Unavailable, "retrieve_backup", e.to_string()).with_source(e))?;
    Ok((file, piece.into()))
}

fn list(directory: &Path) -> Result<BackupListing> {
    let mut listing = BackupListing::default();
    for entry in fs::read_dir(directory).map_err(io("list_backups", directory))? {
        let path = entry.map_err(io("list_backups", directory))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(TEMPORARY) {
            continue;
        }
        let id = name.strip_suffix(SUFFIX).and_then(|id| id.parse::<BackupId>().ok());
        let Some(id) = id else {
            listing.broken.push(BrokenBackup::new(name, "this is not the name of a backup"));
            continue;
        };
        let read = File::open(&path).map_err(io("list_backups", &path));
        match read.and_then(|file| read_metadata(file, &path, &id)) {
            Ok((metadata, ..)) => listing.backups.push(metadata),
            Err(e) => listing.broken.push(BrokenBackup::new(name, e.message())),
        }
    }
    listing.backups.sort_by(|a, b| a.id.cmp(&b.id));
    listing.broken.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listing)
}
