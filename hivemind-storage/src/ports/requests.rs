//! What the calls of the storage ports carry. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hivemind_core::OpToken;
use hivemind_core::resources::ByteSize;

use crate::{
    AccessMode, Attachment, FenceEpoch, Fenced, GroupKey, NodeRef, Secrets, SizeRange, SnapshotKey,
    SnapshotRef, Topology, TopologyRequirement, VolumeKey, VolumeMode, VolumeOptions, VolumeRef,
};

/// Where the content of a new volume comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VolumeSource {
    /// A snapshot of the same provider.
    Snapshot(SnapshotRef),
    /// Another volume of the same provider.
    Volume(VolumeRef),
}

/// A volume to make.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreateVolume {
    /// Names the intent: the same after every crash.
    pub token: OpToken,
    /// What we call it.
    pub key: VolumeKey,
    /// How large.
    pub size: SizeRange,
    /// What it should be like.
    pub options: VolumeOptions,
    /// Where its content comes from; `None` for an empty volume.
    pub source: Option<VolumeSource>,
    /// From where it must be reachable.
    pub topology: TopologyRequirement,
    /// What the provider needs to be allowed to, and the key of an encrypted volume.
    pub secrets: Secrets,
}

impl CreateVolume {
    /// An empty volume, reachable from anywhere.
    pub fn new(token: OpToken, key: VolumeKey, size: SizeRange, options: VolumeOptions) -> Self {
        let (source, topology, secrets) = (None, TopologyRequirement::default(), Secrets::none());
        Self { token, key, size, options, source, topology, secrets }
    }

    /// With the content of `source`.
    #[must_use]
    pub fn from_source(mut self, source: VolumeSource) -> Self {
        self.source = Some(source);
        self
    }

    /// Reachable from there.
    #[must_use]
    pub fn with_topology(mut self, topology: TopologyRequirement) -> Self {
        self.topology = topology;
        self
    }

    /// With secrets.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }
}

/// A volume to bring to a node.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AttachVolume {
    /// Names the intent: the same after every crash.
    pub token: OpToken,
    /// Which volume.
    pub volume: VolumeRef,
    /// To which node.
    pub node: NodeRef,
    /// For whom at the same time.
    pub access_mode: AccessMode,
    /// As a block device, or with a file system.
    pub volume_mode: VolumeMode,
    /// Whether the node may only read.
    pub read_only: bool,
    /// By which decision: a fencing provider refuses an older epoch than it has seen for the volume.
    pub epoch: FenceEpoch,
    /// What the provider needs to be allowed to.
    pub secrets: Secrets,
}

impl AttachVolume {
    /// Brings `volume` to `node`, for reading and writing there only.
    pub fn new(token: OpToken, volume: VolumeRef, node: NodeRef) -> Self {
        Self {
            token,
            volume,
            node,
            access_mode: AccessMode::ReadWriteOnce,
            volume_mode: VolumeMode::default(),
            read_only: false,
            epoch: FenceEpoch::default(),
            secrets: Secrets::none(),
        }
    }

    /// For these at the same time.
    #[must_use]
    pub fn with_access_mode(mut self, mode: AccessMode) -> Self {
        self.access_mode = mode;
        self
    }

    /// As a block device, or with a file system.
    #[must_use]
    pub fn with_volume_mode(mut self, mode: VolumeMode) -> Self {
        self.volume_mode = mode;
        self
    }

    /// For reading only, or not.
    #[must_use]
    pub fn with_read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// By a decision of this epoch.
    #[must_use]
    pub fn of_epoch(mut self, epoch: FenceEpoch) -> Self {
        self.epoch = epoch;
        self
    }

    /// With secrets.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }
}

/// A volume to take from a node.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DetachVolume {
    /// Names the intent: the same after every crash.
    pub token: OpToken,
    /// Which volume.
    pub volume: VolumeRef,
    /// From which node.
    pub node: NodeRef,
    /// Why it may be taken by force from a node that does not answer; `None`: the node has let go of it.
    pub proof: Option<Fenced>,
    /// What the provider needs to be allowed to.
    pub secrets: Secrets,
}

impl DetachVolume {
    /// Takes `volume` from `node`, which has let go of it.
    pub fn new(token: OpToken, volume: VolumeRef, node: NodeRef) -> Self {
        Self { token, volume, node, proof: None, secrets: Secrets::none() }
    }

    /// By force, with proof that the node cannot write any more.
    #[must_use]
    pub fn by_force(mut self, proof: Fenced) -> Self {
        self.proof = Some(proof);
        self
    }

    /// With secrets.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }
}

/// Of what kind of volume the capacity is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapacityQuery {
    /// Volumes like this.
    pub options: VolumeOptions,
    /// Reachable from here; everywhere for no demand.
    pub topology: Topology,
}

impl CapacityQuery {
    /// Volumes like this, reachable from there.
    pub fn new(options: VolumeOptions, topology: Topology) -> Self {
        Self { options, topology }
    }
}

/// A volume to make usable on a node, once for all workloads there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StageVolume {
    /// Which volume.
    pub volume: VolumeRef,
    /// What attaching it said; `None` for a provider without [`Attach`](crate::Capability::Attach).
    pub attachment: Option<Attachment>,
    /// Where: a directory that exists, for this volume alone.
    pub staging_path: PathBuf,
    /// For whom at the same time.
    pub access_mode: AccessMode,
    /// As a block device, or with a file system.
    pub volume_mode: VolumeMode,
    /// The key of an encrypted volume, and what else the node needs.
    pub secrets: Secrets,
}

impl StageVolume {
    /// Makes `volume` usable below `staging_path`.
    pub fn new(volume: VolumeRef, attachment: Option<Attachment>, staging_path: impl Into<PathBuf>) -> Self {
        Self {
            volume,
            attachment,
            staging_path: staging_path.into(),
            access_mode: AccessMode::ReadWriteOnce,
            volume_mode: VolumeMode::default(),
            secrets: Secrets::none(),
        }
    }

    /// For these at the same time.
    #[must_use]
    pub fn with_access_mode(mut self, mode: AccessMode) -> Self {
        self.access_mode = mode;
        self
    }

    /// As a block device, or with a file system.
    #[must_use]
    pub fn with_volume_mode(mut self, mode: VolumeMode) -> Self {
        self.volume_mode = mode;
        self
    }

    /// With secrets.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }
}

/// A volume to show to one workload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PublishVolume {
    /// Which volume.
    pub volume: VolumeRef,
    /// What attaching it said; `None` for a provider without [`Attach`](crate::Capability::Attach).
    pub attachment: Option<Attachment>,
    /// Where it is staged; `None` for a node side without [`Stage`](crate::NodeCapability::Stage).
    pub staging_path: Option<PathBuf>,
    /// Where the workload is to see it: its parent exists, itself it does not.
    pub target_path: PathBuf,
    /// For whom at the same time.
    pub access_mode: AccessMode,
    /// As a block device, or with a file system.
    pub volume_mode: VolumeMode,
    /// Whether the workload may only read.
    pub read_only: bool,
    /// The key of an encrypted volume, and what else the node needs.
    pub secrets: Secrets,
    /// What the host says of the workload, such as its name; for reports only.
    pub context: BTreeMap<String, String>,
}

impl PublishVolume {
    /// Shows `volume` at `target_path`, for reading and writing.
    pub fn new(volume: VolumeRef, attachment: Option<Attachment>, target_path: impl Into<PathBuf>) -> Self {
        Self {
            volume,
            attachment,
            staging_path: None,
            target_path: target_path.into(),
            access_mode: AccessMode::ReadWriteOnce,
            volume_mode: VolumeMode::default(),
            read_only: false,
            secrets: Secrets::none(),
            context: BTreeMap::new(),
        }
    }

    /// Staged there.
    #[must_use]
    pub fn staged_at(mut self, staging_path: impl Into<PathBuf>) -> Self {
        self.staging_path = Some(staging_path.into());
        self
    }

    /// For these at the same time.
    #[must_use]
    pub fn with_access_mode(mut self, mode: AccessMode) -> Self {
        self.access_mode = mode;
        self
    }

    /// As a block device, or with a file system.
    #[must_use]
    pub fn with_volume_mode(mut self, mode: VolumeMode) -> Self {
        self.volume_mode = mode;
        self
    }

    /// For reading only, or not.
    #[must_use]
    pub fn with_read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// With secrets.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }
}

/// A file system to grow on a node, after the volume has grown.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExpandOnNode {
    /// Which volume.
    pub volume: VolumeRef,
    /// Where it is published, or staged.
    pub volume_path: PathBuf,
    /// How large it is to be; what the volume now has, if nothing is said.
    pub size: Option<ByteSize>,
    /// As a block device, or with a file system.
    pub volume_mode: VolumeMode,
    /// What the node needs to be allowed to.
    pub secrets: Secrets,
}

impl ExpandOnNode {
    /// Grows what is at `volume_path` to what the volume has.
    pub fn new(volume: VolumeRef, volume_path: impl Into<PathBuf>) -> Self {
        let (volume_path, volume_mode) = (volume_path.into(), VolumeMode::default());
        Self { volume, volume_path, size: None, volume_mode, secrets: Secrets::none() }
    }

    /// With secrets.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// To this size.
    #[must_use]
    pub fn to_size(mut self, size: ByteSize) -> Self {
        self.size = Some(size);
        self
    }

    /// As a block device, or with a file system.
    #[must_use]
    pub fn with_volume_mode(mut self, mode: VolumeMode) -> Self {
        self.volume_mode = mode;
        self
    }
}

/// Snapshots of several volumes to take at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreateGroupSnapshot {
    /// Names the intent: the same after every crash.
    pub token: OpToken,
    /// What we call the group.
    pub key: GroupKey,
    /// Of which volumes; each of them once.
    pub volumes: Vec<VolumeRef>,
    /// What only the provider understands.
    pub parameters: BTreeMap<String, String>,
    /// What the provider needs to be allowed to.
    pub secrets: Secrets,
}

impl CreateGroupSnapshot {
    /// Snapshots of `volumes`.
    pub fn new(token: OpToken, key: GroupKey, volumes: Vec<VolumeRef>) -> Self {
        Self { token, key, volumes, parameters: BTreeMap::new(), secrets: Secrets::none() }
    }
}

/// A snapshot to take.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreateSnapshot {
    /// Names the intent: the same after every crash.
    pub token: OpToken,
    /// What we call it.
    pub key: SnapshotKey,
    /// Of which volume: the one that its key names.
    pub volume: VolumeRef,
    /// What only the provider understands.
    pub parameters: BTreeMap<String, String>,
    /// What the provider needs to be allowed to.
    pub secrets: Secrets,
}

impl CreateSnapshot {
    /// A snapshot of `volume`.
    pub fn new(token: OpToken, key: SnapshotKey, volume: VolumeRef) -> Self {
        Self { token, key, volume, parameters: BTreeMap::new(), secrets: Secrets::none() }
    }
}
