//! All storage of a tenant that is being deleted goes, and its keys with it.

use std::sync::Arc;

use hivemind_core::store::{Prefix, Txn};
use hivemind_core::{Result, StateStore, StateStoreExt, TenantContext};

use crate::{StorageManager, TenantRemains};

/// Removes all storage of a tenant: what the host does for its storage when it deletes a tenant, such as in a finalizer
/// of `hivemind-tenancy`.
///
/// With [keys](Self::with_keys), the tenant's secrets are destroyed: by default in the end, when all of its volumes and
/// snapshots are gone; or [at once](Self::erasing_first), so that from then on nothing of it can be read from copies that
/// somebody has, however long deleting takes. A volume that is on a node stays open there until it is detached.
///
/// It may die at any time: whoever comes next goes on.
#[derive(Debug, Clone)]
pub struct TenantRemoval {
    store: Arc<dyn StateStore>,
    storage: StorageManager,
    scopes: Vec<Prefix>,
    #[cfg(feature = "encryption")]
    keys: Option<crate::VolumeKeys>,
    #[cfg(feature = "encryption")]
    first: bool,
}

impl TenantRemoval {
    /// A removal by `storage`, committed to `store`.
    ///
    /// # Errors
    /// None in practice; the prefix is constant.
    pub fn new(store: Arc<dyn StateStore>, storage: StorageManager) -> Result<Self> {
        Ok(Self {
            store,
            storage,
            scopes: vec![crate::prefix()?],
            #[cfg(feature = "encryption")]
            keys: None,
            #[cfg(feature = "encryption")]
            first: false,
        })
    }

    /// Reads what is below `prefix`, too: what the quota needs.
    #[must_use]
    pub fn with_scope(mut self, prefix: Prefix) -> Self {
        self.scopes.push(prefix);
        self
    }

    /// Destroys the tenant's secrets when all else is gone.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn with_keys(mut self, keys: crate::VolumeKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Destroys the tenant's secrets before anything else, instead of waiting for its volumes.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn erasing_first(mut self) -> Self {
        self.first = true;
        self
    }

    /// Takes the removal of all storage of the tenant of `ctx` a step further, and tells what is left. Repeat it, while the
    /// [controller](crate::VolumeController) runs, until that [is nothing](TenantRemains::is_empty): then its secrets are
    /// destroyed, too.
    ///
    /// The tenant must not be able to claim anything new any more; give each step a request of its own.
    ///
    /// # Errors
    /// Those of the store, such as [`Conflict`](hivemind_core::ErrorKind::Conflict) if something was just changed: repeat
    /// it; those of [`stage_tenant_gone`](StorageManager::stage_tenant_gone).
    pub async fn step(&self, ctx: &TenantContext) -> Result<TenantRemains> {
        #[cfg(feature = "encryption")]
        if let Some(keys) = self.keys.as_ref().filter(|_| self.first) {
            keys.destroy(ctx.tenant()).await?;
        }
        let (view, mut txn) = (self.store.snapshot(&self.scopes).await?, Txn::new());
        let remains = self.storage.stage_tenant_gone(&view, &mut txn, ctx)?;
        if !txn.is_empty() {
            self.store.commit(&txn).await?;
        }
        #[cfg(feature = "encryption")]
        if let Some(keys) = self.keys.as_ref().filter(|_| remains.is_empty()) {
            keys.destroy(ctx.tenant()).await?;
        }
        Ok(remains)
    }
}
