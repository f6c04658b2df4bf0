//! What a cluster is like, as far as isolation is concerned: plain data that a host fills. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::Resources;
use hivemind_core::{NodeId, TenantRef, VolumeId, WorkloadId};
use serde::{Deserialize, Serialize};

use super::IpFamily;

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct NodeFacts {
    /// The value of its label [`DEDICATED_KEY`](crate::isolation::DEDICATED_KEY).
    pub label: Option<String>,
    /// The value of its taint of that key.
    pub taint: Option<String>,
    /// What workloads may use of it.
    pub capacity: Resources,
    /// What runs there, and what it uses. A workload is on one node only.
    pub workloads: BTreeMap<TenantRef, BTreeMap<WorkloadId, Resources>>,
}

/// The network policies in force around a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct NetworkFacts {
    /// In which families other tenants are kept out by default.
    pub denied: BTreeSet<IpFamily>,
    /// Which other tenants are let in all the same.
    pub admitted: BTreeSet<TenantRef>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeFacts {
    /// Whose it is.
    pub tenant: TenantRef,
    /// Its name.
    pub volume: VolumeId,
    /// The pool it is in.
    pub pool: String,
    /// The key it is encrypted with, if it is.
    pub key: Option<String>,
}

impl VolumeFacts {
    /// A volume in `pool`, not encrypted.
    pub fn new(tenant: TenantRef, volume: VolumeId, pool: impl Into<String>) -> Self {
        Self { tenant, volume, pool: pool.into(), key: None }
    }

    /// Encrypted with `key`.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// Where a tenant's backups are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupFacts {
    /// The repository.
    pub repository: String,
    /// The key they are encrypted with, if they are.
    pub key: Option<String>,
}

impl BackupFacts {
    /// Backups in `repository`, not encrypted.
    pub fn new(repository: impl Into<String>) -> Self {
        Self { repository: repository.into(), key: None }
    }

    /// Encrypted with `key`.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// What a cluster is like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ClusterFacts {
    /// Its nodes.
    pub nodes: BTreeMap<NodeId, NodeFacts>,
    /// The network policies, by the tenant they protect. A tenant that is not named is protected by none.
    pub networks: BTreeMap<TenantRef, NetworkFacts>,
    /// The volumes.
    pub volumes: Vec<VolumeFacts>,
    /// Whose series and logs each tenant can see.
    pub observers: BTreeMap<TenantRef, BTreeSet<TenantRef>>,
    /// Where backups are, by tenant. A tenant that is not named has none.
    pub backups: BTreeMap<TenantRef, BackupFacts>,
}
