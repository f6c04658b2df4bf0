//! What becomes of each volume and snapshot in memory, so that somebody can write it down.

use std::collections::BTreeSet;
use std::fmt;

use hivemind_core::resources::ByteSize;
use hivemind_core::{NodeId, Result};
use serde::{Deserialize, Serialize};

use super::{Frozen, State, Stored};
use crate::{SnapshotKey, VolumeKey, VolumeOptions};

/// How one volume or snapshot of a [`MemoryProvider`](crate::MemoryProvider) is from now on.
///
/// It says how the thing is, not how it became so: writing it down twice does no harm, and only the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MemoryChange {
    /// A volume is like this.
    Volume {
        /// Which.
        key: VolumeKey,
        /// How large it is.
        size: ByteSize,
        /// What it was asked to be like.
        options: VolumeOptions,
        /// What is in it.
        content: Vec<u8>,
        /// The nodes that have it.
        nodes: BTreeSet<NodeId>,
    },
    /// There is no such volume.
    NoVolume(VolumeKey),
    /// A snapshot is like this.
    Snapshot {
        /// Which.
        key: SnapshotKey,
        /// How large the volume was.
        size: ByteSize,
        /// What was in it.
        content: Vec<u8>,
    },
    /// There is no such snapshot.
    NoSnapshot(SnapshotKey),
}

/// Where a [`MemoryProvider`](crate::MemoryProvider) writes down its changes.
///
/// # Contract
///
/// Once `record` has returned, the change survives what the journal is meant to survive. Changes come one at a time, in
/// the order in which they happened, some of them repeatedly. A failed one may be written or not; it is repeated when
/// the call that made it is.
pub trait MemoryJournal: fmt::Debug + Send + Sync + 'static {
    /// Writes `change` down. It may block.
    fn record(&self, change: &MemoryChange) -> Result<()>;
}

impl State {
    pub(super) fn apply(&mut self, change: MemoryChange) {
        match change {
            MemoryChange::Volume { key, size, options, content, nodes } => {
                self.volumes.insert(key, Stored { size, options, content, nodes });
            }
            MemoryChange::NoVolume(key) => drop(self.volumes.remove(&key)),
            MemoryChange::Snapshot { key, size, content } => {
                self.snapshots.insert(key, Frozen { size, content });
            }
            MemoryChange::NoSnapshot(key) => drop(self.snapshots.remove(&key)),
        }
    }

    pub(super) fn volume_now(&self, key: &VolumeKey) -> MemoryChange {
        let key = key.clone();
        match self.volumes.get(&key).cloned() {
            Some(Stored { size, options, content, nodes }) => {
                MemoryChange::Volume { key, size, options, content, nodes }
            }
            None => MemoryChange::NoVolume(key),
        }
    }

    pub(super) fn snapshot_now(&self, key: &SnapshotKey) -> MemoryChange {
        let key = key.clone();
        match self.snapshots.get(&key).cloned() {
            Some(Frozen { size, content }) => MemoryChange::Snapshot { key, size, content },
            None => MemoryChange::NoSnapshot(key),
        }
    }
}
