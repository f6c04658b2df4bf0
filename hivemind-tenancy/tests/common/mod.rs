//! What the tests share: a store, a manager, and tenants in it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses some of it, and may panic"
)]

use std::sync::Arc;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    ManualClock, MemoryStore, Principal, Result, SeededIds, StateStore, StateStoreExt, TenantContext,
    TenantRef, block_on,
};
use hivemind_tenancy::rbac::Subject;
use hivemind_tenancy::{Tenant, TenantManager, TenantSpec};

pub struct World {
    pub store: MemoryStore,
    pub clock: Arc<ManualClock>,
    pub tenants: TenantManager,
}

pub fn user(name: &str) -> Principal {
    Principal::User(name.parse().unwrap())
}

pub fn ctx(tenant: &TenantRef, request: &str) -> TenantContext {
    TenantContext::new(tenant.clone(), user("ada"), request.parse().unwrap())
}

/// The first administrator, in the context in which the cluster is administered.
pub fn admin(request: &str) -> TenantContext {
    TenantContext::new(TenantRef::system(), user("root"), request.parse().unwrap())
}

impl World {
    pub fn new() -> Self {
        let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::default()));
        let tenants = TenantManager::new(Arc::new(store.clone()), clock.clone(), Arc::new(SeededIds::new(1)));
        let world = Self { store, clock, tenants };
        let root = Subject::Principal(user("root"));
        world.commit(|view, txn| world.tenants.stage_first_admin(view, txn, &root)).unwrap();
        world
    }

    pub fn tenant(&self, spec: TenantSpec) -> Tenant {
        let request = format!("create-{}", spec.id);
        block_on(self.tenants.create(&admin(&request), spec)).unwrap()
    }

    pub fn view(&self) -> Snapshot {
        block_on(self.store.snapshot(&[Prefix::ROOT])).unwrap()
    }

    /// Decides on the newest state and commits.
    pub fn commit<T>(&self, decide: impl FnOnce(&Snapshot, &mut Txn) -> Result<T>) -> Result<T> {
        let (view, mut txn) = (self.view(), Txn::new());
        let decided = decide(&view, &mut txn)?;
        block_on(self.store.commit(&txn))?;
        Ok(decided)
    }
}
