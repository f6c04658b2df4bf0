//! Messages of the GroupController service, with the numbers of `csi.proto`.

use std::collections::BTreeMap;

use super::snapshot::Snapshot;
use super::{SecretEntry, Timestamp};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CreateVolumeGroupSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) source_volume_ids: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) secrets: Vec<SecretEntry>,
    #[prost(btree_map = "string, string", tag = "4")]
    pub(crate) parameters: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CreateVolumeGroupSnapshotResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) group_snapshot: Option<VolumeGroupSnapshot>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VolumeGroupSnapshot {
    #[prost(string, tag = "1")]
    pub(crate) group_snapshot_id: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) snapshots: Vec<Snapshot>,
    #[prost(message, optional, tag = "3")]
    pub(crate) creation_time: Option<Timestamp>,
    #[prost(bool, tag = "4")]
    pub(crate) ready_to_use: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeleteVolumeGroupSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(crate) group_snapshot_id: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) snapshot_ids: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) secrets: Vec<SecretEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetVolumeGroupSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(crate) group_snapshot_id: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) snapshot_ids: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) secrets: Vec<SecretEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetVolumeGroupSnapshotResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) group_snapshot: Option<VolumeGroupSnapshot>,
}
