//! What an adapter implements.

mod backup_storage;

#[cfg(feature = "mock")]
pub use backup_storage::MockBackupStorage;
pub use backup_storage::{
    BackupListing, BackupStorage, BackupStorageExt, BrokenBackup, ByteStream, SealedMetadata,
};
