//! Providers against the conformance suite, and the suite against a broken provider.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::sync::Arc;

use hivemind_core::resources::ByteSize;
use hivemind_core::{NodeId, OpToken, Progress, ProviderName, Result, async_trait, block_on};
use hivemind_storage::{
    Attachment, Capability, MemoryProvider, SnapshotKey, StorageMetrics, StorageProvider,
    StorageProviderType, VolumeKey, VolumeOptions, VolumeSnapshot, VolumeStatus, conformance,
};

fn memory() -> MemoryProvider {
    MemoryProvider::new("memory".parse().unwrap())
}

#[test]
fn the_memory_provider_conforms() {
    for slow in [0, 2] {
        let report = block_on(conformance::run_all(|| async move {
            Arc::new(memory().delaying_one_in(slow)) as Arc<dyn StorageProvider>
        }));
        assert_eq!((report.failed, report.skipped), (vec![], vec![]));
        assert!(report.passed.len() >= 30, "{}", report.passed.len());
    }
}

/// Forgets the tenant, gives a volume to everybody, and pretends to grow.
#[derive(Debug)]
struct Broken(MemoryProvider);

fn anybodys(key: &VolumeKey) -> VolumeKey {
    let tenant = "anybody.0000000000000000".parse().unwrap();
    VolumeKey::new(tenant, key.volume.clone())
}

#[async_trait]
impl StorageProvider for Broken {
    fn name(&self) -> &ProviderName {
        self.0.name()
    }
    fn provider_type(&self) -> StorageProviderType {
        self.0.provider_type()
    }
    fn capabilities(&self) -> BTreeSet<Capability> {
        [Capability::Expand].into()
    }
    async fn create_volume(
        &self,
        token: &OpToken,
        key: &VolumeKey,
        size: ByteSize,
        options: &VolumeOptions,
    ) -> Result<Progress<VolumeStatus>> {
        self.0.create_volume(token, &anybodys(key), size, options).await
    }
    async fn delete_volume(&self, token: &OpToken, key: &VolumeKey) -> Result<Progress<()>> {
        self.0.delete_volume(token, &anybodys(key)).await
    }
    async fn expand_volume(&self, _: &OpToken, _: &VolumeKey, size: ByteSize) -> Result<Progress<ByteSize>> {
        Ok(Progress::Ready(size))
    }
    async fn attach_volume(&self, _: &OpToken, _: &VolumeKey, node: &NodeId) -> Result<Progress<Attachment>> {
        Ok(Progress::Ready(Attachment::Directory { node: node.clone(), path: "/x".into() }))
    }
    async fn detach_volume(&self, token: &OpToken, key: &VolumeKey, node: &NodeId) -> Result<Progress<()>> {
        self.0.detach_volume(token, &anybodys(key), node).await
    }
    async fn create_snapshot(&self, token: &OpToken, key: &SnapshotKey) -> Result<Progress<VolumeSnapshot>> {
        self.0.create_snapshot(token, key).await
    }
    async fn delete_snapshot(&self, token: &OpToken, key: &SnapshotKey) -> Result<Progress<()>> {
        self.0.delete_snapshot(token, key).await
    }
    async fn restore_snapshot(&self, token: &OpToken, key: &SnapshotKey) -> Result<Progress<()>> {
        self.0.restore_snapshot(token, key).await
    }
    async fn clone_volume(
        &self,
        t: &OpToken,
        s: &VolumeKey,
        target: &VolumeKey,
    ) -> Result<Progress<VolumeStatus>> {
        self.0.clone_volume(t, s, target).await
    }
    async fn volume_status(&self, key: &VolumeKey) -> Result<VolumeStatus> {
        self.0.volume_status(&anybodys(key)).await
    }
    async fn provider_metrics(&self) -> Result<StorageMetrics> {
        self.0.provider_metrics().await
    }
    async fn list_volumes<'a>(
        &self,
        after: Option<&'a VolumeKey>,
        limit: usize,
    ) -> Result<Vec<VolumeStatus>> {
        self.0.list_volumes(after, limit).await
    }
}

#[test]
fn a_broken_provider_fails_the_cases_it_should() {
    let report =
        block_on(conformance::run_all(|| async { Arc::new(Broken(memory())) as Arc<dyn StorageProvider> }));
    let failed: BTreeSet<_> = report.failed.iter().map(|(name, _)| *name).collect();
    for expected in [
        "tenants_do_not_share_names",
        "generations_do_not_share_names",
        "a_volume_for_one_node_is_refused_to_a_second",
        "attach_of_a_missing_volume_is_not_found",
        "expand_grows_and_repeats",
        "expand_refuses_to_shrink",
    ] {
        assert!(failed.contains(expected), "{expected} passed");
    }
    assert!(report.skipped.contains(&"snapshot_is_idempotent"));
    assert!(report.passed.contains(&"delete_of_a_missing_volume_succeeds"));
}

#[test]
fn snapshots_and_clones_keep_the_content() {
    let (p, token) = (memory(), OpToken::new("t"));
    let tenant: hivemind_core::TenantRef = "acme.0000000000000001".parse().unwrap();
    let (data, copy) = (
        VolumeKey::new(tenant.clone(), "data".parse().unwrap()),
        VolumeKey::new(tenant, "copy".parse().unwrap()),
    );
    let node: NodeId = "n1".parse().unwrap();
    let of = SnapshotKey::new(data.clone(), "s".parse().unwrap());
    block_on(async {
        p.create_volume(&token, &data, ByteSize::from_gib(1), &VolumeOptions::default()).await.unwrap();
        assert!(p.write(&data, &node, b"no").is_err());
        p.attach_volume(&token, &data, &node).await.unwrap();
        p.write(&data, &node, b"one").unwrap();
        p.create_snapshot(&token, &of).await.unwrap();
        p.write(&data, &node, b"two").unwrap();
        p.clone_volume(&token, &data, &copy).await.unwrap();
        p.detach_volume(&token, &data, &node).await.unwrap();
        p.restore_snapshot(&token, &of).await.unwrap();
    });
    assert_eq!((p.content(&data).unwrap(), p.content(&copy).unwrap()), (b"one".to_vec(), b"two".to_vec()));
    let small = memory().with_capacity(ByteSize::from_gib(1));
    let full = block_on(small.create_volume(&token, &data, ByteSize::from_gib(2), &VolumeOptions::default()));
    assert_eq!(full.unwrap_err().kind(), hivemind_core::ErrorKind::Exhausted);
}
