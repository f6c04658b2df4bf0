//! What is charged is given back with the record of what is gone, and not before.

use std::sync::Arc;

use hivemind_core::store::{Conflict, Prefix, Txn};
use hivemind_core::{
    Error, ErrorKind, Principal, QuotaGate, ReservationId, Result, Retry, Stamped, StateStoreExt,
    TenantContext, TenantRef,
};

use super::VolumeController;
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

impl VolumeController {
    /// Gives back through `quota` what volumes and snapshots are charged, in the transaction that drops their records: once
    /// their provider has confirmed that they are gone. It reads what is below `scope`, such as the prefix of the crate that
    /// keeps the quota.
    ///
    /// Give it what the [`StorageManager`](crate::StorageManager::with_quota) charges through. Without it, what is charged
    /// keeps its record when it is gone.
    #[must_use]
    pub fn with_quota(mut self, quota: Arc<dyn QuotaGate>, scope: impl IntoIterator<Item = Prefix>) -> Self {
        self.charges = Some(Charges { quota, scope: scope.into_iter().collect() });
        self
    }

    /// Commits `txn`, which drops what was charged under `ids`, with the end of these charges, and that there is nothing left
    /// to do. Where somebody else was charged meanwhile, only that is decided again.
    pub(super) async fn done_uncharged(
        &self,
        txn: &Txn,
        todo: &Stamped<Todo>,
        tenant: &TenantRef,
        ids: &[ReservationId],
    ) -> Result<()> {
        let mut attempts = 0;
        loop {
            let mut whole = txn.clone();
            self.give_back(&mut whole, tenant, ids).await?;
            match self.done(whole, todo, false).await {
                Err(e) if self.is_about_charges(&e) && attempts < ATTEMPTS => attempts += 1,
                outcome => return outcome,
            }
        }
    }

    async fn give_back(&self, txn: &mut Txn, tenant: &TenantRef, ids: &[ReservationId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let Some(charges) = &self.charges else {
            let message =
                "it is gone, and still charged: give the controller the quota that it was charged to";
            return Err(Error::new(ErrorKind::Unavailable, "tick", message).with_retry(Retry::Later));
        };
        let (view, ctx) = (self.store.snapshot(&charges.scope).await?, self.on_behalf_of(tenant)?);
        for id in ids {
            let mut trial = txn.clone();
            match charges.quota.release(&view, &mut trial, &ctx, id) {
                Ok(()) => *txn = trial,
                // The tenant is gone, with all that it was charged.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
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
