//! A tenant goes, with all of its storage and its keys, wherever the control plane dies on the way.

use std::collections::BTreeSet;
use std::sync::Arc;

use hivemind_core::store::{Prefix, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore, until_crash};
use hivemind_core::{
    ClaimId, ManualClock, MemoryKeys, MemoryStore, SeededIds, StateStore, StateStoreExt, TenantContext,
    block_on,
};
use hivemind_storage::{
    Erased, KeyName, MemoryProvider, ProviderRegistry, ReclaimPolicy, StorageManager, StorageProvider,
    TenantRemoval, VolumeController, VolumeKeys, VolumeOptions, VolumePhase,
};

use super::world::{World, controller, memory, node, spec};

/// One process that removes a tenant, by its view of a store that may die.
struct Life {
    store: FaultyStore,
    controller: VolumeController,
    removal: TenantRemoval,
    keys: VolumeKeys,
    clock: Arc<ManualClock>,
}

impl Life {
    fn new(
        disk: &MemoryStore,
        provider: &Arc<MemoryProvider>,
        kms: &Arc<MemoryKeys>,
        plan: FaultPlan,
        first: bool,
    ) -> Self {
        let store = FaultyStore::new(Arc::new(disk.clone()), plan);
        let mut providers = ProviderRegistry::new();
        providers.add(provider.clone()).unwrap();
        let clock = Arc::new(ManualClock::default());
        let shared: Arc<dyn StateStore> = Arc::new(store.clone());
        let keys = VolumeKeys::new(shared.clone(), kms.clone(), "kek".parse().unwrap());
        let storage = StorageManager::new(providers.names());
        let removal = TenantRemoval::new(shared.clone(), storage).unwrap().with_keys(keys.clone());
        let removal = if first { removal.erasing_first() } else { removal };
        let controller = controller(shared, providers, clock.clone()).with_keys(keys.clone());
        Self { store, controller, removal, keys, clock }
    }

    /// Until nothing is left, whatever the store does meanwhile.
    async fn remove(&self, ctx: &TenantContext) {
        for round in 0..500 {
            let ctx = ctx.clone().with_request(format!("gone-{round}").parse().unwrap());
            if self.removal.step(&ctx).await.is_ok_and(|remains| remains.is_empty()) {
                return;
            }
            let _ = self.controller.tick().await;
            self.clock.advance(std::time::Duration::from_secs(600));
        }
        panic!("the tenant never goes");
    }
}

fn encrypted(name: &str) -> hivemind_storage::ClaimSpec {
    spec(name).with_options(VolumeOptions::default().with_encryption(true))
}

fn kms() -> Arc<MemoryKeys> {
    let kms = Arc::new(MemoryKeys::new(Arc::new(SeededIds::new(1))));
    kms.create("kek".parse().unwrap());
    kms
}

/// A tenant with volumes in every state: on a node, kept, with snapshots, just being made, or not begun.
fn lived(disk: &MemoryStore, provider: &Arc<MemoryProvider>, kms: &Arc<MemoryKeys>) -> TenantContext {
    let mut world = World::new(memory());
    world.store = disk.clone();
    let life = Life::new(disk, provider, kms, FaultPlan::new(1), false);
    let (acme, n1) = (world.ctx("acme"), node("n1"));
    let commit = |decide: &dyn Fn(&StorageManager, &hivemind_core::store::Snapshot, &mut Txn)| {
        let (view, mut txn) = (world.view(), Txn::new());
        decide(&world.storage, &view, &mut txn);
        block_on(disk.commit(&txn)).unwrap();
    };
    let settle = || {
        while block_on(life.controller.tick()).unwrap().changed() {
            life.clock.advance(std::time::Duration::from_secs(60));
        }
    };
    commit(&|s, view, txn| {
        s.stage_claim(view, txn, &acme, &encrypted("data")).unwrap();
        let kept = encrypted("kept").with_reclaim(ReclaimPolicy::Retain);
        s.stage_claim(view, txn, &acme, &kept).unwrap();
    });
    settle();
    let [data, log]: [ClaimId; 2] = ["data", "kept"].map(|name| name.parse().unwrap());
    commit(&|s, view, txn| s.stage_attach(view, txn, &acme, &data, &n1).unwrap());
    commit(&|s, view, txn| {
        s.stage_snapshot(view, txn, &acme, &data, &"alone".parse().unwrap()).unwrap();
        let both = [data.clone(), log.clone()];
        s.stage_group_snapshot(view, txn, &acme, &"both".parse().unwrap(), &both).unwrap();
    });
    settle();
    commit(&|s, view, txn| s.stage_claim(view, txn, &acme, &encrypted("begun")).unwrap());
    // Its key is chosen, and the provider may have been asked.
    let _ = block_on(life.controller.tick()).unwrap();
    commit(&|s, view, txn| s.stage_claim(view, txn, &acme, &encrypted("fresh")).unwrap());
    acme
}

fn crash_at(call: u64, lose: u64, first: bool) -> bool {
    let (disk, kms) = (MemoryStore::new(), kms());
    let provider = Arc::new(memory().losing_one_in(lose));
    let acme = lived(&disk, &provider, &kms);
    let dying = Life::new(&disk, &provider, &kms, FaultPlan::new(call).with_crash_at(call), first);
    let crashed = block_on(until_crash(&dying.store, dying.remove(&acme))).is_err();
    let last = Life::new(&disk, &provider, &kms, FaultPlan::new(call), first);
    block_on(last.remove(&acme));
    let left = block_on(provider.get_provider_metrics()).unwrap();
    assert_eq!((left.volumes, left.snapshots), (0, 0), "crash at {call}, {lose}, {first}: something leaked");
    let records = block_on(disk.snapshot(&[hivemind_storage::prefix().unwrap()])).unwrap();
    let kept: BTreeSet<_> =
        records.scan(&Prefix::ROOT).filter_map(|record| record.key.segments().nth(1)).collect();
    assert_eq!(kept, BTreeSet::from([b"keys".as_slice()]), "crash at {call}, {lose}, {first}");
    // Nobody reads what copies there are, and nobody makes another volume of it.
    let volume = hivemind_storage::VolumeKey::new(acme.tenant().clone(), "data".parse().unwrap());
    let gone = block_on(last.keys.secrets(&KeyName { volume, version: 1 })).unwrap_err();
    assert!(gone.detail::<Erased>().is_some());
    assert!(block_on(last.keys.newest(acme.tenant())).unwrap_err().detail::<Erased>().is_some());
    crashed
}

#[test]
fn a_tenant_goes_whole_wherever_the_control_plane_dies_and_its_keys_with_it() {
    let mut points = 0;
    for (lose, first) in [(0, false), (0, true), (3, true)] {
        let mut call = 1;
        while crash_at(call, lose, first) {
            call += 1;
        }
        points += call - 1;
    }
    assert!(points > 100, "only {points} places to crash at");
}

#[test]
fn a_volume_that_is_being_made_when_its_key_is_erased_ends_as_failed() {
    let mut world = World::new(memory().losing_one_in(1));
    let keys = VolumeKeys::new(Arc::new(world.store.clone()), kms(), "kek".parse().unwrap());
    world.controller = world.controller.clone().with_keys(keys.clone());
    world.claim(&encrypted("data")).unwrap();
    for _ in 0..3 {
        let _ = block_on(world.controller.tick()).unwrap();
    }
    assert_eq!((world.volume("data").phase, world.there().0), (VolumePhase::Creating, 1));
    block_on(keys.destroy(world.ctx("acme").tenant())).unwrap();
    world.claim(&encrypted("next")).unwrap();
    for _ in 0..3 {
        world.clock.advance(std::time::Duration::from_secs(600));
        let _ = block_on(world.controller.tick()).unwrap();
    }
    for claim in ["data", "next"] {
        let VolumePhase::Failed(why) = world.volume(claim).phase else {
            panic!("{claim} is retried for ever")
        };
        assert!(why.contains("was erased"), "{why}");
    }
    assert_eq!(block_on(world.controller.tick()).unwrap(), Default::default());
}
