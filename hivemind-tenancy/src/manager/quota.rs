//! Quotas: set them, give back what expired, mend what drifted.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, StateStoreExt, TenantContext, TenantId, TenantRef};

use super::TenantManager;
use crate::quota::{Turns, WaitingRequest};
use crate::tenant::{key, tenants};
use crate::{QuotaChange, QuotaSpec, TenantQuota, WhenOver};

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
    /// Those of the store; what was given back until then stays given back.
    pub async fn expire_reservations(&self, ctx: &TenantContext) -> Result<usize> {
        let (mut expired, now) = (0, self.clock.now());
        loop {
            let view = self.store.snapshot(&[crate::prefix()?]).await?;
            let mut txn = Txn::new();
            let some = TenantQuota.stage_expire(&view, &mut txn, ctx, now)?;
            if some == 0 {
                return Ok(expired);
            }
            match self.store.commit(&txn).await {
                Ok(_) => expired += some,
                // Somebody charged or gave back meanwhile: look again.
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Gives turns to requests that wait at and below the tenant of `ctx`, as of now, until it is nobody's turn; returns
    /// those that were admitted, in that order. See [`TenantQuota::stage_admit_next`].
    ///
    /// # Errors
    /// Those of the store and of the decision; what was admitted until then stays admitted.
    pub async fn admit_waiting(&self, ctx: &TenantContext, turns: &Turns) -> Result<Vec<WaitingRequest>> {
        let mut admitted = Vec::new();
        loop {
            let now = ctx.clone().with_time(self.clock.now());
            let view = self.store.snapshot(&[crate::prefix()?]).await?;
            let mut txn = Txn::new();
            let next = TenantQuota.stage_admit_next(&view, &mut txn, &now, turns)?;
            match self.store.commit(&txn).await {
                Ok(_) => {}
                // Somebody else gave a turn, or took quota, meanwhile: look again.
                Err(e) if e.kind() == ErrorKind::Conflict => continue,
                Err(e) => return Err(e),
            }
            match next {
                Some(next) => admitted.push(next),
                None => return Ok(admitted),
            }
        }
    }
}
