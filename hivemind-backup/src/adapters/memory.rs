//! Backups in memory: for tests, examples and simulation.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hivemind_core::{BackupId, Error, ErrorKind, Result};

use crate::{BackupListing, BackupMetadata, BackupStorage, ByteStream, SealedMetadata};

/// Backups in a map.
#[derive(Debug, Default)]
pub struct MemoryBackups(Mutex<BTreeMap<BackupId, (BackupMetadata, Vec<Bytes>)>>);

impl MemoryBackups {
    /// No backups.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BackupId, (BackupMetadata, Vec<Bytes>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn exists(id: &BackupId) -> Error {
    Error::new(ErrorKind::AlreadyExists, "store_backup", format!("there is a backup {id} already"))
}

pub(super) fn missing(id: &BackupId) -> Error {
    Error::not_found("retrieve_backup", format!("there is no backup {id}"))
}

/// Succeeds if `metadata` names `id`.
pub(super) fn named(id: &BackupId, metadata: BackupMetadata) -> Result<BackupMetadata> {
    if metadata.id == *id {
        return Ok(metadata);
    }
    let message = format!("the metadata of backup {id} name {}", metadata.id);
    Err(Error::invalid("store_backup", message))
}

#[async_trait]
impl BackupStorage for MemoryBackups {
    async fn store_backup(&self, id: &BackupId, body: ByteStream, metadata: SealedMetadata) -> Result<()> {
        if self.lock().contains_key(id) {
            return Err(exists(id));
        }
        let pieces = body.try_collect().await?;
        let metadata = named(id, metadata.await?)?;
        let mut all = self.lock();
        if all.contains_key(id) {
            return Err(exists(id));
        }
        all.insert(id.clone(), (metadata, pieces));
        Ok(())
    }

    async fn retrieve_backup(&self, id: &BackupId) -> Result<(BackupMetadata, ByteStream)> {
        let (metadata, pieces) = self.lock().get(id).cloned().ok_or_else(|| missing(id))?;
        Ok((metadata, stream::iter(pieces.into_iter().map(Ok)).boxed()))
    }

    async fn list_backups(&self) -> Result<BackupListing> {
        let backups = self.lock().values().map(|(metadata, _)| metadata.clone()).collect();
        Ok(BackupListing { backups, broken: Vec::new() })
    }

    async fn delete_backup(&self, id: &BackupId) -> Result<()> {
        self.lock().remove(id);
        Ok(())
    }
}
