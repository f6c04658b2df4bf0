//! Kinds of volumes that an administrator offers. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::num::NonZeroU8;
use std::time::Duration;

use hivemind_core::resources::ByteSize;
use hivemind_core::{ProviderName, StorageClassName, Stored};
use serde::{Deserialize, Serialize};

use super::claim::ReclaimPolicy;
use super::options::PerformanceClass;
use super::topology::Topology;

/// When a claim gets its volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum BindingMode {
    /// At once.
    #[default]
    Immediate,
    /// Once it is known on which node its first workload runs.
    WaitForFirstConsumer,
}

/// A kind of volume that an administrator offers: what claims of it have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StorageClass {
    /// Its name.
    pub name: StorageClassName,
    /// Who makes its volumes.
    pub provider: ProviderName,
    /// When a claim gets its volume.
    pub binding: BindingMode,
    /// What becomes of a volume when its claim is released, unless the claim says otherwise.
    pub reclaim: ReclaimPolicy,
    /// Whether claims may grow.
    pub allow_expansion: bool,
    /// How many copies, at least.
    pub replicas: NonZeroU8,
    /// Whether its volumes are encrypted at rest, whatever the claim says.
    pub encryption: bool,
    /// How fast its volumes are.
    pub performance_class: PerformanceClass,
    /// What only the provider understands; a claim cannot override it.
    pub parameters: BTreeMap<String, String>,
    /// In which places its volumes may be; empty for all.
    pub allowed_topologies: Vec<Topology>,
    /// How large one of its volumes may be; `None` for no bound.
    pub largest: Option<ByteSize>,
}

impl Stored for StorageClass {
    const KIND: &'static str = "storage class";
}

impl StorageClass {
    /// Volumes of `provider`, made at once, deleted with their claim, that may grow.
    pub fn new(name: StorageClassName, provider: ProviderName) -> Self {
        Self {
            name,
            provider,
            binding: BindingMode::Immediate,
            reclaim: ReclaimPolicy::Delete,
            allow_expansion: true,
            replicas: NonZeroU8::MIN,
            encryption: false,
            performance_class: PerformanceClass::Standard,
            parameters: BTreeMap::new(),
            allowed_topologies: Vec::new(),
            largest: None,
        }
    }

    /// Bound then.
    #[must_use]
    pub fn with_binding(mut self, binding: BindingMode) -> Self {
        self.binding = binding;
        self
    }

    /// Reclaimed like this.
    #[must_use]
    pub fn with_reclaim(mut self, reclaim: ReclaimPolicy) -> Self {
        self.reclaim = reclaim;
        self
    }

    /// With claims that may grow, or not.
    #[must_use]
    pub fn with_expansion(mut self, allowed: bool) -> Self {
        self.allow_expansion = allowed;
        self
    }

    /// Encrypted at rest, or as the claim says.
    #[must_use]
    pub fn with_encryption(mut self, encryption: bool) -> Self {
        self.encryption = encryption;
        self
    }

    /// With one more parameter for the provider.
    #[must_use]
    pub fn with_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Only in these places.
    #[must_use]
    pub fn with_allowed_topologies(mut self, places: impl IntoIterator<Item = Topology>) -> Self {
        self.allowed_topologies = places.into_iter().collect();
        self
    }

    /// With volumes of at most this size.
    #[must_use]
    pub fn with_largest(mut self, largest: ByteSize) -> Self {
        self.largest = Some(largest);
        self
    }
}

/// How long an archived volume can be brought back, if nothing else is said.
pub(crate) const UNDELETE_WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);
