//! What volumes, claims and snapshots are. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use hivemind_core::labels::Labels;
use hivemind_core::resources::ByteSize;
use hivemind_core::{ClaimId, NodeId, OpToken, ProviderName, SnapshotId, Stored, TenantRef, VolumeId};
use serde::{Deserialize, Serialize};

/// Which volume: no volume is named without its tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "a tenant and a name are the whole identity")]
pub struct VolumeKey {
    /// Whose, of which generation.
    pub tenant: TenantRef,
    /// Its name there.
    pub volume: VolumeId,
}

impl VolumeKey {
    /// The volume `volume` of `tenant`.
    pub fn new(tenant: TenantRef, volume: VolumeId) -> Self {
        Self { tenant, volume }
    }
}

impl fmt::Display for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.volume)
    }
}

/// Which snapshot of which volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "a volume and a name are the whole identity")]
pub struct SnapshotKey {
    /// Of which volume.
    pub volume: VolumeKey,
    /// Its name there.
    pub snapshot: SnapshotId,
}

impl SnapshotKey {
    /// The snapshot `snapshot` of `volume`.
    pub fn new(volume: VolumeKey, snapshot: SnapshotId) -> Self {
        Self { volume, snapshot }
    }
}

/// What kind of storage a provider speaks to. For reports; decisions ask for capabilities.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StorageProviderType {
    /// Disks of the node itself, or memory.
    Local,
    /// Network File System.
    Nfs,
    /// Ceph RBD or CephFS.
    Ceph,
    /// GlusterFS.
    GlusterFs,
    /// MinIO, or another object store of its kind.
    MinIo,
    /// Amazon Elastic Block Store.
    AwsEbs,
    /// Azure managed disks.
    AzureDisk,
    /// Google Compute Engine persistent disks.
    GcpPersistentDisk,
    /// Something else.
    Custom(ProviderName),
}

/// How fast a volume should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PerformanceClass {
    /// As is usual.
    #[default]
    Standard,
    /// Faster, and dearer.
    HighPerformance,
    /// Slow and cheap.
    ArchivalStorage,
}

/// Who may use a volume at the same time (CSI's access modes).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AccessMode {
    /// One node, reading and writing.
    #[default]
    ReadWriteOnce,
    /// Many nodes, reading.
    ReadOnlyMany,
    /// Many nodes, reading and writing.
    ReadWriteMany,
}

impl AccessMode {
    /// Whether more than one node may have the volume.
    pub fn is_shared(self) -> bool {
        self != Self::ReadWriteOnce
    }
}

/// What a volume should be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct VolumeOptions {
    /// How many copies the provider keeps.
    pub replicas: NonZeroU8,
    /// Whether it is encrypted at rest.
    pub encryption: bool,
    /// How fast it should be.
    pub performance_class: PerformanceClass,
    /// Who may use it at the same time.
    pub access_mode: AccessMode,
    /// Its labels.
    pub labels: Labels,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        Self {
            replicas: NonZeroU8::MIN,
            encryption: false,
            performance_class: PerformanceClass::Standard,
            access_mode: AccessMode::ReadWriteOnce,
            labels: Labels::new(),
        }
    }
}

impl VolumeOptions {
    /// With an access mode.
    #[must_use]
    pub fn with_access_mode(mut self, mode: AccessMode) -> Self {
        self.access_mode = mode;
        self
    }

    /// With so many copies.
    #[must_use]
    pub fn with_replicas(mut self, replicas: NonZeroU8) -> Self {
        self.replicas = replicas;
        self
    }
}

/// How a volume appears on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Attachment {
    /// A block device.
    BlockDevice {
        /// Where.
        node: NodeId,
        /// The device.
        path: PathBuf,
    },
    /// A directory.
    Directory {
        /// Where.
        node: NodeId,
        /// The directory.
        path: PathBuf,
    },
}

impl Attachment {
    /// The node.
    pub fn node(&self) -> &NodeId {
        match self {
            Self::BlockDevice { node, .. } | Self::Directory { node, .. } => node,
        }
    }

    /// The device or directory.
    pub fn path(&self) -> &Path {
        match self {
            Self::BlockDevice { path, .. } | Self::Directory { path, .. } => path,
        }
    }
}

/// What a provider says of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeStatus {
    /// Which.
    pub key: VolumeKey,
    /// How large it is.
    pub size: ByteSize,
    /// The nodes that have it.
    pub attached_to: Vec<NodeId>,
}

impl VolumeStatus {
    /// `key` has `size` and is on no node.
    pub fn new(key: VolumeKey, size: ByteSize) -> Self {
        Self { key, size, attached_to: Vec::new() }
    }

    /// On these nodes.
    #[must_use]
    pub fn attached_to(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        self.attached_to = nodes.into_iter().collect();
        self
    }
}

/// What a provider says of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeSnapshot {
    /// Which.
    pub key: SnapshotKey,
    /// How large a volume restored from it is.
    pub size: ByteSize,
}

impl VolumeSnapshot {
    /// `key` has `size`.
    pub fn new(key: SnapshotKey, size: ByteSize) -> Self {
        Self { key, size }
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

/// What becomes of a volume when its claim is released.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ReclaimPolicy {
    /// It is deleted.
    #[default]
    Delete,
    /// It is kept, unclaimed.
    Retain,
}

/// A tenant's wish for a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClaimSpec {
    /// Its name, which becomes the volume's.
    pub id: ClaimId,
    /// How large, at least.
    pub size: ByteSize,
    /// By which provider; `None` for the default one.
    pub provider: Option<ProviderName>,
    /// What the volume should be like.
    pub options: VolumeOptions,
    /// What becomes of the volume in the end.
    pub reclaim: ReclaimPolicy,
}

impl ClaimSpec {
    /// A volume of `size` from the default provider, deleted with its claim.
    pub fn new(id: ClaimId, size: ByteSize) -> Self {
        Self { id, size, provider: None, options: VolumeOptions::default(), reclaim: ReclaimPolicy::Delete }
    }

    /// By this provider.
    #[must_use]
    pub fn from_provider(mut self, provider: ProviderName) -> Self {
        self.provider = Some(provider);
        self
    }

    /// With options.
    #[must_use]
    pub fn with_options(mut self, options: VolumeOptions) -> Self {
        self.options = options;
        self
    }

    /// With a reclaim policy.
    #[must_use]
    pub fn with_reclaim(mut self, reclaim: ReclaimPolicy) -> Self {
        self.reclaim = reclaim;
        self
    }
}

/// A claim, bound to its volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Claim {
    /// What was asked for.
    pub spec: ClaimSpec,
    /// The volume it is bound to.
    pub volume: VolumeId,
}

impl Stored for Claim {
    const KIND: &'static str = "claim";
}

impl Claim {
    pub(crate) fn new(spec: ClaimSpec, volume: VolumeId) -> Self {
        Self { spec, volume }
    }
}

/// How far a volume has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum VolumePhase {
    /// It is to be created, or is being created.
    Creating,
    /// It is there.
    Ready,
    /// It is to be deleted, or is being deleted.
    Deleting,
    /// The provider refuses to create it, for this reason.
    Failed(String),
}

/// A volume: what is intended, and what is known to be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Volume {
    /// Which.
    pub key: VolumeKey,
    /// By which provider.
    pub provider: ProviderName,
    /// How large.
    pub size: ByteSize,
    /// What it should be like.
    pub options: VolumeOptions,
    /// What becomes of it when its claim is released.
    pub reclaim: ReclaimPolicy,
    /// The claim it is bound to; `None` for a retained one.
    pub claim: Option<ClaimId>,
    /// How far it has come.
    pub phase: VolumePhase,
    /// The token of its creation: the same after every crash.
    pub token: OpToken,
    /// The nodes that are to have it: one at most, unless its access mode is shared.
    pub desired: BTreeSet<NodeId>,
    /// Where it is known to be, of the nodes that are to have it.
    pub attached: BTreeMap<NodeId, Attachment>,
    /// Nodes that were to have it, until it is known that they do not.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub maybe_attached: BTreeSet<NodeId>,
}

impl Stored for Volume {
    const KIND: &'static str = "volume";
}

impl Volume {
    /// From now on `node` is to have it, too.
    pub(crate) fn desire(&mut self, node: NodeId) {
        self.desired.insert(node);
    }

    /// From now on `node` is not to have it. Whether it has it is unknown until it has been taken away: it may have
    /// got it without anybody writing that down, and a wish to have it back may come before it is gone.
    pub(crate) fn undesire(&mut self, node: &NodeId) {
        if self.desired.remove(node) {
            self.attached.remove(node);
            self.maybe_attached.insert(node.clone());
        }
    }
}
