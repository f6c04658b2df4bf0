//! The numbers of CSI's enumerations.

/// `PluginCapability.Service.Type`.
pub(crate) mod plugin {
    pub(crate) const CONTROLLER: i32 = 1;
    pub(crate) const ACCESSIBILITY_CONSTRAINTS: i32 = 2;
    pub(crate) const GROUP_CONTROLLER: i32 = 3;
}

/// `PluginCapability.VolumeExpansion.Type`.
pub(crate) mod expansion {
    pub(crate) const ONLINE: i32 = 1;
    pub(crate) const OFFLINE: i32 = 2;
}

/// `ControllerServiceCapability.RPC.Type`.
pub(crate) mod controller {
    pub(crate) const CREATE_DELETE_VOLUME: i32 = 1;
    pub(crate) const PUBLISH_UNPUBLISH_VOLUME: i32 = 2;
    pub(crate) const LIST_VOLUMES: i32 = 3;
    pub(crate) const GET_CAPACITY: i32 = 4;
    pub(crate) const CREATE_DELETE_SNAPSHOT: i32 = 5;
    pub(crate) const LIST_SNAPSHOTS: i32 = 6;
    pub(crate) const CLONE_VOLUME: i32 = 7;
    pub(crate) const PUBLISH_READONLY: i32 = 8;
    pub(crate) const EXPAND_VOLUME: i32 = 9;
    pub(crate) const LIST_VOLUMES_PUBLISHED_NODES: i32 = 10;
    pub(crate) const VOLUME_CONDITION: i32 = 11;
    pub(crate) const GET_VOLUME: i32 = 12;
    pub(crate) const SINGLE_NODE_MULTI_WRITER: i32 = 13;
    pub(crate) const MODIFY_VOLUME: i32 = 14;
    pub(crate) const GET_SNAPSHOT: i32 = 15;
}

/// `GroupControllerServiceCapability.RPC.Type`.
pub(crate) mod group {
    pub(crate) const CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT: i32 = 1;
}

/// `NodeServiceCapability.RPC.Type`.
pub(crate) mod node {
    pub(crate) const STAGE_UNSTAGE_VOLUME: i32 = 1;
    pub(crate) const GET_VOLUME_STATS: i32 = 2;
    pub(crate) const EXPAND_VOLUME: i32 = 3;
    pub(crate) const VOLUME_CONDITION: i32 = 4;
    pub(crate) const SINGLE_NODE_MULTI_WRITER: i32 = 5;
}

/// `VolumeCapability.AccessMode.Mode`.
pub(crate) mod mode {
    pub(crate) const SINGLE_NODE_WRITER: i32 = 1;
    pub(crate) const SINGLE_NODE_READER_ONLY: i32 = 2;
    pub(crate) const MULTI_NODE_READER_ONLY: i32 = 3;
    pub(crate) const MULTI_NODE_SINGLE_WRITER: i32 = 4;
    pub(crate) const MULTI_NODE_MULTI_WRITER: i32 = 5;
    pub(crate) const SINGLE_NODE_SINGLE_WRITER: i32 = 6;
    pub(crate) const SINGLE_NODE_MULTI_WRITER: i32 = 7;
}

/// `VolumeUsage.Unit`.
pub(crate) mod unit {
    pub(crate) const BYTES: i32 = 1;
    pub(crate) const INODES: i32 = 2;
}
