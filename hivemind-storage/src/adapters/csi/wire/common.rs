//! Messages that several services share, with the numbers of `csi.proto`.

use std::collections::BTreeMap;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotSource {
    #[prost(string, tag = "1")]
    pub(crate) snapshot_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VolumeSource {
    #[prost(string, tag = "1")]
    pub(crate) volume_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VolumeContentSource {
    #[prost(message, optional, tag = "1")]
    pub(crate) snapshot: Option<SnapshotSource>,
    #[prost(message, optional, tag = "2")]
    pub(crate) volume: Option<VolumeSource>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MountVolume {
    #[prost(string, tag = "1")]
    pub(crate) fs_type: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) mount_flags: Vec<String>,
    #[prost(string, tag = "3")]
    pub(crate) volume_mount_group: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AccessMode {
    #[prost(int32, tag = "1")]
    pub(crate) mode: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VolumeCapability {
    #[prost(message, optional, tag = "1")]
    pub(crate) block: Option<BlockVolume>,
    #[prost(message, optional, tag = "2")]
    pub(crate) mount: Option<MountVolume>,
    #[prost(message, optional, tag = "3")]
    pub(crate) access_mode: Option<AccessMode>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CapacityRange {
    #[prost(int64, tag = "1")]
    pub(crate) required_bytes: i64,
    #[prost(int64, tag = "2")]
    pub(crate) limit_bytes: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Volume {
    #[prost(int64, tag = "1")]
    pub(crate) capacity_bytes: i64,
    #[prost(string, tag = "2")]
    pub(crate) volume_id: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) volume_context: BTreeMap<String, String>,
    #[prost(message, optional, tag = "4")]
    pub(crate) content_source: Option<VolumeContentSource>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) accessible_topology: Vec<Topology>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TopologyRequirement {
    #[prost(message, repeated, tag = "1")]
    pub(crate) requisite: Vec<Topology>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) preferred: Vec<Topology>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Topology {
    #[prost(btree_map = "string, string", tag = "1")]
    pub(crate) segments: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VolumeStatus {
    #[prost(string, repeated, tag = "1")]
    pub(crate) published_node_ids: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub(crate) volume_condition: Option<VolumeCondition>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CapabilitiesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) capabilities: Vec<ServiceCapability>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Rpc {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ServiceCapability {
    #[prost(message, optional, tag = "1")]
    pub(crate) rpc: Option<Rpc>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VolumeCondition {
    #[prost(bool, tag = "1")]
    pub(crate) abnormal: bool,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BlockVolume {}
