//! The port to storage systems.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use hivemind_core::resources::ByteSize;
use hivemind_core::{NodeId, OpToken, Progress, ProviderName, Result};
use serde::{Deserialize, Serialize};

use crate::{
    Attachment, SnapshotKey, StorageMetrics, StorageProviderType, VolumeKey, VolumeOptions, VolumeSnapshot,
    VolumeStatus,
};

/// What a provider can do beyond creating and deleting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Capability {
    /// Volumes can grow.
    Expand,
    /// Snapshots can be taken, deleted and restored.
    Snapshots,
    /// Volumes can be cloned.
    Clone,
    /// Several nodes can have a volume at once.
    SharedAccess,
}

/// A place where volumes live. Implement this to add a storage system.
///
/// # Contract
///
/// - **Idempotence.** A mutating call repeated with the same arguments has the same outcome as once, also after a
///   lost reply or a restart of the provider. `token` is the same for the same intent.
/// - **Names.** A volume's name in use with another size or other options is
///   [`AlreadyExists`](hivemind_core::ErrorKind::AlreadyExists), and is left alone.
/// - **Absence.** Deleting or detaching what is not there succeeds. Anything else on a missing volume is
///   [`NotFound`](hivemind_core::ErrorKind::NotFound).
/// - **Access modes.** A volume for one node is refused to a second one with
///   [`Conflict`](hivemind_core::ErrorKind::Conflict). A volume on a node cannot be deleted: `Conflict`.
/// - **Capabilities.** What [`capabilities`](Self::capabilities) does not list fails with
///   [`Unsupported`](hivemind_core::ErrorKind::Unsupported), before any side effect.
/// - **Size.** A volume has at least the size asked for and never shrinks: asking for less is
///   [`Invalid`](hivemind_core::ErrorKind::Invalid).
/// - **Outcome.** An error after which the call may have happened has
///   [`Effect::Unknown`](hivemind_core::Effect::Unknown).
/// - **Tenants.** The tenant, with its generation, is part of every key: equal names of two tenants are two volumes.
///
/// Check an implementation with the suite in `conformance` (feature `testkit`).
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StorageProvider: fmt::Debug + Send + Sync + 'static {
    /// The name under which it is registered.
    fn name(&self) -> &ProviderName;

    /// What it speaks to.
    fn provider_type(&self) -> StorageProviderType;

    /// What it can do.
    fn capabilities(&self) -> BTreeSet<Capability>;

    /// Makes the volume, or returns the existing one if it matches.
    async fn create_volume(
        &self,
        token: &OpToken,
        key: &VolumeKey,
        size: ByteSize,
        options: &VolumeOptions,
    ) -> Result<Progress<VolumeStatus>>;

    /// Destroys the volume.
    async fn delete_volume(&self, token: &OpToken, key: &VolumeKey) -> Result<Progress<()>>;

    /// Makes the volume at least as large as `size`; returns its size then.
    async fn expand_volume(
        &self,
        token: &OpToken,
        key: &VolumeKey,
        size: ByteSize,
    ) -> Result<Progress<ByteSize>>;

    /// Makes the volume visible on `node`.
    async fn attach_volume(
        &self,
        token: &OpToken,
        key: &VolumeKey,
        node: &NodeId,
    ) -> Result<Progress<Attachment>>;

    /// Takes the volume away from `node`.
    async fn detach_volume(&self, token: &OpToken, key: &VolumeKey, node: &NodeId) -> Result<Progress<()>>;

    /// Freezes the volume's content under a name.
    async fn create_snapshot(&self, token: &OpToken, key: &SnapshotKey) -> Result<Progress<VolumeSnapshot>>;

    /// Destroys a snapshot.
    async fn delete_snapshot(&self, token: &OpToken, key: &SnapshotKey) -> Result<Progress<()>>;

    /// Gives the volume the content of its snapshot again; it must be on no node.
    async fn restore_snapshot(&self, token: &OpToken, key: &SnapshotKey) -> Result<Progress<()>>;

    /// Makes `target` with the content and options of `source`, a volume of the same tenant.
    async fn clone_volume(
        &self,
        token: &OpToken,
        source: &VolumeKey,
        target: &VolumeKey,
    ) -> Result<Progress<VolumeStatus>>;

    /// How a volume is.
    async fn volume_status(&self, key: &VolumeKey) -> Result<VolumeStatus>;

    /// How full the provider is.
    async fn provider_metrics(&self) -> Result<StorageMetrics>;

    /// At most `limit` volumes after `after`, in the order of keys; fewer only at the end.
    async fn list_volumes<'a>(&self, after: Option<&'a VolumeKey>, limit: usize)
    -> Result<Vec<VolumeStatus>>;
}
