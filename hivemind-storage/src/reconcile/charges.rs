//! What is charged is what there is: it is settled with the record of what was made, and given back with that of what is gone.

use std::sync::Arc;

use hivemind_core::resources::{ByteSize, Resources};
use hivemind_core::store::{Conflict, Snapshot, Txn};
use hivemind_core::{
    Error, ErrorKind, Principal, QuotaGate, ReservationId, Result, Retry, Stamped, StateStoreExt,
    TenantContext, TenantRef,
};

use super::VolumeController;
use crate::Volume;
use crate::records::Todo;

/// How often others may charge under our hands.
const ATTEMPTS: usize = 64;

/// The quota as it is, for one tenant.
#[derive(Debug)]
pub(super) struct Books<'a> {
    quota: &'a dyn QuotaGate,
    view: &'a Snapshot,
    ctx: &'a TenantContext,
}

impl Books<'_> {
    fn give_back(&self, txn: &mut Txn, ids: &[ReservationId]) -> Result<()> {
        ids.iter().try_for_each(|id| {
            self.stage(txn, |txn| self.quota.release(self.view, txn, self.ctx, id)).map(|_| ())
        })
    }

    /// Stages that `size` is charged, under the first of `ids`, in place of what is under all of them.
    pub(super) fn settle(&self, txn: &mut Txn, ids: &mut Vec<ReservationId>, size: ByteSize) -> Result<()> {
        let Some((first, others)) = ids.split_first() else { return Ok(()) };
        self.give_back(txn, others)?;
        let amount = Resources::new().with_storage(size);
        let there = self.stage(txn, |txn| self.quota.settle(self.view, txn, self.ctx, first, &amount))?;
        ids.truncate(usize::from(there));
        Ok(())
    }

    /// Stages that a volume is charged for what it has come to.
    pub(super) fn settle_volume(&self, txn: &mut Txn, volume: &mut Volume) -> Result<()> {
        let size = volume.chargeable();
        self.settle(txn, &mut volume.reservations, size)?;
        volume.charged = size;
        if let Some(growth) = &mut volume.growth {
            (growth.reservation, growth.charged) = (None, ByteSize::ZERO);
        }
        Ok(())
    }

    /// Stages all of it, and tells whether there is something to stage it for: a tenant that is gone went with all that it
    /// was charged.
    fn stage(&self, txn: &mut Txn, stage: impl FnOnce(&mut Txn) -> Result<()>) -> Result<bool> {
        let mut trial = txn.clone();
        match stage(&mut trial) {
            Ok(()) => {
                *txn = trial;
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl VolumeController {
    /// Gives back through `quota` what volumes and snapshots are charged, in the transaction that drops their records: once
    /// their provider has confirmed that they are gone. What comes to more than was asked for, or to less, is charged so, in
    /// the transaction that records it, whether it fits or not: it is there.
    ///
    /// `quota` is what the [`StorageManager`](crate::StorageManager::with_quota) charges through. Of the store, that alone is
    /// read which it looks for to change a charge. Without it, what is charged keeps its record when it is gone.
    #[must_use]
    pub fn with_quota(mut self, quota: Arc<dyn QuotaGate>) -> Self {
        self.quota = Some(quota);
        self
    }

    /// Commits `txn`, which drops what was charged under `ids`, with the end of these charges, and that there is nothing left
    /// to do.
    pub(super) async fn done_uncharged(
        &self,
        txn: &Txn,
        todo: &Stamped<Todo>,
        tenant: &TenantRef,
        ids: &[ReservationId],
    ) -> Result<()> {
        let stage = |books: Option<&Books<'_>>| {
            let mut whole = txn.clone();
            match books {
                Some(books) => books.give_back(&mut whole, ids)?,
                None if ids.is_empty() => {}
                None => {
                    let message =
                        "it is gone, and still charged: give the controller the quota that it was charged to";
                    return Err(Error::new(ErrorKind::Unavailable, "tick", message).with_retry(Retry::Later));
                }
            }
            Ok(whole)
        };
        self.done_charging(todo, false, Some(tenant).filter(|_| !ids.is_empty()), stage).await
    }

    /// Commits what is staged with the books open, of `tenant` if something of it is charged otherwise by that. Where
    /// somebody else is charged meanwhile, only that is decided again.
    pub(super) async fn done_charging(
        &self,
        todo: &Stamped<Todo>,
        more: bool,
        tenant: Option<&TenantRef>,
        stage: impl Fn(Option<&Books<'_>>) -> Result<Txn> + Send + Sync,
    ) -> Result<()> {
        let (Some(tenant), Some(quota)) = (tenant, self.quota.as_deref()) else {
            return self.done(stage(None)?, todo, more).await;
        };
        let ctx = &self.on_behalf_of(tenant)?;
        let mut attempts = 0;
        loop {
            let txn = self.store.decide(|view| stage(Some(&Books { quota, view, ctx }))).await??;
            match self.done(txn, todo, more).await {
                Err(e) if is_about_charges(&e) && attempts < ATTEMPTS => attempts += 1,
                outcome => return outcome,
            }
        }
    }

    /// What the controller does for a tenant of its own accord.
    fn on_behalf_of(&self, tenant: &TenantRef) -> Result<TenantContext> {
        let internal = |e| Error::of(ErrorKind::Internal, "tick", e);
        let controller = Principal::System("storage".parse().map_err(internal)?);
        let request = "storage-controller".parse().map_err(internal)?;
        Ok(TenantContext::new(tenant.clone(), controller, request).with_time(self.clock.now()))
    }
}

/// Whether somebody else was charged meanwhile: of what is staged, all that is not of this crate is of the quota.
fn is_about_charges(error: &Error) -> bool {
    let ours = |conflict: &Conflict| crate::prefix().is_ok_and(|ours| ours.covers(&conflict.key));
    error.detail::<Conflict>().is_some_and(|conflict| !ours(conflict))
}
