//! Looking tenants up, as far as one who asks may see them.

use std::collections::BTreeSet;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Result, Stamped, StateStoreExt, TenantContext, TenantId, TenantRef};

use super::authority::{find, is_system};
use crate::Tenant;
use crate::manager::TenantManager;
use crate::tenant::Ceiling;
use crate::tenant::{leaf, tenants};

/// `root` and every tenant below it: each after its parent, those of one level in the order of ids. The second of a
/// pair is its level, 0 for `root`.
pub(in crate::manager) fn subtree(
    view: &Snapshot,
    txn: &Txn,
    root: &TenantRef,
) -> Result<Vec<(Stamped<Tenant>, usize)>> {
    if let Some(leaf) = leaf(view, txn, root)? {
        return Ok(vec![(leaf, 0)]);
    }
    let mut rest = tenants()?.list(view, txn, tenants()?.prefix())?;
    let mut found: Vec<(Stamped<Tenant>, usize)> = Vec::new();
    let (mut level, mut parents) = (0, BTreeSet::new());
    loop {
        let is_next = |one: &Stamped<Tenant>| match level {
            0 => one.tenant == *root,
            _ => one.parent.as_ref().is_some_and(|parent| parents.contains(parent)),
        };
        let (next, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_next);
        if next.is_empty() {
            return Ok(found);
        }
        parents = next.iter().map(|one| one.tenant.clone()).collect();
        found.extend(next.into_iter().map(|one| (one, level)));
        rest = others;
        level += 1;
    }
}

impl TenantManager {
    /// The tenant `id`, by the state in `view`.
    ///
    /// # Errors
    /// [`NotFound`](hivemind_core::ErrorKind::NotFound) if there is none, or if it is neither the tenant of `ctx` nor
    /// below it.
    pub fn tenant(&self, view: &Snapshot, ctx: &TenantContext, id: &TenantId) -> Result<Tenant> {
        Ok((*find(view, &Txn::new(), ctx, id)?.tenant.value).clone())
    }

    /// Every tenant that `ctx` may see, by the state in `view`, in the order of ids: in the system's context all of
    /// them, else the own one and those below it.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn visible(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Vec<Tenant>> {
        let txn = Txn::new();
        let seen = match is_system(ctx) {
            true => tenants()?.list(view, &txn, tenants()?.prefix())?,
            false => subtree(view, &txn, ctx.tenant())?.into_iter().map(|(one, _)| one).collect(),
        };
        let mut seen: Vec<_> = seen.iter().map(|one| (*one.value).clone()).collect();
        seen.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        Ok(seen)
    }

    /// What a tenant below `id` may have at most, and how far it must be kept apart.
    ///
    /// # Errors
    /// As [`tenant`](Self::tenant).
    pub fn ceiling(&self, view: &Snapshot, ctx: &TenantContext, id: &TenantId) -> Result<Ceiling> {
        Ok(Ceiling::of(&find(view, &Txn::new(), ctx, id)?.chain))
    }

    /// The tenant `id`, by the newest state.
    ///
    /// # Errors
    /// As [`tenant`](Self::tenant), and those of the store.
    pub async fn get(&self, ctx: &TenantContext, id: &TenantId) -> Result<Tenant> {
        let view = self.store.snapshot(&[tenants()?.prefix().clone()]).await?;
        self.tenant(&view, ctx, id)
    }

    /// Every tenant that `ctx` may see, by the newest state.
    ///
    /// # Errors
    /// As [`visible`](Self::visible), and those of the store.
    pub async fn list(&self, ctx: &TenantContext) -> Result<Vec<Tenant>> {
        let view = self.store.snapshot(&[tenants()?.prefix().clone()]).await?;
        self.visible(&view, ctx)
    }
}
