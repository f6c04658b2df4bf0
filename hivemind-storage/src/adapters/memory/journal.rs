//! What becomes of each thing in memory, so that somebody can write it down.

use std::fmt;

use hivemind_core::Result;
use serde::{Deserialize, Serialize};

use super::state::{MemoryGroup, MemorySnapshot, MemoryVolume, State};
use crate::{FenceEpoch, GroupKey, NodeHandle, SnapshotKey, VolumeKey};

/// How one thing of a [`MemoryProvider`](crate::MemoryProvider) is from now on.
///
/// It says how the thing is, not how it became so: writing it down twice does no harm, and only the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MemoryChange {
    /// A volume is like this.
    Volume(VolumeKey, Box<MemoryVolume>),
    /// There is no such volume.
    NoVolume(VolumeKey),
    /// A snapshot is like this.
    Snapshot(SnapshotKey, Box<MemorySnapshot>),
    /// There is no such snapshot.
    NoSnapshot(SnapshotKey),
    /// A group of snapshots is like this.
    Group(GroupKey, Box<MemoryGroup>),
    /// There is no such group.
    NoGroup(GroupKey),
    /// A node is kept out.
    Fenced(NodeHandle, FenceEpoch),
    /// A node is not kept out.
    NotFenced(NodeHandle),
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

/// What a call may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Volume(VolumeKey),
    Snapshot(SnapshotKey),
    Group(GroupKey),
    Node(NodeHandle),
}

impl State {
    pub(super) fn apply(&mut self, change: MemoryChange) {
        match change {
            MemoryChange::Volume(key, volume) => {
                self.seen(volume.handle.as_str());
                self.keys.insert(volume.handle.clone(), key.clone());
                self.volumes.insert(key, *volume);
            }
            MemoryChange::NoVolume(key) => {
                if let Some(gone) = self.volumes.remove(&key) {
                    self.keys.remove(&gone.handle);
                }
            }
            MemoryChange::Snapshot(key, snapshot) => {
                self.seen(snapshot.handle.as_str());
                self.snapshots.insert(key, *snapshot);
            }
            MemoryChange::NoSnapshot(key) => drop(self.snapshots.remove(&key)),
            MemoryChange::Group(key, group) => {
                self.seen(group.handle.as_str());
                self.groups.insert(key, *group);
            }
            MemoryChange::NoGroup(key) => drop(self.groups.remove(&key)),
            MemoryChange::Fenced(node, epoch) => drop(self.fenced.insert(node, epoch)),
            MemoryChange::NotFenced(node) => drop(self.fenced.remove(&node)),
        }
    }

    /// No later handle may be like `handle`.
    fn seen(&mut self, handle: &str) {
        let number = handle.rsplit('-').next().and_then(|number| number.parse().ok());
        self.newest = self.newest.max(number.unwrap_or(0));
    }

    pub(super) fn now(&self, subject: &Subject) -> MemoryChange {
        match subject.clone() {
            Subject::Volume(key) => match self.volumes.get(&key) {
                Some(volume) => MemoryChange::Volume(key, Box::new(volume.clone())),
                None => MemoryChange::NoVolume(key),
            },
            Subject::Snapshot(key) => match self.snapshots.get(&key) {
                Some(snapshot) => MemoryChange::Snapshot(key, Box::new(snapshot.clone())),
                None => MemoryChange::NoSnapshot(key),
            },
            Subject::Group(key) => match self.groups.get(&key) {
                Some(group) => MemoryChange::Group(key, Box::new(group.clone())),
                None => MemoryChange::NoGroup(key),
            },
            Subject::Node(node) => match self.fenced.get(&node) {
                Some(epoch) => MemoryChange::Fenced(node, *epoch),
                None => MemoryChange::NotFenced(node),
            },
        }
    }

    /// The fewest changes that lead here, in the order of keys.
    pub(super) fn all(&self) -> Vec<MemoryChange> {
        let volumes = self.volumes.keys().cloned().map(Subject::Volume);
        let snapshots = self.snapshots.keys().cloned().map(Subject::Snapshot);
        let groups = self.groups.keys().cloned().map(Subject::Group);
        let nodes = self.fenced.keys().cloned().map(Subject::Node);
        volumes.chain(snapshots).chain(groups).chain(nodes).map(|subject| self.now(&subject)).collect()
    }
}
