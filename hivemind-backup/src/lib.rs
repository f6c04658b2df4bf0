//! Full and incremental backups of everything behind a Hivemind state store, and the way back.
//!
//! A [`BackupManager`] reads one revision of a source, so a backup is consistent by construction. It streams blocks
//! into a [`BackupStorage`], checks them end to end, and restores into an empty store, also after a crash half-way.
//!
//! ```
//! use std::sync::Arc;
//! use hivemind_backup::{BackupManager, BackupOptions, MemoryBackups, compare};
//! use hivemind_core::store::{Key, Txn};
//! use hivemind_core::*;
//!
//! # block_on(async {
//! let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
//! let mut txn = Txn::new();
//! txn.put(Key::new(["tenancy", "acme"])?, "gold");
//! store.commit(&txn).await?;
//!
//! let tenant = TenantRef::new("ops".parse()?, Generation::from_u64(1));
//! let ctx = TenantContext::new(tenant, Principal::User("ada".parse()?), "r1".parse()?);
//! let (clock, ids) = (Arc::new(SystemClock::new()), Arc::new(SystemIds::new()));
//! let backups = Arc::new(MemoryBackups::new());
//! let manager = BackupManager::new(
//!     Arc::new(store.clone()), backups, None, clock.clone(), ids, "prod".parse()?);
//! let backup = manager.full(&ctx, &BackupOptions::default()).await?;
//!
//! // The store is lost; a new, empty one takes its place.
//! let fresh: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
//! manager.restore(&ctx, &backup.id, fresh.clone(), clock.now()).await?;
//! assert!(compare(&store, backup.revision, &fresh, fresh.revision().await?).await?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! | feature | adds |
//! |---|---|
//! | `encryption` | XChaCha20-Poly1305 under a data key that a `KeyProvider` wraps |
//! | `testkit` | the conformance suite for [`BackupStorage`] |
//! | `zstd` | compression of blocks |

mod adapters;
#[cfg(feature = "testkit")]
pub mod conformance;
mod engine;
mod format;
mod manager;
mod metadata;
mod options;
mod ports;

pub use adapters::{FsBackups, MemoryBackups};
pub use format::Damage;
pub use manager::{BackupManager, Difference, RestoreReport, VerifyReport, compare};
pub use metadata::{
    BackupKind, BackupMetadata, Checksum, ComponentCount, Compression, Encryption, FORMAT_VERSION,
    InvalidChecksum,
};
pub use options::{BackupOptions, BackupScope, CompressionLevel};
#[cfg(feature = "mock")]
pub use ports::MockBackupStorage;
pub use ports::{BackupListing, BackupStorage, BackupStorageExt, BrokenBackup, ByteStream, SealedMetadata};
