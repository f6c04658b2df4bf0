//! What a provider can do: asked before every call, so that what it cannot do is refused without side effect.

use std::collections::BTreeSet;
use std::fmt;

use hivemind_core::{Error, ErrorKind, ProviderName, Result};
use serde::{Deserialize, Serialize};

use crate::{AccessMode, VolumeMode, VolumeOptions};

/// What a provider can do beyond making and deleting volumes, and telling how they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Capability {
    /// Volumes come to a node by [`attach_volume`](crate::StorageProvider::attach_volume). Without it, every node that
    /// can reach a volume has it, and attaching is refused.
    Attach,
    /// Volumes can grow.
    Expand,
    /// Volumes can grow while they are on a node; without it only while they are on none.
    ExpandOnline,
    /// Snapshots can be taken, deleted, and made volumes of.
    Snapshots,
    /// Volumes can get the content of a snapshot of theirs again, in place.
    RestoreInPlace,
    /// Snapshots of several volumes can be taken at one moment.
    GroupSnapshots,
    /// Volumes can be made with the content of others.
    Clone,
    /// A volume made of a snapshot or another volume can be larger than that.
    GrowFromSource,
    /// Some parameters of a volume can change.
    Modify,
    /// Volumes can be listed.
    ListVolumes,
    /// Snapshots can be listed.
    ListSnapshots,
    /// The status of a volume tells the nodes that have it.
    AttachedNodes,
    /// The status of a volume tells its condition.
    Condition,
    /// It tells how much can still be provisioned.
    Capacity,
    /// Volumes are in places, and not everywhere.
    Topology,
    /// It can keep a node from its volumes.
    Fence,
    /// A volume holds no more than its size.
    HardLimit,
    /// Volumes can be encrypted at rest.
    Encryption,
    /// It keeps as many copies as asked for.
    Replicas,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 19] = [
        Self::Attach,
        Self::Expand,
        Self::ExpandOnline,
        Self::Snapshots,
        Self::RestoreInPlace,
        Self::GroupSnapshots,
        Self::Clone,
        Self::GrowFromSource,
        Self::Modify,
        Self::ListVolumes,
        Self::ListSnapshots,
        Self::AttachedNodes,
        Self::Condition,
        Self::Capacity,
        Self::Topology,
        Self::Fence,
        Self::HardLimit,
        Self::Encryption,
        Self::Replicas,
    ];
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attach => "attach",
            Self::Expand => "expand",
            Self::ExpandOnline => "expand online",
            Self::Snapshots => "snapshots",
            Self::RestoreInPlace => "restore in place",
            Self::GroupSnapshots => "group snapshots",
            Self::Clone => "clone",
            Self::GrowFromSource => "grow from source",
            Self::Modify => "modify",
            Self::ListVolumes => "list volumes",
            Self::ListSnapshots => "list snapshots",
            Self::AttachedNodes => "attached nodes",
            Self::Condition => "condition",
            Self::Capacity => "capacity",
            Self::Topology => "topology",
            Self::Fence => "fence",
            Self::HardLimit => "hard limit",
            Self::Encryption => "encryption",
            Self::Replicas => "replicas",
        })
    }
}

/// What a provider can do, and how its volumes can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// What it can do.
    pub features: BTreeSet<Capability>,
    /// Who may use a volume at the same time.
    pub access_modes: BTreeSet<AccessMode>,
    /// Whether volumes can have a file system.
    pub filesystem: bool,
    /// Whether volumes can be block devices.
    pub block: bool,
}

impl Capabilities {
    /// Volumes with a file system, for one node at a time, and no more.
    pub fn new(features: impl IntoIterator<Item = Capability>) -> Self {
        Self {
            features: features.into_iter().collect(),
            access_modes: BTreeSet::from([AccessMode::ReadWriteOnce]),
            filesystem: true,
            block: false,
        }
    }

    /// For these at the same time.
    #[must_use]
    pub fn with_access_modes(mut self, modes: impl IntoIterator<Item = AccessMode>) -> Self {
        self.access_modes = modes.into_iter().collect();
        self
    }

    /// With a file system, or as block devices, or both.
    #[must_use]
    pub fn with_volume_modes(mut self, filesystem: bool, block: bool) -> Self {
        (self.filesystem, self.block) = (filesystem, block);
        self
    }

    /// Whether it can do that.
    pub fn has(&self, capability: Capability) -> bool {
        self.features.contains(&capability)
    }

    /// Refuses what it cannot do.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] names the provider and the capability.
    pub fn require(&self, provider: &ProviderName, capability: Capability) -> Result<()> {
        if self.has(capability) {
            return Ok(());
        }
        let message = format!("provider {provider} cannot do it: it has no capability {capability}");
        Err(Error::new(ErrorKind::Unsupported, "capability", message))
    }

    /// Refuses a volume that it cannot make.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] names every option that it cannot satisfy; [`ErrorKind::Invalid`] if no access mode
    /// is asked for.
    pub fn require_options(&self, provider: &ProviderName, options: &VolumeOptions) -> Result<()> {
        if options.access_modes.is_empty() {
            return Err(Error::invalid("options", "no access mode is asked for: name at least one"));
        }
        let mut wrong: Vec<String> = options
            .access_modes
            .difference(&self.access_modes)
            .map(|mode| format!("access mode {mode}"))
            .collect();
        match &options.volume_mode {
            VolumeMode::Block if !self.block => wrong.push("block devices".to_owned()),
            VolumeMode::Filesystem { .. } if !self.filesystem => wrong.push("file systems".to_owned()),
            _ => {}
        }
        if options.encryption && !self.has(Capability::Encryption) {
            wrong.push("encryption at rest".to_owned());
        }
        if options.replicas.get() > 1 && !self.has(Capability::Replicas) {
            wrong.push(format!("{} replicas", options.replicas));
        }
        if !options.mutable_parameters.is_empty() && !self.has(Capability::Modify) {
            wrong.push("mutable parameters".to_owned());
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let message = format!("provider {provider} has no {}", wrong.join(", no "));
        Err(Error::new(ErrorKind::Unsupported, "options", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_cannot_do_is_named_in_one_go() -> Result<(), Box<dyn std::error::Error>> {
        let (able, name) = (Capabilities::new([Capability::Expand]), "disk".parse()?);
        let wish = VolumeOptions::default()
            .with_access_modes([AccessMode::ReadWriteOnce, AccessMode::ReadWriteMany])
            .with_volume_mode(VolumeMode::Block)
            .with_encryption(true);
        let refused = able.require_options(&name, &wish).err().ok_or("it was accepted")?;
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        let expected =
            "provider disk has no access mode read-write-many, no block devices, no encryption at rest";
        assert_eq!(refused.message(), expected);
        assert!(able.require_options(&name, &VolumeOptions::default()).is_ok());
        let none = able.require_options(&name, &VolumeOptions::default().with_access_modes([]));
        assert!(none.is_err_and(|e| e.kind() == ErrorKind::Invalid));
        Ok(())
    }
}
