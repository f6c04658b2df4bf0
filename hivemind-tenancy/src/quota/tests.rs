//! The quota decisions against a store, and what the tests of them share.

mod budgets;
mod model;
mod node_slices;
mod pitfalls;
mod ranges;
mod rules;
mod samples;
mod soft;
mod throttle;
mod waiting;

use hivemind_core::resources::{MilliCpu, ResourceName, Resources};
use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    Generation, MemoryStore, Principal, ReservationId, Result, StateStore, StateStoreExt, TenantContext,
    TenantRef, Timestamp, block_on,
};

use super::{QuotaRule, QuotaSpec};
use crate::tenant::{key, tenants};
use crate::{IsolationLevel, ResourceQuotas, Tenant, TenantState};

pub(super) fn gpu() -> ResourceName {
    "nvidia.com/gpu".parse().unwrap()
}

pub(super) fn amount(cpu: u64, gpus: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_millis(cpu)).with(gpu(), gpus)
}

pub(super) fn id(number: impl std::fmt::Display) -> ReservationId {
    format!("r{number}").parse().unwrap()
}

pub(super) fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// A quota of so much processing power.
pub(super) fn cpu(rule: QuotaRule) -> QuotaSpec {
    QuotaSpec::new().with_rule(ResourceName::Cpu, rule)
}

/// A store with tenants in it.
#[derive(Default)]
pub(super) struct World {
    pub(super) store: MemoryStore,
}

impl World {
    /// Adds a tenant without limits.
    pub(super) fn tenant(&self, name: &str, parent: Option<&TenantRef>) -> TenantRef {
        let tenant = TenantRef::new(name.parse().unwrap(), Generation::from_u64(1));
        let new = Tenant {
            tenant: tenant.clone(),
            name: name.to_owned(),
            isolation_level: IsolationLevel::default(),
            resource_quotas: ResourceQuotas::default(),
            namespaces: Default::default(),
            labels: Default::default(),
            parent: parent.cloned(),
            owners: Default::default(),
            state: TenantState::Active,
            protected: false,
            delegation: Default::default(),
            label_policy: Default::default(),
            finalizers: Vec::new(),
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
        };
        self.commit(|view, txn| tenants()?.create(view, txn, key(&tenant.id)?, &new)).unwrap();
        tenant
    }

    pub(super) fn ctx(&self, tenant: &TenantRef) -> TenantContext {
        TenantContext::new(tenant.clone(), Principal::User("ada".parse().unwrap()), "r".parse().unwrap())
    }

    pub(super) fn view(&self) -> Snapshot {
        block_on(self.store.snapshot(&[Prefix::ROOT])).unwrap()
    }

    /// Decides on the newest state and commits.
    pub(super) fn commit<T>(&self, decide: impl FnOnce(&Snapshot, &mut Txn) -> Result<T>) -> Result<T> {
        let (view, mut txn) = (self.view(), Txn::new());
        let decided = decide(&view, &mut txn)?;
        block_on(self.store.commit(&txn))?;
        Ok(decided)
    }

    /// Puts a tenant below another, as the manager of tenants does.
    pub(super) fn reparent(&self, moved: &TenantRef, parent: Option<&TenantRef>) -> Result<()> {
        self.commit(|view, txn| {
            let old = tenants()?.require(view, txn, &key(&moved.id)?)?;
            super::stage_reparent(view, txn, &self.ctx(moved), &old, parent)?;
            let mut new = (*old.value).clone();
            new.parent = parent.cloned();
            tenants()?.update(txn, &old, &new)
        })
    }
}
