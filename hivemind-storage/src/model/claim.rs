//! A tenant's wish for a volume. No I/O, no clock, no async.

use std::time::Duration;

use hivemind_core::labels::Selector;
use hivemind_core::resources::ByteSize;
use hivemind_core::{
    ClaimId, NodeId, ProviderName, ReservationId, SnapshotId, StorageClassName, Stored, Timestamp, VolumeId,
    WorkloadId,
};
use serde::{Deserialize, Serialize};

use super::class::UNDELETE_WINDOW;
use super::options::VolumeOptions;
use super::topology::Topology;

/// What becomes of a volume when its claim is released.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ReclaimPolicy {
    /// It is deleted.
    #[default]
    Delete,
    /// It is kept, unclaimed, until somebody offers it again or deletes it.
    Retain,
    /// It is kept so long, during which the claim can be brought back, and then deleted.
    Archive(Duration),
}

impl ReclaimPolicy {
    /// Kept for a week, and then deleted.
    pub fn archive() -> Self {
        Self::Archive(UNDELETE_WINDOW)
    }
}

/// Where the content of a claim's volume comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ClaimSource {
    /// A snapshot of a volume of the tenant.
    Snapshot {
        /// Of which volume.
        volume: VolumeId,
        /// Which.
        snapshot: SnapshotId,
    },
    /// The volume of another claim of the tenant.
    Claim(ClaimId),
    /// Whatever a populator fills it with, from anywhere: another provider, a backup, an image.
    Populator {
        /// Who fills it.
        populator: String,
        /// With what: what the populator understands.
        from: String,
    },
}

/// A tenant's wish for a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClaimSpec {
    /// Its name.
    pub id: ClaimId,
    /// How large, at least.
    pub size: ByteSize,
    /// Of which class; `None` for none: then the provider is asked as the options say.
    #[serde(default)]
    pub class: Option<StorageClassName>,
    /// By which provider, for a claim without a class; `None` for the default one.
    pub provider: Option<ProviderName>,
    /// What the volume should be like.
    pub options: VolumeOptions,
    /// What becomes of the volume in the end; `None` for what the class says, which by itself is: it is deleted.
    pub reclaim: Option<ReclaimPolicy>,
    /// Where its content comes from; `None` for an empty volume.
    #[serde(default)]
    pub source: Option<ClaimSource>,
    /// Only this volume of the tenant will do: one that is offered.
    #[serde(default)]
    pub volume: Option<VolumeId>,
    /// Only an offered volume with such labels will do; none is made.
    #[serde(default)]
    pub selector: Option<Selector>,
    /// It ends with this workload: an ephemeral volume.
    #[serde(default)]
    pub owner: Option<WorkloadId>,
    /// Its volume may be in these places only; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_topologies: Vec<Topology>,
    /// Each of its copies is to have another value of this segment, such as `zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_over: Option<String>,
}

impl ClaimSpec {
    /// A volume of `size` from the default provider, deleted with its claim.
    pub fn new(id: ClaimId, size: ByteSize) -> Self {
        Self {
            id,
            size,
            class: None,
            provider: None,
            options: VolumeOptions::default(),
            reclaim: None,
            source: None,
            volume: None,
            selector: None,
            owner: None,
            allowed_topologies: Vec::new(),
            spread_over: None,
        }
    }

    /// Only in these places.
    #[must_use]
    pub fn with_allowed_topologies(mut self, places: impl IntoIterator<Item = Topology>) -> Self {
        self.allowed_topologies = places.into_iter().collect();
        self
    }

    /// With copies that differ in this segment of their places.
    #[must_use]
    pub fn spread_over(mut self, segment: impl Into<String>) -> Self {
        self.spread_over = Some(segment.into());
        self
    }

    /// Of this class.
    #[must_use]
    pub fn of_class(mut self, class: StorageClassName) -> Self {
        self.class = Some(class);
        self
    }

    /// By this provider, without a class.
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
        self.reclaim = Some(reclaim);
        self
    }

    /// With the content of `source`.
    #[must_use]
    pub fn from_source(mut self, source: ClaimSource) -> Self {
        self.source = Some(source);
        self
    }

    /// Bound to this volume, which is offered.
    #[must_use]
    pub fn bound_to(mut self, volume: VolumeId) -> Self {
        self.volume = Some(volume);
        self
    }

    /// Bound to an offered volume with such labels.
    #[must_use]
    pub fn with_selector(mut self, selector: Selector) -> Self {
        self.selector = Some(selector);
        self
    }

    /// Ending with `owner`.
    #[must_use]
    pub fn owned_by(mut self, owner: WorkloadId) -> Self {
        self.owner = Some(owner);
        self
    }
}

/// What is kept for a claim that waits, while its first workload is being placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hold {
    /// On which node.
    pub node: NodeId,
    /// How long; after that anybody may take it back.
    pub until: Timestamp,
    /// The offered volume that is kept; `None` if one is to be made.
    pub volume: Option<VolumeId>,
}

/// A claim, with the volume that it is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Claim {
    /// What was asked for.
    pub spec: ClaimSpec,
    /// The volume it is bound to; `None` while it waits for its first consumer.
    pub volume: Option<VolumeId>,
    /// What is kept for it while its first workload is being placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// What is charged for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<ReservationId>,
    /// How large it was asked to be at first, if it has grown since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_size: Option<ByteSize>,
}

impl Stored for Claim {
    const KIND: &'static str = "claim";
}

impl Claim {
    pub(crate) fn new(spec: ClaimSpec, volume: Option<VolumeId>) -> Self {
        Self { spec, volume, hold: None, reservations: Vec::new(), first_size: None }
    }

    /// Whether it is what `spec` asks for, or what has become of that by growing.
    pub(crate) fn is(&self, spec: &ClaimSpec) -> bool {
        let now = ClaimSpec { size: self.spec.size, ..spec.clone() };
        now == self.spec && (spec.size == self.spec.size || Some(spec.size) == self.first_size)
    }
}
