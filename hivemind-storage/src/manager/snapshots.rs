//! Snapshots, groups of them, and restoring in place.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{ClaimId, Error, ErrorKind, Result, SnapshotId, Stamped, TenantContext, VolumeId};

use super::{StorageManager, token, work_on};
use crate::records::{group_at, groups, reservation, snapshot_at, snapshots, volumes};
use crate::{
    GroupKey, GroupRecord, Restoration, SnapshotKey, SnapshotPhase, SnapshotRecord, SourceKey, Volume,
    VolumeKey, VolumePhase,
};

impl StorageManager {
    /// Stages a snapshot of a claim's volume. The same one again is a no-op. It is charged like the volume,
    /// and if that grows before the snapshot is cut, for what it came to.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim; [`ErrorKind::Conflict`] if the volume is not there yet, or a
    /// snapshot of that name is being deleted; those of the quota.
    pub fn stage_snapshot(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        snapshot: &SnapshotId,
    ) -> Result<()> {
        let of = self.volume(view, txn, ctx, claim)?;
        let at = snapshot_at(&SnapshotKey::new(of.key.clone(), snapshot.clone()))?;
        let same =
            |there: &Stamped<SnapshotRecord>| there.group.is_none() && there.phase != SnapshotPhase::Deleting;
        if let Some(there) = snapshots()?.get(view, txn, &at)?.filter(same) {
            return snapshots()?.expect(txn, &there);
        }
        self.take(view, txn, ctx, &of, snapshot, None)?;
        work_on(view, txn, &at, true)
    }

    /// Stages the record of a snapshot that is to be taken.
    fn take(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        of: &Stamped<Volume>,
        name: &SnapshotId,
        group: Option<SnapshotId>,
    ) -> Result<()> {
        const OPERATION: &str = "snapshot";
        let key = SnapshotKey::new(of.key.clone(), name.clone());
        if of.phase != VolumePhase::Ready || of.is_being_restored() {
            let message = format!("volume {} is {}: wait until it is ready", of.key.volume, of.state());
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        of.check_filled(OPERATION)?;
        if let Some(there) = snapshots()?.get(view, txn, &snapshot_at(&key)?)? {
            let (kind, state) = match there.phase {
                SnapshotPhase::Deleting => {
                    (ErrorKind::Conflict, "is being deleted: wait, or choose another name")
                }
                _ => (ErrorKind::AlreadyExists, "exists: choose another name"),
            };
            return Err(Error::new(
                kind,
                OPERATION,
                format!("snapshot {name} of volume {} {state}", of.key.volume),
            ));
        }
        // The volume must still be there when the snapshot is decided on.
        volumes()?.expect(txn, of)?;
        let charged = reservation("snapshot", &[of.key.volume.as_str(), name.as_str()])?;
        let record = SnapshotRecord {
            provider: of.provider.clone(),
            group,
            phase: SnapshotPhase::Creating,
            token: token(ctx, &key),
            handle: None,
            size: of.size,
            created_at: None,
            encrypted_with: of.encrypted_with.clone(),
            reservations: self.charge(view, txn, ctx, charged, of.size)?,
            charged: of.size,
            key,
        };
        snapshots()?.create(view, txn, snapshot_at(&record.key)?, &record)
    }

    /// A snapshot of a volume of the tenant.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has no such volume, or that no such snapshot.
    pub fn snapshot(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        volume: &VolumeId,
        snapshot: &SnapshotId,
    ) -> Result<Stamped<SnapshotRecord>> {
        let key = SnapshotKey::new(VolumeKey::new(ctx.tenant().clone(), volume.clone()), snapshot.clone());
        let missing = || Error::not_found("snapshot", format!("volume {volume} has no snapshot {snapshot}"));
        snapshots()?.get(view, txn, &snapshot_at(&key)?)?.ok_or_else(missing)
    }

    /// Stages the end of a snapshot. Volumes that were made of it stay. It is charged until its provider has confirmed that
    /// it is gone.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Conflict`] if it is part of a group, or a volume is just
    /// being made of it or restored from it.
    pub fn stage_snapshot_removal(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        volume: &VolumeId,
        snapshot: &SnapshotId,
    ) -> Result<()> {
        let old = self.snapshot(view, txn, ctx, volume, snapshot)?;
        if let Some(group) = &old.group {
            let message =
                format!("snapshot {snapshot} of volume {volume} is part of group {group}: delete that");
            return Err(Error::new(ErrorKind::Conflict, "snapshot", message));
        }
        self.remove_snapshot(view, txn, ctx, &old)?;
        work_on(view, txn, &old.stored_at, true)
    }

    fn remove_snapshot(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        old: &Stamped<SnapshotRecord>,
    ) -> Result<()> {
        if old.phase == SnapshotPhase::Deleting {
            return snapshots()?.expect(txn, old);
        }
        let below = volumes()?.below([ctx.tenant().to_string()])?;
        for volume in volumes()?.list(view, txn, &below)? {
            // Until it is known what it is called, it may have to be asked for again.
            let made_of = volume.handle.is_none()
                && volume.source.as_ref() == Some(&SourceKey::Snapshot(old.key.clone()));
            let restored = volume.key == old.key.volume
                && volume.restoration.as_ref().is_some_and(|running| {
                    running.refused.is_none()
                        && [&running.snapshot, &running.undo].contains(&&old.key.snapshot)
                });
            if made_of || restored {
                let message = format!(
                    "volume {} is being made of snapshot {}: wait",
                    volume.key.volume, old.key.snapshot
                );
                return Err(Error::new(ErrorKind::Conflict, "snapshot", message));
            }
        }
        let mut new = (*old.value).clone();
        new.phase = SnapshotPhase::Deleting;
        snapshots()?.update(txn, old, &new)
    }

    /// Stages that a claim's volume gets the content of its snapshot again, in place. What is there now is kept as the
    /// snapshot `undo` first, a new one, so that it can be taken back.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim or snapshot; [`ErrorKind::Conflict`] if a node has the volume or is
    /// to have it, it is not ready, the snapshot is not, or another restoration goes on; those of
    /// [`stage_snapshot`](Self::stage_snapshot) for `undo`.
    pub fn stage_restore(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        snapshot: &SnapshotId,
        undo: &SnapshotId,
    ) -> Result<()> {
        const OPERATION: &str = "restore";
        let old = self.volume(view, txn, ctx, claim)?;
        let name = &old.key.volume;
        let running = old.restoration.as_ref().filter(|running| running.refused.is_none());
        if running.is_some_and(|running| running.snapshot == *snapshot && running.undo == *undo) {
            return volumes()?.expect(txn, &old);
        }
        if old.in_use() || running.is_some() {
            let message = format!("volume {name} is on a node, or being restored: detach it first, or wait");
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        let from = self.snapshot(view, txn, ctx, name, snapshot)?;
        if !from.is_ready() {
            let message = format!("snapshot {snapshot} of volume {name} is not ready: wait until it is");
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        snapshots()?.expect(txn, &from)?;
        // One that is there already holds something older than what is there now.
        self.take(view, txn, ctx, &old, undo, None)?;
        work_on(view, txn, &snapshot_at(&SnapshotKey::new(old.key.clone(), undo.clone()))?, true)?;
        let mut new = (*old.value).clone();
        new.restoration = Some(Restoration {
            token: token(ctx, format_args!("{}#restore-{snapshot}", old.key)),
            snapshot: snapshot.clone(),
            undo: undo.clone(),
            refused: None,
        });
        self.put(view, txn, &old, &new)
    }

    /// Stages snapshots of the volumes of several claims, cut at one moment: all or none. The same group again is a no-op.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if one of the claims is not there; [`ErrorKind::Invalid`] for no claims, or volumes of several
    /// providers; [`ErrorKind::AlreadyExists`] if the group exists with other volumes, or one of the volumes has a snapshot
    /// of that name; those of [`stage_snapshot`](Self::stage_snapshot).
    pub fn stage_group_snapshot(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        group: &SnapshotId,
        of: &[ClaimId],
    ) -> Result<()> {
        const OPERATION: &str = "group snapshot";
        let key = GroupKey::new(ctx.tenant().clone(), group.clone());
        let members =
            of.iter().map(|claim| self.volume(view, txn, ctx, claim)).collect::<Result<Vec<_>>>()?;
        let Some(first) = members.first() else {
            return Err(Error::invalid(
                OPERATION,
                format!("group {group} has no volumes: name at least one claim"),
            ));
        };
        let mut names: Vec<VolumeId> = members.iter().map(|volume| volume.key.volume.clone()).collect();
        names.sort();
        names.dedup();
        let at = group_at(&key)?;
        if let Some(there) = groups()?.get(view, txn, &at)? {
            if there.volumes == names && there.phase != SnapshotPhase::Deleting {
                return groups()?.expect(txn, &there);
            }
            let message = format!("group {group} exists, of other volumes, or is being deleted");
            return Err(Error::new(ErrorKind::AlreadyExists, OPERATION, message));
        }
        if let Some(other) = members.iter().find(|volume| volume.provider != first.provider) {
            let message = format!(
                "volume {} is at provider {}, and {} at {}: take one group of each",
                first.key.volume, first.provider, other.key.volume, other.provider
            );
            return Err(Error::invalid(OPERATION, message));
        }
        for volume in &names {
            let member = self.owned(view, txn, ctx, volume)?;
            self.take(view, txn, ctx, &member, group, Some(group.clone()))?;
        }
        let record = GroupRecord {
            provider: first.provider.clone(),
            volumes: names,
            phase: SnapshotPhase::Creating,
            token: token(ctx, format_args!("{key}#group")),
            handle: None,
            key,
        };
        groups()?.create(view, txn, at.clone(), &record)?;
        work_on(view, txn, &at, true)
    }

    /// Stages the end of a group, with the snapshots in it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such group; those of
    /// [`stage_snapshot_removal`](Self::stage_snapshot_removal) for its snapshots.
    pub fn stage_group_removal(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        group: &SnapshotId,
    ) -> Result<()> {
        let at = group_at(&GroupKey::new(ctx.tenant().clone(), group.clone()))?;
        let missing =
            || Error::not_found("group snapshot", format!("tenant {} has no group {group}", ctx.tenant().id));
        let old = groups()?.get(view, txn, &at)?.ok_or_else(missing)?;
        if old.phase == SnapshotPhase::Deleting {
            return groups()?.expect(txn, &old);
        }
        for volume in &old.volumes {
            let member = self.snapshot(view, txn, ctx, volume, group)?;
            self.remove_snapshot(view, txn, ctx, &member)?;
        }
        let mut new = (*old.value).clone();
        new.phase = SnapshotPhase::Deleting;
        groups()?.update(txn, &old, &new)?;
        work_on(view, txn, &at, true)
    }
}
