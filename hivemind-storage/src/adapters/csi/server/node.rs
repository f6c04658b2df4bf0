//! The Node service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hivemind_core::resources::ByteSize;
use tonic::Status;

use super::super::convert::{self, Map};
use super::super::wire::{self, numbers::unit};
use super::publish::attachment;
use super::refusal::{Call, answer};
use super::{CsiServer, fields};
use crate::{ExpandOnNode, NodeCapability, NodeStorage, PublishVolume, StageVolume};

impl CsiServer {
    /// The node side, if this is a driver with one.
    pub(super) fn node_side(&self) -> Result<&Arc<dyn NodeStorage>, Status> {
        self.node.as_ref().ok_or_else(|| Status::unimplemented("this driver has no node service"))
    }

    fn node_with(&self, capability: NodeCapability) -> Result<&Arc<dyn NodeStorage>, Status> {
        let node = self.node_side()?;
        if node.node_capabilities().contains(&capability) {
            return Ok(node);
        }
        Err(Status::unimplemented(format!("this driver has no node capability {capability:?}")))
    }

    pub(super) async fn stage(&self, request: wire::NodeStageVolumeRequest) -> Result<wire::Empty, Status> {
        let node = self.node_with(NodeCapability::Stage)?;
        fields::id("volume_id", &request.volume_id)?;
        fields::path("staging_target_path", &request.staging_target_path)?;
        let (access_mode, volume_mode) = fields::capability(request.volume_capability.as_ref())?;
        fields::maps([
            ("publish_context", &request.publish_context),
            ("volume_context", &request.volume_context),
        ])?;
        let volume = self.volume(&request.volume_id, request.volume_context)?;
        let _busy = self.busy.begin("volume on the node", volume.key.volume.as_str())?;
        let stage =
            StageVolume::new(volume, attachment(&request.publish_context)?, request.staging_target_path)
                .with_access_mode(access_mode)
                .with_volume_mode(volume_mode)
                .with_secrets(convert::from_secrets(request.secrets));
        answer(Call::Use, node.stage_volume(&stage).await)?;
        Ok(wire::Empty {})
    }

    pub(super) async fn unstage(
        &self,
        request: wire::NodeUnstageVolumeRequest,
    ) -> Result<wire::Empty, Status> {
        let node = self.node_with(NodeCapability::Stage)?;
        fields::id("volume_id", &request.volume_id)?;
        fields::path("staging_target_path", &request.staging_target_path)?;
        let volume = self.volume(&request.volume_id, Map::new())?;
        let _busy = self.busy.begin("volume on the node", volume.key.volume.as_str())?;
        let path = Path::new(&request.staging_target_path);
        answer(Call::Other, node.unstage_volume(&volume, path).await)?;
        Ok(wire::Empty {})
    }

    pub(super) async fn publish(
        &self,
        request: wire::NodePublishVolumeRequest,
    ) -> Result<wire::Empty, Status> {
        let node = self.node_side()?;
        fields::id("volume_id", &request.volume_id)?;
        fields::path("target_path", &request.target_path)?;
        let (access_mode, volume_mode) = fields::capability(request.volume_capability.as_ref())?;
        fields::maps([
            ("publish_context", &request.publish_context),
            ("volume_context", &request.volume_context),
        ])?;
        let stages = node.node_capabilities().contains(&NodeCapability::Stage);
        if stages && request.staging_target_path.is_empty() {
            return Err(Status::failed_precondition(
                "staging_target_path is missing: stage the volume first",
            ));
        }
        let volume = self.volume(&request.volume_id, request.volume_context.clone())?;
        let _busy = self.busy.begin("volume on the node", volume.key.volume.as_str())?;
        let mut publish =
            PublishVolume::new(volume, attachment(&request.publish_context)?, request.target_path)
                .with_access_mode(access_mode)
                .with_volume_mode(volume_mode)
                .with_read_only(request.readonly)
                .with_secrets(convert::from_secrets(request.secrets));
        publish.staging_path = stages.then(|| PathBuf::from(request.staging_target_path));
        publish.context = request.volume_context;
        answer(Call::Use, node.publish_volume(&publish).await)?;
        Ok(wire::Empty {})
    }

    pub(super) async fn unpublish(
        &self,
        request: wire::NodeUnpublishVolumeRequest,
    ) -> Result<wire::Empty, Status> {
        let node = self.node_side()?;
        fields::id("volume_id", &request.volume_id)?;
        fields::path("target_path", &request.target_path)?;
        let volume = self.volume(&request.volume_id, Map::new())?;
        let _busy = self.busy.begin("volume on the node", volume.key.volume.as_str())?;
        answer(Call::Other, node.unpublish_volume(&volume, Path::new(&request.target_path)).await)?;
        Ok(wire::Empty {})
    }

    pub(super) async fn stats(
        &self,
        request: wire::NodeGetVolumeStatsRequest,
    ) -> Result<wire::NodeGetVolumeStatsResponse, Status> {
        let node = self.node_with(NodeCapability::Stats)?;
        fields::id("volume_id", &request.volume_id)?;
        fields::volume_path(&request.volume_path)?;
        let volume = self.volume(&request.volume_id, Map::new())?;
        let stats = answer(Call::Other, node.volume_stats(&volume, Path::new(&request.volume_path)).await)?;
        let inodes = stats.inodes.map(|inodes| convert::to_usage(inodes, unit::INODES));
        Ok(wire::NodeGetVolumeStatsResponse {
            usage: [convert::to_usage(stats.bytes, unit::BYTES)].into_iter().chain(inodes).collect(),
            volume_condition: convert::to_condition(&stats.condition),
        })
    }

    pub(super) async fn expand(
        &self,
        request: wire::NodeExpandVolumeRequest,
    ) -> Result<wire::NodeExpandVolumeResponse, Status> {
        let node = self.node_with(NodeCapability::Expand)?;
        fields::id("volume_id", &request.volume_id)?;
        fields::volume_path(&request.volume_path)?;
        let volume = self.volume(&request.volume_id, Map::new())?;
        let mut expand = ExpandOnNode::new(volume, request.volume_path)
            .with_secrets(convert::from_secrets(request.secrets));
        if request.capacity_range.is_some() {
            let size = fields::size(request.capacity_range.as_ref(), ByteSize::from_bytes(1))?;
            expand = expand.to_size(size.required());
        }
        if request.volume_capability.is_some() {
            expand = expand.with_volume_mode(fields::capability(request.volume_capability.as_ref())?.1);
        }
        let _busy = self.busy.begin("volume on the node", expand.volume.key.volume.as_str())?;
        let size = answer(Call::Expand, node.expand_on_node(&expand).await)?;
        Ok(wire::NodeExpandVolumeResponse { capacity_bytes: convert::to_bytes(size) })
    }
}
