//! Volumes that are never lost, doubled or mixed up.
//!
//! A claim stages a volume's *intent* into the host's transaction; the [`VolumeController`] makes it so through a
//! [`StorageProvider`], with the same idempotency token after every crash. The tenant, of one generation, is part of
//! every volume's key, so a foreign volume does not exist.
//!
//! ```
//! use std::sync::Arc;
//! use hivemind_core::resources::ByteSize;
//! use hivemind_core::store::{Prefix, Txn};
//! use hivemind_core::{block_on, Generation, MemoryStore, Principal, StateStore, StateStoreExt, TenantContext, TenantRef};
//! use hivemind_storage::{ClaimSpec, MemoryProvider, ProviderRegistry, StorageManager, VolumeController};
//!
//! # block_on(async {
//! let store = Arc::new(MemoryStore::new());
//! let mut providers = ProviderRegistry::new();
//! providers.add(Arc::new(MemoryProvider::new("memory".parse()?)))?;
//! let storage = StorageManager::new(providers.names());
//! let controller = VolumeController::new(store.clone(), providers);
//!
//! let acme = TenantRef::new("acme".parse()?, Generation::from_u64(1));
//! let ctx = TenantContext::new(acme, Principal::User("ada".parse()?), "req-1".parse()?);
//! let view = store.snapshot(&[Prefix::ROOT]).await?;
//! let mut txn = Txn::new();
//! let spec = ClaimSpec::new("db-data".parse()?, ByteSize::from_gib(10));
//! storage.stage_claim(&view, &mut txn, &ctx, &spec)?;
//! storage.stage_attach(&view, &mut txn, &ctx, &spec.id, &"node-1".parse()?)?;
//! store.commit(&txn).await?; // From here on, whatever crashes, the volume will be there.
//!
//! while controller.tick().await?.changed() {}
//! let view = store.snapshot(&[Prefix::ROOT]).await?;
//! let volume = storage.volume(&view, &Txn::new(), &ctx, &spec.id)?;
//! assert!(volume.attached.contains_key("node-1"));
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

mod adapters;
#[cfg(feature = "testkit")]
pub mod conformance;
mod manager;
mod model;
mod provider;
mod reconcile;
mod registry;

use hivemind_core::store::Prefix;
use hivemind_core::{Collection, Error, ErrorKind, Result, Stored};

pub use adapters::{MemoryChange, MemoryJournal, MemoryProvider};
pub use manager::{Fenced, StorageManager};
pub use model::{
    AccessMode, Attachment, Claim, ClaimSpec, PerformanceClass, ReclaimPolicy, SnapshotKey, StorageMetrics,
    StorageProviderType, Volume, VolumeKey, VolumeOptions, VolumePhase, VolumeSnapshot, VolumeStatus,
};
#[cfg(feature = "mock")]
pub use provider::MockStorageProvider;
pub use provider::{Capability, StorageProvider};
pub use reconcile::{Orphans, TickReport, VolumeController};
pub use registry::ProviderRegistry;

/// The collection of `T` at `storage/<name>`.
fn collection<T: Stored>(name: &str) -> Result<Collection<T>> {
    let prefix = Prefix::new(["storage", name]).map_err(|e| Error::of(ErrorKind::Internal, "storage", e))?;
    Ok(Collection::new(prefix))
}

/// Everything this crate keeps in the store.
///
/// # Errors
/// None in practice; the prefix is constant.
pub fn prefix() -> Result<Prefix> {
    Prefix::new(["storage"]).map_err(|e| Error::of(ErrorKind::Internal, "storage", e))
}
