//! What a volume should be like. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use hivemind_core::ProviderName;
use hivemind_core::labels::Labels;
use serde::{Deserialize, Serialize};

use super::access::{AccessMode, VolumeMode};

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// Who may use it at the same time: the volume must be able to do each of these.
    pub access_modes: BTreeSet<AccessMode>,
    /// As what a workload sees it.
    pub volume_mode: VolumeMode,
    /// What only the provider understands; fixed at creation.
    pub parameters: BTreeMap<String, String>,
    /// What only the provider understands and lets [change](crate::StorageProvider::modify_volume) later.
    pub mutable_parameters: BTreeMap<String, String>,
    /// Its labels.
    pub labels: Labels,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        Self {
            replicas: NonZeroU8::MIN,
            encryption: false,
            performance_class: PerformanceClass::Standard,
            access_modes: BTreeSet::from([AccessMode::ReadWriteOnce]),
            volume_mode: VolumeMode::default(),
            parameters: BTreeMap::new(),
            mutable_parameters: BTreeMap::new(),
            labels: Labels::new(),
        }
    }
}

impl VolumeOptions {
    /// With just this access mode.
    #[must_use]
    pub fn with_access_mode(mut self, mode: AccessMode) -> Self {
        self.access_modes = BTreeSet::from([mode]);
        self
    }

    /// With these access modes.
    #[must_use]
    pub fn with_access_modes(mut self, modes: impl IntoIterator<Item = AccessMode>) -> Self {
        self.access_modes = modes.into_iter().collect();
        self
    }

    /// As a block device, or with a file system.
    #[must_use]
    pub fn with_volume_mode(mut self, mode: VolumeMode) -> Self {
        self.volume_mode = mode;
        self
    }

    /// With so many copies.
    #[must_use]
    pub fn with_replicas(mut self, replicas: NonZeroU8) -> Self {
        self.replicas = replicas;
        self
    }

    /// Encrypted at rest, or not.
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

    /// With one more parameter for the provider that may change later.
    #[must_use]
    pub fn with_mutable_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.mutable_parameters.insert(name.into(), value.into());
        self
    }

    /// With labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// Whether more than one node may have the volume, in one of its modes at least.
    pub fn is_shared(&self) -> bool {
        self.access_modes.iter().any(|mode| mode.is_shared())
    }
}
