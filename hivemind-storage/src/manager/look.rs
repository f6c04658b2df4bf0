//! What there is, and why it is not yet as wished.

use hivemind_core::resources::ByteSize;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{ClaimId, Error, Result, Stamped, TenantContext, Timestamp};

use super::StorageManager;
use crate::records::{claims, snapshots, todo_at, todos, volumes};
use crate::{Claim, SnapshotRecord, Volume, VolumePhase};

/// How a claim is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimStatus {
    /// The claim.
    pub claim: Claim,
    /// Its volume; `None` while it waits for its first consumer.
    pub volume: Option<Volume>,
    /// What it waits for, one sentence each; empty if all is as wished.
    pub waits_for: Vec<String>,
    /// Why the last step failed, how often in a row, and when it is tried again.
    pub failing: Option<(String, u32, Timestamp)>,
}

/// How much storage a tenant has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageUsage {
    /// How many volumes.
    pub volumes: u64,
    /// Their sizes together, and what they are to grow to.
    pub provisioned: ByteSize,
    /// Of the volumes, how many no claim has: kept, archived or offered.
    pub unclaimed: u64,
    /// How many snapshots.
    pub snapshots: u64,
    /// The sizes of the volumes when they were taken, together.
    pub snapshot_bytes: ByteSize,
}

impl StorageManager {
    /// The volume that a claim of the tenant is bound to.
    ///
    /// # Errors
    /// [`NotFound`](hivemind_core::ErrorKind::NotFound) if the tenant has no such claim, whoever else may, or the claim
    /// waits for its first consumer.
    pub fn volume(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
    ) -> Result<Stamped<Volume>> {
        let bound = self.claim(view, txn, ctx, claim)?;
        let waiting = || {
            Error::not_found(
                "volume",
                format!("claim {claim} has no volume yet: it waits for its first consumer"),
            )
        };
        self.owned(view, txn, ctx, bound.volume.as_ref().ok_or_else(waiting)?)
    }

    /// Every volume of the tenant, in the order of names.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn volumes(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Vec<Stamped<Volume>>> {
        volumes()?.list(view, &Txn::new(), &volumes()?.below([ctx.tenant().to_string()])?)
    }

    /// Every claim of the tenant, in the order of names.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn claims(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<Stamped<Claim>>> {
        claims()?.list(view, txn, &claims()?.below([ctx.tenant().to_string()])?)
    }

    /// Every snapshot of the tenant, in the order of volumes and names.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn snapshots(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Vec<Stamped<SnapshotRecord>>> {
        snapshots()?.list(view, &Txn::new(), &snapshots()?.below([ctx.tenant().to_string()])?)
    }

    /// How a claim is, and what it waits for.
    ///
    /// # Errors
    /// [`NotFound`](hivemind_core::ErrorKind::NotFound) if the tenant has no such claim.
    pub fn explain_claim(
        &self,
        view: &Snapshot,
        ctx: &TenantContext,
        claim: &ClaimId,
    ) -> Result<ClaimStatus> {
        let txn = Txn::new();
        let bound = self.claim(view, &txn, ctx, claim)?;
        let claim = (*bound.value).clone();
        let Some(name) = &bound.volume else {
            let because = match &bound.hold {
                None => "its first workload is to be placed".to_owned(),
                Some(held) => format!("a placement on node {} is to be committed", held.node),
            };
            return Ok(ClaimStatus { claim, volume: None, waits_for: vec![because], failing: None });
        };
        let volume = self.owned(view, &txn, ctx, name)?;
        let todo = todos()?.get(view, &txn, &todo_at(&Self::key_of(ctx, name)?)?)?;
        let failing = todo.and_then(|todo| Some((todo.because.clone()?, todo.failures, todo.not_before)));
        let waits_for = waits_for(&volume);
        Ok(ClaimStatus { claim, volume: Some((*volume.value).clone()), waits_for, failing })
    }

    /// How much storage the tenant has.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn usage(&self, view: &Snapshot, ctx: &TenantContext) -> Result<StorageUsage> {
        let mut usage = StorageUsage::default();
        let add = |sum: ByteSize, more: ByteSize| {
            ByteSize::from_bytes(sum.as_bytes().saturating_add(more.as_bytes()))
        };
        for volume in self.volumes(view, ctx)? {
            usage.volumes += 1;
            usage.unclaimed += u64::from(volume.claim.is_none());
            let size = volume.growth.as_ref().map_or(volume.size, |growth| growth.to.max(volume.size));
            usage.provisioned = add(usage.provisioned, size);
        }
        for snapshot in self.snapshots(view, ctx)? {
            usage.snapshots += 1;
            usage.snapshot_bytes = add(usage.snapshot_bytes, snapshot.size);
        }
        Ok(usage)
    }
}

fn waits_for(volume: &Volume) -> Vec<String> {
    let mut because = Vec::new();
    let provider = &volume.provider;
    match &volume.phase {
        VolumePhase::Creating => because.push(format!("provider {provider} is to make the volume")),
        VolumePhase::Failed(why) => {
            because.push(format!("provider {provider} refuses to make the volume: {why}"))
        }
        VolumePhase::Ready | VolumePhase::Archived(_) | VolumePhase::Deleting => {}
    }
    for (node, leaving) in &volume.maybe_attached {
        let how = leaving.proof.as_ref().map_or_else(String::new, |proof| format!(", by force: {proof}"));
        because.push(format!("the volume is to be taken from node {node}{how}"));
    }
    for node in volume.desired.keys().filter(|node| !volume.attached.contains_key(*node)) {
        because.push(format!("the volume is to be brought to node {node}"));
    }
    if let Some(growth) = &volume.growth {
        because.push(match &growth.refused {
            Some(why) => format!("provider {provider} refuses to let it grow to {}: {why}", growth.to),
            None if growth.on_node => format!("its file system is to grow to {} on its node", growth.to),
            None => format!("it is to grow to {}", growth.to),
        });
    }
    if let Some(filled) = &volume.population {
        let again = filled.failed.as_ref().map_or_else(String::new, |why| format!("; it failed: {why}"));
        because.push(format!("populator {} is to fill it from {}{again}", filled.populator, filled.from));
    }
    if let Some(why) = volume.modification.as_ref().and_then(|change| change.refused.as_ref()) {
        because.push(format!("provider {provider} refuses to change its parameters: {why}"));
    }
    if let Some(restoration) = &volume.restoration {
        because.push(match &restoration.refused {
            Some(why) => {
                format!("provider {provider} refuses to restore snapshot {}: {why}", restoration.snapshot)
            }
            None => format!("it is to get the content of snapshot {} again", restoration.snapshot),
        });
    }
    because
}
