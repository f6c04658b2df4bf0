//! Volumes that somebody fills before they are used.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{ClaimId, Error, ErrorKind, Result, Stamped, TenantContext};

use super::StorageManager;
use crate::records::volumes;
use crate::{Volume, VolumePhase};

impl StorageManager {
    /// The tenant's volumes that `populator` is to fill and that are made: [attach](Self::stage_attach_as) each
    /// [to populate](crate::AttachSpec::to_populate) it.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) if a record cannot be read.
    pub fn to_populate(
        &self,
        view: &Snapshot,
        ctx: &TenantContext,
        populator: &str,
    ) -> Result<Vec<Stamped<Volume>>> {
        let its = |volume: &Stamped<Volume>| {
            volume.phase == VolumePhase::Ready
                && volume.claim.is_some()
                && volume.population.as_ref().is_some_and(|population| population.populator == populator)
        };
        Ok(self.volumes(view, ctx)?.into_iter().filter(its).collect())
    }

    /// Stages that `filled`, the volume of a claim as it was when it was to be filled, is so, and durably: it is taken from
    /// the node where it was, and can be attached by everybody else. Once more is a no-op.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim, or it has another volume by now, be it of the same name;
    /// [`ErrorKind::Conflict`] if the volume is not there yet.
    pub fn stage_populated(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        filled: &Volume,
    ) -> Result<()> {
        let old = self.same(view, txn, ctx, claim, filled)?;
        if old.population.is_none() {
            return volumes()?.expect(txn, &old);
        }
        if old.phase != VolumePhase::Ready {
            let message = format!("volume {} is {}: nobody can have filled it", old.key.volume, old.state());
            return Err(Error::new(ErrorKind::Conflict, "populate", message));
        }
        let mut new = (*old.value).clone();
        new.population = None;
        for node in old.desired.keys() {
            new.undesire(node, None);
        }
        self.put(view, txn, &old, &new)
    }

    /// The volume of a claim, if it is the one that was to be filled.
    fn same(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        filled: &Volume,
    ) -> Result<Stamped<Volume>> {
        let now = self.volume(view, txn, ctx, claim)?;
        // Names come again; what was asked for when it was made does not.
        if (&now.key, &now.token) == (&filled.key, &filled.token) {
            return Ok(now);
        }
        let message = format!("claim {claim} has another volume by now than the one that was filled");
        Err(Error::not_found("populate", message))
    }

    /// Stages that `filled`, the volume of a claim, could not be filled, and why. It stays as it is, and can be tried
    /// again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such claim, it has another volume by now, or that is not to be filled.
    pub fn stage_population_failed(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
        filled: &Volume,
        why: &str,
    ) -> Result<()> {
        let old = self.same(view, txn, ctx, claim, filled)?;
        let mut new = (*old.value).clone();
        let Some(population) = &mut new.population else {
            let message = format!("volume {} is not to be filled", old.key.volume);
            return Err(Error::not_found("populate", message));
        };
        population.failed = Some(why.to_owned());
        self.put(view, txn, &old, &new)
    }
}
