//! How a volume comes to a node, and what keeps a node off it. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use hivemind_core::{NodeId, UserId};
use serde::{Deserialize, Serialize};

/// Grows whenever a volume is taken from a node that did not let go of it.
///
/// A provider that can [fence](crate::Capability::Fence) refuses whoever comes with an older one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FenceEpoch(u64);

impl FenceEpoch {
    /// The epoch of that number.
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The next one; the last one has itself as next.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for FenceEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Proof that a node can no longer write to a volume: required to move a volume off a node that does not answer.
///
/// Make one only when it is true: two nodes that write to one volume destroy it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fenced {
    /// The storage refuses the node.
    ByStorage,
    /// The node is powered off.
    PowerOff,
    /// A person says so: it goes on record before anything is done by it.
    Operator {
        /// Who.
        who: UserId,
        /// Why that is certain.
        because: String,
    },
}

impl Fenced {
    /// `who` says so, and how it is known.
    pub fn operator(who: UserId, because: impl Into<String>) -> Self {
        Self::Operator { who, because: because.into() }
    }
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByStorage => f.write_str("the storage refuses the node"),
            Self::PowerOff => f.write_str("the node is powered off"),
            Self::Operator { who, because } => write!(f, "{who} says that the node is fenced: {because}"),
        }
    }
}

/// By what a device is recognised: its path may lie, and has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DeviceIdentity {
    /// The serial number that the kernel shows for it.
    Serial(String),
    /// The file behind a loop device.
    BackingFile(PathBuf),
    /// The UUID of its partition table entry or file system.
    Uuid(String),
}

/// As what a volume appears on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AttachedAs {
    /// A block device.
    Device {
        /// Where it is; `None` if only the node can find out.
        path: Option<PathBuf>,
        /// By what the node must recognise it before it touches it.
        identity: Option<DeviceIdentity>,
    },
    /// A directory.
    Directory {
        /// Where.
        path: PathBuf,
    },
    /// Something to talk to over the network.
    Endpoint {
        /// Where.
        url: String,
        /// Under which name the host keeps the credentials; never the credentials themselves.
        credentials: Option<String>,
    },
    /// What only the provider's own node side understands, by the context.
    Opaque,
}

/// A volume on a node: what the node side needs to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attachment {
    /// Where.
    pub node: NodeId,
    /// As what.
    pub access: AttachedAs,
    /// Since which epoch.
    pub epoch: FenceEpoch,
    /// What the provider wants its node side to hear (CSI's `publish_context`); must not carry secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
}

impl Attachment {
    /// A volume on `node`, as `access`.
    pub fn new(node: NodeId, access: AttachedAs) -> Self {
        Self { node, access, epoch: FenceEpoch::default(), context: BTreeMap::new() }
    }

    /// A directory on `node`.
    pub fn directory(node: NodeId, path: impl Into<PathBuf>) -> Self {
        Self::new(node, AttachedAs::Directory { path: path.into() })
    }

    /// A device on `node`.
    pub fn device(node: NodeId, path: impl Into<PathBuf>, identity: Option<DeviceIdentity>) -> Self {
        Self::new(node, AttachedAs::Device { path: Some(path.into()), identity })
    }

    /// With what the node side wants to hear.
    #[must_use]
    pub fn with_context(mut self, context: BTreeMap<String, String>) -> Self {
        self.context = context;
        self
    }

    /// Of this epoch.
    #[must_use]
    pub fn of_epoch(mut self, epoch: FenceEpoch) -> Self {
        self.epoch = epoch;
        self
    }

    /// The node.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The device or directory, if it has a place in the file system that is known.
    pub fn path(&self) -> Option<&Path> {
        match &self.access {
            AttachedAs::Device { path, .. } => path.as_deref(),
            AttachedAs::Directory { path } => Some(path),
            AttachedAs::Endpoint { .. } | AttachedAs::Opaque => None,
        }
    }
}
