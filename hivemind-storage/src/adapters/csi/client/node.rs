//! The node side of a CSI driver.

use std::collections::BTreeSet;
use std::path::Path;

use async_trait::async_trait;
use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, NodeId, Result};

use super::super::convert::{self, Map};
use super::super::wire::{self, numbers::node as rpc, numbers::unit};
use super::connection::{Connection, PluginInfo};
use super::failure::{broken, of_write};
use super::options::CsiOptions;
use super::provider::about;
use crate::{
    Attachment, ExpandOnNode, NodeCapability, NodeInfo, NodeStorage, PublishVolume, SecretPurpose, Secrets,
    StageVolume, VolumeRef, VolumeStats,
};

/// The node service of any CSI driver of version 1, over its unix socket, on the node that it runs on.
///
/// Calls carry the secrets of their request, and those of [`CsiOptions::with_secrets`]; no error tells them.
///
/// A call is sent once; repeating it is up to the caller. `ABORTED` is [`Unavailable`](ErrorKind::Unavailable) with an
/// [unknown](hivemind_core::Effect::Unknown) effect: the driver is at it.
///
/// Works under any executor: the I/O runs on a tokio runtime, see [`CsiOptions::with_runtime`].
#[derive(Debug, Clone)]
pub struct CsiNode {
    node: NodeId,
    info: PluginInfo,
    connection: Connection,
    able: BTreeSet<NodeCapability>,
    single_writers: bool,
}

impl CsiNode {
    /// Connects to the driver on `node`, which we call so, and asks what it can do.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if nobody answers or the driver is not ready;
    /// [`Unsupported`](ErrorKind::Unsupported) if it does not speak CSI 1, or has no node service.
    pub async fn connect(options: CsiOptions, node: NodeId) -> Result<Self> {
        let (connection, info) = Connection::new(&options).await?;
        let rpcs = connection.rpcs("/csi.v1.Node/NodeGetCapabilities").await?;
        let table = [
            (NodeCapability::Stage, rpc::STAGE_UNSTAGE_VOLUME),
            (NodeCapability::Expand, rpc::EXPAND_VOLUME),
            (NodeCapability::Stats, rpc::GET_VOLUME_STATS),
            (NodeCapability::Condition, rpc::VOLUME_CONDITION),
        ];
        let able = table
            .into_iter()
            .filter(|(_, rpc)| rpcs.contains(rpc))
            .map(|(capability, _)| capability)
            .collect();
        let single_writers = rpcs.contains(&rpc::SINGLE_NODE_MULTI_WRITER);
        Ok(Self { node, info, connection, able, single_writers })
    }

    /// What the driver says of itself.
    pub fn plugin_info(&self) -> &PluginInfo {
        &self.info
    }

    fn require(&self, capability: NodeCapability, operation: &'static str) -> Result<()> {
        if self.able.contains(&capability) {
            return Ok(());
        }
        let message = format!("the CSI driver {} has no node capability {capability:?}", self.info.name);
        Err(Error::new(ErrorKind::Unsupported, operation, message))
    }

    async fn change<I: prost::Message + 'static>(
        &self,
        operation: &'static str,
        path: &'static str,
        secrets: &Secrets,
        message: I,
    ) -> Result<()> {
        let done: std::result::Result<wire::Empty, _> =
            self.connection.call_with(path, secrets, message).await;
        done.map(|_| ()).map_err(|status| of_write(operation, status))
    }
}

/// A path as CSI carries it.
fn text(operation: &'static str, path: &Path) -> Result<String> {
    let text = path.to_str().map(ToOwned::to_owned);
    text.ok_or_else(|| {
        Error::invalid(operation, format!("the path {} is not UTF-8, which CSI asks for", path.display()))
    })
}

fn publish_context(attachment: Option<&Attachment>) -> Map {
    attachment.map(|attachment| attachment.context.clone()).unwrap_or_default()
}

#[async_trait]
impl NodeStorage for CsiNode {
    fn node_capabilities(&self) -> BTreeSet<NodeCapability> {
        self.able.clone()
    }

    async fn node_info(&self) -> Result<NodeInfo> {
        const OPERATION: &str = "node_info";
        let path = "/csi.v1.Node/NodeGetInfo";
        let told: wire::NodeGetInfoResponse = self.connection.read(OPERATION, path, wire::Empty {}).await?;
        let handle = told.node_id.parse().map_err(|e| broken(OPERATION, &format!("{e}")))?;
        let topology = told.accessible_topology.map(convert::from_topology).unwrap_or_default();
        let info = NodeInfo::new(self.node.clone()).called(handle).with_topology(topology);
        // Zero leaves it to the caller.
        Ok(match u64::try_from(told.max_volumes_per_node) {
            Ok(max) if max > 0 => info.with_max_volumes(max),
            _ => info,
        })
    }

    async fn stage_volume(&self, request: &StageVolume) -> Result<()> {
        const OPERATION: &str = "stage_volume";
        self.require(NodeCapability::Stage, OPERATION)?;
        let capability =
            convert::to_capability(request.access_mode, &request.volume_mode, self.single_writers);
        let query = about(SecretPurpose::NodeStage, &request.volume);
        let secrets = self.connection.secrets(query, &request.secrets).await?;
        let message = wire::NodeStageVolumeRequest {
            volume_id: request.volume.handle.to_string(),
            publish_context: publish_context(request.attachment.as_ref()),
            staging_target_path: text(OPERATION, &request.staging_path)?,
            volume_capability: Some(capability),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
            volume_context: request.volume.context.clone(),
        };
        self.change(OPERATION, "/csi.v1.Node/NodeStageVolume", &secrets, message).await
    }

    async fn unstage_volume(&self, volume: &VolumeRef, staging_path: &Path) -> Result<()> {
        const OPERATION: &str = "unstage_volume";
        self.require(NodeCapability::Stage, OPERATION)?;
        let staging_target_path = text(OPERATION, staging_path)?;
        let message =
            wire::NodeUnstageVolumeRequest { volume_id: volume.handle.to_string(), staging_target_path };
        let path = "/csi.v1.Node/NodeUnstageVolume";
        absent(self.change(OPERATION, path, &Secrets::none(), message).await)
    }

    async fn publish_volume(&self, request: &PublishVolume) -> Result<()> {
        const OPERATION: &str = "publish_volume";
        let staged = request.staging_path.as_deref().map(|path| text(OPERATION, path)).transpose()?;
        let mut volume_context = request.volume.context.clone();
        volume_context.extend(request.context.clone());
        let capability =
            convert::to_capability(request.access_mode, &request.volume_mode, self.single_writers);
        let query = about(SecretPurpose::NodePublish, &request.volume);
        let secrets = self.connection.secrets(query, &request.secrets).await?;
        let message = wire::NodePublishVolumeRequest {
            volume_id: request.volume.handle.to_string(),
            publish_context: publish_context(request.attachment.as_ref()),
            staging_target_path: staged.unwrap_or_default(),
            target_path: text(OPERATION, &request.target_path)?,
            volume_capability: Some(capability),
            readonly: request.read_only,
            secrets: convert::to_secrets(OPERATION, &secrets)?,
            volume_context,
        };
        self.change(OPERATION, "/csi.v1.Node/NodePublishVolume", &secrets, message).await
    }

    async fn unpublish_volume(&self, volume: &VolumeRef, target_path: &Path) -> Result<()> {
        const OPERATION: &str = "unpublish_volume";
        let target_path = text(OPERATION, target_path)?;
        let message = wire::NodeUnpublishVolumeRequest { volume_id: volume.handle.to_string(), target_path };
        let path = "/csi.v1.Node/NodeUnpublishVolume";
        absent(self.change(OPERATION, path, &Secrets::none(), message).await)
    }

    async fn expand_on_node(&self, request: &ExpandOnNode) -> Result<ByteSize> {
        const OPERATION: &str = "expand_on_node";
        self.require(NodeCapability::Expand, OPERATION)?;
        let range = |size| wire::CapacityRange { required_bytes: convert::to_bytes(size), limit_bytes: 0 };
        let query = about(SecretPurpose::NodeExpand, &request.volume);
        let secrets = self.connection.secrets(query, &request.secrets).await?;
        let message = wire::NodeExpandVolumeRequest {
            volume_id: request.volume.handle.to_string(),
            volume_path: text(OPERATION, &request.volume_path)?,
            capacity_range: request.size.map(range),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
            ..wire::NodeExpandVolumeRequest::default()
        };
        let done = self.connection.call_with("/csi.v1.Node/NodeExpandVolume", &secrets, message).await;
        let grown: wire::NodeExpandVolumeResponse = done.map_err(|status| of_write(OPERATION, status))?;
        Ok(convert::from_bytes(grown.capacity_bytes))
    }

    async fn volume_stats(&self, volume: &VolumeRef, path: &Path) -> Result<VolumeStats> {
        const OPERATION: &str = "volume_stats";
        self.require(NodeCapability::Stats, OPERATION)?;
        let message = wire::NodeGetVolumeStatsRequest {
            volume_id: volume.handle.to_string(),
            volume_path: text(OPERATION, path)?,
            staging_target_path: String::new(),
        };
        let path = "/csi.v1.Node/NodeGetVolumeStats";
        let told: wire::NodeGetVolumeStatsResponse = self.connection.read(OPERATION, path, message).await?;
        let of = |unit| told.usage.iter().find(|usage| usage.unit == unit).map(convert::from_usage);
        let stats = VolumeStats::new(of(unit::BYTES).unwrap_or_default(), of(unit::INODES));
        Ok(stats.with_condition(convert::from_condition(told.volume_condition)))
    }
}

/// What is not there is undone.
fn absent(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
