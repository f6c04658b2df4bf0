//! Two instances of a provider over one pool, of which the pool lets only one in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hivemind_core::{OpToken, Progress, ProviderName, Result, async_trait};
use hivemind_storage::{
    Capabilities, Capacity, CapacityQuery, CreateGroupSnapshot, CreateSnapshot, CreateVolume, Cursor,
    Expanded, GroupHandle, GroupKey, GroupSnapshot, LocalProvider, Page, ProvisionedVolume, SizeRange,
    SnapshotRef, StorageMetrics, StorageProvider, StorageProviderType, VolumeRef, VolumeSnapshot,
    VolumeStatus,
};

use crate::ground::{eventually, node_info};

/// Whose turn it is, and the instance that is open.
#[derive(Debug)]
struct Pool {
    path: PathBuf,
    open: Mutex<(usize, Option<Arc<LocalProvider>>)>,
}

/// One of two instances: whenever the other one was used last, that is ended and the pool is opened anew.
#[derive(Debug)]
pub(crate) struct Turns {
    name: ProviderName,
    number: usize,
    pool: Arc<Pool>,
}

impl Turns {
    /// Both instances over the pool at `path`.
    pub(crate) fn pair(path: PathBuf) -> [Arc<Self>; 2] {
        let pool = Arc::new(Pool { path, open: Mutex::default() });
        [0, 1].map(|number| Arc::new(Self { name: "local".parse().unwrap(), number, pool: pool.clone() }))
    }

    fn inner(&self) -> Arc<LocalProvider> {
        let mut open = self.pool.open.lock().unwrap();
        if let (last, Some(provider)) = &*open
            && *last == self.number
        {
            return provider.clone();
        }
        // The one before ends first.
        open.1 = None;
        let attempt = || LocalProvider::open(self.name.clone(), node_info(), &self.pool.path);
        let opened = Arc::new(eventually(attempt).unwrap());
        *open = (self.number, Some(opened.clone()));
        opened
    }
}

#[async_trait]
impl StorageProvider for Turns {
    fn name(&self) -> &ProviderName {
        &self.name
    }
    fn provider_type(&self) -> StorageProviderType {
        self.inner().provider_type()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner().capabilities()
    }
    async fn probe(&self) -> Result<()> {
        self.inner().probe().await
    }
    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        self.inner().create_volume(request).await
    }
    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        self.inner().delete_volume(token, volume).await
    }
    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        self.inner().get_volume_status(volume).await
    }
    async fn get_volume_statuses(&self, volumes: &[VolumeRef]) -> Result<Vec<Result<VolumeStatus>>> {
        self.inner().get_volume_statuses(volumes).await
    }
    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        self.inner().get_provider_metrics().await
    }
    async fn expand_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        size: SizeRange,
    ) -> Result<Progress<Expanded>> {
        self.inner().expand_volume(token, volume, size).await
    }
    async fn modify_volume(
        &self,
        token: &OpToken,
        volume: &VolumeRef,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Progress<()>> {
        self.inner().modify_volume(token, volume, parameters).await
    }
    async fn create_snapshot(&self, request: &CreateSnapshot) -> Result<Progress<VolumeSnapshot>> {
        self.inner().create_snapshot(request).await
    }
    async fn delete_snapshot(&self, token: &OpToken, snapshot: &SnapshotRef) -> Result<Progress<()>> {
        self.inner().delete_snapshot(token, snapshot).await
    }
    async fn restore_snapshot(
        &self,
        token: &OpToken,
        snapshot: &SnapshotRef,
        volume: &VolumeRef,
    ) -> Result<Progress<()>> {
        self.inner().restore_snapshot(token, snapshot, volume).await
    }
    async fn create_group_snapshot(&self, request: &CreateGroupSnapshot) -> Result<Progress<GroupSnapshot>> {
        self.inner().create_group_snapshot(request).await
    }
    async fn delete_group_snapshot(
        &self,
        token: &OpToken,
        key: &GroupKey,
        handle: &GroupHandle,
        snapshots: &[SnapshotRef],
    ) -> Result<Progress<()>> {
        self.inner().delete_group_snapshot(token, key, handle, snapshots).await
    }
    async fn get_snapshot_status(&self, snapshot: &SnapshotRef) -> Result<VolumeSnapshot> {
        self.inner().get_snapshot_status(snapshot).await
    }
    async fn list_volumes<'a>(&self, after: Option<&'a Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        self.inner().list_volumes(after, limit).await
    }
    async fn list_snapshots<'a>(
        &self,
        after: Option<&'a Cursor>,
        limit: usize,
    ) -> Result<Page<VolumeSnapshot>> {
        self.inner().list_snapshots(after, limit).await
    }
    async fn get_capacity(&self, query: &CapacityQuery) -> Result<Capacity> {
        self.inner().get_capacity(query).await
    }
}
