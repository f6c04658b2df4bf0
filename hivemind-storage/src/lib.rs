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
//! use hivemind_core::{block_on, Generation, MemoryStore, Principal, StateStore, StateStoreExt, SystemClock, TenantContext, TenantRef, ThreadRuntime};
//! use hivemind_storage::{ClaimSpec, MemoryProvider, ProviderRegistry, StorageManager, VolumeController};
//!
//! # block_on(async {
//! let store = Arc::new(MemoryStore::new());
//! let mut providers = ProviderRegistry::new();
//! providers.add(Arc::new(MemoryProvider::new("memory".parse()?)))?;
//! let storage = StorageManager::new(providers.names());
//! let (clock, runtime) = (Arc::new(SystemClock::new()), Arc::new(ThreadRuntime::new()));
//! let controller = VolumeController::new(store.clone(), providers, clock, runtime);
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
mod batch;
#[cfg(feature = "testkit")]
pub mod conformance;
#[cfg(feature = "copy")]
mod copy;
#[cfg(feature = "encryption")]
mod encryption;
mod health;
mod ledger;
mod manager;
mod model;
mod policy;
mod ports;
mod reconcile;
mod records;
mod registry;
mod steps;
mod topology;

use hivemind_core::store::Prefix;
use hivemind_core::{Error, ErrorKind, Result};

#[cfg(feature = "csi")]
pub use adapters::{CsiNode, CsiOptions, CsiProvider, CsiServer, CsiServerOptions, PluginInfo};
pub use adapters::{
    FixedSecrets, MemoryChange, MemoryGroup, MemoryHold, MemoryJournal, MemoryNode, MemoryProvider,
    MemorySnapshot, MemoryVolume,
};
#[cfg(all(feature = "local", target_os = "linux"))]
pub use adapters::{LocalBackend, LocalNode, LocalProvider};
pub use batch::StatusBatcher;
#[cfg(feature = "copy")]
pub use copy::{ContentReader, ContentWriter, CopyProgress, copy_piece};
#[cfg(feature = "encryption")]
pub use encryption::{Erased, VOLUME_KEY, VolumeKeys};
pub use health::{HealthChange, HealthThresholds, VolumeHealth, VolumeReport};
pub use ledger::AttachSpec;
pub use manager::{
    Adoption, ClaimStatus, HoldDecision, ParameterChanges, Placement, SnapshotAdoption, StorageManager,
    StorageUsage, TenantRemains,
};
pub use model::*;
pub use policy::{PolicyDecision, PolicyRule, ScheduleActions, SnapshotSchedule, StoragePolicy};
pub use ports::*;
pub use reconcile::{OrphanSweep, Orphans, Swept, TenantRemoval, TickReport, Unmatched, VolumeController};
#[cfg(all(feature = "local", target_os = "linux"))]
pub use registry::LocalFactory;
pub use registry::{
    Budget, BudgetedProvider, CallLimit, CallLimits, Overdue, ProviderApi, ProviderConfig, ProviderFactory,
    ProviderRegistry,
};
#[cfg(feature = "csi")]
pub use registry::{CsiFactory, discover_sockets};
pub use topology::choose as choose_topology;

/// Everything this crate keeps in the store.
///
/// # Errors
/// None in practice; the prefix is constant.
pub fn prefix() -> Result<Prefix> {
    Prefix::new(["storage"]).map_err(|e| Error::of(ErrorKind::Internal, "storage", e))
}
