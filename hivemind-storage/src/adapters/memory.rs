//! Volumes in a map, with content, so that snapshots and clones can be told from empty ones.

mod journal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hivemind_core::resources::ByteSize;
use hivemind_core::{
    Effect, Error, ErrorKind, NodeId, OpToken, Pending, Progress, ProviderName, Result, Retry,
};

pub use self::journal::{MemoryChange, MemoryJournal};
use crate::{
    Attachment, Capability, SnapshotKey, StorageMetrics, StorageProvider, StorageProviderType, VolumeKey,
    VolumeOptions, VolumeSnapshot, VolumeStatus,
};

/// Volumes in a map: for tests, examples and simulation.
///
/// Shared by an `Arc` it outlives a control plane that crashes, as real storage does. With a
/// [journal](Self::with_journal) it outlives the process.
#[derive(Debug)]
pub struct MemoryProvider {
    name: ProviderName,
    capacity: Option<ByteSize>,
    /// One in n mutating calls loses its reply, and one in n is pending at first; zero for never.
    lose_every: u64,
    delay_every: u64,
    journal: Option<Arc<dyn MemoryJournal>>,
    state: Mutex<State>,
}

/// What a call may change.
#[derive(Debug, Clone, Copy)]
enum Subject<'a> {
    Volume(&'a VolumeKey),
    Snapshot(&'a SnapshotKey),
}

#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<VolumeKey, Stored>,
    snapshots: BTreeMap<SnapshotKey, Frozen>,
    calls: u64,
    delayed: BTreeSet<OpToken>,
}

#[derive(Debug, Clone)]
struct Stored {
    size: ByteSize,
    options: VolumeOptions,
    content: Vec<u8>,
    nodes: BTreeSet<NodeId>,
}

#[derive(Debug, Clone)]
struct Frozen {
    size: ByteSize,
    content: Vec<u8>,
}

impl MemoryProvider {
    /// A provider without volumes and without bounds.
    pub fn new(name: ProviderName) -> Self {
        Self { name, capacity: None, lose_every: 0, delay_every: 0, journal: None, state: Mutex::default() }
    }

    /// The provider that these changes lead to, made one after the other.
    pub fn restored(name: ProviderName, changes: impl IntoIterator<Item = MemoryChange>) -> Self {
        let mut state = State::default();
        changes.into_iter().for_each(|change| state.apply(change));
        Self { state: Mutex::new(state), ..Self::new(name) }
    }

    /// From now on every change is written to `journal` before anybody hears of it.
    #[must_use]
    pub fn with_journal(mut self, journal: Arc<dyn MemoryJournal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// The fewest changes that lead here, in the order of keys.
    pub fn changes(&self) -> Vec<MemoryChange> {
        let state = self.lock();
        let volumes = state.volumes.keys().map(|key| state.volume_now(key));
        volumes.chain(state.snapshots.keys().map(|key| state.snapshot_now(key))).collect()
    }

    /// With room for so much; beyond it creation fails with [`ErrorKind::Exhausted`].
    #[must_use]
    pub fn with_capacity(mut self, capacity: ByteSize) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// About one in `n` mutating calls happens and fails with an unknown effect; zero for none.
    #[must_use]
    pub fn losing_one_in(mut self, n: u64) -> Self {
        self.lose_every = n;
        self
    }

    /// About one in `n` mutating calls is pending the first time it is made; zero for none.
    #[must_use]
    pub fn delaying_one_in(mut self, n: u64) -> Self {
        self.delay_every = n;
        self
    }

    /// Writes the whole content of a volume, as a workload on `node` would.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the volume is not on that node; those of the journal.
    pub fn write(&self, key: &VolumeKey, node: &NodeId, content: &[u8]) -> Result<()> {
        let mut state = self.lock();
        let volume = state.volume("write", key)?;
        if !volume.nodes.contains(node) {
            let message = format!("volume {} is not on node {node}", key.volume);
            return Err(Error::new(ErrorKind::Conflict, "write", message));
        }
        volume.content = content.to_vec();
        self.record(|| state.volume_now(key))
    }

    /// The whole content of a volume.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such volume.
    pub fn content(&self, key: &VolumeKey) -> Result<Vec<u8>> {
        Ok(self.lock().volume("content", key)?.content.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, now: impl FnOnce() -> MemoryChange) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        // It has happened already, so whoever repeats it writes it down again.
        journal.record(&now()).map_err(|e| e.with_effect(Effect::Unknown).with_retry(Retry::Later))
    }

    /// Does `change` to `subject` as one call, with the faults that are set up.
    fn call<T>(
        &self,
        operation: &'static str,
        token: &OpToken,
        subject: Subject<'_>,
        change: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<Progress<T>> {
        let mut state = self.lock();
        state.calls += 1;
        // Scattered over the calls, so that no caller can fall into step with the faults.
        let scattered = state.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let nth = |every: u64| every > 0 && scattered.is_multiple_of(every);
        let (lost, delayed) = (nth(self.lose_every), nth(self.delay_every));
        if delayed && state.delayed.insert(token.clone()) {
            return Ok(Progress::Pending(Pending::new(token.clone(), Duration::from_secs(1))));
        }
        let done = change(&mut state)?;
        self.record(|| match subject {
            Subject::Volume(key) => state.volume_now(key),
            Subject::Snapshot(key) => state.snapshot_now(key),
        })?;
        if lost {
            let error = Error::new(ErrorKind::Unavailable, operation, "the reply was lost");
            return Err(error.with_effect(Effect::Unknown).with_retry(Retry::Later));
        }
        Ok(Progress::Ready(done))
    }

    fn room(&self, state: &State, more: ByteSize) -> Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let used = state.provisioned();
        if used.checked_add(more).is_some_and(|total| total <= capacity) {
            return Ok(());
        }
        let message = format!("{} asks for {more}, of {capacity} there are {used} in use", self.name);
        Err(Error::new(ErrorKind::Exhausted, "create_volume", message))
    }
}

impl State {
    fn volume(&mut self, operation: &'static str, key: &VolumeKey) -> Result<&mut Stored> {
        let missing = || Error::not_found(operation, format!("there is no volume {key}"));
        self.volumes.get_mut(key).ok_or_else(missing)
    }

    fn provisioned(&self) -> ByteSize {
        let total =
            self.volumes.values().fold(0u64, |sum, volume| sum.saturating_add(volume.size.as_bytes()));
        ByteSize::from_bytes(total)
    }
}

fn status(key: &VolumeKey, volume: &Stored) -> VolumeStatus {
    VolumeStatus::new(key.clone(), volume.size).attached_to(volume.nodes.iter().cloned())
}

fn in_use(operation: &'static str, key: &VolumeKey, volume: &Stored) -> Error {
    let nodes = volume.nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ");
    Error::new(ErrorKind::Conflict, operation, format!("volume {key} is on {nodes}: detach it first"))
}

#[async_trait]
impl StorageProvider for MemoryProvider {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn provider_type(&self) -> StorageProviderType {
        StorageProviderType::Local
    }

    fn capabilities(&self) -> BTreeSet<Capability> {
        [Capability::Expand, Capability::Snapshots, Capability::Clone, Capability::SharedAccess].into()
    }

    async fn create_volume(
        &self,
        token: &OpToken,
        key: &VolumeKey,
        size: ByteSize,
        options: &VolumeOptions,
    ) -> Result<Progress<VolumeStatus>> {
        if size.as_bytes() == 0 {
            return Err(Error::invalid("create_volume", format!("volume {key} has no size")));
        }
        self.call("create_volume", token, Subject::Volume(key), |state| {
            if let Some(existing) = state.volumes.get(key) {
                if existing.size == size && existing.options == *options {
                    return Ok(status(key, existing));
                }
                let message = format!("volume {key} exists with another size or other options");
                return Err(Error::new(ErrorKind::AlreadyExists, "create_volume", message));
            }
            self.room(state, size)?;
            let fresh =
                Stored { size, options: options.clone(), content: Vec::new(), nodes: BTreeSet::new() };
            let made = status(key, &fresh);
            state.volumes.insert(key.clone(), fresh);
            Ok(made)
        })
    }

    async fn delete_volume(&self, token: &OpToken, key: &VolumeKey) -> Result<Progress<()>> {
        self.call("delete_volume", token, Subject::Volume(key), |state| {
            if let Some(volume) = state.volumes.get(key).filter(|volume| !volume.nodes.is_empty()) {
                return Err(in_use("delete_volume", key, volume));
            }
            state.volumes.remove(key);
            Ok(())
        })
    }

    async fn expand_volume(
        &self,
        token: &OpToken,
        key: &VolumeKey,
        size: ByteSize,
    ) -> Result<Progress<ByteSize>> {
        self.call("expand_volume", token, Subject::Volume(key), |state| {
            let old = state.volume("expand_volume", key)?.size;
            let Some(more) = size.checked_sub(old) else {
                let message = format!("volume {key} has {old} and does not shrink to {size}");
                return Err(Error::invalid("expand_volume", message));
            };
            self.room(state, more)?;
            state.volume("expand_volume", key)?.size = size;
            Ok(size)
        })
    }

    async fn attach_volume(
        &self,
        token: &OpToken,
        key: &VolumeKey,
        node: &NodeId,
    ) -> Result<Progress<Attachment>> {
        self.call("attach_volume", token, Subject::Volume(key), |state| {
            let volume = state.volume("attach_volume", key)?;
            let others = volume.nodes.iter().any(|other| other != node);
            if others && !volume.options.access_mode.is_shared() {
                return Err(in_use("attach_volume", key, volume));
            }
            volume.nodes.insert(node.clone());
            let path = format!("/volumes/{}/{}", key.tenant, key.volume).into();
            Ok(Attachment::Directory { node: node.clone(), path })
        })
    }

    async fn detach_volume(&self, token: &OpToken, key: &VolumeKey, node: &NodeId) -> Result<Progress<()>> {
        self.call("detach_volume", token, Subject::Volume(key), |state| {
            if let Some(volume) = state.volumes.get_mut(key) {
                volume.nodes.remove(node);
            }
            Ok(())
        })
    }

    async fn create_snapshot(&self, token: &OpToken, key: &SnapshotKey) -> Result<Progress<VolumeSnapshot>> {
        self.call("create_snapshot", token, Subject::Snapshot(key), |state| {
            let volume = state.volume("create_snapshot", &key.volume)?;
            let fresh = Frozen { size: volume.size, content: volume.content.clone() };
            let frozen = state.snapshots.entry(key.clone()).or_insert(fresh);
            Ok(VolumeSnapshot::new(key.clone(), frozen.size))
        })
    }

    async fn delete_snapshot(&self, token: &OpToken, key: &SnapshotKey) -> Result<Progress<()>> {
        self.call("delete_snapshot", token, Subject::Snapshot(key), |state| {
            state.snapshots.remove(key);
            Ok(())
        })
    }

    async fn restore_snapshot(&self, token: &OpToken, key: &SnapshotKey) -> Result<Progress<()>> {
        self.call("restore_snapshot", token, Subject::Volume(&key.volume), |state| {
            let missing = || {
                let message = format!("volume {} has no snapshot {}", key.volume, key.snapshot);
                Error::not_found("restore_snapshot", message)
            };
            let frozen = state.snapshots.get(key).cloned().ok_or_else(missing)?;
            let volume = state.volume("restore_snapshot", &key.volume)?;
            if !volume.nodes.is_empty() {
                return Err(in_use("restore_snapshot", &key.volume, volume));
            }
            volume.content = frozen.content;
            Ok(())
        })
    }

    async fn clone_volume(
        &self,
        token: &OpToken,
        source: &VolumeKey,
        target: &VolumeKey,
    ) -> Result<Progress<VolumeStatus>> {
        if source.tenant != target.tenant {
            return Err(Error::not_found("clone_volume", format!("there is no volume {}", source.volume)));
        }
        self.call("clone_volume", token, Subject::Volume(target), |state| {
            let mut copy = state.volume("clone_volume", source)?.clone();
            copy.nodes.clear();
            if let Some(existing) = state.volumes.get(target) {
                if existing.size == copy.size && existing.options == copy.options {
                    return Ok(status(target, existing));
                }
                let message = format!("volume {target} exists and is another one");
                return Err(Error::new(ErrorKind::AlreadyExists, "clone_volume", message));
            }
            self.room(state, copy.size)?;
            let made = status(target, &copy);
            state.volumes.insert(target.clone(), copy);
            Ok(made)
        })
    }

    async fn volume_status(&self, key: &VolumeKey) -> Result<VolumeStatus> {
        let mut state = self.lock();
        Ok(status(key, state.volume("volume_status", key)?))
    }

    async fn provider_metrics(&self) -> Result<StorageMetrics> {
        let state = self.lock();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let (volumes, snapshots) = (count(state.volumes.len()), count(state.snapshots.len()));
        Ok(StorageMetrics::new(volumes, snapshots, state.provisioned(), self.capacity))
    }

    async fn list_volumes<'a>(
        &self,
        after: Option<&'a VolumeKey>,
        limit: usize,
    ) -> Result<Vec<VolumeStatus>> {
        let state = self.lock();
        let later = state.volumes.iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
        Ok(later.take(limit).map(|(key, volume)| status(key, volume)).collect())
    }
}
