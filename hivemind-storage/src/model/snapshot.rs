//! Snapshots, and groups of them, as they are recorded. No I/O, no clock, no async.

use hivemind_core::resources::ByteSize;
use hivemind_core::{OpToken, ProviderName, ReservationId, SnapshotId, Stored, Timestamp, VolumeId};
use serde::{Deserialize, Serialize};

use super::key::{GroupHandle, GroupKey, KeyName, SnapshotHandle, SnapshotKey, SnapshotRef};

/// How far a snapshot has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SnapshotPhase {
    /// It is to be taken, or is being taken.
    Creating,
    /// It is cut: the volume may go on being written to. Volumes cannot be made of it yet.
    Cut,
    /// Volumes can be made of it.
    Ready,
    /// It is to be deleted, or is being deleted.
    Deleting,
    /// The provider refuses to take it, for this reason.
    Failed(String),
}

/// A snapshot of a volume: what is intended, and what is known to be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SnapshotRecord {
    /// Which.
    pub key: SnapshotKey,
    /// By which provider.
    pub provider: ProviderName,
    /// The group it is part of, of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<SnapshotId>,
    /// How far it has come.
    pub phase: SnapshotPhase,
    /// The token of its creation: the same after every crash.
    pub token: OpToken,
    /// What the provider calls it, once that is known.
    pub handle: Option<SnapshotHandle>,
    /// How large a volume made of it is at least.
    pub size: ByteSize,
    /// When it was cut, by the provider's clock, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// The key that its content is encrypted with, as its volume was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted_with: Option<KeyName>,
    /// What is charged for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<ReservationId>,
    /// How much that is, where quotas are charged.
    #[serde(default)]
    pub charged: ByteSize,
}

impl Stored for SnapshotRecord {
    const KIND: &'static str = "snapshot";
}

impl SnapshotRecord {
    /// What the provider is to be told of it, once it has taken it.
    pub fn made(&self) -> Option<SnapshotRef> {
        Some(SnapshotRef::new(self.key.clone(), self.handle.clone()?))
    }

    /// Whether something else is charged for it than it is large.
    pub(crate) fn is_mischarged(&self) -> bool {
        !self.reservations.is_empty() && self.charged != self.size
    }

    /// Whether volumes can be made of it.
    pub fn is_ready(&self) -> bool {
        self.phase == SnapshotPhase::Ready
    }
}

/// Snapshots of several volumes, cut at one moment: what is intended, and what is known to be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupRecord {
    /// Which.
    pub key: GroupKey,
    /// By which provider.
    pub provider: ProviderName,
    /// Of which volumes of the tenant.
    pub volumes: Vec<VolumeId>,
    /// How far it has come.
    pub phase: SnapshotPhase,
    /// The token of its creation: the same after every crash.
    pub token: OpToken,
    /// What the provider calls it, once that is known.
    pub handle: Option<GroupHandle>,
}

impl Stored for GroupRecord {
    const KIND: &'static str = "group of snapshots";
}
