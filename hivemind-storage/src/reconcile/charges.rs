//! What is charged is what there is: it is settled with the record of what was made, and given back with that of what is gone.

use std::sync::Arc;

use hivemind_core::resources::{ByteSize, Resources};
use hivemind_core::store::{Conflict, Prefix, Snapshot, Txn};
use hivemind_core::{
    Error, ErrorKind, Principal, QuotaGate, ReservationId, Result, Retry, Stamped, StateStoreExt,
    TenantContext, TenantRef,
};

use super::VolumeController;
use crate::Volume;
use crate::records::Todo;

/// How often others may charge under our hands.
const ATTEMPTS: usize = 64;

/// The quota that everything is charged to.
#[derive(Debug, Clone)]
pub(super) struct Charges {
    quota: Arc<dyn QuotaGate>,
    /// What it reads.
    scope: Vec<Prefix>,
}

/// The quota as it is, for one tenant.
#[derive(Debug)]
pub(super) struct Books<'a> {
    quota: &'a dyn QuotaGate,
    view: Snapshot,
    ctx: TenantContext,
}

impl Books<'_> {
    fn give_back(&self, txn: &mut Txn, ids: &[ReservationId]) -> Result<()> {
        ids.iter().try_for_each(|id| {
            self.stage(txn, |txn| self.quota.release(&self.view, txn, &self.ctx, id)).map(|_| ())
        })
    }

    /// Stages that `size` is charged, under the first of `ids`, in place of what is under all of them.
    pub(super) fn settle(&self, txn: &mut Txn, ids: &mut Vec<ReservationId>, size: ByteSize) -> Result<()> {
        let Some((first, others)) = ids.split_first() else { return Ok(()) };
        self.give_back(txn, others)?;
        let amount = Resources::new().with_storage(size);
        let there = self.stage(txn, |txn| self.quota.settle(&self.view, txn, &self.ctx, first, &amount))?;
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
    /// `quota` is what the [`StorageManager`](crate::StorageManager::with_quota) charges through, and `scope` what it reads,
    /// such as the prefix of the crate that keeps it: all of that is read whenever a charge changes. Without it, what is
    /// charged keeps its record when it is gone.
    #[must_use]
    pub fn with_quota(mut self, quota: Arc<dyn QuotaGate>, scope: impl IntoIterator<Item = Prefix>) -> Self {
        self.charges = Some(Charges { quota, scope: scope.into_iter().collect() });
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
        stage: impl Fn(Option<&Books<'_>>) -> Result<Txn>,
    ) -> Result<()> {
        let mut attempts = 0;
        loop {
            let books = match tenant {
                Some(tenant) => self.books(tenant).await?,
                None => None,
            };
            match self.done(stage(books.as_ref())?, todo, more).await {
                Err(e) if self.is_about_charges(&e) && attempts < ATTEMPTS => attempts += 1,
                outcome => return outcome,
            }
        }
    }

    async fn books(&self, tenant: &TenantRef) -> Result<Option<Books<'_>>> {
        let Some(charges) = &self.charges else { return Ok(None) };
        let (view, ctx) = (self.store.snapshot(&charges.scope).await?, self.on_behalf_of(tenant)?);
        Ok(Some(Books { quota: &*charges.quota, view, ctx }))
    }

    /// What the controller does for a tenant of its own accord.
    fn on_behalf_of(&self, tenant: &TenantRef) -> Result<TenantContext> {
        let internal = |e| Error::of(ErrorKind::Internal, "tick", e);
        let controller = Principal::System("storage".parse().map_err(internal)?);
        let request = "storage-controller".parse().map_err(internal)?;
        Ok(TenantContext::new(tenant.clone(), controller, request).with_time(self.clock.now()))
    }

    /// Whether somebody else was charged meanwhile.
    fn is_about_charges(&self, error: &Error) -> bool {
        let Some((conflict, charges)) = error.detail::<Conflict>().zip(self.charges.as_ref()) else {
            return false;
        };
        let ours = crate::prefix().is_ok_and(|ours| ours.covers(&conflict.key));
        !ours && charges.scope.iter().any(|scope| scope.covers(&conflict.key))
    }
}
