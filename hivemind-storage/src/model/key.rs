//! What volumes, snapshots and nodes are called: by us, and by a provider. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hivemind_core::{NodeId, SnapshotId, TenantRef, VolumeId};
use serde::{Deserialize, Serialize};

/// Which volume: no volume is named without its tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "a tenant and a name are the whole identity")]
pub struct VolumeKey {
    /// Whose, of which generation.
    pub tenant: TenantRef,
    /// Its name there.
    pub volume: VolumeId,
}

impl VolumeKey {
    /// The volume `volume` of `tenant`.
    pub fn new(tenant: TenantRef, volume: VolumeId) -> Self {
        Self { tenant, volume }
    }
}

impl fmt::Display for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.volume)
    }
}

/// Which key a volume's content is encrypted with: the one of the volume for which it was written first. Clones, and
/// volumes made of snapshots, have the key of what they were made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "a volume and a version are the whole identity")]
pub struct KeyName {
    /// Of which volume; it may be gone.
    pub volume: VolumeKey,
    /// The version of the tenant's secret that the key comes from.
    pub version: u32,
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key of volume {}, version {}", self.volume, self.version)
    }
}

/// Which snapshot of which volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "a volume and a name are the whole identity")]
pub struct SnapshotKey {
    /// Of which volume.
    pub volume: VolumeKey,
    /// Its name there.
    pub snapshot: SnapshotId,
}

impl SnapshotKey {
    /// The snapshot `snapshot` of `volume`.
    pub fn new(volume: VolumeKey, snapshot: SnapshotId) -> Self {
        Self { volume, snapshot }
    }
}

impl fmt::Display for SnapshotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.volume, self.snapshot)
    }
}

/// Which group of snapshots, taken at one moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "a tenant and a name are the whole identity")]
pub struct GroupKey {
    /// Whose, of which generation.
    pub tenant: TenantRef,
    /// Its name there; each snapshot of the group has it, too, at its own volume.
    pub group: SnapshotId,
}

impl GroupKey {
    /// The group `group` of `tenant`.
    pub fn new(tenant: TenantRef, group: SnapshotId) -> Self {
        Self { tenant, group }
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.group)
    }
}

/// A text that cannot be a handle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not usable: 1 to {max} bytes, without control characters")]
pub struct InvalidHandle {
    what: &'static str,
    text: String,
    max: usize,
}

macro_rules! handles {
    ($($(#[$doc:meta])* $T:ident, $what:literal, $max:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $T(Arc<str>);

        impl $T {
            /// Checks `text`.
            ///
            /// # Errors
            /// If it is empty, too long, or has control characters.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidHandle> {
                let text = text.as_ref();
                if text.is_empty() || text.len() > $max || text.chars().any(char::is_control) {
                    return Err(InvalidHandle { what: $what, text: text.to_owned(), max: $max });
                }
                Ok(Self(text.into()))
            }

            /// The handle as text; opaque to everybody but its provider.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $T {
            type Err = InvalidHandle;
            fn from_str(text: &str) -> Result<Self, InvalidHandle> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $T {
            type Error = InvalidHandle;
            fn try_from(text: String) -> Result<Self, InvalidHandle> {
                Self::new(text)
            }
        }

        impl From<$T> for String {
            fn from(handle: $T) -> Self {
                handle.as_str().to_owned()
            }
        }

        impl fmt::Display for $T {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

handles! {
    /// What a provider calls a volume: 1 to 128 bytes (CSI's `volume_id`).
    VolumeHandle, "volume handle", 128;
    /// What a provider calls a snapshot: 1 to 128 bytes (CSI's `snapshot_id`).
    SnapshotHandle, "snapshot handle", 128;
    /// What a provider calls a group of snapshots: 1 to 128 bytes (CSI's `group_snapshot_id`).
    GroupHandle, "group snapshot handle", 128;
    /// What a provider calls a node: 1 to 256 bytes (CSI's `node_id`).
    NodeHandle, "node handle", 256;
}

/// A volume that a provider has made: our name, its name, and what it wants to be told again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeRef {
    /// What we call it.
    pub key: VolumeKey,
    /// What the provider calls it.
    pub handle: VolumeHandle,
    /// What the provider said at creation and wants to hear in later calls (CSI's `volume_context`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
}

impl VolumeRef {
    /// The volume `key`, which its provider calls `handle`.
    pub fn new(key: VolumeKey, handle: VolumeHandle) -> Self {
        Self { key, handle, context: BTreeMap::new() }
    }

    /// With what the provider wants to hear again.
    #[must_use]
    pub fn with_context(mut self, context: BTreeMap<String, String>) -> Self {
        self.context = context;
        self
    }
}

/// A snapshot that a provider has made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SnapshotRef {
    /// What we call it.
    pub key: SnapshotKey,
    /// What the provider calls it.
    pub handle: SnapshotHandle,
}

impl SnapshotRef {
    /// The snapshot `key`, which its provider calls `handle`.
    pub fn new(key: SnapshotKey, handle: SnapshotHandle) -> Self {
        Self { key, handle }
    }
}

/// A node, by our name and by the provider's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeRef {
    /// What we call it.
    pub node: NodeId,
    /// What the provider calls it.
    pub handle: NodeHandle,
}

impl NodeRef {
    /// The node `node`, which the provider calls `handle`.
    pub fn new(node: NodeId, handle: NodeHandle) -> Self {
        Self { node, handle }
    }
}

impl From<NodeId> for NodeRef {
    /// A node that the provider calls as we do.
    fn from(node: NodeId) -> Self {
        // A node's name is a DNS label, which every handle may be.
        Self { handle: NodeHandle(node.as_str().into()), node }
    }
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_bounded_and_printable() {
        assert!(VolumeHandle::new("vol-0123").is_ok());
        assert!(VolumeHandle::new("x".repeat(128)).is_ok());
        for wrong in [String::new(), "x".repeat(129), "a\nb".to_owned()] {
            let error = VolumeHandle::new(&wrong).map_err(|e| e.to_string());
            assert!(error.is_err_and(|e| e.contains("1 to 128 bytes")), "{wrong:?}");
        }
        assert!(serde_json::from_str::<NodeHandle>("\"\"").is_err());
    }
}
