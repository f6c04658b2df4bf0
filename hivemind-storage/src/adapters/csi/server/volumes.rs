//! Volumes of the Controller service: made, destroyed, grown, changed, looked at.

use hivemind_core::resources::ByteSize;
use tonic::Status;

use super::super::convert::{self, Map};
use super::super::{names, wire};
use super::refusal::{Call, answer, finished};
use super::{CsiServer, fields, fit};
use crate::{
    Capability, CapacityQuery, CreateVolume, ProvisionedVolume, TopologyRequirement, VolumeHandle, VolumeKey,
    VolumeOptions, VolumeSource, VolumeStatus,
};

/// What a volume or snapshot is called outside, if that is short enough.
pub(super) fn told(id: String) -> Result<String, Status> {
    if id.len() <= 128 {
        return Ok(id);
    }
    let message =
        format!("the provider's handle makes the id {id}, longer than the 128 bytes that CSI allows");
    Err(Status::internal(message))
}

fn requirement(wanted: Option<wire::TopologyRequirement>) -> TopologyRequirement {
    let wanted = wanted.unwrap_or_default();
    let places = |all: Vec<wire::Topology>| all.into_iter().map(convert::from_topology).collect();
    TopologyRequirement::new(places(wanted.requisite), places(wanted.preferred))
}

impl CsiServer {
    /// Where the content of a new volume comes from: a source that is not of our making does not exist.
    fn source(&self, source: Option<&wire::VolumeContentSource>) -> Result<Option<VolumeSource>, Status> {
        let Some(source) = source else { return Ok(None) };
        match (&source.snapshot, &source.volume) {
            (Some(snapshot), None) => {
                self.provider_with(Capability::Snapshots)?;
                Ok(Some(VolumeSource::Snapshot(self.snapshot(&snapshot.snapshot_id)?)))
            }
            (None, Some(volume)) => {
                self.provider_with(Capability::Clone)?;
                Ok(Some(VolumeSource::Volume(self.volume(&volume.volume_id, Map::new())?)))
            }
            _ => Err(Status::invalid_argument("volume_content_source is neither a snapshot nor a volume")),
        }
    }

    pub(super) async fn create_volume(
        &self,
        request: wire::CreateVolumeRequest,
    ) -> Result<wire::CreateVolumeResponse, Status> {
        let provider = self.provider()?;
        fields::id("name", &request.name)?;
        let (modes, volume_mode) = fields::capabilities(&request.volume_capabilities)?;
        fields::maps([("parameters", &request.parameters)])?;
        fields::secrets(&request.secrets)?;
        fields::mutable(self.options.mutable.as_ref(), &request.mutable_parameters)?;
        // A copy is as large as its source, unless more is asked for.
        let copied = request.volume_content_source.is_some();
        let least = if copied { ByteSize::from_bytes(1) } else { self.options.default_size };
        let size = fields::size(request.capacity_range.as_ref(), least)?;
        let source = self.source(request.volume_content_source.as_ref())?;
        let key = names::volume_key(&self.options.tenant, &request.name);
        let key = key.ok_or_else(|| Status::internal("the name has no name of ours"))?;
        let _busy = self.busy.begin("volume", key.volume.as_str())?;
        let mut options = VolumeOptions::default().with_access_modes(modes).with_volume_mode(volume_mode);
        options.parameters = request.parameters;
        options.mutable_parameters = request.mutable_parameters;
        let token = names::token(&["create", &request.name]);
        let mut create = CreateVolume::new(token, key, size, options)
            .with_topology(requirement(request.accessibility_requirements))
            .with_secrets(convert::from_secrets(request.secrets));
        create.source = source;
        let made = finished(Call::Create, provider.create_volume(&create).await)?;
        let mut volume = provisioned(made)?;
        volume.content_source = request.volume_content_source;
        Ok(wire::CreateVolumeResponse { volume: Some(volume) })
    }

    pub(super) async fn delete_volume(
        &self,
        request: wire::DeleteVolumeRequest,
    ) -> Result<wire::Empty, Status> {
        let provider = self.provider()?;
        fields::id("volume_id", &request.volume_id)?;
        let Ok(volume) = self.volume(&request.volume_id, Map::new()) else { return Ok(wire::Empty {}) };
        let _busy = self.busy.begin("volume", volume.key.volume.as_str())?;
        let token = names::token(&["delete", &request.volume_id]);
        finished(Call::Other, provider.delete_volume(&token, &volume).await)?;
        Ok(wire::Empty {})
    }

    pub(super) async fn validate_volume(
        &self,
        request: wire::ValidateVolumeCapabilitiesRequest,
    ) -> Result<wire::ValidateVolumeCapabilitiesResponse, Status> {
        let provider = self.provider()?;
        fields::id("volume_id", &request.volume_id)?;
        let (modes, volume_mode) = fields::capabilities(&request.volume_capabilities)?;
        let volume = self.volume(&request.volume_id, request.volume_context.clone())?;
        let status = answer(Call::Other, provider.get_volume_status(&volume).await)?;
        let refused = match &status.options {
            Some(made) => fit::misfit(made, &modes, &volume_mode)
                .or_else(|| fit::difference("parameter", &made.parameters, &request.parameters))
                .or_else(|| {
                    let (has, wanted) = (&made.mutable_parameters, &request.mutable_parameters);
                    fit::difference("mutable parameter", has, wanted)
                }),
            // What the volume is like is not told: at least the provider must have such volumes.
            None => {
                let options = VolumeOptions::default().with_access_modes(modes).with_volume_mode(volume_mode);
                let able = provider.capabilities().require_options(provider.name(), &options);
                able.err().map(|error| error.message().to_owned())
            }
        };
        let mut response = wire::ValidateVolumeCapabilitiesResponse::default();
        match refused {
            Some(why) => response.message = why,
            None => {
                response.confirmed = Some(wire::Confirmed {
                    volume_context: request.volume_context,
                    volume_capabilities: request.volume_capabilities,
                    parameters: request.parameters,
                    mutable_parameters: request.mutable_parameters,
                });
            }
        }
        Ok(response)
    }

    pub(super) async fn get_volume(
        &self,
        request: wire::ControllerGetVolumeRequest,
    ) -> Result<wire::ControllerGetVolumeResponse, Status> {
        let provider = self.provider()?;
        fields::id("volume_id", &request.volume_id)?;
        let volume = self.volume(&request.volume_id, Map::new())?;
        let status = answer(Call::Other, provider.get_volume_status(&volume).await)?;
        let (volume, status) = seen(&volume.key, status)?;
        Ok(wire::ControllerGetVolumeResponse { volume: Some(volume), status: Some(status) })
    }

    pub(super) async fn modify_volume(
        &self,
        request: wire::ControllerModifyVolumeRequest,
    ) -> Result<wire::Empty, Status> {
        let provider = self.provider_with(Capability::Modify)?;
        fields::id("volume_id", &request.volume_id)?;
        let volume = self.volume(&request.volume_id, Map::new())?;
        fields::mutable(self.options.mutable.as_ref(), &request.mutable_parameters)?;
        let _busy = self.busy.begin("volume", volume.key.volume.as_str())?;
        let changes =
            request.mutable_parameters.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        let intent: Vec<&str> = ["modify", &request.volume_id].into_iter().chain(changes).collect();
        let done = provider.modify_volume(&names::token(&intent), &volume, &request.mutable_parameters).await;
        finished(Call::Create, done)?;
        Ok(wire::Empty {})
    }

    pub(super) async fn expand_volume(
        &self,
        request: wire::ControllerExpandVolumeRequest,
    ) -> Result<wire::ControllerExpandVolumeResponse, Status> {
        let provider = self.provider_with(Capability::Expand)?;
        fields::id("volume_id", &request.volume_id)?;
        if request.capacity_range.is_none() {
            return Err(Status::invalid_argument("capacity_range is missing"));
        }
        let size = fields::size(request.capacity_range.as_ref(), ByteSize::from_bytes(1))?;
        let used = request.volume_capability.as_ref();
        let used = used.map(|used| fields::capability(Some(used))).transpose()?;
        let volume = self.volume(&request.volume_id, Map::new())?;
        if let Some((access, mode)) = used {
            let status = answer(Call::Other, provider.get_volume_status(&volume).await)?;
            let made = status.options.as_ref();
            if let Some(why) = made.and_then(|made| fit::misfit(made, &[access].into(), &mode)) {
                return Err(Status::invalid_argument(why));
            }
        }
        let _busy = self.busy.begin("volume", volume.key.volume.as_str())?;
        let token = names::token(&["expand", &request.volume_id, &size.required().as_bytes().to_string()]);
        let grown = finished(Call::Expand, provider.expand_volume(&token, &volume, size).await)?;
        Ok(wire::ControllerExpandVolumeResponse {
            capacity_bytes: convert::to_bytes(grown.size),
            node_expansion_required: grown.node_expansion_required,
        })
    }

    pub(super) async fn get_capacity(
        &self,
        request: wire::GetCapacityRequest,
    ) -> Result<wire::GetCapacityResponse, Status> {
        let provider = self.provider_with(Capability::Capacity)?;
        fields::maps([("parameters", &request.parameters)])?;
        let mut options = VolumeOptions::default();
        if !request.volume_capabilities.is_empty() {
            let (modes, volume_mode) = fields::capabilities(&request.volume_capabilities)?;
            options = options.with_access_modes(modes).with_volume_mode(volume_mode);
        } else if let Some(mode) = provider.capabilities().access_modes.first() {
            options = options.with_access_mode(*mode);
        }
        options.parameters = request.parameters;
        let place = request.accessible_topology.map(convert::from_topology).unwrap_or_default();
        let query = CapacityQuery::new(options, place);
        let capacity = answer(Call::Create, provider.get_capacity(&query).await)?;
        Ok(wire::GetCapacityResponse {
            available_capacity: convert::to_bytes(capacity.available),
            maximum_volume_size: capacity.largest.map(convert::to_bytes),
            minimum_volume_size: capacity.smallest.map(convert::to_bytes),
        })
    }
}

fn volume(key: &VolumeKey, handle: &VolumeHandle, size: ByteSize) -> Result<wire::Volume, Status> {
    let (volume_id, capacity_bytes) = (told(names::volume_id(key, handle))?, convert::to_bytes(size));
    Ok(wire::Volume { volume_id, capacity_bytes, ..wire::Volume::default() })
}

fn provisioned(made: ProvisionedVolume) -> Result<wire::Volume, Status> {
    Ok(wire::Volume {
        volume_context: made.volume.context,
        accessible_topology: made.topology.iter().map(convert::to_topology).collect(),
        ..volume(&made.volume.key, &made.volume.handle, made.size)?
    })
}

/// How a volume is, under the key that we have for it.
pub(super) fn seen(
    key: &VolumeKey,
    status: VolumeStatus,
) -> Result<(wire::Volume, wire::VolumeStatus), Status> {
    let told = wire::VolumeStatus {
        published_node_ids: status.attached_to.iter().map(ToString::to_string).collect(),
        volume_condition: convert::to_condition(&status.condition),
    };
    Ok((volume(key, &status.handle, status.size)?, told))
}
