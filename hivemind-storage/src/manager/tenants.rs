//! The end of all storage of a tenant.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{ErrorKind, Result, TenantContext};

use super::{BATCH, StorageManager};
use crate::records::{groups, snapshots};
use crate::{SnapshotPhase, VolumePhase};

/// What a tenant still has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantRemains {
    /// How many claims.
    pub claims: usize,
    /// How many volumes, those that are being deleted included.
    pub volumes: usize,
    /// How many snapshots, those that are being deleted included.
    pub snapshots: usize,
}

impl TenantRemains {
    /// Whether there is nothing left.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl StorageManager {
    /// Stages the end of what the tenant has, whatever its reclaim policies say: about 20 things at a time, so that they fit
    /// into a transaction. First its claims, then its volumes, then its snapshots. Tells what there is still, before that:
    /// call it until there is nothing, while the controller runs.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if volumes are to be archived and the request has no time; those of the quota.
    pub fn stage_tenant_gone(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
    ) -> Result<TenantRemains> {
        let (claims, volumes) = (self.claims(view, txn, ctx)?, self.volumes(view, ctx)?);
        let taken = self.snapshots(view, ctx)?;
        let (claimed, there, kept) = (claims.len(), volumes.len(), taken.len());
        let remains = TenantRemains { claims: claimed, volumes: there, snapshots: kept };
        for claim in claims.iter().take(BATCH) {
            self.stage_release(view, txn, ctx, &claim.spec.id)?;
        }
        if !claims.is_empty() {
            return Ok(remains);
        }
        let staying = volumes.iter().filter(|volume| volume.phase != VolumePhase::Deleting);
        let mut staged = 0;
        for volume in staying.take(BATCH) {
            self.stage_volume_removal(view, txn, ctx, &volume.key.volume)?;
            staged += 1;
        }
        if staged == 0 {
            self.stage_snapshots_gone(view, txn, ctx)?;
        }
        Ok(remains)
    }

    /// Stages the end of one group, or else of some snapshots, leaving what is still needed for later.
    fn stage_snapshots_gone(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<()> {
        let below = groups()?.below([ctx.tenant().to_string()])?;
        for group in groups()?.list(view, txn, &below)? {
            if group.phase != SnapshotPhase::Deleting {
                return later(txn, |txn| self.stage_group_removal(view, txn, ctx, &group.key.group));
            }
        }
        let below = snapshots()?.below([ctx.tenant().to_string()])?;
        let all = snapshots()?.list(view, txn, &below)?;
        let alone = all.iter().filter(|one| one.group.is_none() && one.phase != SnapshotPhase::Deleting);
        for one in alone.take(BATCH) {
            let (volume, name) = (&one.key.volume.volume, &one.key.snapshot);
            later(txn, |txn| self.stage_snapshot_removal(view, txn, ctx, volume, name))?;
        }
        Ok(())
    }
}

/// Stages all of it, or, while something else still needs it, nothing.
fn later(txn: &mut Txn, stage: impl FnOnce(&mut Txn) -> Result<()>) -> Result<()> {
    let mut trial = txn.clone();
    match stage(&mut trial) {
        Ok(()) => *txn = trial,
        Err(e) if e.kind() == ErrorKind::Conflict => {}
        Err(e) => return Err(e),
    }
    Ok(())
}
