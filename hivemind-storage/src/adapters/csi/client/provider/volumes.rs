//! Volumes that change.

use std::collections::BTreeMap;

use hivemind_core::{Error, ErrorKind, OpToken, Progress, Result};

use super::super::super::convert;
use super::super::super::names;
use super::super::super::wire::{self, numbers::controller as rpc};
use super::super::failure::{broken, progress};
use super::{CsiProvider, about, handle};
use crate::{
    AttachVolume, AttachedAs, Attachment, Capability, CreateVolume, DetachVolume, Expanded,
    ProvisionedVolume, SecretPurpose, SecretQuery, Secrets, SizeRange, TopologyRequirement, VolumeKey,
    VolumeMode, VolumeOptions, VolumeRef, VolumeSource,
};

pub(super) fn range(size: SizeRange) -> wire::CapacityRange {
    let limit_bytes = size.limit().map_or(0, convert::to_bytes);
    wire::CapacityRange { required_bytes: convert::to_bytes(size.required()), limit_bytes }
}

fn requirement(wanted: &TopologyRequirement) -> wire::TopologyRequirement {
    wire::TopologyRequirement {
        requisite: wanted.requisite.iter().map(convert::to_topology).collect(),
        preferred: wanted.preferred.iter().map(convert::to_topology).collect(),
    }
}

/// The source, if it is of the same tenant: to another one it does not exist, and the driver cannot know that.
fn source(key: &VolumeKey, source: &VolumeSource) -> Result<wire::VolumeContentSource> {
    let (tenant, told, name) = match source {
        VolumeSource::Snapshot(of) => {
            let snapshot = Some(wire::SnapshotSource { snapshot_id: of.handle.to_string() });
            (&of.key.volume.tenant, wire::VolumeContentSource { snapshot, volume: None }, of.key.to_string())
        }
        VolumeSource::Volume(of) => {
            let volume = Some(wire::VolumeSource { volume_id: of.handle.to_string() });
            (&of.key.tenant, wire::VolumeContentSource { snapshot: None, volume }, of.key.to_string())
        }
    };
    if *tenant == key.tenant {
        return Ok(told);
    }
    Err(Error::not_found("create_volume", format!("there is no {name} of tenant {}", key.tenant)))
}

impl CsiProvider {
    pub(super) fn capabilities_of(&self, options: &VolumeOptions) -> Vec<wire::VolumeCapability> {
        let told = |mode: &crate::AccessMode| {
            convert::to_capability(*mode, &options.volume_mode, self.single_writers())
        };
        options.access_modes.iter().map(told).collect()
    }

    pub(super) async fn create(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        const OPERATION: &str = "create_volume";
        self.require_rpc(rpc::CREATE_DELETE_VOLUME, OPERATION)?;
        self.able.require_options(&self.name, &request.options)?;
        match &request.source {
            None => {}
            Some(VolumeSource::Snapshot(_)) => self.require(Capability::Snapshots)?,
            Some(VolumeSource::Volume(_)) => self.require(Capability::Clone)?,
        }
        let from = request.source.as_ref().map(|from| source(&request.key, from)).transpose()?;
        let places = self.able.has(Capability::Topology) && !request.topology.is_empty();
        let query = SecretQuery::new(SecretPurpose::Provision).of_volume(request.key.clone());
        let query = query.with_parameters(request.options.parameters.clone());
        let secrets = self.connection.secrets(query, &request.secrets).await?;
        let message = wire::CreateVolumeRequest {
            name: names::foreign_name("volume", &request.key),
            capacity_range: Some(range(request.size)),
            volume_capabilities: self.capabilities_of(&request.options),
            parameters: request.options.parameters.clone(),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
            volume_content_source: from.clone(),
            accessibility_requirements: places.then(|| requirement(&request.topology)),
            mutable_parameters: request.options.mutable_parameters.clone(),
        };
        let answer = self.connection.call_with("/csi.v1.Controller/CreateVolume", &secrets, message).await;
        let answer: wire::CreateVolumeResponse = match progress(OPERATION, &request.token, answer)? {
            Progress::Ready(answer) => answer,
            Progress::Pending(pending) => return Ok(Progress::Pending(pending)),
        };
        let made =
            answer.volume.ok_or_else(|| broken(OPERATION, "it made a volume and does not say which"))?;
        if from.is_some() && made.content_source != from {
            // It may be empty, and must not be taken for a copy.
            return Err(broken(
                OPERATION,
                "it made a volume and does not say that it has the content of the source",
            ));
        }
        let volume = VolumeRef::new(request.key.clone(), handle(OPERATION, &made.volume_id)?);
        let topology = made.accessible_topology.into_iter().map(convert::from_topology).collect();
        let volume = volume.with_context(made.volume_context);
        let made =
            ProvisionedVolume::new(volume, convert::from_bytes(made.capacity_bytes)).with_topology(topology);
        Ok(Progress::Ready(made))
    }

    pub(super) async fn delete(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        const OPERATION: &str = "delete_volume";
        self.require_rpc(rpc::CREATE_DELETE_VOLUME, OPERATION)?;
        let query = about(SecretPurpose::Provision, volume);
        let secrets = self.connection.secrets(query, &Secrets::none()).await?;
        let message = wire::DeleteVolumeRequest {
            volume_id: volume.handle.to_string(),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
        };
        let answer = self.connection.call_with("/csi.v1.Controller/DeleteVolume", &secrets, message).await;
        Ok(progress(OPERATION, token, answer)?.map(|_: wire::Empty| ()))
    }

    pub(super) async fn expand(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        size: SizeRange,
    ) -> Result<Progress<Expanded>> {
        const OPERATION: &str = "expand_volume";
        let query = about(SecretPurpose::ControllerExpand, volume);
        let secrets = self.connection.secrets(query, &Secrets::none()).await?;
        let message = wire::ControllerExpandVolumeRequest {
            volume_id: volume.handle.to_string(),
            capacity_range: Some(range(size)),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
            volume_capability: None,
        };
        let path = "/csi.v1.Controller/ControllerExpandVolume";
        let answer = self.connection.call_with(path, &secrets, message).await;
        let grown = |answer: wire::ControllerExpandVolumeResponse| {
            Expanded::new(convert::from_bytes(answer.capacity_bytes), answer.node_expansion_required)
        };
        Ok(progress(OPERATION, token, answer)?.map(grown))
    }

    pub(super) async fn modify(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Progress<()>> {
        const OPERATION: &str = "modify_volume";
        let query = about(SecretPurpose::ControllerModify, volume);
        let secrets = self.connection.secrets(query, &Secrets::none()).await?;
        let message = wire::ControllerModifyVolumeRequest {
            volume_id: volume.handle.to_string(),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
            mutable_parameters: parameters.clone(),
        };
        let path = "/csi.v1.Controller/ControllerModifyVolume";
        let answer = self.connection.call_with(path, &secrets, message).await;
        Ok(progress(OPERATION, token, answer)?.map(|_: wire::Empty| ()))
    }

    pub(super) async fn attach(&self, request: &AttachVolume) -> Result<Progress<Attachment>> {
        const OPERATION: &str = "attach_volume";
        if request.read_only && !self.has(rpc::PUBLISH_READONLY) {
            let message = format!("provider {} cannot bring a volume to a node for reading only", self.name);
            return Err(Error::new(ErrorKind::Unsupported, OPERATION, message));
        }
        let query = about(SecretPurpose::ControllerPublish, &request.volume);
        let secrets = self.connection.secrets(query, &request.secrets).await?;
        let single = self.single_writers();
        let message = wire::ControllerPublishVolumeRequest {
            volume_id: request.volume.handle.to_string(),
            node_id: request.node.handle.to_string(),
            volume_capability: Some(convert::to_capability(
                request.access_mode,
                &request.volume_mode,
                single,
            )),
            readonly: request.read_only,
            secrets: convert::to_secrets(OPERATION, &secrets)?,
            volume_context: request.volume.context.clone(),
        };
        let path = "/csi.v1.Controller/ControllerPublishVolume";
        let answer = self.connection.call_with(path, &secrets, message).await;
        let attached = |answer: wire::ControllerPublishVolumeResponse| {
            Attachment::new(request.node.node.clone(), AttachedAs::Opaque)
                .of_epoch(request.epoch)
                .with_context(answer.publish_context)
        };
        Ok(progress(OPERATION, &request.token, answer)?.map(attached))
    }

    pub(super) async fn detach(&self, request: &DetachVolume) -> Result<Progress<()>> {
        const OPERATION: &str = "detach_volume";
        let query = about(SecretPurpose::ControllerPublish, &request.volume);
        let secrets = self.connection.secrets(query, &request.secrets).await?;
        let message = wire::ControllerUnpublishVolumeRequest {
            volume_id: request.volume.handle.to_string(),
            node_id: request.node.handle.to_string(),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
        };
        let path = "/csi.v1.Controller/ControllerUnpublishVolume";
        let answer = self.connection.call_with(path, &secrets, message).await;
        Ok(progress(OPERATION, &request.token, answer)?.map(|_: wire::Empty| ()))
    }
}

/// The options that a volume of unknown kind is looked at with.
pub(super) fn any_options(able: &crate::Capabilities) -> VolumeOptions {
    let mode = if able.filesystem { VolumeMode::filesystem() } else { VolumeMode::Block };
    let options = VolumeOptions::default().with_volume_mode(mode);
    able.access_modes.first().map_or(options.clone(), |mode| options.with_access_mode(*mode))
}
