//! The port to a node: what makes an attached volume usable by workloads there.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::requests::{ExpandOnNode, PublishVolume, StageVolume};
use crate::{NodeInfo, VolumeRef, VolumeStats};

/// What a node side can do beyond publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NodeCapability {
    /// A volume is staged once for all workloads, before it is published to any.
    Stage,
    /// File systems can grow.
    Expand,
    /// It tells how full a volume is.
    Stats,
    /// It tells the condition of a volume.
    Condition,
}

/// The node side of a storage system: runs on the node whose volumes it mounts.
///
/// # Contract
///
/// - **Idempotence.** A call repeated with the same arguments succeeds and changes nothing.
/// - **Identity.** A device is recognised by what [`Attachment`](crate::Attachment) says of it before anything is
///   read from or written to it; another one, or one that cannot be recognised, is refused: fail closed.
/// - **Data.** Nothing is formatted that has a file system, a partition table, or anything else on it, or that cannot
///   be read. Nothing is ever deleted through a mount: what is still mounted makes unpublishing fail.
/// - **Paths.** Publishing creates the target, whose parent exists; unpublishing removes it. Another volume, or the
///   same with other options, at the same path is [`AlreadyExists`](ErrorKind::AlreadyExists).
/// - **Absence.** Unpublishing and unstaging what is not there succeeds. Anything else on a missing volume is
///   [`NotFound`](ErrorKind::NotFound).
/// - **Access modes.** A volume for one workload is refused at a second target with
///   [`Conflict`](ErrorKind::Conflict); so is publishing what is not staged, if there is staging. What the volume was not
///   made for is [`Invalid`](ErrorKind::Invalid), with the detail [`Beyond::Use`](crate::Beyond::Use).
#[async_trait]
pub trait NodeStorage: fmt::Debug + Send + Sync + 'static {
    /// What it can do. Does not change while it lives.
    fn node_capabilities(&self) -> BTreeSet<NodeCapability>;

    /// What the provider knows of this node.
    async fn node_info(&self) -> Result<NodeInfo>;

    /// Makes the volume usable, once for all workloads ([`Stage`](NodeCapability::Stage)).
    async fn stage_volume(&self, request: &StageVolume) -> Result<()> {
        let _ = request;
        Err(unsupported("stage_volume"))
    }

    /// Undoes staging; no workload has the volume any more ([`Stage`](NodeCapability::Stage)).
    async fn unstage_volume(&self, volume: &VolumeRef, staging_path: &Path) -> Result<()> {
        let _ = (volume, staging_path);
        Err(unsupported("unstage_volume"))
    }

    /// Shows the volume to a workload.
    async fn publish_volume(&self, request: &PublishVolume) -> Result<()>;

    /// Takes the volume from a workload.
    async fn unpublish_volume(&self, volume: &VolumeRef, target_path: &Path) -> Result<()>;

    /// Grows the file system to the volume; returns what it has then ([`Expand`](NodeCapability::Expand)).
    async fn expand_on_node(&self, request: &ExpandOnNode) -> Result<ByteSize> {
        let _ = request;
        Err(unsupported("expand_on_node"))
    }

    /// How full the volume at `path` is ([`Stats`](NodeCapability::Stats)).
    async fn volume_stats(&self, volume: &VolumeRef, path: &Path) -> Result<VolumeStats> {
        let _ = (volume, path);
        Err(unsupported("volume_stats"))
    }
}

fn unsupported(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, operation, "this node side has no such operation")
}
