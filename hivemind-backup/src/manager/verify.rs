//! Reads a backup and everything below it, and checks all there is to check.

use futures_util::TryStreamExt;
use hivemind_core::{BackupId, Result, TenantContext};

use super::BackupManager;
use crate::BackupMetadata;

/// What a verification found: everything was right.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The backups read, from the full one to the one asked for.
    pub chain: Vec<BackupId>,
    /// How many records a restore would write.
    pub records: u64,
    /// How many bytes were read.
    pub stored_bytes: u64,
}

impl BackupManager {
    /// Reads `id` and every backup below it: frames, order, checksums, counts, keys.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt), with [`Damage`](crate::Damage) as detail where bytes are wrong.
    pub async fn verify(&self, _ctx: &TenantContext, id: &BackupId) -> Result<VerifyReport> {
        let chain = self.chain(id).await?;
        self.verify_chain(&chain).await
    }

    pub(super) async fn verify_chain(&self, chain: &[BackupMetadata]) -> Result<VerifyReport> {
        let mut merged = self.merged(chain).await?;
        let mut records = 0;
        while merged.try_next().await?.is_some() {
            records += 1;
        }
        let stored_bytes = chain.iter().map(|backup| backup.stored_bytes).sum();
        Ok(VerifyReport {
            chain: chain.iter().map(|backup| backup.id.clone()).collect(),
            records,
            stored_bytes,
        })
    }
}
