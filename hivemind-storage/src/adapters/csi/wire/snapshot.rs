//! Messages of the snapshots of the Controller service, with the numbers of `csi.proto`.

use std::collections::BTreeMap;

use super::{SecretEntry, Timestamp};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CreateSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(crate) source_volume_id: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) secrets: Vec<SecretEntry>,
    #[prost(btree_map = "string, string", tag = "4")]
    pub(crate) parameters: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CreateSnapshotResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) snapshot: Option<Snapshot>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Snapshot {
    #[prost(int64, tag = "1")]
    pub(crate) size_bytes: i64,
    #[prost(string, tag = "2")]
    pub(crate) snapshot_id: String,
    #[prost(string, tag = "3")]
    pub(crate) source_volume_id: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) creation_time: Option<Timestamp>,
    #[prost(bool, tag = "5")]
    pub(crate) ready_to_use: bool,
    #[prost(string, tag = "6")]
    pub(crate) group_snapshot_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeleteSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(crate) snapshot_id: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) secrets: Vec<SecretEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListSnapshotsRequest {
    #[prost(int32, tag = "1")]
    pub(crate) max_entries: i32,
    #[prost(string, tag = "2")]
    pub(crate) starting_token: String,
    #[prost(string, tag = "3")]
    pub(crate) source_volume_id: String,
    #[prost(string, tag = "4")]
    pub(crate) snapshot_id: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) secrets: Vec<SecretEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotEntry {
    #[prost(message, optional, tag = "1")]
    pub(crate) snapshot: Option<Snapshot>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListSnapshotsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) entries: Vec<SnapshotEntry>,
    #[prost(string, tag = "2")]
    pub(crate) next_token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetSnapshotRequest {
    #[prost(string, tag = "1")]
    pub(crate) snapshot_id: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) secrets: Vec<SecretEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetSnapshotResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) snapshot: Option<Snapshot>,
}
