//! What the memory provider holds, and what each call does to it. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, OpToken, Result, Timestamp};
use serde::{Deserialize, Serialize};

use super::journal::Subject;
use crate::{
    AccessMode, AttachVolume, Beyond, CreateVolume, DetachVolume, FenceEpoch, GroupHandle, GroupKey,
    NodeHandle, SnapshotHandle, SnapshotKey, Topology, VolumeCondition, VolumeHandle, VolumeKey,
    VolumeOptions, VolumeRef, VolumeSource, VolumeStatus, topology,
};

/// How a node has a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryHold {
    /// For whom at the same time.
    pub access_mode: AccessMode,
    /// Whether it may only read.
    pub read_only: bool,
    /// By which decision.
    pub epoch: FenceEpoch,
}

/// A volume in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryVolume {
    /// What the provider calls it.
    pub handle: VolumeHandle,
    /// How large it is.
    pub size: ByteSize,
    /// What it was asked to be like.
    pub options: VolumeOptions,
    /// The snapshot or volume it was made of, by the provider's name.
    pub source: Option<String>,
    /// From where it can be reached; empty for everywhere.
    pub topology: Vec<Topology>,
    /// What is in it.
    pub content: Vec<u8>,
    /// The nodes that have it.
    pub nodes: BTreeMap<NodeHandle, MemoryHold>,
    /// The newest decision about it that was heard of.
    pub epoch: FenceEpoch,
    /// How it is.
    pub condition: VolumeCondition,
}

impl MemoryVolume {
    /// Whether one more node may have it: all share it then, and there are not too many writers.
    fn may_join(&self, hold: &MemoryHold) -> bool {
        let shared = self.nodes.values().chain([hold]).all(|held| held.access_mode.is_shared());
        if !self.nodes.is_empty() && !shared {
            return false;
        }
        let writers = self.nodes.values().filter(|held| held.writes()).count();
        let bounds = self.nodes.values().chain([hold]).filter_map(|held| held.access_mode.writers());
        !hold.writes() || bounds.min().is_none_or(|most| writers < most)
    }
}

impl MemoryHold {
    pub(super) fn writes(&self) -> bool {
        !self.read_only && self.access_mode.writes()
    }
}

/// A snapshot in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemorySnapshot {
    /// What the provider calls it.
    pub handle: SnapshotHandle,
    /// What the provider calls the volume it was taken of.
    pub source: VolumeHandle,
    /// How large the volume was.
    pub size: ByteSize,
    /// What was in it.
    pub content: Vec<u8>,
    /// When it was cut.
    pub created_at: Timestamp,
}

/// A group of snapshots in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryGroup {
    /// What the provider calls it.
    pub handle: GroupHandle,
    /// Of which volumes.
    pub volumes: BTreeSet<VolumeKey>,
    /// When it was cut.
    pub created_at: Timestamp,
}

/// The size and content that a volume begins with, and what the provider calls its source.
type Beginning = (ByteSize, Vec<u8>, Option<String>);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) volumes: BTreeMap<VolumeKey, MemoryVolume>,
    pub(super) snapshots: BTreeMap<SnapshotKey, MemorySnapshot>,
    pub(super) groups: BTreeMap<GroupKey, MemoryGroup>,
    pub(super) fenced: BTreeMap<NodeHandle, FenceEpoch>,
    /// Which volume has a handle.
    pub(super) keys: BTreeMap<VolumeHandle, VolumeKey>,
    /// The number of the newest handle.
    pub(super) newest: u64,
    pub(super) calls: u64,
    /// What the call that is going on changes besides what it names.
    pub(super) touched: Vec<Subject>,
    pub(super) delayed: BTreeSet<OpToken>,
}

pub(super) fn missing(operation: &'static str, what: impl std::fmt::Display) -> Error {
    Error::not_found(operation, format!("there is no {what}"))
}

fn exists(operation: &'static str, what: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, operation, format!("{what}: it is left alone"))
}

pub(super) fn in_use(operation: &'static str, key: &VolumeKey, volume: &MemoryVolume) -> Error {
    let nodes = volume.nodes.keys().map(NodeHandle::as_str).collect::<Vec<_>>().join(", ");
    Error::new(ErrorKind::Conflict, operation, format!("volume {key} is on {nodes}: detach it first"))
}

impl State {
    /// `prefix` and the next number, which no handle had before.
    pub(super) fn next_handle<H: std::str::FromStr>(&mut self, prefix: &str) -> Result<H> {
        self.newest += 1;
        let text = format!("{prefix}-{}", self.newest);
        text.parse().map_err(|_| Error::internal("handle", format!("{text} is no handle")))
    }

    /// The volume of that key and handle; a handle under another key is as good as none.
    pub(super) fn volume(&self, operation: &'static str, of: &VolumeRef) -> Result<&MemoryVolume> {
        let found = self.volumes.get(&of.key).filter(|volume| volume.handle == of.handle);
        found.ok_or_else(|| missing(operation, format_args!("volume {}", of.key)))
    }

    pub(super) fn volume_mut(
        &mut self,
        operation: &'static str,
        of: &VolumeRef,
    ) -> Result<&mut MemoryVolume> {
        let found = self.volumes.get_mut(&of.key).filter(|volume| volume.handle == of.handle);
        found.ok_or_else(|| missing(operation, format_args!("volume {}", of.key)))
    }

    pub(super) fn provisioned(&self) -> ByteSize {
        let total =
            self.volumes.values().fold(0u64, |sum, volume| sum.saturating_add(volume.size.as_bytes()));
        ByteSize::from_bytes(total)
    }

    pub(super) fn status(&self, key: &VolumeKey, volume: &MemoryVolume) -> VolumeStatus {
        VolumeStatus::new(volume.handle.clone(), volume.size)
            .of(key.clone())
            .attached_to(volume.nodes.keys().cloned())
            .with_condition(volume.condition.clone())
            .with_options(volume.options.clone())
    }

    /// What the volume begins with: as large as asked for, and at least as its source.
    pub(super) fn beginning(&self, request: &CreateVolume, may_grow: bool) -> Result<Beginning> {
        let (least, content, source) = self.content_of(request)?;
        let size = request.size.required().max(least);
        if !request.size.admits(size) {
            let message = format!("the source has {least}, more than the volume may have");
            return Err(Error::invalid("create_volume", message).with_source(Beyond::Size));
        }
        if source.is_some() && size > least && !may_grow {
            let message = format!("the source has {least}, and this provider makes no larger volume of it");
            return Err(Error::new(ErrorKind::Unsupported, "create_volume", message));
        }
        Ok((size, content, source))
    }

    /// The size and content of the source, and what the provider calls it.
    fn content_of(&self, request: &CreateVolume) -> Result<Beginning> {
        const OPERATION: &str = "create_volume";
        match &request.source {
            None => Ok((ByteSize::ZERO, Vec::new(), None)),
            Some(VolumeSource::Snapshot(of)) => {
                let found = self.snapshots.get(&of.key).filter(|snapshot| snapshot.handle == of.handle);
                let found = found.filter(|_| of.key.volume.tenant == request.key.tenant);
                let found = found.ok_or_else(|| missing(OPERATION, format_args!("snapshot {}", of.key)))?;
                Ok((found.size, found.content.clone(), Some(found.handle.to_string())))
            }
            Some(VolumeSource::Volume(of)) => {
                if of.key.tenant != request.key.tenant {
                    return Err(missing(OPERATION, format_args!("volume {}", of.key)));
                }
                let found = self.volume(OPERATION, of)?;
                Ok((found.size, found.content.clone(), Some(found.handle.to_string())))
            }
        }
    }

    /// The volume asked for, if it is there; an error if another one has its key.
    pub(super) fn existing(&self, request: &CreateVolume) -> Result<Option<&MemoryVolume>> {
        let Some(volume) = self.volumes.get(&request.key) else { return Ok(None) };
        let source = match &request.source {
            None => None,
            Some(VolumeSource::Snapshot(of)) => Some(of.handle.as_str()),
            Some(VolumeSource::Volume(of)) => Some(of.handle.as_str()),
        };
        let mut differs = Vec::new();
        if !request.size.admits(volume.size) {
            differs.push(format!("it has {}", volume.size));
        }
        if volume.options != request.options {
            differs.push("it has other options".to_owned());
        }
        if volume.source.as_deref() != source {
            differs.push("it has another source".to_owned());
        }
        let places = &volume.topology;
        if !places.is_empty() && topology::choose(&request.topology, places, places.len()).is_none() {
            differs.push("it cannot be reached from where it is asked for".to_owned());
        }
        if differs.is_empty() {
            return Ok(Some(volume));
        }
        Err(exists("create_volume", &format!("volume {} exists, but {}", request.key, differs.join(", "))))
    }

    /// A new volume as asked for, of this beginning, in these places.
    pub(super) fn create(
        &mut self,
        request: &CreateVolume,
        (size, content, source): Beginning,
        topology: Vec<Topology>,
    ) -> Result<()> {
        let handle: VolumeHandle = self.next_handle("vol")?;
        self.keys.insert(handle.clone(), request.key.clone());
        let volume = MemoryVolume {
            handle,
            size,
            options: request.options.clone(),
            source,
            topology,
            content,
            nodes: BTreeMap::new(),
            epoch: FenceEpoch::default(),
            condition: VolumeCondition::Normal,
        };
        self.volumes.insert(request.key.clone(), volume);
        Ok(())
    }

    pub(super) fn delete(&mut self, of: &VolumeRef) -> Result<()> {
        let Ok(volume) = self.volume("delete_volume", of) else { return Ok(()) };
        if !volume.nodes.is_empty() {
            return Err(in_use("delete_volume", &of.key, volume));
        }
        self.volumes.remove(&of.key);
        self.keys.remove(&of.handle);
        Ok(())
    }

    pub(super) fn attach(&mut self, request: &AttachVolume) -> Result<()> {
        const OPERATION: &str = "attach_volume";
        let node = &request.node.handle;
        let fenced = self.fenced.get(node).copied();
        let volume = self.volume_mut(OPERATION, &request.volume)?;
        if request.epoch < volume.epoch || fenced.is_some() {
            let message = format!(
                "node {node} is fenced from volume {}: epoch {} is not newer than {}",
                request.volume.key,
                request.epoch,
                fenced.unwrap_or(volume.epoch)
            );
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        if request.access_mode.is_shared() && !volume.options.is_shared() {
            let message = format!(
                "volume {} was not made for {}: only one node at a time may have it",
                request.volume.key, request.access_mode
            );
            return Err(Error::invalid(OPERATION, message));
        }
        let hold = MemoryHold {
            access_mode: request.access_mode,
            read_only: request.read_only,
            epoch: request.epoch,
        };
        match volume.nodes.get_mut(node) {
            Some(held) if (held.access_mode, held.read_only) == (hold.access_mode, hold.read_only) => {
                // The same wish, decided anew.
                held.epoch = hold.epoch;
            }
            Some(_) => {
                let message = format!("volume {} is on {node} already, otherwise", request.volume.key);
                return Err(exists(OPERATION, &message));
            }
            None => {
                if !volume.may_join(&hold) {
                    return Err(in_use(OPERATION, &request.volume.key, volume));
                }
                volume.nodes.insert(node.clone(), hold);
            }
        }
        volume.epoch = volume.epoch.max(request.epoch);
        Ok(())
    }

    pub(super) fn detach(&mut self, request: &DetachVolume) {
        if let Ok(volume) = self.volume_mut("detach_volume", &request.volume) {
            volume.nodes.remove(&request.node.handle);
        }
    }

    /// Keeps `node` out, and takes what it has by an older decision.
    pub(super) fn fence(&mut self, node: &NodeHandle, epoch: FenceEpoch) {
        let kept = self.fenced.entry(node.clone()).or_insert(epoch);
        *kept = (*kept).max(epoch);
        for (key, volume) in &mut self.volumes {
            if volume.nodes.get(node).is_some_and(|held| held.epoch < epoch) {
                volume.nodes.remove(node);
                volume.epoch = volume.epoch.max(epoch);
                self.touched.push(Subject::Volume(key.clone()));
            }
        }
    }

    pub(super) fn snapshot(&mut self, key: &SnapshotKey, of: &VolumeRef, now: Timestamp) -> Result<()> {
        const OPERATION: &str = "create_snapshot";
        if let Some(existing) = self.snapshots.get(key) {
            if existing.source == of.handle {
                return Ok(());
            }
            return Err(exists(OPERATION, &format!("snapshot {key} exists, of another volume")));
        }
        if key.volume != of.key {
            let message = format!("snapshot {key} is asked for of volume {}: name it after that", of.key);
            return Err(Error::invalid(OPERATION, message));
        }
        let volume = self.volume(OPERATION, of)?;
        let (size, content) = (volume.size, volume.content.clone());
        let handle = self.next_handle("snap")?;
        let fresh = MemorySnapshot { handle, source: of.handle.clone(), size, content, created_at: now };
        self.snapshots.insert(key.clone(), fresh);
        Ok(())
    }

    pub(super) fn group_of(&self, key: &SnapshotKey) -> Option<&MemoryGroup> {
        let group = GroupKey::new(key.volume.tenant.clone(), key.snapshot.clone());
        self.groups.get(&group).filter(|group| group.volumes.contains(&key.volume))
    }

    /// Snapshots of all of `volumes`, or of none.
    pub(super) fn group(&mut self, key: &GroupKey, volumes: &[VolumeRef], now: Timestamp) -> Result<()> {
        const OPERATION: &str = "create_group_snapshot";
        let wanted: BTreeSet<VolumeKey> = volumes.iter().map(|volume| volume.key.clone()).collect();
        if let Some(existing) = self.groups.get(key) {
            if existing.volumes == wanted {
                return Ok(());
            }
            return Err(exists(OPERATION, &format!("group {key} exists, of other volumes")));
        }
        if wanted.len() < volumes.len() {
            return Err(Error::invalid(OPERATION, format!("group {key} has a volume twice: name each once")));
        }
        for volume in volumes {
            let taken = SnapshotKey::new(volume.key.clone(), key.group.clone());
            if volume.key.tenant != key.tenant {
                return Err(missing(OPERATION, format_args!("volume {}", volume.key)));
            }
            self.volume(OPERATION, volume)?;
            if self.snapshots.contains_key(&taken) {
                return Err(exists(OPERATION, &format!("snapshot {taken} exists, of its own")));
            }
        }
        for volume in volumes {
            self.snapshot(&SnapshotKey::new(volume.key.clone(), key.group.clone()), volume, now)?;
        }
        let handle = self.next_handle("group")?;
        self.groups.insert(key.clone(), MemoryGroup { handle, volumes: wanted, created_at: now });
        Ok(())
    }
}
