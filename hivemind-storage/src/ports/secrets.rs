//! The port to whoever keeps the secrets that a storage system wants to see.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use hivemind_core::{Result, TenantRef};
use serde::{Deserialize, Serialize};

use crate::{Secrets, VolumeKey};

/// What a secret is for: the `secrets` of the calls of the Container Storage Interface, 1.13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SecretPurpose {
    /// Volumes are made, deleted and looked at.
    Provision,
    /// Volumes are brought to nodes and taken from them.
    ControllerPublish,
    /// Volumes grow.
    ControllerExpand,
    /// Parameters of volumes change.
    ControllerModify,
    /// Snapshots are taken and deleted.
    Snapshot,
    /// Snapshots are listed and looked at.
    ListSnapshots,
    /// Groups of snapshots are taken and deleted.
    GroupSnapshot,
    /// A node makes a volume usable.
    NodeStage,
    /// A node shows a volume to a workload.
    NodePublish,
    /// File systems grow on a node.
    NodeExpand,
}

impl SecretPurpose {
    /// Every purpose.
    pub const ALL: [Self; 10] = [
        Self::Provision,
        Self::ControllerPublish,
        Self::ControllerExpand,
        Self::ControllerModify,
        Self::Snapshot,
        Self::ListSnapshots,
        Self::GroupSnapshot,
        Self::NodeStage,
        Self::NodePublish,
        Self::NodeExpand,
    ];
}

impl fmt::Display for SecretPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provision => "provision",
            Self::ControllerPublish => "controller-publish",
            Self::ControllerExpand => "controller-expand",
            Self::ControllerModify => "controller-modify",
            Self::Snapshot => "snapshot",
            Self::ListSnapshots => "list-snapshots",
            Self::GroupSnapshot => "group-snapshot",
            Self::NodeStage => "node-stage",
            Self::NodePublish => "node-publish",
            Self::NodeExpand => "node-expand",
        })
    }
}

/// For which call secrets are wanted: what a name of a secret can be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecretQuery {
    /// What they are for.
    pub purpose: SecretPurpose,
    /// For whom; `None` for a call about all, such as a list.
    pub tenant: Option<TenantRef>,
    /// About which volume, or the one that a snapshot is of; `None` for a call about several.
    pub volume: Option<VolumeKey>,
    /// Those of the class, where something is made; empty elsewhere.
    pub parameters: BTreeMap<String, String>,
    /// What the provider said of the volume when it was made; empty where that is not known.
    pub context: BTreeMap<String, String>,
}

impl SecretQuery {
    /// For a call about all.
    pub fn new(purpose: SecretPurpose) -> Self {
        Self { purpose, tenant: None, volume: None, parameters: BTreeMap::new(), context: BTreeMap::new() }
    }

    /// For a call of this tenant.
    #[must_use]
    pub fn of_tenant(mut self, tenant: TenantRef) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// For a call about this volume, of its tenant.
    #[must_use]
    pub fn of_volume(mut self, volume: VolumeKey) -> Self {
        (self.tenant, self.volume) = (Some(volume.tenant.clone()), Some(volume));
        self
    }

    /// For something that is made with these parameters.
    #[must_use]
    pub fn with_parameters(mut self, parameters: BTreeMap<String, String>) -> Self {
        self.parameters = parameters;
        self
    }

    /// For a volume of which the provider said this.
    #[must_use]
    pub fn with_context(mut self, context: BTreeMap<String, String>) -> Self {
        self.context = context;
        self
    }
}

/// Has the secrets that a storage system wants to see: a vault, files, or what the host keeps.
///
/// # Contract
///
/// - It is asked before every call that can carry secrets, so that what is changed there is used at once; answers that
///   cost something are kept by the implementation, and wiped when they are dropped.
/// - Where none are wanted, the answer is [`Secrets::none`], not an error. A secret that should be there and is not is
///   [`NotFound`](hivemind_core::ErrorKind::NotFound), and the call is not made.
/// - A tenant gets no secret of another one.
/// - Secrets are in no error, and not in `Debug`.
#[async_trait]
pub trait SecretSource: fmt::Debug + Send + Sync + 'static {
    /// The secrets for one call.
    ///
    /// # Errors
    /// Those of whoever keeps them. The call that they are for has not begun.
    async fn secrets(&self, query: &SecretQuery) -> Result<Secrets>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_are_written_as_they_are_said() {
        for purpose in SecretPurpose::ALL {
            assert_eq!(serde_json::to_string(&purpose).unwrap(), format!("\"{purpose}\""));
        }
    }
}
