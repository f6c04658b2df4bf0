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
    Fenced, MemoryProvider, ProviderRegistry, StorageManager, StorageProvider, VolumeController,
};

use super::world::{World, gib, memory, node, spec};

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
        let (storage, clock) = (StorageManager::new(providers.names()), Arc::new(ManualClock::default()));
        let controller = VolumeController::new(Arc::new(store.clone()), providers, clock.clone());
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

/// A whole life: claimed, brought to a node, grown, snapshotted, moved by force, and at last released but one.
async fn story(life: &Life, acme: &TenantContext) {
    let (data, keep): (ClaimId, ClaimId) = ("data".parse().unwrap(), "keep".parse().unwrap());
    let (n1, n2) = (node("n1"), node("n2"));
    let snapshot = "s1".parse().unwrap();
    for claim in ["data", "keep"] {
        life.transact(|s, view, txn| s.stage_claim(view, txn, acme, &spec(claim))).await.unwrap();
        life.settle().await;
    }
    life.transact(|s, view, txn| s.stage_attach(view, txn, acme, &data, &n1)).await.unwrap();
    life.settle().await;
    life.transact(|s, view, txn| s.stage_expand(view, txn, acme, &data, gib(2))).await.unwrap();
    life.transact(|s, view, txn| s.stage_snapshot(view, txn, acme, &data, &snapshot)).await.unwrap();
    life.settle().await;
    let proof = Fenced::PowerOff;
    life.transact(|s, view, txn| s.stage_move(view, txn, acme, &data, &n1, &n2, &proof)).await.unwrap();
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
    if crashed {
        // Whoever comes after does the same story from its beginning: what is done is a no-op, and what is gone is made
        // again, under its own name.
        let second = Life::new(&disk, &provider, FaultPlan::new(call));
        block_on(second.settle());
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
        let kept: Vec<_> = records.scan(&Prefix::ROOT).map(|record| record.key.to_string()).collect();
        assert!(kept.is_empty(), "crash at {call}: {kept:?}");
    }
    crashed
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
