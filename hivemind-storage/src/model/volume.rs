//! A volume: what is intended, and what is known to be so. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::ByteSize;
use hivemind_core::{
    ClaimId, NodeId, OpToken, ProviderName, ReservationId, SnapshotId, StorageClassName, Stored, Timestamp,
    WorkloadId,
};
use serde::{Deserialize, Serialize};

use super::access::AccessMode;
use super::attachment::{Attachment, FenceEpoch, Fenced};
use super::claim::ReclaimPolicy;
use super::key::{KeyName, SnapshotKey, VolumeHandle, VolumeKey, VolumeRef};
use super::options::VolumeOptions;
use super::topology::{Topology, TopologyRequirement};

/// How far a volume has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum VolumePhase {
    /// It is to be created, or is being created.
    Creating,
    /// It is there.
    Ready,
    /// It is there, without a claim, and can be bought back until then; after that it is deleted.
    Archived(Timestamp),
    /// It is to be deleted, or is being deleted.
    Deleting,
    /// The provider refuses to create it, for this reason.
    Failed(String),
}

/// Where the content of a volume came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SourceKey {
    /// A snapshot.
    Snapshot(SnapshotKey),
    /// Another volume.
    Volume(VolumeKey),
}

/// How a node is to have a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Wish {
    /// For whom at the same time.
    pub access_mode: AccessMode,
    /// Whether the node may only read.
    pub read_only: bool,
    /// The workloads there that want it, if the host names them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub workloads: BTreeSet<WorkloadId>,
    /// By which decision.
    pub epoch: FenceEpoch,
}

/// Why and how a node is to lose a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Leaving {
    /// Why it may be taken by force; `None`: the node lets go of it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Fenced>,
}

/// A volume that is to grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Growth {
    /// Names the intent: the same after every crash.
    pub token: OpToken,
    /// How large it is to be.
    pub to: ByteSize,
    /// Whether only the file system is left to grow, on the nodes that have it.
    pub on_node: bool,
    /// Why the provider refuses, if it does; asking again, for less, goes on from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What is charged for it, beside the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<ReservationId>,
    /// How much that is.
    pub charged: ByteSize,
}

/// A volume that somebody fills before it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Population {
    /// Who fills it.
    pub populator: String,
    /// With what: what the populator understands.
    pub from: String,
    /// Why that failed the last time; it may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A volume that is to have the content of its snapshot again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Restoration {
    /// Names the intent: the same after every crash.
    pub token: OpToken,
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// The snapshot of what was there before, which is taken first.
    pub undo: SnapshotId,
    /// Why the provider refuses, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Parameters of a volume that are to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Modification {
    /// Names the intent: the same after every crash.
    pub token: OpToken,
    /// What they are to be.
    pub parameters: BTreeMap<String, String>,
    /// Why the provider refuses, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A volume: what is intended, and what is known to be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Volume {
    /// Which.
    pub key: VolumeKey,
    /// By which provider.
    pub provider: ProviderName,
    /// Of which class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<StorageClassName>,
    /// How large it was asked to be at first; then how large it is.
    pub size: ByteSize,
    /// What it should be like.
    pub options: VolumeOptions,
    /// What becomes of it when its claim is released.
    pub reclaim: ReclaimPolicy,
    /// The claim it is bound to; `None` for a retained, an archived or an offered one.
    pub claim: Option<ClaimId>,
    /// The claim that it is held for, while that claim's first workload is being placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_for: Option<ClaimId>,
    /// Where its content came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceKey>,
    /// Whether a volume was ever to be made of it.
    #[serde(default)]
    pub cloned: bool,
    /// From where it must be reachable.
    #[serde(default, skip_serializing_if = "TopologyRequirement::is_empty")]
    pub requirement: TopologyRequirement,
    /// Each of its copies is to have another value of this segment of their places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_over: Option<String>,
    /// From where it is reachable; empty for everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology: Vec<Topology>,
    /// How far it has come.
    pub phase: VolumePhase,
    /// The token of its creation: the same after every crash.
    pub token: OpToken,
    /// What the provider calls it, once that is known.
    pub handle: Option<VolumeHandle>,
    /// What the provider wants to hear again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// The nodes that are to have it: one at most, unless its access mode is shared.
    pub desired: BTreeMap<NodeId, Wish>,
    /// Where it is known to be, of the nodes that are to have it.
    pub attached: BTreeMap<NodeId, Attachment>,
    /// Nodes that were to have it, until it is known that they do not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub maybe_attached: BTreeMap<NodeId, Leaving>,
    /// Grows whenever it is taken from a node by force.
    #[serde(default)]
    pub epoch: FenceEpoch,
    /// It is to grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// It is to be filled; until it is, nobody but who fills it gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub population: Option<Population>,
    /// It is to have the content of its snapshot again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restoration: Option<Restoration>,
    /// Its parameters are to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modification: Option<Modification>,
    /// The key that its content is encrypted with, if it comes from its tenant's secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted_with: Option<KeyName>,
    /// What is charged for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<ReservationId>,
    /// How much that is, where quotas are charged.
    pub charged: ByteSize,
}

impl Stored for Volume {
    const KIND: &'static str = "volume";
}

impl Volume {
    /// A volume of `provider` that is to be created, of which nothing else is known.
    pub(crate) fn new(key: VolumeKey, provider: ProviderName) -> Self {
        Self {
            token: OpToken::new(key.to_string()),
            key,
            provider,
            class: None,
            size: ByteSize::ZERO,
            options: VolumeOptions::default(),
            reclaim: ReclaimPolicy::Retain,
            claim: None,
            held_for: None,
            source: None,
            cloned: false,
            requirement: TopologyRequirement::default(),
            spread_over: None,
            topology: Vec::new(),
            phase: VolumePhase::Creating,
            handle: None,
            context: BTreeMap::new(),
            desired: BTreeMap::new(),
            attached: BTreeMap::new(),
            maybe_attached: BTreeMap::new(),
            epoch: FenceEpoch::default(),
            growth: None,
            population: None,
            restoration: None,
            modification: None,
            encrypted_with: None,
            reservations: Vec::new(),
            charged: ByteSize::ZERO,
        }
    }

    /// What the provider is to be told of it, once it has made it.
    pub fn made(&self) -> Option<VolumeRef> {
        let handle = self.handle.clone()?;
        Some(VolumeRef::new(self.key.clone(), handle).with_context(self.context.clone()))
    }

    /// What is to be charged for it, where something is. What its provider may still be at stays charged.
    pub(crate) fn chargeable(&self) -> ByteSize {
        let grows = self.growth.as_ref().is_some_and(|growth| !growth.on_node);
        if grows || self.phase == VolumePhase::Deleting { self.charged.max(self.size) } else { self.size }
    }

    /// Whether something else is charged for it.
    pub(crate) fn is_mischarged(&self) -> bool {
        !self.reservations.is_empty() && self.charged != self.chargeable()
    }

    /// Whether any node has it, may have it, or is to have it.
    pub fn in_use(&self) -> bool {
        !(self.desired.is_empty() && self.attached.is_empty() && self.maybe_attached.is_empty())
    }

    /// Whether it can be reached from a node there.
    pub fn reachable_from(&self, node: &Topology) -> bool {
        self.topology.is_empty() || self.topology.iter().any(|place| place.covers(node))
    }
}
