//! The memory provider as a storage provider.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use async_trait::async_trait;
use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, OpToken, Progress, ProviderName, Result};

use super::journal::Subject;
use super::state::{State, in_use, missing};
use super::{MemoryProvider, MemorySnapshot};
use crate::{
    AccessMode, AttachVolume, Attachment, Capabilities, Capability, Capacity, CapacityQuery,
    CreateGroupSnapshot, CreateSnapshot, CreateVolume, Cursor, DetachVolume, Expanded, FenceEpoch,
    GroupHandle, GroupKey, GroupSnapshot, NodeRef, Page, ProvisionedVolume, SizeRange, SnapshotKey,
    SnapshotRef, StorageMetrics, StorageProvider, StorageProviderType, VolumeKey, VolumeRef, VolumeSnapshot,
    VolumeSource, VolumeStatus, topology,
};

/// All that a provider may be able to do.
pub(super) fn everything() -> Capabilities {
    Capabilities::new(Capability::ALL).with_access_modes(AccessMode::ALL).with_volume_modes(true, true)
}

fn seen(state: &State, key: &SnapshotKey, snapshot: &MemorySnapshot) -> VolumeSnapshot {
    let MemorySnapshot { handle, source, size, created_at, .. } = snapshot.clone();
    let group = state.group_of(key).map(|group| group.handle.clone());
    VolumeSnapshot::new(handle, source, size, created_at).of(key.clone()).in_group(group)
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// One page of `all`, whose cursors are keys as text.
fn page<'a, K, V, T>(
    all: &'a BTreeMap<K, V>,
    after: Option<&Cursor>,
    limit: usize,
    item: impl Fn(&'a K, &'a V) -> T,
) -> Result<Page<T>>
where
    K: Ord + serde::Serialize + serde::de::DeserializeOwned,
{
    let from = match after {
        None => Bound::Unbounded,
        Some(cursor) => Bound::Excluded(serde_json::from_str::<K>(cursor.as_str()).map_err(|_| {
            Error::invalid("list", format!("{:?} is no cursor of this list", cursor.as_str()))
        })?),
    };
    let mut rest = all.range((from, Bound::Unbounded)).peekable();
    let (mut items, mut last) = (Vec::new(), None);
    while let Some((key, value)) = (items.len() < limit.max(1)).then(|| rest.next()).flatten() {
        items.push(item(key, value));
        last = Some(key);
    }
    let next = match last.filter(|_| rest.peek().is_some()) {
        None => None,
        Some(key) => {
            let text = serde_json::to_string(key).map_err(|e| Error::internal("list", e.to_string()))?;
            Some(Cursor::new(text))
        }
    };
    Ok(Page::new(items, next))
}

impl MemoryProvider {
    fn require(&self, capability: Capability) -> Result<()> {
        self.capabilities.require(&self.name, capability)
    }

    /// Refuses what the capabilities do not list, before anything happens.
    fn require_creation(&self, request: &CreateVolume) -> Result<()> {
        self.capabilities.require_options(&self.name, &request.options)?;
        match request.source {
            None => Ok(()),
            Some(VolumeSource::Snapshot(_)) => self.require(Capability::Snapshots),
            Some(VolumeSource::Volume(_)) => self.require(Capability::Clone),
        }
    }

    /// The next whole step, if there are steps and it is in the range.
    fn rounded(&self, size: ByteSize, range: SizeRange) -> ByteSize {
        let whole = self.step.and_then(|step| size.as_bytes().checked_next_multiple_of(step.as_bytes()));
        whole.map(ByteSize::from_bytes).filter(|whole| range.admits(*whole)).unwrap_or(size)
    }

    fn made(&self, state: &State, key: &VolumeKey) -> Result<ProvisionedVolume> {
        let volume = state.volumes.get(key).ok_or_else(|| missing("create_volume", key))?;
        let made = VolumeRef::new(key.clone(), volume.handle.clone());
        Ok(ProvisionedVolume::new(made, volume.size).with_topology(volume.topology.clone()))
    }
}

#[async_trait]
impl StorageProvider for MemoryProvider {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn provider_type(&self) -> StorageProviderType {
        StorageProviderType::Local
    }

    fn capabilities(&self) -> Capabilities {
        let mut able = self.capabilities.clone();
        // Without places its volumes are everywhere.
        if self.places.is_empty() {
            able.features.remove(&Capability::Topology);
        }
        able
    }

    async fn probe(&self) -> Result<()> {
        Ok(())
    }

    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        self.require_creation(request)?;
        let key = &request.key;
        self.call("create_volume", &request.token, &[Subject::Volume(key.clone())], |state| {
            if state.existing(request)?.is_none() {
                let places = if self.places.is_empty() {
                    Vec::new()
                } else {
                    topology::choose(&request.topology, &self.places, 1).ok_or_else(|| {
                        let message = format!("{} has no place for volume {key}", self.name);
                        Error::new(ErrorKind::Exhausted, "create_volume", message)
                    })?
                };
                let mut beginning =
                    state.beginning(request, self.capabilities.has(Capability::GrowFromSource))?;
                beginning.0 = self.rounded(beginning.0, request.size);
                self.room(state, beginning.0)?;
                state.create(request, beginning, places)?;
            }
            self.made(state, key)
        })
    }

    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        let subjects = [Subject::Volume(volume.key.clone())];
        self.call("delete_volume", token, &subjects, |state| state.delete(volume))
    }

    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        let state = self.lock();
        Ok(state.status(&volume.key, state.volume("get_volume_status", volume)?))
    }

    async fn get_volume_statuses(&self, volumes: &[VolumeRef]) -> Result<Vec<Result<VolumeStatus>>> {
        let state = self.lock();
        let status = |of: &VolumeRef| Ok(state.status(&of.key, state.volume("get_volume_status", of)?));
        Ok(volumes.iter().map(status).collect())
    }

    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        let state = self.lock();
        let (volumes, snapshots) = (count(state.volumes.len()), count(state.snapshots.len()));
        Ok(StorageMetrics::new(volumes, snapshots, state.provisioned(), self.capacity))
    }

    async fn expand_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        size: SizeRange,
    ) -> Result<Progress<Expanded>> {
        self.require(Capability::Expand)?;
        self.call("expand_volume", token, &[Subject::Volume(volume.key.clone())], |state| {
            let found = state.volume("expand_volume", volume)?;
            let old = found.size;
            if size.limit().is_some_and(|limit| limit < old) {
                let message = format!("volume {} has {old} and does not shrink", volume.key);
                return Err(Error::invalid("expand_volume", message));
            }
            let node_step = !found.options.volume_mode.is_block();
            let wanted = self.rounded(size.required(), size);
            let more = wanted.saturating_sub(old);
            // Nothing is left to do for a repetition, also once the volume is on a node.
            if more > ByteSize::ZERO {
                if !found.nodes.is_empty() && !self.capabilities.has(Capability::ExpandOnline) {
                    return Err(in_use("expand_volume", &volume.key, found));
                }
                self.room(state, more)?;
                state.volume_mut("expand_volume", volume)?.size = wanted;
            }
            Ok(Expanded::new(old.max(wanted), node_step))
        })
    }

    async fn modify_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Progress<()>> {
        self.require(Capability::Modify)?;
        self.call("modify_volume", token, &[Subject::Volume(volume.key.clone())], |state| {
            let found = state.volume_mut("modify_volume", volume)?;
            let changed = parameters.iter().map(|(name, value)| (name.clone(), value.clone()));
            found.options.mutable_parameters.extend(changed);
            Ok(())
        })
    }

    async fn attach_volume(&self, request: &AttachVolume) -> Result<Progress<Attachment>> {
        self.require(Capability::Attach)?;
        if !self.capabilities.access_modes.contains(&request.access_mode) {
            let message = format!("provider {} has no access mode {}", self.name, request.access_mode);
            return Err(Error::new(ErrorKind::Unsupported, "attach_volume", message));
        }
        let key = &request.volume.key;
        self.call("attach_volume", &request.token, &[Subject::Volume(key.clone())], |state| {
            state.attach(request)?;
            let path = format!("/volumes/{}/{}", key.tenant, key.volume);
            Ok(Attachment::directory(request.node.node.clone(), path).of_epoch(request.epoch))
        })
    }

    async fn detach_volume(&self, request: &DetachVolume) -> Result<Progress<()>> {
        self.require(Capability::Attach)?;
        let subjects = [Subject::Volume(request.volume.key.clone())];
        self.call("detach_volume", &request.token, &subjects, |state| {
            state.detach(request);
            Ok(())
        })
    }

    async fn fence_node(
        &self,
        token: &OpToken,
        node: &NodeRef,
        epoch: FenceEpoch,
        volumes: &[VolumeRef],
    ) -> Result<Progress<()>> {
        self.require(Capability::Fence)?;
        let volumes = volumes.iter().map(|volume| Subject::Volume(volume.key.clone()));
        let subjects: Vec<_> = volumes.chain([Subject::Node(node.handle.clone())]).collect();
        self.call("fence_node", token, &subjects, |state| {
            state.fence(&node.handle, epoch);
            Ok(())
        })
    }

    async fn unfence_node(&self, token: &OpToken, node: &NodeRef) -> Result<Progress<()>> {
        self.require(Capability::Fence)?;
        self.call("unfence_node", token, &[Subject::Node(node.handle.clone())], |state| {
            state.fenced.remove(&node.handle);
            Ok(())
        })
    }

    async fn create_snapshot(&self, request: &CreateSnapshot) -> Result<Progress<VolumeSnapshot>> {
        self.require(Capability::Snapshots)?;
        let key = &request.key;
        self.call("create_snapshot", &request.token, &[Subject::Snapshot(key.clone())], |state| {
            let now = self.now(state);
            state.snapshot(key, &request.volume, now)?;
            let taken = state.snapshots.get(key).ok_or_else(|| missing("create_snapshot", key))?;
            Ok(seen(state, key, taken))
        })
    }

    async fn delete_snapshot(&self, token: &OpToken, snapshot: &SnapshotRef) -> Result<Progress<()>> {
        self.require(Capability::Snapshots)?;
        let key = &snapshot.key;
        self.call("delete_snapshot", token, &[Subject::Snapshot(key.clone())], |state| {
            if state.snapshots.get(key).is_none_or(|found| found.handle != snapshot.handle) {
                return Ok(());
            }
            if state.group_of(key).is_some() {
                let message = format!("snapshot {key} is part of a group: delete the group");
                return Err(Error::invalid("delete_snapshot", message));
            }
            state.snapshots.remove(key);
            Ok(())
        })
    }

    async fn restore_snapshot(
        &self,
        token: &OpToken,
        snapshot: &SnapshotRef,
        volume: &VolumeRef,
    ) -> Result<Progress<()>> {
        const OPERATION: &str = "restore_snapshot";
        self.require(Capability::RestoreInPlace)?;
        self.call(OPERATION, token, &[Subject::Volume(volume.key.clone())], |state| {
            let frozen = state.snapshots.get(&snapshot.key);
            let frozen =
                frozen.filter(|found| found.handle == snapshot.handle && found.source == volume.handle);
            let none = || missing(OPERATION, format_args!("snapshot {} of that volume", snapshot.key));
            let content = frozen.ok_or_else(none)?.content.clone();
            let found = state.volume_mut(OPERATION, volume)?;
            if !found.nodes.is_empty() {
                return Err(in_use(OPERATION, &volume.key, found));
            }
            found.content = content;
            Ok(())
        })
    }

    async fn create_group_snapshot(&self, request: &CreateGroupSnapshot) -> Result<Progress<GroupSnapshot>> {
        self.require(Capability::GroupSnapshots)?;
        let key = &request.key;
        let member = |volume: &VolumeRef| SnapshotKey::new(volume.key.clone(), key.group.clone());
        let snapshots = request.volumes.iter().map(|volume| Subject::Snapshot(member(volume)));
        let subjects: Vec<_> = snapshots.chain([Subject::Group(key.clone())]).collect();
        self.call("create_group_snapshot", &request.token, &subjects, |state| {
            if request.volumes.is_empty() {
                return Err(Error::invalid(
                    "create_group_snapshot",
                    "a group of no volumes: name at least one",
                ));
            }
            let now = self.now(state);
            state.group(key, &request.volumes, now)?;
            let group = state.groups.get(key).ok_or_else(|| missing("create_group_snapshot", key))?;
            let taken = request.volumes.iter().filter_map(|volume| {
                let key = member(volume);
                state.snapshots.get(&key).map(|snapshot| seen(state, &key, snapshot))
            });
            Ok(GroupSnapshot::new(group.handle.clone(), key.clone(), taken.collect(), group.created_at))
        })
    }

    async fn delete_group_snapshot(
        &self,
        token: &OpToken,
        key: &GroupKey,
        handle: &GroupHandle,
        snapshots: &[SnapshotRef],
    ) -> Result<Progress<()>> {
        self.require(Capability::GroupSnapshots)?;
        let members = snapshots.iter().map(|snapshot| Subject::Snapshot(snapshot.key.clone()));
        let subjects: Vec<_> = members.chain([Subject::Group(key.clone())]).collect();
        self.call("delete_group_snapshot", token, &subjects, |state| {
            if state.groups.get(key).is_none_or(|group| group.handle != *handle) {
                return Ok(());
            }
            let Some(group) = state.groups.get(key).cloned() else { return Ok(()) };
            let listed: BTreeSet<_> = snapshots.iter().map(|snapshot| &snapshot.key.volume).collect();
            if listed != group.volumes.iter().collect() {
                let message = format!("the snapshots are not those of group {key}: name each of its own");
                return Err(Error::invalid("delete_group_snapshot", message));
            }
            state.groups.remove(key);
            for volume in group.volumes {
                state.snapshots.remove(&SnapshotKey::new(volume, key.group.clone()));
            }
            Ok(())
        })
    }

    async fn get_snapshot_status(&self, snapshot: &SnapshotRef) -> Result<VolumeSnapshot> {
        self.require(Capability::Snapshots)?;
        let state = self.lock();
        let found = state.snapshots.get(&snapshot.key).filter(|found| found.handle == snapshot.handle);
        let none = || missing("get_snapshot_status", format_args!("snapshot {}", snapshot.key));
        Ok(seen(&state, &snapshot.key, found.ok_or_else(none)?))
    }

    async fn list_volumes<'a>(&self, after: Option<&'a Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        self.require(Capability::ListVolumes)?;
        let state = self.lock();
        page(&state.volumes, after, limit, |key, volume| state.status(key, volume))
    }

    async fn list_snapshots<'a>(
        &self,
        after: Option<&'a Cursor>,
        limit: usize,
    ) -> Result<Page<VolumeSnapshot>> {
        self.require(Capability::ListSnapshots)?;
        let state = self.lock();
        page(&state.snapshots, after, limit, |key, snapshot| seen(&state, key, snapshot))
    }

    async fn get_capacity(&self, query: &CapacityQuery) -> Result<Capacity> {
        self.require(Capability::Capacity)?;
        self.capabilities.require_options(&self.name, &query.options)?;
        let reachable = self.places.is_empty()
            || query.topology.is_everywhere()
            || self.places.iter().any(|place| place.covers(&query.topology));
        let free = match self.capacity.filter(|_| reachable) {
            Some(capacity) => capacity.saturating_sub(self.lock().provisioned()),
            None if reachable => ByteSize::from_bytes(u64::MAX),
            None => ByteSize::ZERO,
        };
        Ok(Capacity::new(free))
    }
}
