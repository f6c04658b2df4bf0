//! Tenants that come, change state and go, written straight into the store.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses some of it, and may panic"
)]

use hivemind_core::store::{Prefix, Txn};
use hivemind_core::{Collection, StateStore, TenantRef, block_on};
use hivemind_tenancy::{Tenant, TenantSpec, TenantState};

use crate::common::{World, admin};

fn tenants() -> Collection<Tenant> {
    Collection::new(Prefix::new(["tenancy", "tenants"]).unwrap())
}

/// A tenant without limits; `life` tells apart those of the same name.
pub fn born(world: &World, id: &str, life: u64) -> TenantRef {
    let spec = TenantSpec::new(id.parse().unwrap());
    block_on(world.tenants.create(&admin(&format!("create-{id}-{life}")), spec)).unwrap().tenant
}

/// The record of `tenant` goes, and with it its generation.
pub fn dies(world: &World, tenant: &TenantRef) {
    let (view, mut txn) = (world.view(), Txn::new());
    let key = tenants().key([tenant.id.as_str()]).unwrap();
    let old = tenants().require(&view, &txn, &key).unwrap();
    tenants().delete(&mut txn, &old).unwrap();
    block_on(world.store.commit(&txn)).unwrap();
}

/// `tenant` gets into `state`.
pub fn gets_into(world: &World, tenant: &TenantRef, state: TenantState) {
    let (view, mut txn) = (world.view(), Txn::new());
    let key = tenants().key([tenant.id.as_str()]).unwrap();
    let old = tenants().require(&view, &txn, &key).unwrap();
    let mut new = (*old.value).clone();
    new.state = state;
    tenants().update(&mut txn, &old, &new).unwrap();
    block_on(world.store.commit(&txn)).unwrap();
}
