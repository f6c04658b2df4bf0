//! Changing a tenant.

use std::collections::BTreeSet;

use hivemind_core::labels::Labels;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Namespace, Result, TenantContext, TenantId, Timestamp};

use super::authority::{Authority, Found, authority, find};
use super::{blocked, moment};
use crate::manager::TenantManager;
use crate::manager::nodes::stage_isolation_changed;
use crate::rbac::Subject;
use crate::tenant::{Ceiling, Delegation, LabelPolicy, check_labels};
use crate::tenant::{check_sizes, tenants};
use crate::{IsolationLevel, ResourceQuotas, Tenant};

/// What to change of a tenant; `None` leaves it as it is.
///
/// An owner of the tenant itself may change its name, namespaces and labels; the rest is for those above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantUpdate {
    /// The name for people. The id stays.
    pub name: Option<String>,
    /// How far it is kept apart. What runs already stays where it is; where it must be alone, nobody else comes any more.
    pub isolation_level: Option<IsolationLevel>,
    /// How much it may use. Below its usage, nothing is taken away and nothing more is admitted.
    pub resource_quotas: Option<ResourceQuotas>,
    /// Its namespaces.
    pub namespaces: Option<BTreeSet<Namespace>>,
    /// Its labels.
    pub labels: Option<Labels>,
    /// Who administers it.
    pub owners: Option<BTreeSet<Subject>>,
    /// Whether deletion is refused.
    pub protected: Option<bool>,
    /// What its owners may do on their own.
    pub delegation: Option<Delegation>,
    /// What labels in it, and below it, must look like. What has other labels already keeps them.
    pub label_policy: Option<LabelPolicy>,
}

impl TenantUpdate {
    /// Other quotas.
    pub fn quotas(quotas: ResourceQuotas) -> Self {
        Self { resource_quotas: Some(quotas), ..Self::default() }
    }

    /// Another name for people.
    pub fn name(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// Another isolation level.
    pub fn isolation(level: IsolationLevel) -> Self {
        Self { isolation_level: Some(level), ..Self::default() }
    }

    /// Other labels.
    pub fn labels(labels: Labels) -> Self {
        Self { labels: Some(labels), ..Self::default() }
    }

    /// Deletion is refused, or no longer.
    pub fn protection(protected: bool) -> Self {
        Self { protected: Some(protected), ..Self::default() }
    }

    /// Whether an owner of the tenant itself may make this change.
    fn is_for_owners(&self) -> bool {
        self.isolation_level.is_none()
            && self.resource_quotas.is_none()
            && self.owners.is_none()
            && self.protected.is_none()
            && self.delegation.is_none()
            && self.label_policy.is_none()
    }

    fn applied_to(&self, old: &Tenant) -> Tenant {
        let (mut new, this) = (old.clone(), self.clone());
        new.name = this.name.unwrap_or(new.name);
        new.isolation_level = this.isolation_level.unwrap_or(new.isolation_level);
        new.resource_quotas = this.resource_quotas.unwrap_or(new.resource_quotas);
        new.namespaces = this.namespaces.unwrap_or(new.namespaces);
        new.labels = this.labels.unwrap_or(new.labels);
        new.owners = this.owners.unwrap_or(new.owners);
        new.protected = this.protected.unwrap_or(new.protected);
        new.delegation = this.delegation.unwrap_or(new.delegation);
        new.label_policy = this.label_policy.unwrap_or(new.label_policy);
        new
    }

    /// Succeeds if `new` is within what the tenants above allow, as far as this changes it.
    fn check(&self, found: &Found, new: &Tenant, who: Authority) -> Result<()> {
        if self.isolation_level.is_some() || (self.resource_quotas.is_some() && who != Authority::System) {
            let limits = self.resource_quotas.is_some() && who != Authority::System;
            Ceiling::of(found.above()).check(new, limits)?;
        }
        if self.labels.is_some() {
            check_labels(&new.tenant.id, found.above().iter().map(|one| &**one), &new.labels)?;
        }
        Ok(())
    }
}

impl TenantManager {
    /// Stages a change of a tenant.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tenant, or `ctx` may not know of it; [`ErrorKind::Denied`] if `ctx`
    /// may not make this change; [`ErrorKind::Invalid`] as for [`stage_create`](Self::stage_create);
    /// [`ErrorKind::Conflict`] if the tenant is being deleted.
    pub fn stage_update(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &TenantId,
        update: &TenantUpdate,
        now: Timestamp,
    ) -> Result<Tenant> {
        let found = find(view, txn, ctx, id)?;
        let who = authority(view, txn, ctx, &found.chain, "update tenant")?;
        if who == Authority::Own && !update.is_for_owners() {
            let message = format!(
                "an owner of tenant {id} may change its name, namespaces and labels: ask one of a tenant above for the rest"
            );
            return Err(Error::new(ErrorKind::Denied, "update tenant", message));
        }
        if found.tenant.state.is_terminating() {
            return Err(blocked("update tenant", format!("tenant {id} is being deleted")));
        }
        let mut new = update.applied_to(&found.tenant);
        check_sizes("update tenant", Some(&*found.tenant), &new)?;
        update.check(&found, &new, who)?;
        for one in found.above() {
            tenants()?.expect(txn, one)?;
        }
        let apart = |one: &Tenant| one.isolation_level.settings().compute_isolation;
        if apart(&new) != apart(&found.tenant) {
            stage_isolation_changed(view, txn)?;
        }
        new.updated_at = moment(ctx, now);
        tenants()?.update(txn, &found.tenant, &new)?;
        Ok(new)
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
}
