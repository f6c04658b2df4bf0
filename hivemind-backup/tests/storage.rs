//! Both storages keep the port's contract; a storage that does not is found out.

mod support;

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hivemind_backup::{conformance, *};
use hivemind_core::*;
use support::*;

#[test]
fn memory_conforms() {
    assert_eq!(block_on(conformance::run_all(|| Arc::new(MemoryBackups::new()))), []);
}

#[test]
fn a_directory_conforms() {
    let root = tempfile::tempdir().unwrap();
    let make = || Arc::new(FsBackups::open(tempfile::tempdir_in(&root).unwrap().keep()).unwrap());
    assert_eq!(block_on(conformance::run_all(make)), []);
}

/// Stores what it got of a body that failed.
#[derive(Debug, Default)]
struct Hasty(MemoryBackups);

#[async_trait]
impl BackupStorage for Hasty {
    async fn store_backup(
        &self,
        id: &BackupId,
        mut body: ByteStream,
        metadata: SealedMetadata,
    ) -> Result<()> {
        let mut pieces: Vec<Result<Bytes>> = Vec::new();
        while let Ok(Some(piece)) = body.try_next().await {
            pieces.push(Ok(piece));
        }
        self.0.store_backup(id, stream::iter(pieces).boxed(), metadata).await
    }
    async fn retrieve_backup(&self, id: &BackupId) -> Result<(BackupMetadata, ByteStream)> {
        self.0.retrieve_backup(id).await
    }
    async fn list_backups(&self) -> Result<BackupListing> {
        self.0.list_backups().await
    }
    async fn delete_backup(&self, id: &BackupId) -> Result<()> {
        self.0.delete_backup(id).await
    }
}

#[test]
fn a_hasty_storage_is_found_out() {
    let failed = block_on(conformance::run_all(|| Arc::new(Hasty::default())));
    let names: Vec<_> = failed.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["a_failed_body_leaves_nothing"]);
}

#[test]
fn a_directory_reports_strangers_and_cleans_up() {
    let root = tempfile::tempdir().unwrap();
    let world =
        World::of(Arc::new(MemoryStore::new()), Arc::new(FsBackups::open(root.path()).unwrap()), "prod");
    world.put(key("a"), vec![1; 300_000]);
    let backup = block_on(world.manager.full(&ctx(), &BackupOptions::default())).unwrap();
    fs::write(root.path().join(".tmp-1-1"), "half").unwrap();
    fs::write(root.path().join("notes.txt"), "mine").unwrap();
    fs::write(root.path().join("short.backup"), "x").unwrap();

    let again = Arc::new(FsBackups::open(root.path()).unwrap());
    assert!(!root.path().join(".tmp-1-1").exists());
    let listing = block_on(again.list_backups()).unwrap();
    assert_eq!(listing.backups, std::slice::from_ref(&backup));
    let broken: Vec<_> = listing.broken.iter().map(|broken| broken.name.as_str()).collect();
    assert_eq!(broken, ["notes.txt", "short.backup"]);
    let world = World::of(world.store, again, "prod");
    assert_eq!(world.restored(&backup.id), contents(&world.store));
    assert!(FsBackups::open(root.path().join("notes.txt")).is_err());
}
