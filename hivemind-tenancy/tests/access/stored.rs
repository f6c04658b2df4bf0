//! A state of the small universe, in a store.

use std::sync::Arc;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    Collection, ManualClock, MemoryStore, SeededIds, StateStore, StateStoreExt, Stored, TenantRef, block_on,
};
use hivemind_tenancy::rbac::Scope;
use hivemind_tenancy::{Role, RoleBinding, Tenant, TenantManager};
use serde_json::json;

use crate::model::State;

fn collection<T: Stored>(name: &str) -> Collection<T> {
    Collection::new(Prefix::new(["tenancy", name]).unwrap())
}

fn stage<T: Stored>(view: &Snapshot, txn: &mut Txn, name: &str, key: &[String], value: &T) {
    let all = collection::<T>(name);
    all.create(view, txn, all.key(key.iter().map(String::as_str)).unwrap(), value).unwrap();
}

fn record(tenant: &TenantRef, parent: &Option<TenantRef>) -> Tenant {
    let form = json!({
        "tenant": tenant, "name": tenant.id, "isolation_level": "soft", "resource_quotas": {}, "namespaces": [],
        "labels": {}, "parent": parent, "created_at": 0, "updated_at": 0,
    });
    serde_json::from_value(form).unwrap()
}

pub fn segment(scope: &Scope) -> String {
    match scope {
        Scope::Global => "*".to_owned(),
        Scope::Tenant(tenant) => tenant.to_string(),
    }
}

impl State {
    /// A store that holds it, and a manager on that.
    pub fn stored(&self) -> (MemoryStore, TenantManager) {
        let store = MemoryStore::new();
        let (view, mut txn) = (Snapshot::default(), Txn::new());
        for (tenant, parent) in &self.tenants {
            stage(&view, &mut txn, "tenants", &[tenant.id.to_string()], &record(tenant, parent));
        }
        for role in &self.roles {
            let owner = role.tenant.iter().map(ToString::to_string);
            let key: Vec<_> = owner.chain([role.name.to_string()]).collect();
            stage(&view, &mut txn, "roles", &key, role);
        }
        for one in &self.bindings {
            stage(&view, &mut txn, "bindings", &[segment(&one.scope), one.name.to_string()], one);
        }
        block_on(store.commit(&txn)).unwrap();
        let clock = Arc::new(ManualClock::default());
        let manager = TenantManager::new(Arc::new(store.clone()), clock, Arc::new(SeededIds::new(1)));
        (store, manager)
    }

    /// The same tenants with the roles and bindings that are in `store` now.
    pub fn after(&self, store: &MemoryStore) -> Self {
        let (view, txn) = (block_on(store.snapshot(&[Prefix::ROOT])).unwrap(), Txn::new());
        let (roles, bindings) = (collection::<Role>("roles"), collection::<RoleBinding>("bindings"));
        let roles = roles.list(&view, &txn, roles.prefix()).unwrap();
        let bindings = bindings.list(&view, &txn, bindings.prefix()).unwrap();
        Self {
            tenants: self.tenants.clone(),
            roles: roles.iter().map(|role| (*role.value).clone()).collect(),
            bindings: bindings.iter().map(|binding| (*binding.value).clone()).collect(),
        }
    }
}
