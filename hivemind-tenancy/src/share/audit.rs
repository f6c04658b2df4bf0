//! What both sides of a share are told for the record. No I/O, no clock, no async.

use hivemind_core::{
    AccessRequest, AuditEvent, AuditOutcome, Error, Principal, Result, TenantContext, TenantRef, Timestamp,
    Verb,
};
use serde::{Deserialize, Serialize};

use super::{Share, ShareId};

/// A share as it is now, and what goes into the audit log of each side.
///
/// Append the events to the host's [`AuditSink`](hivemind_core::AuditSink) once the transaction is committed. As the
/// answer of [`transact`](hivemind_core::transact) they are kept with the request, and come back if it is repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShareChange {
    /// The share; when it was ended, as it was.
    pub share: Share,
    /// The side that asked first, then the other. Empty if nothing changed.
    pub audit: Vec<AuditEvent>,
}

/// The time of `ctx`.
///
/// # Errors
/// [`Invalid`](hivemind_core::ErrorKind::Invalid) without one: an undated record is none.
pub(super) fn dated(ctx: &TenantContext, operation: &'static str) -> Result<Timestamp> {
    let missing = || Error::invalid(operation, "it goes on record: give the context a time with with_time");
    ctx.at().ok_or_else(missing)
}

/// `ctx` did `verb` to `share`, which is to say: `what`.
///
/// The other side reads which tenant did what in which request, and nothing of who, from where, or why.
pub(super) fn both_sides(
    ctx: &TenantContext,
    now: Timestamp,
    verb: Verb,
    share: &Share,
    what: &str,
) -> Result<Vec<AuditEvent>> {
    let internal = |e: hivemind_core::InvalidName| Error::internal("audit share", e.to_string());
    let request = AccessRequest::new(verb, "shares".parse().map_err(internal)?).named(share.id.to_string());
    let because = vec![format!("tenant {} {what}: {}", ctx.tenant().id, share.terms())];
    let component = Principal::System("tenancy".parse().map_err(internal)?);
    let theirs = TenantContext::new(other(&share.id, ctx.tenant()).clone(), component, ctx.request().clone());
    let event = |ctx: TenantContext| {
        AuditEvent::new(now, ctx, request.clone(), AuditOutcome::Done).because(because.clone())
    };
    Ok(vec![event(ctx.clone()), event(theirs.with_time(now))])
}

fn other<'a>(id: &'a ShareId, one: &TenantRef) -> &'a TenantRef {
    if id.owner == *one { &id.recipient } else { &id.owner }
}
