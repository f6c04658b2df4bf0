//! A provider that makes things, whose answers are lost, and that refuses for good when it is asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hivemind_core::store::{Prefix, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore, until_crash};
use hivemind_core::{
    Error, ErrorKind, ManualClock, MemoryStore, OpToken, Progress, ProviderName, Result, StateStore,
    StateStoreExt, TenantContext, async_trait, block_on,
};
use hivemind_storage::{
    Capabilities, Capability, CreateGroupSnapshot, CreateSnapshot, CreateVolume, Cursor, GroupHandle,
    GroupKey, GroupSnapshot, MemoryProvider, Page, ProviderRegistry, ProvisionedVolume, SnapshotRef,
    StorageManager, StorageMetrics, StorageProvider, StorageProviderType, VolumeController, VolumeRef,
    VolumeSnapshot, VolumeStatus,
};

use super::world::{World, controller, memory, spec};

/// A provider that refuses what would make something, from its call of that number on.
#[derive(Debug)]
struct Refusing {
    inner: MemoryProvider,
    able: Capabilities,
    left: AtomicU64,
}

impl Refusing {
    fn check(&self, operation: &'static str) -> Result<()> {
        let one_less = |left: u64| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(ErrorKind::Invalid, operation, "not any more")),
        }
    }
}

#[async_trait]
impl StorageProvider for Refusing {
    fn name(&self) -> &ProviderName {
        self.inner.name()
    }
    fn provider_type(&self) -> StorageProviderType {
        self.inner.provider_type()
    }
    fn capabilities(&self) -> Capabilities {
        self.able.clone()
    }
    async fn probe(&self) -> Result<()> {
        Ok(())
    }
    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        self.check("create_volume")?;
        self.inner.create_volume(request).await
    }
    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        self.inner.delete_volume(token, volume).await
    }
    async fn create_snapshot(&self, request: &CreateSnapshot) -> Result<Progress<VolumeSnapshot>> {
        self.check("create_snapshot")?;
        self.inner.create_snapshot(request).await
    }
    async fn delete_snapshot(&self, token: &OpToken, snapshot: &SnapshotRef) -> Result<Progress<()>> {
        self.inner.delete_snapshot(token, snapshot).await
    }
    async fn create_group_snapshot(&self, request: &CreateGroupSnapshot) -> Result<Progress<GroupSnapshot>> {
        self.check("create_group_snapshot")?;
        self.inner.create_group_snapshot(request).await
    }
    async fn delete_group_snapshot(
        &self,
        token: &OpToken,
        key: &GroupKey,
        handle: &GroupHandle,
        snapshots: &[SnapshotRef],
    ) -> Result<Progress<()>> {
        self.inner.delete_group_snapshot(token, key, handle, snapshots).await
    }
    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        self.inner.get_volume_status(volume).await
    }
    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        self.inner.get_provider_metrics().await
    }
    async fn list_volumes<'a>(&self, after: Option<&'a Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        self.inner.list_volumes(after, limit).await
    }
    async fn list_snapshots<'a>(
        &self,
        after: Option<&'a Cursor>,
        limit: usize,
    ) -> Result<Page<VolumeSnapshot>> {
        self.inner.list_snapshots(after, limit).await
    }
}

struct Stage {
    disk: MemoryStore,
    provider: Arc<Refusing>,
    storage: StorageManager,
    acme: TenantContext,
}

impl Stage {
    /// Of `calls` that make something, the provider makes what they ask for; of each second one the answer is lost.
    fn new(able: Capabilities, calls: u64) -> Self {
        let (inner, left) = (memory().losing_one_in(2).delaying_one_in(3), AtomicU64::new(calls));
        let provider = Arc::new(Refusing { inner, able, left });
        let storage = StorageManager::new([provider.name().clone()]);
        Self { disk: MemoryStore::new(), provider, storage, acme: World::new(memory()).ctx("acme") }
    }

    /// A process, over a store that crashes at its call of that number.
    fn process(&self, crash: u64) -> (FaultyStore, VolumeController, Arc<ManualClock>) {
        let store = FaultyStore::new(Arc::new(self.disk.clone()), FaultPlan::new(crash).with_crash_at(crash));
        let mut providers = ProviderRegistry::new();
        providers.add(self.provider.clone()).unwrap();
        let clock = Arc::new(ManualClock::default());
        (store.clone(), controller(Arc::new(store), providers, clock.clone()), clock)
    }

    /// Works in one process until it crashes, and then in another one until nothing changes any more.
    fn work(&self, crash: u64) {
        for crash in [crash, u64::MAX] {
            let (store, controller, clock) = self.process(crash);
            let _ = block_on(until_crash(&store, async {
                for _ in 0..200 {
                    if !controller.tick().await.unwrap().changed() {
                        return;
                    }
                    clock.advance(std::time::Duration::from_secs(600));
                }
                panic!("the controller never comes to rest");
            }));
        }
    }

    fn try_commit(
        &self,
        decide: impl FnOnce(&StorageManager, &hivemind_core::store::Snapshot, &mut Txn) -> Result<()>,
    ) -> Result<()> {
        let (view, mut txn) = (block_on(self.disk.snapshot(&[Prefix::ROOT])).unwrap(), Txn::new());
        decide(&self.storage, &view, &mut txn)?;
        block_on(self.disk.commit(&txn)).map(|_| ())
    }

    /// What there is at the provider, and how many records there are.
    fn there(&self) -> (u64, u64, usize) {
        let metrics = block_on(self.provider.get_provider_metrics()).unwrap();
        let records = block_on(self.disk.snapshot(&[hivemind_storage::prefix().unwrap()])).unwrap();
        (metrics.volumes, metrics.snapshots, records.len())
    }
}

/// Claims, takes snapshots, and lets all of it go again, whatever came of it.
fn story(stage: &Stage, crash: u64) {
    let (s, acme) = (stage, &stage.acme);
    let claims = ["data", "log"].map(|name| name.parse::<hivemind_core::ClaimId>().unwrap());
    for claim in &claims {
        s.try_commit(|m, view, txn| m.stage_claim(view, txn, acme, &spec(claim.as_str()))).unwrap();
    }
    s.work(crash);
    let (alone, both) = ("alone".parse().unwrap(), "both".parse().unwrap());
    let taken = s.try_commit(|m, view, txn| m.stage_snapshot(view, txn, acme, &claims[0], &alone));
    let grouped = s.try_commit(|m, view, txn| m.stage_group_snapshot(view, txn, acme, &both, &claims));
    s.work(crash);
    if taken.is_ok() {
        let volume = "data".parse().unwrap();
        s.try_commit(|m, view, txn| m.stage_snapshot_removal(view, txn, acme, &volume, &alone)).unwrap();
    }
    if grouped.is_ok() {
        s.try_commit(|m, view, txn| m.stage_group_removal(view, txn, acme, &both)).unwrap();
    }
    s.work(crash);
    for claim in &claims {
        s.try_commit(|m, view, txn| m.stage_release(view, txn, acme, claim)).unwrap();
    }
    s.work(crash);
}

#[test]
fn what_is_refused_after_its_answer_was_lost_is_found_and_goes() {
    let (mut refused, mut lost) = (0, 0);
    for calls in 0..20 {
        for crash in 1..24 {
            let stage = Stage::new(memory().capabilities(), calls);
            story(&stage, crash);
            assert_eq!(stage.there(), (0, 0, 0), "refuses after {calls} calls, crash at {crash}");
            refused += u64::from(stage.provider.left.load(Ordering::SeqCst) == 0);
            // Without being able to look, a provider has to be believed, and something may stay.
            let blind = [Capability::ListVolumes, Capability::ListSnapshots];
            let mut able = memory().capabilities();
            able.features.retain(|feature| !blind.contains(feature));
            let stage = Stage::new(able, calls);
            story(&stage, crash);
            lost += u64::from(stage.there() != (0, 0, 0));
            assert_eq!(stage.there().2, 0, "refuses after {calls} calls, crash at {crash}");
        }
    }
    assert!(refused > 100 && lost > 10, "a simulation of nothing: {refused} {lost}");
}
