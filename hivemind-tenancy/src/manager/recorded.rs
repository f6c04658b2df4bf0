//! Decisions that go on record before anything is done by them.

use hivemind_core::{
    AccessDecision, AccessRequest, AuditEvent, AuditOutcome, AuditSink, Result, TenantContext,
};

use super::TenantManager;
use crate::rbac::{AccessIndex, Decision};

impl TenantManager {
    /// Decides by `index`, as of now if `ctx` has no time. Whatever is asked in an emergency is put on record in
    /// `audit` before this returns, allowed or not: what cannot be recorded is not allowed.
    ///
    /// # Errors
    /// [`Denied`](hivemind_core::ErrorKind::Denied) if it may not be done, and those of `audit`.
    pub async fn authorize_recorded(
        &self,
        index: &AccessIndex,
        ctx: &TenantContext,
        request: &AccessRequest,
        audit: &dyn AuditSink,
    ) -> Result<Decision> {
        let now = ctx.at().unwrap_or_else(|| self.clock.now());
        let ctx = ctx.clone().with_time(now);
        let told = index.explain(&ctx, request);
        if ctx.emergency().is_some() {
            let outcome = if told.decision.allowed { AuditOutcome::Done } else { AuditOutcome::Refused };
            let event = AuditEvent::new(now, ctx.clone(), request.clone(), outcome);
            audit.append(&event.because(told.because.clone())).await?;
        }
        if !told.decision.allowed {
            AccessDecision::deny(told.because).into_result(&ctx, request)?;
        }
        Ok(told.decision)
    }
}
