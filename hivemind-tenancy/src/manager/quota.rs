//! Quotas: set them, give back what expired, mend what drifted.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, Retry, StateStoreExt, TenantContext, TenantId, TenantRef};

use super::TenantManager;
use crate::TenantQuota;
use crate::quota::{QuotaChange, QuotaSpec, WhenOver};
use crate::quota::{Turns, WaitingRequest};
use crate::tenant::{key, tenants};

/// How often in a row others may be faster before the host is asked to wait.
const ATTEMPTS: u32 = 32;

/// Not all that has expired was given back. Detail of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given_back} reservations were given back, others have expired: their tenant's charges keep changing, try again"
)]
#[non_exhaustive]
pub struct StillExpired {
    /// How many were given back.
    pub given_back: usize,
}

impl TenantManager {
    /// Stages the quota of tenant `id`, in place of the one before, and tells what of it is exceeded already.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] outside the system tenant's context; [`ErrorKind::NotFound`] if there is no such tenant;
    /// [`ErrorKind::Invalid`] if `spec` contradicts itself; [`ErrorKind::QuotaExceeded`] if the tenant takes more
    /// already and `when` says to refuse that, or if the tenants above cannot hold back its guarantee.
    pub fn stage_set_quota(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &TenantId,
        spec: &QuotaSpec,
        when: WhenOver,
    ) -> Result<QuotaChange> {
        if *ctx.tenant() != TenantRef::system() {
            let message = format!("quotas are set in the context of tenant {}", TenantRef::system().id);
            return Err(Error::new(ErrorKind::Denied, "set quota", message));
        }
        let tenant = tenants()?.require(view, txn, &key(id)?)?;
        let theirs = ctx.clone().for_tenant(tenant.tenant.clone());
        TenantQuota.stage_set_quota(view, txn, &theirs, spec, when)
    }

    /// Sets the quota of tenant `id`.
    ///
    /// # Errors
    /// As [`stage_set_quota`](Self::stage_set_quota), and those of the store.
    pub async fn set_quota(
        &self,
        ctx: &TenantContext,
        id: &TenantId,
        spec: QuotaSpec,
        when: WhenOver,
    ) -> Result<QuotaChange> {
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_set_quota(view, txn, ctx, id, &spec, when);
        self.commit(ctx, &format!("set-quota-{id}"), decide).await
    }

    /// Gives back every held charge of the tenant of `ctx` whose deadline has passed; returns how many.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] with [`StillExpired`] as detail if others changed the tenant's charges at each of 32
    /// attempts; those of the store. What was given back until then stays given back: call it again later.
    pub async fn expire_reservations(&self, ctx: &TenantContext) -> Result<usize> {
        let (mut expired, mut left, now) = (0, ATTEMPTS, self.clock.now());
        loop {
            let view = self.store.snapshot(&[crate::prefix()?]).await?;
            let mut txn = Txn::new();
            let some = TenantQuota.stage_expire(&view, &mut txn, ctx, now)?;
            if some == 0 {
                return Ok(expired);
            }
            match self.store.commit(&txn).await {
                Ok(_) => (expired, left) = (expired + some, ATTEMPTS),
                // Somebody charged or gave back meanwhile: look again.
                Err(e) if e.kind() == ErrorKind::Conflict => {
                    left -= 1;
                    if left == 0 {
                        let still = StillExpired { given_back: expired };
                        return Err(
                            Error::of(e.kind(), "expire reservations", still).with_retry(Retry::Later)
                        );
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Gives turns to requests that wait at and below the tenant of `ctx`, as of now, until it is nobody's turn; returns
    /// those that were admitted, in that order. See [`TenantQuota::stage_admit_next`].
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if others took quota, or gave turns, at each of 32 attempts in a row: call it again later.
    /// Those of the store and of the decision. What was admitted until then stays admitted.
    pub async fn admit_waiting(&self, ctx: &TenantContext, turns: &Turns) -> Result<Vec<WaitingRequest>> {
        let (mut admitted, mut left) = (Vec::new(), ATTEMPTS);
        loop {
            let now = ctx.clone().with_time(self.clock.now());
            let view = self.store.snapshot(&[crate::prefix()?]).await?;
            let mut txn = Txn::new();
            let next = TenantQuota.stage_admit_next(&view, &mut txn, &now, turns)?;
            match self.store.commit(&txn).await {
                Ok(_) => left = ATTEMPTS,
                // Somebody else gave a turn, or took quota, meanwhile: look again.
                Err(e) if e.kind() == ErrorKind::Conflict => {
                    left -= 1;
                    if left == 0 {
                        return Err(e.with_retry(Retry::Later));
                    }
                    continue;
                }
                Err(e) => return Err(e),
            }
            match next {
                Some(next) => admitted.push(next),
                None => return Ok(admitted),
            }
        }
    }
}
