//! The control plane dies at every call to the store of a whole life of volumes, and goes on: nothing is lost, doubled
//! or left over.

use std::sync::Arc;

use hivemind_core::store::{Prefix, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore, until_crash};
use hivemind_core::{
    ClaimId, Error, ManualClock, MemoryStore, Result, Retry, StateStore, StateStoreExt, TenantContext,
    block_on,
};
use hivemind_storage::{
    Fenced, MemoryProvider, NodeInfo, ProviderRegistry, StorageManager, StorageProvider, VolumeController,
};

use super::quotas::{Ledger, charges, there};
use super::world::{World, controller, gib, memory, name, node, spec};

/// One process: its view of a store that may die, and what it runs.
struct Life {
    store: FaultyStore,
    storage: StorageManager,
    controller: VolumeController,
    clock: Arc<ManualClock>,
}

impl Life {
    fn new(disk: &MemoryStore, provider: &Arc<MemoryProvider>, plan: FaultPlan) -> Self {
        let store = FaultyStore::new(Arc::new(disk.clone()), plan);
        let mut providers = ProviderRegistry::new();
        providers.add(provider.clone()).unwrap();
        let quota = Arc::new(Ledger::default());
        let storage = StorageManager::new(providers.names()).with_quota(quota.clone());
        let clock = Arc::new(ManualClock::default());
        let controller = controller(Arc::new(store.clone()), providers, clock.clone()).with_quota(quota);
        Self { store, storage, controller, clock }
    }

    /// Decides and commits until it is done; a request that was done before it crashed is done.
    async fn transact(
        &self,
        decide: impl Fn(&StorageManager, &hivemind_core::store::Snapshot, &mut Txn) -> Result<()>,
    ) -> Result<()> {
        for _ in 0..100 {
            let view = match self.store.snapshot(&[Prefix::ROOT]).await {
                Ok(view) => view,
                Err(e) if e.retry() == Retry::Later => continue,
                Err(e) => return Err(e),
            };
            let mut txn = Txn::new();
            decide(&self.storage, &view, &mut txn)?;
            match self.store.commit(&txn).await {
                Ok(_) => return Ok(()),
                Err(e) if matches!(e.retry(), Retry::AfterReread | Retry::Later) => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::internal("transact", "it never gets through"))
    }

    async fn settle(&self) {
        for _ in 0..1000 {
            match self.controller.tick().await {
                Ok(report) if !report.changed() => return,
                Ok(_) | Err(_) => self.clock.advance(std::time::Duration::from_secs(60)),
            }
        }
        panic!("the controller never comes to rest");
    }
}

fn ignore_gone(outcome: Result<()>) {
    // What was done before the crash is not there to be done again.
    if let Err(e) = outcome {
        assert_eq!(e.kind(), hivemind_core::ErrorKind::NotFound, "{e}");
    }
}

/// A whole life, on nodes of one slot each: claimed, brought to a node, grown, snapshotted, moved from a node that is kept
/// out and let in again, and at last released but one. All of it is charged.
async fn story(life: &Life, acme: &TenantContext) {
    let (data, keep): (ClaimId, ClaimId) = ("data".parse().unwrap(), "keep".parse().unwrap());
    let (n1, n2) = (node("n1"), node("n2"));
    let (snapshot, at) = ("s1".parse().unwrap(), name());
    for node in [&n1, &n2] {
        let info = NodeInfo::new(node.clone()).with_max_volumes(1);
        life.transact(|s, view, txn| s.stage_node(view, txn, &at, &info)).await.unwrap();
    }
    for claim in ["data", "keep"] {
        life.transact(|s, view, txn| s.stage_claim(view, txn, acme, &spec(claim))).await.unwrap();
        life.settle().await;
    }
    life.transact(|s, view, txn| s.stage_attach(view, txn, acme, &data, &n1)).await.unwrap();
    life.settle().await;
    life.transact(|s, view, txn| s.stage_expand(view, txn, acme, &data, gib(2))).await.unwrap();
    life.transact(|s, view, txn| s.stage_snapshot(view, txn, acme, &data, &snapshot)).await.unwrap();
    life.settle().await;
    life.transact(|s, view, txn| s.stage_fence(view, txn, &at, &n1)).await.unwrap();
    life.settle().await;
    let proof = Fenced::ByStorage;
    life.transact(|s, view, txn| s.stage_move(view, txn, acme, &data, &n1, &n2, &proof)).await.unwrap();
    life.settle().await;
    life.transact(|s, view, txn| s.stage_unfence(view, txn, &at, &n1)).await.unwrap();
    life.settle().await;
    life.transact(|s, view, txn| s.stage_attach(view, txn, acme, &keep, &n1)).await.unwrap();
    let volume = "data".parse().unwrap();
    ignore_gone(
        life.transact(|s, view, txn| s.stage_snapshot_removal(view, txn, acme, &volume, &snapshot)).await,
    );
    life.settle().await;
    ignore_gone(life.transact(|s, view, txn| s.stage_release(view, txn, acme, &data)).await);
    life.settle().await;
}

fn crash_at(call: u64, lose: u64, delay: u64) -> bool {
    let disk = MemoryStore::new();
    let provider = Arc::new(memory().losing_one_in(lose).delaying_one_in(delay));
    let acme = World::new(memory()).ctx("acme");
    let first = Life::new(&disk, &provider, FaultPlan::new(call).with_crash_at(call));
    let crashed = block_on(until_crash(&first.store, story(&first, &acme))).is_err();
    drop(first);
    all_is_charged(&disk, &provider, call);
    if crashed {
        // Whoever comes after does the same story from its beginning: what is done is a no-op, and what is gone is made
        // again, under its own name.
        let second = Life::new(&disk, &provider, FaultPlan::new(call));
        block_on(second.settle());
        all_is_charged(&disk, &provider, call);
        two_writers_never(&provider);
        let view = block_on(disk.snapshot(&[Prefix::ROOT])).unwrap();
        let claims = second.storage.claims(&view, &Txn::new(), &acme).unwrap();
        for claim in claims {
            let name = claim.spec.id.clone();
            block_on(second.transact(|s, view, txn| s.stage_release(view, txn, &acme, &name))).unwrap();
        }
        for snapshot in second.storage.snapshots(&view, &acme).unwrap() {
            let (volume, name) = (snapshot.key.volume.volume.clone(), snapshot.key.snapshot.clone());
            ignore_gone(block_on(
                second.transact(|s, view, txn| s.stage_snapshot_removal(view, txn, &acme, &volume, &name)),
            ));
        }
        block_on(second.settle());
        let left = block_on(provider.get_provider_metrics()).unwrap();
        assert_eq!(
            (left.volumes, left.snapshots),
            (0, 0),
            "crash at {call}, {lose}, {delay}: something leaked"
        );
        let records = block_on(disk.snapshot(&[hivemind_storage::prefix().unwrap()])).unwrap();
        // Nodes stay, and have nothing.
        let nodes = Prefix::new(["storage", "nodes"]).unwrap();
        for record in records.scan(&nodes) {
            let text = String::from_utf8_lossy(&record.value);
            assert!(text.contains(r#""volumes":[]"#), "crash at {call}: a slot is taken for ever: {text}");
        }
        let mut kept: Vec<_> = records.scan(&Prefix::ROOT).map(|record| record.key.clone()).collect();
        kept.retain(|key| !nodes.covers(key));
        assert!(kept.is_empty(), "crash at {call}: {kept:?}");
        let whole = block_on(disk.snapshot(&[Prefix::ROOT])).unwrap();
        assert_eq!(
            whole.scan(charges().prefix()).count(),
            0,
            "crash at {call}: something is charged for ever"
        );
    }
    crashed
}

/// What is charged is what the records say, and no less than what the provider has.
fn all_is_charged(disk: &MemoryStore, provider: &MemoryProvider, call: u64) {
    let view = block_on(disk.snapshot(&[Prefix::ROOT])).unwrap();
    let (storage, acme) = (StorageManager::new([name()]), World::new(memory()).ctx("acme"));
    let volumes = storage.volumes(&view, &acme).unwrap();
    let snapshots = storage.snapshots(&view, &acme).unwrap();
    let sizes = volumes.iter().map(|one| one.charged).chain(snapshots.iter().map(|one| one.charged));
    let expected: u64 = sizes.map(|size| size.as_bytes()).sum();
    let all = charges().list(&view, &Txn::new(), charges().prefix()).unwrap();
    let charged: u64 = all.iter().map(|charge| charge.bytes()).sum();
    assert_eq!(charged, expected, "crash at {call}: the charge is not that of the records");
    assert!(there(provider) <= charged, "crash at {call}: the provider has more than is charged");
}

fn two_writers_never(provider: &MemoryProvider) {
    for status in block_on(provider.list_volumes(None, 100)).unwrap().items {
        assert!(status.attached_to.len() <= 1, "{} is on two nodes", status.handle);
    }
}

#[test]
fn pitfall_01_a_crash_anywhere_leaves_nothing_behind() {
    let mut points = 0;
    for (lose, delay) in [(0, 0), (3, 0), (2, 2)] {
        let mut call = 1;
        while crash_at(call, lose, delay) {
            call += 1;
        }
        points += call - 1;
    }
    assert!(points > 300, "only {points} places to crash at");
}
