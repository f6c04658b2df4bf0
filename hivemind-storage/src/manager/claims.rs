//! Claims come and go.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    ClaimId, Error, ErrorKind, Result, Stamped, TenantContext, Timestamp, VolumeId, WorkloadId,
};

use super::{StorageManager, new_reservation, now};
use crate::records::{claim_at, claims, volume_at, volumes};
use crate::{BindingMode, Claim, ClaimSpec, ReclaimPolicy, StorageClass, Volume, VolumeKey, VolumePhase};

impl StorageManager {
    /// Stages a claim, bound to the smallest offered volume that fits, or to a new one whose intent is staged, too. The
    /// same claim again is a no-op, also after the volume has grown.
    ///
    /// A claim of a class that [waits](BindingMode::WaitForFirstConsumer) is bound once a
    /// [placement](Self::stage_hold) of its first workload is committed.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the claim exists with another specification; [`ErrorKind::NotFound`] for an unknown
    /// provider, class or source, or if only an offered volume would do and none does; [`ErrorKind::Invalid`] for a size
    /// of zero, or one that is too small for the source or too large for the class; those of the quota.
    pub fn stage_claim(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        spec: &ClaimSpec,
    ) -> Result<()> {
        if spec.size.as_bytes() == 0 {
            return Err(Error::invalid("claim", format!("claim {} asks for a volume of no size", spec.id)));
        }
        let at = claim_at(ctx, &spec.id)?;
        if let Some(claim) = claims()?.get(view, txn, &at)? {
            if claim.is(spec) {
                return claims()?.expect(txn, &claim);
            }
            let message = format!("claim {} exists with another specification", spec.id);
            return Err(Error::new(ErrorKind::AlreadyExists, "claim", message));
        }
        let class = self.class_of(view, txn, spec)?;
        let resolved = self.resolve(class.as_deref(), spec)?;
        if let Some(old) = self.bind_offer(view, txn, ctx, spec, &resolved.options, None)? {
            let volume = self.claimed(view, txn, &old, spec)?;
            return claims()?.create(view, txn, at, &Claim::new(spec.clone(), Some(volume)));
        }
        if spec.volume.is_some() || spec.selector.is_some() {
            let message = format!("claim {} wants a volume that is offered, and none fits", spec.id);
            return Err(Error::not_found("claim", message));
        }
        let charged =
            self.charge(view, txn, ctx, new_reservation("volume", spec.id.as_str(), view, ctx)?, spec.size)?;
        let mut claim = Claim::new(spec.clone(), None);
        if class.is_some_and(|class| class.binding == BindingMode::WaitForFirstConsumer) {
            claim.reservations = charged;
        } else {
            claim.volume = Some(self.make(view, txn, ctx, spec, resolved, charged)?);
        }
        claims()?.create(view, txn, at, &claim)
    }

    /// The class of a claim, which must not go while the claim is decided on.
    pub(super) fn class_of(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        spec: &ClaimSpec,
    ) -> Result<Option<std::sync::Arc<StorageClass>>> {
        let Some(name) = &spec.class else { return Ok(None) };
        let class = self.class(view, txn, name)?;
        crate::records::classes()?.expect(txn, &class)?;
        Ok(Some(class.value))
    }

    /// Stages that an offered volume, whose offer is taken, is the claim's.
    pub(super) fn claimed(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        old: &Stamped<Volume>,
        spec: &ClaimSpec,
    ) -> Result<VolumeId> {
        // It may have got another owner since it was offered or held.
        let held = old.held_for.as_ref().is_none_or(|claim| *claim == spec.id);
        if old.claim.is_some() || old.phase != VolumePhase::Ready || !held {
            let message = format!("volume {} is not free any more: place again", old.key.volume);
            return Err(Error::new(ErrorKind::Conflict, "claim", message));
        }
        let mut new = (*old.value).clone();
        (new.claim, new.held_for) = (Some(spec.id.clone()), None);
        if let Some(reclaim) = spec.reclaim {
            new.reclaim = reclaim;
        }
        self.put(view, txn, old, &new)?;
        Ok(new.key.volume)
    }

    /// Stages the end of a claim: its volume is detached, and deleted, kept or archived by its reclaim policy.
    ///
    /// It stays charged until its provider has confirmed that it is gone.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim; [`ErrorKind::Invalid`] if the volume is to be archived and the
    /// request has no time.
    pub fn stage_release(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
    ) -> Result<()> {
        let bound = self.claim(view, txn, ctx, claim)?;
        claims()?.delete(txn, &bound)?;
        let Some(volume) = &bound.volume else {
            self.put_back(view, txn, ctx, &mut (*bound.value).clone())?;
            return self.give_back(view, txn, ctx, &bound.reservations);
        };
        let old = self.owned(view, txn, ctx, volume)?;
        let mut new = (*old.value).clone();
        new.claim = None;
        for node in old.desired.keys() {
            new.undesire(node, None);
        }
        // A volume that was never made, or never filled, has nothing to keep.
        let kept = !matches!(old.phase, VolumePhase::Failed(_)) && old.population.is_none();
        match old.reclaim {
            ReclaimPolicy::Retain if kept => {}
            ReclaimPolicy::Archive(keep) if kept => {
                new.phase = VolumePhase::Archived(now(ctx, "release")?.after(keep));
            }
            _ => condemn(&mut new),
        }
        self.put(view, txn, &old, &new)
    }

    /// Stages the end of a volume that was kept or archived, or of an offered one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has no such volume; [`ErrorKind::Conflict`] if a claim has it: release that.
    pub fn stage_volume_removal(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        volume: &VolumeId,
    ) -> Result<()> {
        let old = self.owned(view, txn, ctx, volume)?;
        if let Some(claim) = &old.claim {
            let message = format!("volume {volume} is claim {claim}'s: release the claim");
            return Err(Error::new(ErrorKind::Conflict, "delete", message));
        }
        if old.phase == VolumePhase::Deleting {
            return volumes()?.expect(txn, &old);
        }
        if let Some(claim) = &old.held_for {
            let message = format!("volume {volume} is held for claim {claim}: give that placement up first");
            return Err(Error::new(ErrorKind::Conflict, "delete", message));
        }
        self.withdraw(view, txn, &old)?;
        let mut new = (*old.value).clone();
        condemn(&mut new);
        self.put(view, txn, &old, &new)
    }

    /// Stages that a kept volume can be claimed again, with what is in it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has no such volume; [`ErrorKind::Conflict`] if it is not kept: a claim has
    /// it, or it is archived (bring it back instead), being made or deleted.
    pub fn stage_offer(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        volume: &VolumeId,
    ) -> Result<()> {
        let old = self.owned(view, txn, ctx, volume)?;
        let grows = old.growth.as_ref().is_some_and(|growth| growth.refused.is_none());
        if let Some(claim) = &old.held_for {
            let message = format!("volume {volume} is held for claim {claim}: give that placement up first");
            return Err(Error::new(ErrorKind::Conflict, "offer", message));
        }
        if grows {
            // Its size is part of its offer.
            let message = format!("volume {volume} is to grow: wait until it has");
            return Err(Error::new(ErrorKind::Conflict, "offer", message));
        }
        old.check_filled("offer")?;
        if old.claim.is_some() || old.phase != VolumePhase::Ready {
            let state =
                old.claim.as_ref().map_or_else(|| old.state().to_owned(), |claim| format!("claim {claim}'s"));
            let message = format!("volume {volume} cannot be offered: it is {state}");
            return Err(Error::new(ErrorKind::Conflict, "offer", message));
        }
        volumes()?.expect(txn, &old)?;
        if crate::records::offers()?.get(view, txn, &crate::records::offer_at(&old)?)?.is_some() {
            return Ok(());
        }
        self.offer(view, txn, &old)
    }

    /// Takes back the offer of a volume, if there is one.
    fn withdraw(&self, view: &Snapshot, txn: &mut Txn, volume: &Volume) -> Result<()> {
        let offers = crate::records::offers()?;
        match offers.get(view, txn, &crate::records::offer_at(volume)?)? {
            Some(offer) => offers.delete(txn, &offer),
            None => Ok(()),
        }
    }

    /// Stages that an archived volume is a claim's again, under the name `claim`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has no such volume; [`ErrorKind::Conflict`] if it is not archived, or the
    /// time to bring it back is over; [`ErrorKind::AlreadyExists`] if there is a claim of that name.
    pub fn stage_undelete(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        volume: &VolumeId,
        claim: &ClaimId,
    ) -> Result<()> {
        let old = self.owned(view, txn, ctx, volume)?;
        let open = |until: Timestamp| Ok(now(ctx, "undelete")? < until);
        let can = match old.phase {
            VolumePhase::Archived(until) => open(until)?,
            _ => false,
        };
        if !can {
            let message =
                format!("volume {volume} cannot be brought back: it is {}, or it is too late", old.state());
            return Err(Error::new(ErrorKind::Conflict, "undelete", message));
        }
        let mut new = (*old.value).clone();
        (new.phase, new.claim) = (VolumePhase::Ready, Some(claim.clone()));
        let mut spec = ClaimSpec::new(claim.clone(), old.size).with_options(old.options.clone());
        (spec.class, spec.reclaim) = (old.class.clone(), Some(old.reclaim));
        if spec.class.is_none() {
            spec.provider = Some(old.provider.clone());
        }
        self.put(view, txn, &old, &new)?;
        claims()?.create(view, txn, claim_at(ctx, claim)?, &Claim::new(spec, Some(volume.clone())))
    }

    /// Stages the end of claims that end with `owner`: its ephemeral volumes. Returns how many: 20 at most, so that they fit
    /// into a transaction. Call it until it returns none.
    ///
    /// # Errors
    /// As for [`stage_release`](Self::stage_release).
    pub fn stage_owner_gone(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        owner: &WorkloadId,
    ) -> Result<usize> {
        let owned: Vec<ClaimId> = self
            .claims(view, txn, ctx)?
            .iter()
            .filter(|claim| claim.spec.owner.as_ref() == Some(owner))
            .take(super::BATCH)
            .map(|claim| claim.spec.id.clone())
            .collect();
        for claim in &owned {
            self.stage_release(view, txn, ctx, claim)?;
        }
        Ok(owned.len())
    }

    /// The key of a volume of the tenant.
    pub(super) fn key_of(ctx: &TenantContext, volume: &VolumeId) -> Result<hivemind_core::store::Key> {
        volume_at(&VolumeKey::new(ctx.tenant().clone(), volume.clone()))
    }
}

/// From now on the volume is to be deleted. It is charged as long as it may be there.
fn condemn(volume: &mut Volume) {
    (volume.growth, volume.modification, volume.restoration) = (None, None, None);
    volume.phase = VolumePhase::Deleting;
}
