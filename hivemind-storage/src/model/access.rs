//! How a volume may be used: by whom at the same time, and as what. No I/O, no clock, no async.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who may use a volume at the same time (CSI's access modes, by Kubernetes' names where it has one).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AccessMode {
    /// One node, reading and writing; there by as many workloads as like (`SINGLE_NODE_WRITER`).
    #[default]
    ReadWriteOnce,
    /// One workload, reading and writing (`SINGLE_NODE_SINGLE_WRITER`).
    ReadWriteOncePod,
    /// One node, reading (`SINGLE_NODE_READER_ONLY`).
    ReadOnlyOnce,
    /// Many nodes, reading (`MULTI_NODE_READER_ONLY`).
    ReadOnlyMany,
    /// Many nodes reading, one of them writing (`MULTI_NODE_SINGLE_WRITER`).
    SingleWriterMany,
    /// Many nodes, reading and writing (`MULTI_NODE_MULTI_WRITER`).
    ReadWriteMany,
}

impl AccessMode {
    /// Every mode.
    pub const ALL: [Self; 6] = [
        Self::ReadWriteOnce,
        Self::ReadWriteOncePod,
        Self::ReadOnlyOnce,
        Self::ReadOnlyMany,
        Self::SingleWriterMany,
        Self::ReadWriteMany,
    ];

    /// Whether more than one node may have the volume.
    pub fn is_shared(self) -> bool {
        matches!(self, Self::ReadOnlyMany | Self::SingleWriterMany | Self::ReadWriteMany)
    }

    /// Whether anybody may write.
    pub fn writes(self) -> bool {
        !matches!(self, Self::ReadOnlyOnce | Self::ReadOnlyMany)
    }

    /// How many nodes may write at the same time; `None` for any number.
    pub fn writers(self) -> Option<usize> {
        match self {
            Self::ReadOnlyOnce | Self::ReadOnlyMany => Some(0),
            Self::ReadWriteOnce | Self::ReadWriteOncePod | Self::SingleWriterMany => Some(1),
            Self::ReadWriteMany => None,
        }
    }
}

impl fmt::Display for AccessMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadWriteOnce => "read-write-once",
            Self::ReadWriteOncePod => "read-write-once-pod",
            Self::ReadOnlyOnce => "read-only-once",
            Self::ReadOnlyMany => "read-only-many",
            Self::SingleWriterMany => "single-writer-many",
            Self::ReadWriteMany => "read-write-many",
        })
    }
}

/// As what a workload sees a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum VolumeMode {
    /// A directory with a file system.
    Filesystem {
        /// Which one, such as `ext4`; empty for what the provider likes best.
        #[serde(default)]
        fs_type: String,
        /// How to mount it, such as `noatime`; must not carry secrets.
        #[serde(default)]
        mount_flags: Vec<String>,
    },
    /// A block device.
    Block,
}

impl VolumeMode {
    /// A directory, with the file system that the provider likes best.
    pub fn filesystem() -> Self {
        Self::Filesystem { fs_type: String::new(), mount_flags: Vec::new() }
    }

    /// Whether it is a block device.
    pub fn is_block(&self) -> bool {
        matches!(self, Self::Block)
    }
}

impl Default for VolumeMode {
    fn default() -> Self {
        Self::filesystem()
    }
}
