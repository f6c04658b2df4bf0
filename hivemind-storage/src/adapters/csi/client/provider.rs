//! The controller side of a CSI driver as a storage provider.

mod look;
mod snapshots;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use hivemind_core::{Error, ErrorKind, OpToken, Progress, ProviderName, Result};

use super::super::wire::numbers::{controller as rpc, group};
use super::connection::{Connection, Plugin, PluginInfo};
use super::failure::broken;
use super::options::CsiOptions;
use crate::{
    AccessMode, AttachVolume, Attachment, Capabilities, Capability, Capacity, CapacityQuery,
    CreateGroupSnapshot, CreateSnapshot, CreateVolume, Cursor, DetachVolume, Expanded, GroupHandle, GroupKey,
    GroupSnapshot, Page, ProvisionedVolume, SecretPurpose, SecretQuery, SizeRange, SnapshotRef,
    StorageMetrics, StorageProvider, StorageProviderType, VolumeRef, VolumeSnapshot, VolumeStatus,
};

/// The controller of any CSI driver of version 1, over its unix socket.
///
/// Volumes and snapshots are called by a hash of their keys there (`hivemind-` and 21 characters), so that equal names of
/// two tenants are two volumes. The driver does not know our keys: what it lists has none, and the key of a reference
/// is not checked. Encryption, replicas and the performance class have no word in CSI: give the driver its own
/// parameters.
///
/// Calls carry the secrets of their request, and those of [`CsiOptions::with_secrets`]; they are wiped when the call has
/// ended, except for what gRPC copied while it sent them. No error tells them.
///
/// A call is sent once; repeating it is up to the caller. `ABORTED` is [`Progress::Pending`]: the driver is at it.
/// After every other code that does not end an operation, the effect is
/// [unknown](hivemind_core::Effect::Unknown). A call whose future is dropped goes on.
///
/// Works under any executor: the I/O runs on a tokio runtime, see [`CsiOptions::with_runtime`].
#[derive(Debug, Clone)]
pub struct CsiProvider {
    name: ProviderName,
    info: PluginInfo,
    connection: Connection,
    able: Capabilities,
    rpcs: BTreeSet<i32>,
}

impl CsiProvider {
    /// Connects to the driver, and asks what it can do.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if nobody answers or the driver is not ready;
    /// [`Unsupported`](ErrorKind::Unsupported) if it does not speak CSI 1, or has no controller.
    pub async fn connect(options: CsiOptions) -> Result<Self> {
        let (connection, info) = Connection::new(&options).await?;
        let plugin = connection.plugin().await?;
        if !plugin.controller {
            let message = format!("the CSI driver {} has no controller: it is for nodes only", info.name);
            return Err(Error::new(ErrorKind::Unsupported, "connect", message));
        }
        let rpcs = connection.rpcs("/csi.v1.Controller/ControllerGetCapabilities").await?;
        let groups = if plugin.groups {
            connection.rpcs("/csi.v1.GroupController/GroupControllerGetCapabilities").await?
        } else {
            BTreeSet::new()
        };
        let able = capabilities(&options, plugin, &rpcs, &groups);
        Ok(Self { name: options.name, info, connection, able, rpcs })
    }

    /// What the driver says of itself.
    pub fn plugin_info(&self) -> &PluginInfo {
        &self.info
    }

    fn has(&self, rpc: i32) -> bool {
        self.rpcs.contains(&rpc)
    }

    fn require(&self, capability: Capability) -> Result<()> {
        self.able.require(&self.name, capability)
    }

    /// Refuses a method that the driver does not have and no capability of ours stands for.
    fn require_rpc(&self, rpc: i32, operation: &'static str) -> Result<()> {
        if self.has(rpc) {
            return Ok(());
        }
        let message =
            format!("provider {} cannot do it: the CSI driver {} does not", self.name, self.info.name);
        Err(Error::new(ErrorKind::Unsupported, operation, message))
    }

    /// Whether the driver tells one workload on a node from several.
    fn single_writers(&self) -> bool {
        self.has(rpc::SINGLE_NODE_MULTI_WRITER)
    }
}

fn capabilities(
    options: &CsiOptions,
    plugin: Plugin,
    rpcs: &BTreeSet<i32>,
    groups: &BTreeSet<i32>,
) -> Capabilities {
    let table = [
        (Capability::Attach, rpc::PUBLISH_UNPUBLISH_VOLUME),
        (Capability::Expand, rpc::EXPAND_VOLUME),
        (Capability::Snapshots, rpc::CREATE_DELETE_SNAPSHOT),
        (Capability::Clone, rpc::CLONE_VOLUME),
        (Capability::Modify, rpc::MODIFY_VOLUME),
        (Capability::ListVolumes, rpc::LIST_VOLUMES),
        (Capability::ListSnapshots, rpc::LIST_SNAPSHOTS),
        (Capability::AttachedNodes, rpc::LIST_VOLUMES_PUBLISHED_NODES),
        (Capability::Condition, rpc::VOLUME_CONDITION),
        (Capability::Capacity, rpc::GET_CAPACITY),
    ];
    let mut features: BTreeSet<Capability> =
        table.into_iter().filter(|(_, rpc)| rpcs.contains(rpc)).map(|(capability, _)| capability).collect();
    if plugin.online && features.contains(&Capability::Expand) {
        features.insert(Capability::ExpandOnline);
    }
    if plugin.topology {
        features.insert(Capability::Topology);
    }
    if groups.contains(&group::CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT) {
        features.insert(Capability::GroupSnapshots);
    }
    features.extend(options.assumed.iter().copied());
    let single = rpcs.contains(&rpc::SINGLE_NODE_MULTI_WRITER);
    let modes = options.access_modes.iter().copied();
    let modes = modes.filter(|mode| single || *mode != AccessMode::ReadWriteOncePod);
    Capabilities::new(features).with_access_modes(modes).with_volume_modes(options.filesystem, options.block)
}

/// The secrets that are wanted for a call about a volume that is there.
pub(super) fn about(purpose: SecretPurpose, volume: &VolumeRef) -> SecretQuery {
    SecretQuery::new(purpose).of_volume(volume.key.clone()).with_context(volume.context.clone())
}

/// A handle that the driver gave.
fn handle<T: std::str::FromStr<Err = crate::InvalidHandle>>(operation: &'static str, id: &str) -> Result<T> {
    id.parse().map_err(|e: crate::InvalidHandle| broken(operation, &e.to_string()).with_source(e))
}

#[async_trait]
impl StorageProvider for CsiProvider {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn provider_type(&self) -> StorageProviderType {
        StorageProviderType::Custom(self.name.clone())
    }

    fn capabilities(&self) -> Capabilities {
        self.able.clone()
    }

    async fn probe(&self) -> Result<()> {
        self.connection.probe().await
    }

    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        self.create(request).await
    }

    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        self.delete(token, volume).await
    }

    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        self.status(volume).await
    }

    async fn get_volume_statuses(&self, volumes: &[VolumeRef]) -> Result<Vec<Result<VolumeStatus>>> {
        self.statuses(volumes).await
    }

    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        self.metrics().await
    }

    async fn expand_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        size: SizeRange,
    ) -> Result<Progress<Expanded>> {
        self.require(Capability::Expand)?;
        self.expand(token, volume, size).await
    }

    async fn modify_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Progress<()>> {
        self.require(Capability::Modify)?;
        self.modify(token, volume, parameters).await
    }

    async fn attach_volume(&self, request: &AttachVolume) -> Result<Progress<Attachment>> {
        self.require(Capability::Attach)?;
        self.attach(request).await
    }

    async fn detach_volume(&self, request: &DetachVolume) -> Result<Progress<()>> {
        self.require(Capability::Attach)?;
        self.detach(request).await
    }

    async fn create_snapshot(&self, request: &CreateSnapshot) -> Result<Progress<VolumeSnapshot>> {
        self.require(Capability::Snapshots)?;
        self.snapshot(request).await
    }

    async fn delete_snapshot(&self, token: &OpToken, snapshot: &SnapshotRef) -> Result<Progress<()>> {
        self.require(Capability::Snapshots)?;
        self.drop_snapshot(token, snapshot).await
    }

    async fn create_group_snapshot(&self, request: &CreateGroupSnapshot) -> Result<Progress<GroupSnapshot>> {
        self.require(Capability::GroupSnapshots)?;
        self.group(request).await
    }

    async fn delete_group_snapshot(
        &self,
        token: &OpToken,
        key: &GroupKey,
        handle: &GroupHandle,
        snapshots: &[SnapshotRef],
    ) -> Result<Progress<()>> {
        self.require(Capability::GroupSnapshots)?;
        self.drop_group(token, key, handle, snapshots).await
    }

    async fn get_snapshot_status(&self, snapshot: &SnapshotRef) -> Result<VolumeSnapshot> {
        self.require(Capability::Snapshots)?;
        self.snapshot_status(snapshot).await
    }

    async fn list_volumes<'a>(&self, after: Option<&'a Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        self.require(Capability::ListVolumes)?;
        self.volumes(after, limit).await
    }

    async fn list_snapshots<'a>(
        &self,
        after: Option<&'a Cursor>,
        limit: usize,
    ) -> Result<Page<VolumeSnapshot>> {
        self.require(Capability::ListSnapshots)?;
        self.snapshots(after, limit, None).await
    }

    async fn get_capacity(&self, query: &CapacityQuery) -> Result<Capacity> {
        self.require(Capability::Capacity)?;
        self.able.require_options(&self.name, &query.options)?;
        self.capacity(query).await
    }
}
