//! What an adapter implements.

mod backup_storage;

pub use backup_storage::{
    BackupListing, BackupStorage, BackupStorageExt, BrokenBackup, ByteStream, SealedMetadata,
};
