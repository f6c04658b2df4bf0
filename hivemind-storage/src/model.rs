//! What volumes, claims and snapshots are. No I/O, no clock, no async.

mod access;
mod attachment;
mod claim;
mod class;
mod key;
mod options;
mod secret;
mod size;
mod snapshot;
mod status;
mod topology;
mod volume;

pub use access::{AccessMode, VolumeMode};
pub use attachment::{AttachedAs, Attachment, DeviceIdentity, FenceEpoch, Fenced};
pub use claim::{Claim, ClaimSource, ClaimSpec, Hold, ReclaimPolicy};
pub use class::{BindingMode, StorageClass};
pub use key::{
    GroupHandle, GroupKey, InvalidHandle, KeyName, NodeHandle, NodeRef, SnapshotHandle, SnapshotKey,
    SnapshotRef, VolumeHandle, VolumeKey, VolumeRef,
};
pub use options::{PerformanceClass, StorageProviderType, VolumeOptions};
pub use secret::Secrets;
pub use size::SizeRange;
pub use snapshot::{GroupRecord, SnapshotPhase, SnapshotRecord};
pub use status::{
    Capacity, Cursor, Expanded, GroupSnapshot, NodeInfo, Page, ProvisionedVolume, StorageMetrics, Usage,
    VolumeCondition, VolumeSnapshot, VolumeStats, VolumeStatus,
};
pub use topology::{Topology, TopologyRequirement};
pub use volume::{
    Growth, Leaving, Modification, Population, Restoration, SourceKey, Volume, VolumePhase, Wish,
};
