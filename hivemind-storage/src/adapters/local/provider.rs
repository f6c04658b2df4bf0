//! A local pool as a storage provider.

use std::sync::Arc;

use async_trait::async_trait;
use hivemind_core::resources::ByteSize;
use hivemind_core::{OpToken, Progress, ProviderName, Result};

use super::index::page;
use super::pool::Pool;
use super::snapshots::seen;
use super::{During as _, LocalProvider, options, sys};
use crate::{
    Capabilities, Capability, Capacity, CapacityQuery, CreateGroupSnapshot, CreateSnapshot, CreateVolume,
    Cursor, Expanded, GroupHandle, GroupKey, GroupSnapshot, Page, ProvisionedVolume, SizeRange, SnapshotRef,
    StorageMetrics, StorageProvider, StorageProviderType, VolumeRef, VolumeSnapshot, VolumeSource,
    VolumeStatus,
};

impl LocalProvider {
    pub(super) fn require(&self, capability: Capability) -> Result<()> {
        self.capabilities().require(&self.name, capability)
    }

    /// Does `job` to the pool on the thread of the provider, after everything that was asked for before.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Pool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let pool = Arc::clone(&self.pool);
        self.worker.run(move || job(&pool)).await
    }
}

#[async_trait]
impl StorageProvider for LocalProvider {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn provider_type(&self) -> StorageProviderType {
        StorageProviderType::Local
    }

    fn capabilities(&self) -> Capabilities {
        options::capabilities(self.pool.backend(), self.pool.ext4_online())
    }

    async fn probe(&self) -> Result<()> {
        self.run(|pool| pool.capacity("probe").map(|_| ())).await
    }

    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        self.capabilities().require_options(&self.name, &request.options)?;
        match request.source {
            None => {}
            Some(VolumeSource::Snapshot(_)) => self.require(Capability::Snapshots)?,
            Some(VolumeSource::Volume(_)) => self.require(Capability::Clone)?,
        }
        let request = request.clone();
        let made = self.run(move |pool| pool.create(&request)).await;
        if self.pool.is_low() {
            let pool = Arc::clone(&self.pool);
            self.worker.queue(move || pool.refill());
        }
        made.map(Progress::Ready)
    }

    async fn delete_volume(&self, _: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        let volume = volume.clone();
        self.run(move |pool| pool.delete(&volume)).await.map(Progress::Ready)
    }

    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        let volume = volume.clone();
        self.run(move |pool| pool.status(&volume)).await
    }

    async fn get_volume_statuses(&self, volumes: &[VolumeRef]) -> Result<Vec<Result<VolumeStatus>>> {
        let volumes = volumes.to_vec();
        self.run(move |pool| Ok(volumes.iter().map(|volume| pool.status(volume)).collect())).await
    }

    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        self.run(|pool| {
            let room = sys::room(pool.directory()).during("metrics", "measure", pool.directory())?;
            let index = pool.index();
            let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
            let (volumes, snapshots) = (count(index.volumes.len()), count(index.snapshots.len()));
            let capacity = Some(ByteSize::from_bytes(room.bytes.total));
            Ok(StorageMetrics::new(volumes, snapshots, index.provisioned(), capacity))
        })
        .await
    }

    async fn expand_volume(
        &self,
        _: &OpToken,
        volume: &VolumeRef,
        size: SizeRange,
    ) -> Result<Progress<Expanded>> {
        let volume = volume.clone();
        self.run(move |pool| pool.expand(&volume, size)).await.map(Progress::Ready)
    }

    async fn create_snapshot(&self, request: &CreateSnapshot) -> Result<Progress<VolumeSnapshot>> {
        self.require(Capability::Snapshots)?;
        let request = request.clone();
        self.run(move |pool| pool.snapshot(&request)).await.map(Progress::Ready)
    }

    async fn delete_snapshot(&self, _: &OpToken, snapshot: &SnapshotRef) -> Result<Progress<()>> {
        self.require(Capability::Snapshots)?;
        let snapshot = snapshot.clone();
        self.run(move |pool| pool.delete_snapshot(&snapshot)).await.map(Progress::Ready)
    }

    async fn restore_snapshot(
        &self,
        _: &OpToken,
        snapshot: &SnapshotRef,
        volume: &VolumeRef,
    ) -> Result<Progress<()>> {
        self.require(Capability::RestoreInPlace)?;
        let (snapshot, volume) = (snapshot.clone(), volume.clone());
        self.run(move |pool| pool.restore(&snapshot, &volume)).await.map(Progress::Ready)
    }

    async fn create_group_snapshot(&self, request: &CreateGroupSnapshot) -> Result<Progress<GroupSnapshot>> {
        self.require(Capability::GroupSnapshots)?;
        let request = request.clone();
        let group = self.run(move |pool| pool.group(&request)).await?;
        let (pool, there) = (Arc::clone(&self.pool), group.clone());
        self.worker.queue(move || pool.settle(&there));
        Ok(Progress::Ready(group))
    }

    async fn delete_group_snapshot(
        &self,
        _: &OpToken,
        key: &GroupKey,
        handle: &GroupHandle,
        snapshots: &[SnapshotRef],
    ) -> Result<Progress<()>> {
        self.require(Capability::GroupSnapshots)?;
        let (key, handle, snapshots) = (key.clone(), handle.clone(), snapshots.to_vec());
        self.run(move |pool| pool.delete_group(&key, &handle, &snapshots)).await.map(Progress::Ready)
    }

    async fn get_snapshot_status(&self, snapshot: &SnapshotRef) -> Result<VolumeSnapshot> {
        self.require(Capability::Snapshots)?;
        self.pool.index().snapshot("get_snapshot_status", snapshot).map(seen)
    }

    async fn list_snapshots<'a>(
        &self,
        after: Option<&'a Cursor>,
        limit: usize,
    ) -> Result<Page<VolumeSnapshot>> {
        self.require(Capability::ListSnapshots)?;
        page(&self.pool.index().snapshots, after, limit, |snapshot| Ok(seen(snapshot)))
    }

    async fn list_volumes<'a>(&self, after: Option<&'a Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        let after = after.cloned();
        self.run(move |pool| {
            let records = page(&pool.index().volumes, after.as_ref(), limit, |volume| Ok(volume.clone()))?;
            let all = records.items.iter().map(|volume| pool.status_of("list_volumes", volume));
            Ok(Page::new(all.collect::<Result<_>>()?, records.next))
        })
        .await
    }

    async fn get_capacity(&self, query: &CapacityQuery) -> Result<Capacity> {
        self.capabilities().require_options(&self.name, &query.options)?;
        let query = query.clone();
        self.run(move |pool| {
            let kind = options::kind(pool.backend(), &query.options)?;
            if !pool.node().topology.covers(&query.topology) && !query.topology.is_everywhere() {
                return Ok(Capacity::new(ByteSize::ZERO));
            }
            let mut capacity = pool.capacity("get_capacity")?;
            capacity.smallest = Some(kind.smallest());
            Ok(capacity)
        })
        .await
    }
}
