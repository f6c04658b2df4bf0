//! Quotas: set them, give back what expired, mend what drifted.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, StateStoreExt, TenantContext, TenantId, TenantRef};

use super::TenantManager;
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
}
