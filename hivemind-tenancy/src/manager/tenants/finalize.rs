//! What finalizers say, and what is done with those that say nothing.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    AccessRequest, AuditEvent, AuditOutcome, AuditSink, ComponentName, Error, ErrorKind, Result,
    StateStoreExt, TenantContext, TenantRef, Timestamp, Verb,
};

use super::authority::{parents, system_only};
use super::create::in_turn;
use super::{blocked, moment};
use crate::Tenant;
use crate::manager::TenantManager;
use crate::tenant::{Finalizer, FinalizerState};
use crate::tenant::{finalizers_advance, finalizers_due, tenants};

/// What is said of a finalizer.
enum Word<'a> {
    Done,
    Failed(&'a str),
    Retry,
    Forced,
}

/// Takes note of `word` about the finalizer `name` of a tenant that is being deleted.
fn say(tenant: &mut Tenant, name: &ComponentName, word: &Word<'_>, now: Timestamp) -> Result<()> {
    let id = tenant.tenant.id.clone();
    let Some(one) = tenant.finalizers.iter().find(|one| one.name == *name) else {
        return Err(Error::not_found("finalizer", format!("tenant {id} has no finalizer {name}")));
    };
    if !tenant.state.is_terminating() {
        return Err(Error::invalid("finalizer", format!("tenant {id} is not being deleted")));
    }
    if matches!(word, Word::Forced) {
        tenant.finalizers.retain(|one| one.name != *name);
        finalizers_advance(&mut tenant.finalizers, now);
        return Ok(());
    }
    // A done one stays done, however late the word of its failure comes.
    if one.is_done() {
        return Ok(());
    }
    let Some(one) = finalizers_due(&mut tenant.finalizers).find(|one| one.name == *name) else {
        return Err(blocked(
            "finalizer",
            format!("it is not the turn of {name} of tenant {id}: others come first"),
        ));
    };
    match (word, &one.state) {
        (Word::Done, _) => one.state = FinalizerState::Done { at: now },
        (Word::Failed(reason), _) => one.stick(*reason, now),
        (Word::Retry, FinalizerState::Stuck { .. }) => one.start(now),
        (Word::Retry | Word::Forced, _) => {}
    }
    finalizers_advance(&mut tenant.finalizers, now);
    Ok(())
}

impl TenantManager {
    fn stage_word(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        (tenant, name): (&TenantRef, &ComponentName),
        word: &Word<'_>,
        now: Timestamp,
    ) -> Result<Vec<Finalizer>> {
        system_only(ctx, "finalizer")?;
        let chain = parents(view, txn, tenant)?;
        let Some(old) = chain.first() else { return Err(Error::not_found("finalizer", "no such tenant")) };
        let mut new = (*old.value).clone();
        say(&mut new, name, word, now)?;
        if new == *old.value {
            tenants()?.expect(txn, old)?;
        } else {
            tenants()?.update(txn, old, &new)?;
        }
        Ok(new.finalizers)
    }

    /// Stages one more finalizer of a tenant. One of that name that is there already stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tenant, [`ErrorKind::Conflict`] if it is being deleted: then it is
    /// too late; [`ErrorKind::Invalid`] if there are too many, [`ErrorKind::Denied`] outside the system's context.
    pub fn stage_add_finalizer(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        tenant: &TenantRef,
        finalizer: &Finalizer,
    ) -> Result<()> {
        system_only(ctx, "add finalizer")?;
        let chain = parents(view, txn, tenant)?;
        let Some(old) = chain.first() else {
            return Err(Error::not_found("add finalizer", "no such tenant"));
        };
        if old.finalizers.iter().any(|one| one.name == finalizer.name) {
            return tenants()?.expect(txn, old);
        }
        if old.state.is_terminating() {
            return Err(blocked("add finalizer", format!("tenant {} is being deleted already", tenant.id)));
        }
        let mut new = (*old.value).clone();
        new.finalizers.push(finalizer.clone());
        new.finalizers = in_turn(new.finalizers)?;
        tenants()?.update(txn, old, &new)
    }

    /// Adds a finalizer to a tenant. It may be said more than once.
    ///
    /// # Errors
    /// As [`stage_add_finalizer`](Self::stage_add_finalizer), and those of the store.
    pub async fn add_finalizer(
        &self,
        ctx: &TenantContext,
        tenant: &TenantRef,
        finalizer: Finalizer,
    ) -> Result<()> {
        self.repeatable(|view, txn| self.stage_add_finalizer(view, txn, ctx, tenant, &finalizer)).await
    }

    /// Stages that finalizer `name` is done; the next in turn begin. Said again, nothing changes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tenant or finalizer, [`ErrorKind::Invalid`] if the tenant is not
    /// being deleted, [`ErrorKind::Conflict`] if others come first, [`ErrorKind::Denied`] outside the system's context.
    pub fn stage_finalizer_done(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        tenant: &TenantRef,
        name: &ComponentName,
        now: Timestamp,
    ) -> Result<Vec<Finalizer>> {
        self.stage_word(view, txn, ctx, (tenant, name), &Word::Done, moment(ctx, now))
    }

    /// Stages that finalizer `name` came to nothing, for `reason`.
    ///
    /// # Errors
    /// As [`stage_finalizer_done`](Self::stage_finalizer_done).
    pub fn stage_finalizer_failed(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        (tenant, name): (&TenantRef, &ComponentName),
        reason: &str,
        now: Timestamp,
    ) -> Result<Vec<Finalizer>> {
        self.stage_word(view, txn, ctx, (tenant, name), &Word::Failed(reason), moment(ctx, now))
    }

    /// Stages that finalizer `name`, if it is stuck, tries again with a deadline anew.
    ///
    /// # Errors
    /// As [`stage_finalizer_done`](Self::stage_finalizer_done).
    pub fn stage_retry_finalizer(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        tenant: &TenantRef,
        name: &ComponentName,
        now: Timestamp,
    ) -> Result<Vec<Finalizer>> {
        self.stage_word(view, txn, ctx, (tenant, name), &Word::Retry, moment(ctx, now))
    }

    /// Says that a finalizer is done. It may be said more than once.
    ///
    /// # Errors
    /// As [`stage_finalizer_done`](Self::stage_finalizer_done), and those of the store.
    pub async fn finalizer_done(
        &self,
        ctx: &TenantContext,
        tenant: &TenantRef,
        name: &ComponentName,
    ) -> Result<Vec<Finalizer>> {
        let now = self.clock.now();
        self.repeatable(|view, txn| self.stage_finalizer_done(view, txn, ctx, tenant, name, now)).await
    }

    /// Says that a finalizer came to nothing, and why.
    ///
    /// # Errors
    /// As [`stage_finalizer_failed`](Self::stage_finalizer_failed), and those of the store.
    pub async fn finalizer_failed(
        &self,
        ctx: &TenantContext,
        tenant: &TenantRef,
        name: &ComponentName,
        reason: &str,
    ) -> Result<Vec<Finalizer>> {
        let now = self.clock.now();
        self.repeatable(|view, txn| self.stage_finalizer_failed(view, txn, ctx, (tenant, name), reason, now))
            .await
    }

    /// Lets a finalizer that is stuck try again.
    ///
    /// # Errors
    /// As [`stage_retry_finalizer`](Self::stage_retry_finalizer), and those of the store.
    pub async fn retry_finalizer(
        &self,
        ctx: &TenantContext,
        tenant: &TenantRef,
        name: &ComponentName,
    ) -> Result<Vec<Finalizer>> {
        let now = self.clock.now();
        self.repeatable(|view, txn| self.stage_retry_finalizer(view, txn, ctx, tenant, name, now)).await
    }

    /// Removes a finalizer that is not done, without its having done anything; what it was to do stays undone. It is
    /// on record in `audit` before it happens, so there is no way to force without a trace. If it then fails, that is
    /// on record, too.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] without a reason; else as [`stage_finalizer_done`](Self::stage_finalizer_done), those of
    /// `audit`, which change nothing, and those of the store.
    pub async fn force_finalizer(
        &self,
        ctx: &TenantContext,
        audit: &dyn AuditSink,
        tenant: &TenantRef,
        name: &ComponentName,
        reason: &str,
    ) -> Result<Vec<Finalizer>> {
        if reason.trim().is_empty() {
            return Err(Error::invalid("force finalizer", "say why: the reason goes on record"));
        }
        let now = moment(ctx, self.clock.now());
        let target = (tenant, name);
        let operation = format!("force-finalizer-{tenant}-{name}");
        // What would be refused anyway is not recorded as done.
        let view = self.store.snapshot(&[crate::prefix()?]).await?;
        if let Err(e) = self.stage_word(&view, &mut Txn::new(), ctx, target, &Word::Forced, now) {
            let mut refused = Some(e);
            let lost = || Error::internal("force finalizer", "it was refused twice");
            // Unless it is this request that did it, and its reply was lost.
            return self.commit(ctx, &operation, |_, _| Err(refused.take().unwrap_or_else(lost))).await;
        }
        let kind = "tenants".parse().map_err(|e| Error::of(ErrorKind::Internal, "force finalizer", e))?;
        let request = AccessRequest::new(Verb::Delete, kind).named(tenant.id.as_str());
        let because = format!("finalizer {name} is removed by force: {reason}");
        let event =
            |outcome, because| AuditEvent::new(now, ctx.clone(), request.clone(), outcome).because(because);
        audit.append(&event(AuditOutcome::Done, vec![because.clone()])).await?;
        let decide =
            |view: &Snapshot, txn: &mut Txn| self.stage_word(view, txn, ctx, target, &Word::Forced, now);
        let done = self.commit(ctx, &operation, decide).await;
        if let Err(e) = &done {
            audit.append(&event(AuditOutcome::Failed, vec![because, e.to_string()])).await?;
        }
        done
    }
}
