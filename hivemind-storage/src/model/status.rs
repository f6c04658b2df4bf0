//! What a provider says of volumes, snapshots and itself. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::ByteSize;
use hivemind_core::{NodeId, Timestamp};
use serde::{Deserialize, Serialize};

use super::key::{
    GroupHandle, GroupKey, NodeHandle, NodeRef, SnapshotHandle, SnapshotKey, SnapshotRef, VolumeHandle,
    VolumeKey, VolumeRef,
};
use super::options::VolumeOptions;
use super::topology::Topology;

/// A volume that a provider has made, or found made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProvisionedVolume {
    /// What it is called, by us and by the provider.
    pub volume: VolumeRef,
    /// How large it is; zero if the provider does not tell.
    pub size: ByteSize,
    /// From where it can be reached: from each of these; empty for everywhere.
    pub topology: Vec<Topology>,
}

impl ProvisionedVolume {
    /// `volume` has `size` and can be reached from everywhere.
    pub fn new(volume: VolumeRef, size: ByteSize) -> Self {
        Self { volume, size, topology: Vec::new() }
    }

    /// Reachable from each of these.
    #[must_use]
    pub fn with_topology(mut self, topology: Vec<Topology>) -> Self {
        self.topology = topology;
        self
    }
}

/// How a volume is, in the provider's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum VolumeCondition {
    /// The provider does not tell.
    #[default]
    Unknown,
    /// As it should be.
    Normal,
    /// Not as it should be, and why.
    Abnormal(String),
}

/// What a provider says of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeStatus {
    /// What the provider calls it.
    pub handle: VolumeHandle,
    /// What we call it; `None` where the provider does not know (any CSI driver), or it is not ours.
    pub key: Option<VolumeKey>,
    /// How large it is; zero if the provider does not tell.
    pub size: ByteSize,
    /// The nodes that have it, by the provider's names.
    pub attached_to: BTreeSet<NodeHandle>,
    /// How it is.
    pub condition: VolumeCondition,
    /// What it was made to be like, with the file system that it really has; `None` where the provider does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<VolumeOptions>,
}

impl VolumeStatus {
    /// The volume that the provider calls `handle` has `size`.
    pub fn new(handle: VolumeHandle, size: ByteSize) -> Self {
        let (attached_to, condition) = (BTreeSet::new(), VolumeCondition::Unknown);
        Self { handle, key: None, size, attached_to, condition, options: None }
    }

    /// We call it `key`.
    #[must_use]
    pub fn of(mut self, key: VolumeKey) -> Self {
        self.key = Some(key);
        self
    }

    /// On these nodes.
    #[must_use]
    pub fn attached_to(mut self, nodes: impl IntoIterator<Item = NodeHandle>) -> Self {
        self.attached_to = nodes.into_iter().collect();
        self
    }

    /// In this condition.
    #[must_use]
    pub fn with_condition(mut self, condition: VolumeCondition) -> Self {
        self.condition = condition;
        self
    }

    /// Made to be like this.
    #[must_use]
    pub fn with_options(mut self, options: VolumeOptions) -> Self {
        self.options = Some(options);
        self
    }
}

/// What a provider says of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeSnapshot {
    /// What the provider calls it.
    pub handle: SnapshotHandle,
    /// What we call it; `None` where the provider does not know.
    pub key: Option<SnapshotKey>,
    /// The volume it was taken of.
    pub source: VolumeHandle,
    /// How large a volume restored from it is at least; zero if the provider does not tell.
    pub size: ByteSize,
    /// When it was cut, by the provider's clock.
    pub created_at: Timestamp,
    /// Whether volumes can be made from it yet. It is cut in any case: the source may go on writing.
    pub ready: bool,
    /// The group that it was taken with, if it was and the provider tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupHandle>,
}

impl VolumeSnapshot {
    /// A snapshot of `source`, ready to use.
    pub fn new(handle: SnapshotHandle, source: VolumeHandle, size: ByteSize, created_at: Timestamp) -> Self {
        Self { handle, key: None, source, size, created_at, ready: true, group: None }
    }

    /// We call it `key`.
    #[must_use]
    pub fn of(mut self, key: SnapshotKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Taken with a group, or alone.
    #[must_use]
    pub fn in_group(mut self, group: Option<GroupHandle>) -> Self {
        self.group = group;
        self
    }

    /// Ready, or not yet.
    #[must_use]
    pub fn with_ready(mut self, ready: bool) -> Self {
        self.ready = ready;
        self
    }

    /// A reference to it, under our name `key`.
    pub fn reference(&self, key: SnapshotKey) -> SnapshotRef {
        SnapshotRef::new(key, self.handle.clone())
    }
}

/// Snapshots of several volumes, cut at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupSnapshot {
    /// What the provider calls the group.
    pub handle: GroupHandle,
    /// What we call it.
    pub key: GroupKey,
    /// The snapshots, one of each volume.
    pub snapshots: Vec<VolumeSnapshot>,
    /// When it was cut, by the provider's clock.
    pub created_at: Timestamp,
}

impl GroupSnapshot {
    /// The group `key`, of these snapshots.
    pub fn new(
        handle: GroupHandle,
        key: GroupKey,
        snapshots: Vec<VolumeSnapshot>,
        created_at: Timestamp,
    ) -> Self {
        Self { handle, key, snapshots, created_at }
    }

    /// Whether each of its snapshots is ready.
    pub fn is_ready(&self) -> bool {
        self.snapshots.iter().all(|snapshot| snapshot.ready)
    }
}

/// How far an expansion has come at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Expanded {
    /// How large the volume is now.
    pub size: ByteSize,
    /// Whether the node must [grow the file system](crate::NodeStorage::expand_on_node), too.
    pub node_expansion_required: bool,
}

impl Expanded {
    /// The volume has `size` now.
    pub fn new(size: ByteSize, node_expansion_required: bool) -> Self {
        Self { size, node_expansion_required }
    }
}

/// How full a provider is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StorageMetrics {
    /// How many volumes it has.
    pub volumes: u64,
    /// How many snapshots it has.
    pub snapshots: u64,
    /// Their sizes together.
    pub provisioned: ByteSize,
    /// How much it can hold; `None` if it does not know.
    pub capacity: Option<ByteSize>,
}

impl StorageMetrics {
    /// So many volumes and snapshots, of so many bytes together.
    pub fn new(volumes: u64, snapshots: u64, provisioned: ByteSize, capacity: Option<ByteSize>) -> Self {
        Self { volumes, snapshots, provisioned, capacity }
    }
}

/// How much can still be provisioned, in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capacity {
    /// All volumes together.
    pub available: ByteSize,
    /// One volume at most; `None` if only `available` bounds it.
    pub largest: Option<ByteSize>,
    /// One volume at least; `None` for no bound.
    pub smallest: Option<ByteSize>,
}

impl Capacity {
    /// `available`, in volumes of any size.
    pub fn new(available: ByteSize) -> Self {
        Self { available, largest: None, smallest: None }
    }
}

/// Where a list goes on; opaque, from a [`Page`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// A cursor that its provider understands.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the list goes on; `None` at the end.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// These, and then what `next` finds.
    pub fn new(items: Vec<T>, next: Option<Cursor>) -> Self {
        Self { items, next }
    }
}

/// What a provider knows of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Which.
    pub node: NodeRef,
    /// Where it is; a volume reachable from there can be attached.
    pub topology: Topology,
    /// How many volumes of the provider it can have; `None` for no bound.
    pub max_volumes: Option<u64>,
}

impl NodeInfo {
    /// A node that the provider calls as we do, somewhere, without a bound.
    pub fn new(node: NodeId) -> Self {
        Self { node: node.into(), topology: Topology::everywhere(), max_volumes: None }
    }

    /// Which the provider calls `handle`.
    #[must_use]
    pub fn called(mut self, handle: NodeHandle) -> Self {
        self.node.handle = handle;
        self
    }

    /// In this place.
    #[must_use]
    pub fn with_topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// With room for so many volumes.
    #[must_use]
    pub fn with_max_volumes(mut self, max: u64) -> Self {
        self.max_volumes = Some(max);
        self
    }
}

/// How much of something is there, used and left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// All of it.
    pub total: u64,
    /// Of it, used.
    pub used: u64,
    /// Of it, free for whoever asks.
    pub available: u64,
}

impl Usage {
    /// Of `total`, so much is used and so much available.
    pub fn new(total: u64, used: u64, available: u64) -> Self {
        Self { total, used, available }
    }
}

/// How full a volume is, seen from a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeStats {
    /// Bytes; for a block device only the total is known.
    pub bytes: Usage,
    /// Inodes; `None` for a block device, or a file system without a bound.
    pub inodes: Option<Usage>,
    /// How it is.
    pub condition: VolumeCondition,
    /// What else the provider counts, such as reads and writes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u64>,
}

impl VolumeStats {
    /// So full.
    pub fn new(bytes: Usage, inodes: Option<Usage>) -> Self {
        Self { bytes, inodes, ..Self::default() }
    }

    /// In this condition.
    #[must_use]
    pub fn with_condition(mut self, condition: VolumeCondition) -> Self {
        self.condition = condition;
        self
    }
}
