//! Where backups are kept.

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::{StreamExt, TryStreamExt, stream};
use hivemind_core::{BackupId, BoxFuture, Result};

use crate::BackupMetadata;

/// The bytes of a backup, piece by piece.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send + 'static>>;

/// The metadata of a backup that is being written: known once its last byte is.
pub type SealedMetadata = BoxFuture<'static, Result<BackupMetadata>>;

/// An entry of a storage that is not a whole backup.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokenBackup {
    /// What the storage calls it.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

impl BrokenBackup {
    /// The entry `name` is broken, for `reason`.
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), reason: reason.into() }
    }
}

/// What a storage holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupListing {
    /// The whole backups, in order of their ids.
    pub backups: Vec<BackupMetadata>,
    /// What is damaged or unknown, in order of name: reported, never hidden.
    pub broken: Vec<BrokenBackup>,
}

/// A place where backups are kept. Implement this to add one.
///
/// # Contract
///
/// - **All or nothing.** A backup becomes visible as a whole, once body and metadata are safe. A body that fails,
///   metadata that fails, a dropped future or a crash leave nothing visible.
/// - **Order.** The body is read to its end before the metadata is awaited; the metadata names `id`.
/// - **Never overwritten.** A second backup of the same id is refused with
///   [`AlreadyExists`](hivemind_core::ErrorKind::AlreadyExists), and the first stays.
/// - **Exact.** What is retrieved is what was stored, byte by byte; pieces may be cut differently.
/// - **Streaming.** Neither direction holds a whole backup in memory (but for adapters that are memory).
/// - **Missing.** Retrieving a missing backup fails with [`NotFound`](hivemind_core::ErrorKind::NotFound); deleting it
///   succeeds. A damaged one can be deleted.
///
/// Check an implementation with `conformance::run_all` (feature `testkit`).
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait BackupStorage: fmt::Debug + Send + Sync + 'static {
    /// Stores `body` and then the metadata, whole or not at all.
    async fn store_backup(&self, id: &BackupId, body: ByteStream, metadata: SealedMetadata) -> Result<()>;

    /// The metadata of `id` and its bytes.
    async fn retrieve_backup(&self, id: &BackupId) -> Result<(BackupMetadata, ByteStream)>;

    /// Every entry.
    async fn list_backups(&self) -> Result<BackupListing>;

    /// Removes `id`; a missing one is success.
    async fn delete_backup(&self, id: &BackupId) -> Result<()>;
}

/// Conveniences on every [`BackupStorage`].
pub trait BackupStorageExt {
    /// Stores `body`, which is in memory.
    fn store_bytes(&self, metadata: &BackupMetadata, body: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// All bytes of a backup at once: for small ones.
    fn retrieve_bytes(&self, id: &BackupId) -> impl Future<Output = Result<(BackupMetadata, Bytes)>> + Send;
}

impl<S: BackupStorage + ?Sized> BackupStorageExt for S {
    async fn store_bytes(&self, metadata: &BackupMetadata, body: Bytes) -> Result<()> {
        let body = stream::iter([Ok(body)]).boxed();
        let sealed = metadata.clone();
        self.store_backup(&metadata.id, body, Box::pin(async { Ok(sealed) })).await
    }

    async fn retrieve_bytes(&self, id: &BackupId) -> Result<(BackupMetadata, Bytes)> {
        let (metadata, mut body) = self.retrieve_backup(id).await?;
        let mut whole = BytesMut::new();
        while let Some(piece) = body.try_next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok((metadata, whole.freeze()))
    }
}
