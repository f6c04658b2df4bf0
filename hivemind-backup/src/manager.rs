//! Makes, checks and restores backups.

mod compare;
mod create;
mod read;
mod restore;
mod verify;

use std::sync::Arc;

use hivemind_core::{
    BackupId, Clock, ClusterId, Error, ErrorKind, IdSource, KeyProvider, Result, StateSource, TenantContext,
};

use crate::engine::chain;
use crate::{BackupListing, BackupMetadata, BackupStorage};

pub use compare::{Difference, compare};
pub use restore::RestoreReport;
pub use verify::VerifyReport;

/// Makes, checks and restores backups of one source in one storage. Clones share both.
#[derive(Debug, Clone)]
pub struct BackupManager {
    source: Arc<dyn StateSource>,
    storage: Arc<dyn BackupStorage>,
    keys: Option<Arc<dyn KeyProvider>>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    cluster: ClusterId,
}

impl BackupManager {
    /// Backs up `source`, which is `cluster`'s, into `storage`; encrypts with `keys`.
    ///
    /// `ids` also gives the nonces of encryption: outside tests, use the system's.
    pub fn new(
        source: Arc<dyn StateSource>,
        storage: Arc<dyn BackupStorage>,
        keys: Option<Arc<dyn KeyProvider>>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        cluster: ClusterId,
    ) -> Self {
        Self { source, storage, keys, clock, ids, cluster }
    }

    /// Every backup, and every damaged one.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn list(&self, _ctx: &TenantContext) -> Result<BackupListing> {
        self.storage.list_backups().await
    }

    /// Deletes `id`; a missing one is success.
    ///
    /// Do not delete a backup while an incremental one is being made of it.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] while another backup is based on it.
    pub async fn delete(&self, _ctx: &TenantContext, id: &BackupId) -> Result<()> {
        let listing = self.storage.list_backups().await?;
        if let Some(above) = listing.backups.iter().find(|backup| backup.base() == Some(id)) {
            let message = format!("backup {} is based on {id}: delete that first", above.id);
            return Err(Error::new(ErrorKind::Conflict, "delete_backup", message));
        }
        self.storage.delete_backup(id).await
    }

    /// The backups from the full one to `id`, oldest first.
    async fn chain(&self, id: &BackupId) -> Result<Vec<BackupMetadata>> {
        chain(id, &self.storage.list_backups().await?.backups)
    }
}
