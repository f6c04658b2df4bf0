//! Tenants: create, look up, change, delete.

use std::collections::BTreeSet;

use hivemind_core::labels::Labels;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    Error, ErrorKind, Generation, IdSourceExt, Namespace, Result, Retry, StateStoreExt, TenantContext,
    TenantId, TenantRef, Timestamp,
};

use super::TenantManager;
use crate::rbac::{Scope, bindings, bindings_of};
use crate::tenant::{key, tenants};
use crate::{IsolationLevel, ResourceQuotas, Tenant, TenantQuota, TenantSpec};

/// What to change of a tenant; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantUpdate {
    /// The name for people.
    pub name: Option<String>,
    /// How far it is kept apart. What runs already stays where it is.
    pub isolation_level: Option<IsolationLevel>,
    /// How much it may use. Below its usage, nothing is taken away and nothing more is admitted.
    pub resource_quotas: Option<ResourceQuotas>,
    /// Its namespaces.
    pub namespaces: Option<BTreeSet<Namespace>>,
    /// Its labels.
    pub labels: Option<Labels>,
}

impl TenantUpdate {
    /// Other quotas.
    pub fn quotas(quotas: ResourceQuotas) -> Self {
        Self { resource_quotas: Some(quotas), ..Self::default() }
    }
}

/// Only the system tenant's context may administer tenants.
fn administered(ctx: &TenantContext, operation: &'static str) -> Result<()> {
    if *ctx.tenant() == TenantRef::system() {
        return Ok(());
    }
    let message = format!("tenants are administered in the context of tenant {}", TenantRef::system().id);
    Err(Error::new(ErrorKind::Denied, operation, message))
}

impl TenantManager {
    /// Stages a new tenant of `generation`, which must be unique: take it from an
    /// [`IdSource`](hivemind_core::IdSource).
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the id is taken, [`ErrorKind::Invalid`] if it is the system tenant's.
    pub fn stage_create(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        spec: &TenantSpec,
        generation: Generation,
        now: Timestamp,
    ) -> Result<Tenant> {
        administered(ctx, "create tenant")?;
        if spec.id == TenantRef::system().id {
            return Err(Error::invalid("create tenant", format!("the name {} is the system's own", spec.id)));
        }
        let TenantSpec { id, name, isolation_level, resource_quotas, namespaces, labels, parent, owners } =
            spec.clone();
        let tenant = Tenant {
            name: if name.is_empty() { id.to_string() } else { name },
            tenant: TenantRef::new(id, generation),
            isolation_level,
            resource_quotas,
            namespaces,
            labels,
            parent,
            owners,
            state: crate::TenantState::Active,
            created_at: now,
            updated_at: now,
        };
        tenants()?.create(view, txn, key(&spec.id)?, &tenant)?;
        Ok(tenant)
    }

    /// Stages a change of a tenant.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tenant.
    pub fn stage_update(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &TenantId,
        update: &TenantUpdate,
        now: Timestamp,
    ) -> Result<Tenant> {
        administered(ctx, "update tenant")?;
        let old = tenants()?.require(view, txn, &key(id)?)?;
        let mut new = (*old.value).clone();
        let TenantUpdate { name, isolation_level, resource_quotas, namespaces, labels } = update.clone();
        new.name = name.unwrap_or(new.name);
        new.isolation_level = isolation_level.unwrap_or(new.isolation_level);
        new.resource_quotas = resource_quotas.unwrap_or(new.resource_quotas);
        new.namespaces = namespaces.unwrap_or(new.namespaces);
        new.labels = labels.unwrap_or(new.labels);
        new.updated_at = now;
        tenants()?.update(txn, &old, &new)?;
        Ok(new)
    }

    /// Stages the deletion of a tenant, with its ledger and its role bindings.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tenant, [`ErrorKind::Conflict`] while it has reservations.
    pub fn stage_delete(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &TenantId,
    ) -> Result<()> {
        administered(ctx, "delete tenant")?;
        let old = tenants()?.require(view, txn, &key(id)?)?;
        let theirs = TenantContext::new(old.tenant.clone(), ctx.principal().clone(), ctx.request().clone());
        TenantQuota.stage_close(view, txn, &theirs)?;
        let running = crate::placement::allocations()?;
        let runs = running.list(view, txn, running.prefix())?;
        if runs.iter().any(|node| node.workloads.contains_key(&old.tenant)) {
            let message = format!("tenant {id} still runs workloads: remove them first");
            return Err(
                Error::new(ErrorKind::Conflict, "delete tenant", message).with_retry(Retry::AfterChange)
            );
        }
        for binding in bindings()?.list(view, txn, &bindings_of(&Scope::Tenant(old.tenant.clone()))?)? {
            bindings()?.delete(txn, &binding)?;
        }
        tenants()?.delete(txn, &old)
    }

    /// The tenant `id`, by the state in `view`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tenant.
    pub fn tenant(&self, view: &Snapshot, ctx: &TenantContext, id: &TenantId) -> Result<Tenant> {
        if ctx.tenant().id != *id {
            administered(ctx, "get tenant")?;
        }
        let missing = || Error::not_found("get tenant", format!("there is no tenant {id}"));
        let found = tenants()?.get(view, &Txn::new(), &key(id)?)?.ok_or_else(missing)?;
        Ok((*found.value).clone())
    }

    /// Creates a tenant of a fresh generation.
    ///
    /// # Errors
    /// As [`stage_create`](Self::stage_create), and those of the store.
    pub async fn create(&self, ctx: &TenantContext, spec: TenantSpec) -> Result<Tenant> {
        let (generation, now) = (self.ids.generation(), self.clock.now());
        let operation = format!("create-tenant-{}", spec.id);
        let decide =
            |view: &Snapshot, txn: &mut Txn| self.stage_create(view, txn, ctx, &spec, generation, now);
        self.commit(ctx, &operation, decide).await
    }

    /// Changes a tenant.
    ///
    /// # Errors
    /// As [`stage_update`](Self::stage_update), and those of the store.
    pub async fn update(&self, ctx: &TenantContext, id: &TenantId, update: TenantUpdate) -> Result<Tenant> {
        let now = self.clock.now();
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_update(view, txn, ctx, id, &update, now);
        self.commit(ctx, &format!("update-tenant-{id}"), decide).await
    }

    /// Deletes a tenant.
    ///
    /// # Errors
    /// As [`stage_delete`](Self::stage_delete), and those of the store.
    pub async fn delete(&self, ctx: &TenantContext, id: &TenantId) -> Result<()> {
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_delete(view, txn, ctx, id);
        self.commit(ctx, &format!("delete-tenant-{id}"), decide).await
    }

    /// The tenant `id`, by the newest state.
    ///
    /// # Errors
    /// As [`tenant`](Self::tenant), and those of the store.
    pub async fn get(&self, ctx: &TenantContext, id: &TenantId) -> Result<Tenant> {
        let view = self.store.snapshot(&[tenants()?.prefix().clone()]).await?;
        self.tenant(&view, ctx, id)
    }

    /// Every tenant, in the order of ids.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] outside the system tenant's context, and those of the store.
    pub async fn list(&self, ctx: &TenantContext) -> Result<Vec<Tenant>> {
        administered(ctx, "list tenants")?;
        let view = self.store.snapshot(&[tenants()?.prefix().clone()]).await?;
        let all = tenants()?.list(&view, &Txn::new(), tenants()?.prefix())?;
        Ok(all.iter().map(|tenant| (*tenant.value).clone()).collect())
    }
}
