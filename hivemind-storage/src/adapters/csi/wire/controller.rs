//! Messages of the volumes of the Controller service, with the numbers of `csi.proto`.

use std::collections::BTreeMap;

use super::SecretEntry;
use super::common::{
    CapacityRange, Topology, TopologyRequirement, Volume, VolumeCapability, VolumeContentSource, VolumeStatus,
};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CreateVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) capacity_range: Option<CapacityRange>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) volume_capabilities: Vec<VolumeCapability>,
    #[prost(btree_map = "string, string", tag = "4")]
    pub(crate) parameters: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) secrets: Vec<SecretEntry>,
    #[prost(message, optional, tag = "6")]
    pub(crate) volume_content_source: Option<VolumeContentSource>,
    #[prost(message, optional, tag = "7")]
    pub(crate) accessibility_requirements: Option<TopologyRequirement>,
    #[prost(btree_map = "string, string", tag = "8")]
    pub(crate) mutable_parameters: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CreateVolumeResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) volume: Option<Volume>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeleteVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) secrets: Vec<SecretEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControllerPublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(string, tag = "2")]
    pub(crate) node_id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) volume_capability: Option<VolumeCapability>,
    #[prost(bool, tag = "4")]
    pub(crate) readonly: bool,
    #[prost(message, repeated, tag = "5")]
    pub(crate) secrets: Vec<SecretEntry>,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(crate) volume_context: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControllerPublishVolumeResponse {
    #[prost(btree_map = "string, string", tag = "1")]
    pub(crate) publish_context: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControllerUnpublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(string, tag = "2")]
    pub(crate) node_id: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) secrets: Vec<SecretEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ValidateVolumeCapabilitiesRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) volume_context: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) volume_capabilities: Vec<VolumeCapability>,
    #[prost(btree_map = "string, string", tag = "4")]
    pub(crate) parameters: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) secrets: Vec<SecretEntry>,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(crate) mutable_parameters: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Confirmed {
    #[prost(btree_map = "string, string", tag = "1")]
    pub(crate) volume_context: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) volume_capabilities: Vec<VolumeCapability>,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) parameters: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "4")]
    pub(crate) mutable_parameters: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ValidateVolumeCapabilitiesResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) confirmed: Option<Confirmed>,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListVolumesRequest {
    #[prost(int32, tag = "1")]
    pub(crate) max_entries: i32,
    #[prost(string, tag = "2")]
    pub(crate) starting_token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VolumeEntry {
    #[prost(message, optional, tag = "1")]
    pub(crate) volume: Option<Volume>,
    #[prost(message, optional, tag = "2")]
    pub(crate) status: Option<VolumeStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListVolumesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) entries: Vec<VolumeEntry>,
    #[prost(string, tag = "2")]
    pub(crate) next_token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControllerGetVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControllerGetVolumeResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) volume: Option<Volume>,
    #[prost(message, optional, tag = "2")]
    pub(crate) status: Option<VolumeStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControllerModifyVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) secrets: Vec<SecretEntry>,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) mutable_parameters: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetCapacityRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) volume_capabilities: Vec<VolumeCapability>,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) parameters: BTreeMap<String, String>,
    #[prost(message, optional, tag = "3")]
    pub(crate) accessible_topology: Option<Topology>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetCapacityResponse {
    #[prost(int64, tag = "1")]
    pub(crate) available_capacity: i64,
    #[prost(message, optional, tag = "2")]
    pub(crate) maximum_volume_size: Option<i64>,
    #[prost(message, optional, tag = "3")]
    pub(crate) minimum_volume_size: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControllerExpandVolumeRequest {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) capacity_range: Option<CapacityRange>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) secrets: Vec<SecretEntry>,
    #[prost(message, optional, tag = "4")]
    pub(crate) volume_capability: Option<VolumeCapability>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ControllerExpandVolumeResponse {
    #[prost(int64, tag = "1")]
    pub(crate) capacity_bytes: i64,
    #[prost(bool, tag = "2")]
    pub(crate) node_expansion_required: bool,
}
