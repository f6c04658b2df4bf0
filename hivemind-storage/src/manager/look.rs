//! What there is, and why it is not yet as wished.

use hivemind_core::resources::ByteSize;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{ClaimId, Error, NodeId, Result, Stamped, TenantContext, Timestamp, VolumeId};

use super::StorageManager;
use crate::records::{claims, report_at, reports, snapshots, todo_at, todos, volumes};
use crate::topology::apart;
use crate::{Claim, HealthChange, SnapshotRecord, Volume, VolumeKey, VolumePhase, VolumeReport, VolumeStats};

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
    /// What is believed of its volume's condition, and how full it is.
    pub health: VolumeReport,
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
    /// What is in those volumes of which a node has told how full they are, together.
    pub used: ByteSize,
    /// How many volumes that are.
    pub measured: u64,
    /// When the one was seen that was not seen for longest; `None` if none was.
    pub measured_since: Option<Timestamp>,
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
            let health = VolumeReport::default();
            return Ok(ClaimStatus { claim, volume: None, waits_for: vec![because], health, failing: None });
        };
        let volume = self.owned(view, &txn, ctx, name)?;
        let todo = todos()?.get(view, &txn, &todo_at(&Self::key_of(ctx, name)?)?)?;
        let failing = todo.and_then(|todo| Some((todo.because.clone()?, todo.failures, todo.not_before)));
        let waits_for = waits_for(&volume);
        let health = self.health(view, &volume.key)?;
        Ok(ClaimStatus { claim, volume: Some((*volume.value).clone()), waits_for, health, failing })
    }

    fn health(&self, view: &Snapshot, volume: &VolumeKey) -> Result<VolumeReport> {
        let found = reports()?.get(view, &Txn::new(), &report_at(volume)?)?;
        Ok(found.map(|found| (*found.value).clone()).unwrap_or_default())
    }

    /// Stages what `node` says of a volume of the tenant: how it is, and how full
    /// ([`NodeStorage::volume_stats`](crate::NodeStorage)). Returns what is believed otherwise since, if anything is. What
    /// a node says that is not known to have the volume is nothing.
    ///
    /// # Errors
    /// [`NotFound`](hivemind_core::ErrorKind::NotFound) if the tenant has no such volume;
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) if the request has no time.
    pub fn stage_volume_stats(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        volume: &VolumeId,
        node: &NodeId,
        stats: &VolumeStats,
    ) -> Result<Option<HealthChange>> {
        let now = super::now(ctx, "stats")?;
        let of = self.owned(view, txn, ctx, volume)?;
        volumes()?.expect(txn, &of)?;
        if !of.attached.contains_key(node) {
            return Ok(None);
        }
        let at = report_at(&of.key)?;
        let old = reports()?.get(view, txn, &at)?;
        let mut new = old.as_ref().map(|old| (*old.value).clone()).unwrap_or_default();
        // Who does not have it any more has nothing to say.
        new.nodes.retain(|node, _| of.attached.contains_key(node));
        let change = new.node_says(node, stats, &self.thresholds, now);
        match &old {
            Some(old) => reports()?.update(txn, old, &new)?,
            None => reports()?.create(view, txn, at, &new)?,
        }
        Ok(change)
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
            if let Some((bytes, at)) = self.health(view, &volume.key)?.used {
                usage.used = add(usage.used, ByteSize::from_bytes(bytes.used));
                usage.measured += 1;
                usage.measured_since = Some(usage.measured_since.map_or(at, |oldest| oldest.min(at)));
            }
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
    if let Some(segment) = &volume.spread_over {
        let (there, wanted) =
            (apart(&volume.topology, segment).len(), usize::from(volume.options.replicas.get()));
        if volume.handle.is_some() && there < wanted {
            because.push(format!("its copies are to differ in {segment}, and do so in {there} of {wanted}"));
        }
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
