//! The port to storage systems: what a control plane asks of them.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use hivemind_core::{Error, ErrorKind, OpToken, Progress, ProviderName, Result};

use super::capability::Capabilities;
use super::requests::{
    AttachVolume, CapacityQuery, CreateGroupSnapshot, CreateSnapshot, CreateVolume, DetachVolume,
    VolumeSource,
};
use crate::{
    Attachment, Capacity, Cursor, Expanded, FenceEpoch, GroupHandle, GroupKey, GroupSnapshot, NodeRef, Page,
    ProvisionedVolume, SizeRange, SnapshotRef, StorageMetrics, StorageProviderType, VolumeRef,
    VolumeSnapshot, VolumeStatus,
};

/// A place where volumes live. Implement this to add a storage system.
///
/// # Contract
///
/// - **Idempotence.** A mutating call repeated with the same arguments has the same outcome as once, also after a
///   lost reply or a restart of the provider. `token` is the same for the same intent. A volume's key is its name:
///   two creations of one key never make two volumes, whatever their tokens.
/// - **Tokens.** If nothing can come of a creation under its token any more, because one failed under it after it had
///   begun, and nothing of it is left, that is [`Expired`](ErrorKind::Expired): the caller comes again with another one.
/// - **Names.** A volume's key in use with a size out of the range asked for, other options or another source is
///   [`AlreadyExists`](ErrorKind::AlreadyExists), and is left alone; one that cannot be reached from where it is asked for
///   may be.
/// - **Absence.** Deleting or detaching what is not there succeeds, whatever its handle looks like. Anything else on
///   what is missing is [`NotFound`](ErrorKind::NotFound).
/// - **Access modes.** A volume on a node is refused to a second one with [`Conflict`](ErrorKind::Conflict), unless
///   the access mode is for many nodes, and the volume was made for that: `Conflict`, or
///   [`Invalid`](ErrorKind::Invalid) for what it was not made for. A second writer of a volume for a single one is
///   refused, too. The same node, otherwise, is `AlreadyExists`. A volume on a node cannot be deleted or restored in
///   place: `Conflict`.
/// - **Capabilities.** What [`capabilities`](Self::capabilities) does not list fails with
///   [`Unsupported`](ErrorKind::Unsupported), before any side effect. What it lists works.
/// - **Size.** A volume has at least the size asked for, no more than the limit, and never shrinks: asking for less
///   changes nothing and succeeds with the size it has, unless a limit is below that, which is
///   [`Invalid`](ErrorKind::Invalid). A size that no volume can have is `Invalid`, with the detail
///   [`Beyond::Size`](crate::Beyond::Size).
/// - **Outcome.** An error after which the call may have happened has [`Effect::Unknown`](hivemind_core::Effect::Unknown).
///   No other error of a call that creates leaves anything behind.
/// - **Tenants.** The tenant, with its generation, is part of every key: equal names of two tenants are two volumes.
///   Where the provider knows the key of a handle, a handle under another key is `NotFound`.
/// - **Secrets** are in no error, log or record.
///
/// Check an implementation with the suite in `conformance` (feature `testkit`); `docs/writing-a-storage-provider.md`
/// goes from an empty file to one that passes. Operations that belong to a capability answer `Unsupported` unless they
/// are written.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StorageProvider: fmt::Debug + Send + Sync + 'static {
    /// The name under which it is registered.
    fn name(&self) -> &ProviderName;

    /// What it speaks to.
    fn provider_type(&self) -> StorageProviderType;

    /// What it can do. Does not change while the provider lives.
    fn capabilities(&self) -> Capabilities;

    /// Whether it can be used right now; an error says what is missing.
    async fn probe(&self) -> Result<()>;

    /// Makes the volume, or returns the existing one if it matches.
    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>>;

    /// Destroys the volume.
    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>>;

    /// How a volume is.
    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus>;

    /// How full the provider is.
    async fn get_provider_metrics(&self) -> Result<StorageMetrics>;

    /// Makes the volume at least as large as `size` ([`Expand`](crate::Capability::Expand)).
    async fn expand_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        size: SizeRange,
    ) -> Result<Progress<Expanded>> {
        let _ = (token, volume, size);
        Err(unsupported(self.name(), "expand_volume"))
    }

    /// Changes parameters of the volume, all or none ([`Modify`](crate::Capability::Modify)).
    async fn modify_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Progress<()>> {
        let _ = (token, volume, parameters);
        Err(unsupported(self.name(), "modify_volume"))
    }

    /// Makes the volume visible on a node ([`Attach`](crate::Capability::Attach)).
    async fn attach_volume(&self, request: &AttachVolume) -> Result<Progress<Attachment>> {
        let _ = request;
        Err(unsupported(self.name(), "attach_volume"))
    }

    /// Takes the volume away from a node ([`Attach`](crate::Capability::Attach)).
    async fn detach_volume(&self, request: &DetachVolume) -> Result<Progress<()>> {
        let _ = request;
        Err(unsupported(self.name(), "detach_volume"))
    }

    /// Keeps the node from `volumes`, which it has: attachments of it that are older than `epoch` end, and new ones
    /// are refused with [`Conflict`](ErrorKind::Conflict) until it is [let in](Self::unfence_node) again
    /// ([`Fence`](crate::Capability::Fence)).
    async fn fence_node(
        &self,
        token: &OpToken,
        node: &NodeRef,
        epoch: FenceEpoch,
        volumes: &[VolumeRef],
    ) -> Result<Progress<()>> {
        let _ = (token, node, epoch, volumes);
        Err(unsupported(self.name(), "fence_node"))
    }

    /// Lets a fenced node in again, without what it had ([`Fence`](crate::Capability::Fence)).
    async fn unfence_node(&self, token: &OpToken, node: &NodeRef) -> Result<Progress<()>> {
        let _ = (token, node);
        Err(unsupported(self.name(), "unfence_node"))
    }

    /// Freezes the volume's content under a name ([`Snapshots`](crate::Capability::Snapshots)). A key that names
    /// another volume is [`Invalid`](ErrorKind::Invalid).
    ///
    /// Once it is [`Ready`](Progress::Ready) it is cut; whether volumes can be made of it is in
    /// [`VolumeSnapshot::ready`]. Repeat the call to learn when.
    async fn create_snapshot(&self, request: &CreateSnapshot) -> Result<Progress<VolumeSnapshot>> {
        let _ = request;
        Err(unsupported(self.name(), "create_snapshot"))
    }

    /// Destroys a snapshot; volumes made of it stay ([`Snapshots`](crate::Capability::Snapshots)). One of a group goes
    /// only with that: [`Invalid`](ErrorKind::Invalid).
    async fn delete_snapshot(&self, token: &OpToken, snapshot: &SnapshotRef) -> Result<Progress<()>> {
        let _ = (token, snapshot);
        Err(unsupported(self.name(), "delete_snapshot"))
    }

    /// Gives the volume the content of its snapshot again; it must be on no node
    /// ([`RestoreInPlace`](crate::Capability::RestoreInPlace)).
    async fn restore_snapshot(
        &self,
        token: &OpToken,
        snapshot: &SnapshotRef,
        volume: &VolumeRef,
    ) -> Result<Progress<()>> {
        let _ = (token, snapshot, volume);
        Err(unsupported(self.name(), "restore_snapshot"))
    }

    /// Makes `request` with the content of `source`, a volume of the same tenant ([`Clone`](crate::Capability::Clone)).
    ///
    /// The same as [`create_volume`](Self::create_volume) with that source, and made of it.
    async fn clone_volume(
        &self,
        source: &VolumeRef,
        request: &CreateVolume,
    ) -> Result<Progress<ProvisionedVolume>> {
        self.create_volume(&request.clone().from_source(VolumeSource::Volume(source.clone()))).await
    }

    /// Takes snapshots of several volumes at one moment: all or none
    /// ([`GroupSnapshots`](crate::Capability::GroupSnapshots)).
    async fn create_group_snapshot(&self, request: &CreateGroupSnapshot) -> Result<Progress<GroupSnapshot>> {
        let _ = request;
        Err(unsupported(self.name(), "create_group_snapshot"))
    }

    /// Destroys a group with the snapshots in it ([`GroupSnapshots`](crate::Capability::GroupSnapshots)); if
    /// `snapshots` are not just those, it is [`Invalid`](ErrorKind::Invalid), and nothing is destroyed.
    async fn delete_group_snapshot(
        &self,
        token: &OpToken,
        key: &GroupKey,
        handle: &GroupHandle,
        snapshots: &[SnapshotRef],
    ) -> Result<Progress<()>> {
        let _ = (token, key, handle, snapshots);
        Err(unsupported(self.name(), "delete_group_snapshot"))
    }

    /// How several volumes are, each with its own answer: a missing one spoils nothing.
    ///
    /// Asks one by one, unless the provider can do better.
    async fn get_volume_statuses(&self, volumes: &[VolumeRef]) -> Result<Vec<Result<VolumeStatus>>> {
        let mut answers = Vec::with_capacity(volumes.len());
        for volume in volumes {
            answers.push(self.get_volume_status(volume).await);
        }
        Ok(answers)
    }

    /// How a snapshot is ([`Snapshots`](crate::Capability::Snapshots)).
    async fn get_snapshot_status(&self, snapshot: &SnapshotRef) -> Result<VolumeSnapshot> {
        let _ = snapshot;
        Err(unsupported(self.name(), "get_snapshot_status"))
    }

    /// At most `limit` volumes from `after` on; `limit` is at least one ([`ListVolumes`](crate::Capability::ListVolumes)).
    ///
    /// What was there before the first page was asked for, and still is after the last one, is on exactly one page. A
    /// cursor that the provider did not make is [`Invalid`](ErrorKind::Invalid).
    async fn list_volumes<'a>(&self, after: Option<&'a Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        let _ = (after, limit);
        Err(unsupported(self.name(), "list_volumes"))
    }

    /// At most `limit` snapshots from `after` on, as for volumes ([`ListSnapshots`](crate::Capability::ListSnapshots)).
    async fn list_snapshots<'a>(
        &self,
        after: Option<&'a Cursor>,
        limit: usize,
    ) -> Result<Page<VolumeSnapshot>> {
        let _ = (after, limit);
        Err(unsupported(self.name(), "list_snapshots"))
    }

    /// How much can still be provisioned ([`Capacity`](crate::Capability::Capacity)).
    async fn get_capacity(&self, query: &CapacityQuery) -> Result<Capacity> {
        let _ = query;
        Err(unsupported(self.name(), "get_capacity"))
    }
}

fn unsupported(provider: &ProviderName, operation: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, operation, format!("provider {provider} has no such operation"))
}
