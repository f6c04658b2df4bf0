//! A store, a provider, a manager and a controller, with a clock that stands still.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::resources::ByteSize;
use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    Clock, Generation, ManualClock, MemoryAudit, MemoryStore, NodeId, Principal, ProviderName, Result,
    StateStore, StateStoreExt, TenantContext, TenantRef, ThreadRuntime, block_on,
};
use hivemind_storage::{
    ClaimSpec, MemoryProvider, ProviderRegistry, StorageClass, StorageManager, StorageProvider, Volume,
    VolumeController,
};

pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) provider: Arc<MemoryProvider>,
    pub(crate) storage: StorageManager,
    pub(crate) controller: VolumeController,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) audit: Arc<MemoryAudit>,
}

pub(crate) fn memory() -> MemoryProvider {
    MemoryProvider::new(name())
}

pub(crate) fn name() -> ProviderName {
    "memory".parse().unwrap()
}

pub(crate) fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub(crate) fn gib(n: u64) -> ByteSize {
    ByteSize::from_gib(n)
}

pub(crate) fn spec(name: &str) -> ClaimSpec {
    ClaimSpec::new(name.parse().unwrap(), gib(1))
}

pub(crate) fn class(name: &str) -> StorageClass {
    StorageClass::new(name.parse().unwrap(), self::name())
}

/// A controller whose deadlines are as by default: no test waits for one.
pub(crate) fn controller(
    store: Arc<dyn StateStore>,
    providers: ProviderRegistry,
    clock: Arc<ManualClock>,
) -> VolumeController {
    VolumeController::new(store, providers, clock, Arc::new(ThreadRuntime::new()))
}

impl World {
    pub(crate) fn new(provider: MemoryProvider) -> Self {
        let (store, provider) = (MemoryStore::new(), Arc::new(provider));
        let mut providers = ProviderRegistry::new();
        providers.add(provider.clone()).unwrap();
        let (storage, clock) = (StorageManager::new(providers.names()), Arc::new(ManualClock::default()));
        let audit = Arc::new(MemoryAudit::new());
        let controller =
            controller(Arc::new(store.clone()), providers, clock.clone()).with_audit(audit.clone());
        Self { store, provider, storage, controller, clock, audit }
    }

    /// What `tenant` asks now.
    pub(crate) fn ctx(&self, tenant: &str) -> TenantContext {
        let tenant = TenantRef::new(tenant.parse().unwrap(), Generation::from_u64(1));
        let ada = Principal::User("ada".parse().unwrap());
        let request = format!("r{}", block_on(self.store.revision()).unwrap().as_u64());
        TenantContext::new(tenant, ada, request.parse().unwrap()).with_time(self.clock.now())
    }

    pub(crate) fn view(&self) -> Snapshot {
        block_on(self.store.snapshot(&[Prefix::ROOT])).unwrap()
    }

    pub(crate) fn commit<T>(
        &self,
        decide: impl FnOnce(&StorageManager, &Snapshot, &mut Txn) -> Result<T>,
    ) -> Result<T> {
        let (view, mut txn) = (self.view(), Txn::new());
        let decided = decide(&self.storage, &view, &mut txn)?;
        block_on(self.store.commit(&txn))?;
        Ok(decided)
    }

    pub(crate) fn claim(&self, spec: &ClaimSpec) -> Result<()> {
        self.commit(|s, view, txn| s.stage_claim(view, txn, &self.ctx("acme"), spec))
    }

    /// A claim whose volume is there.
    pub(crate) fn ready(&self, name: &str) -> Volume {
        self.claim(&spec(name)).unwrap();
        self.settle();
        self.volume(name)
    }

    pub(crate) fn attach(&self, claim: &str, node: &str) -> Result<()> {
        let (claim, node) = (claim.parse().unwrap(), self::node(node));
        self.commit(|s, view, txn| s.stage_attach(view, txn, &self.ctx("acme"), &claim, &node))
    }

    pub(crate) fn release(&self, claim: &str) -> Result<()> {
        let claim = claim.parse().unwrap();
        self.commit(|s, view, txn| s.stage_release(view, txn, &self.ctx("acme"), &claim))
    }

    pub(crate) fn volume(&self, claim: &str) -> Volume {
        let claim = claim.parse().unwrap();
        let found = self.storage.volume(&self.view(), &Txn::new(), &self.ctx("acme"), &claim).unwrap();
        (*found.value).clone()
    }

    /// A volume of the tenant, claimed or not.
    pub(crate) fn volume_named(&self, name: &str) -> Volume {
        let all = self.storage.volumes(&self.view(), &self.ctx("acme")).unwrap();
        let found = all.into_iter().find(|volume| volume.key.volume.as_str() == name);
        (*found.unwrap().value).clone()
    }

    /// Ticks until nothing changes, and lets time pass meanwhile.
    pub(crate) fn settle(&self) {
        for _ in 0..1000 {
            if !block_on(self.controller.tick()).unwrap().changed() {
                return;
            }
            self.clock.advance(Duration::from_secs(60));
        }
        panic!("the controller never comes to rest");
    }

    /// The nodes that have the volume of a claim, by the provider's word.
    pub(crate) fn nodes_of(&self, claim: &str) -> BTreeSet<String> {
        let made = self.volume(claim).made().unwrap();
        let status = block_on(self.provider.get_volume_status(&made)).unwrap();
        status.attached_to.iter().map(ToString::to_string).collect()
    }

    /// How many volumes and snapshots there are at the provider.
    pub(crate) fn there(&self) -> (u64, u64) {
        let metrics = block_on(self.provider.get_provider_metrics()).unwrap();
        (metrics.volumes, metrics.snapshots)
    }
}
