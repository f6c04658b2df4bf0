//! Requests that wait in the store until there is quota for them. No I/O, no clock, no async.
//!
//! To wait is not to be denied, and a denial never starts to wait: who asks chooses one or the other first. Whoever
//! gives turns does so for everything at and below one tenant, the pool, and charges in the same transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use hivemind_core::resources::Resources;
use hivemind_core::store::{Guard, Key, Snapshot, Staged, Txn};
use hivemind_core::{
    Collection, Error, ErrorKind, Principal, ReservationId, Result, Stamped, Stored, TenantContext, TenantId,
    TenantRef, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::audit::subtree;
use super::batch::{find, reservations_of};
use super::books::Books;
use super::gate::{TenantQuota, admissible, same};
use super::ledger::{Change, ledger_key, ledgers, reservation_key};
use super::level::UNLIMITED;
use super::spec::limited_chain;
use super::{Demand, DominantShare, FairQueue, QueueFit, QuotaRequest, RequestAttributes, WaitingRequest};
use crate::Tenant;
use crate::tenant::tenants;

/// The most requests of one tenant that wait.
pub const MAX_WAITING: usize = 256;

/// The most records that a turn clears away of requests that wait no more, so that a transaction holds them.
const CLEARED_AT_ONCE: usize = 32;

/// A request as it waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    amount: Resources,
    arrived: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    owner: Principal,
    #[serde(default)]
    attributes: RequestAttributes,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    demands: Vec<Demand>,
}

impl Stored for Waiting {
    const KIND: &'static str = "waiting request";
}

/// How many came to wait in one tenant so far. Each writes it: of two that come at the same time one looks again, so that
/// no more wait than may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Arrivals {
    count: u64,
}

impl Stored for Arrivals {
    const KIND: &'static str = "count of arrivals in a queue";
}

fn arrivals() -> Result<Collection<Arrivals>> {
    crate::collection("queues")
}

fn arrivals_key(tenant: &TenantRef) -> Result<Key> {
    arrivals()?.key([tenant.to_string()])
}

/// Stages that one more came to wait in `tenant`.
fn stage_arrival(view: &Snapshot, txn: &mut Txn, tenant: &TenantRef) -> Result<()> {
    let key = arrivals_key(tenant)?;
    match arrivals()?.get(view, txn, &key)? {
        Some(old) => arrivals()?.update(txn, &old, &Arrivals { count: old.count.wrapping_add(1) }),
        None => arrivals()?.create(view, txn, key, &Arrivals { count: 1 }),
    }
}

/// Stages that nothing is remembered of who came to wait in `tenant`.
pub(super) fn forget(view: &Snapshot, txn: &mut Txn, tenant: &TenantRef) -> Result<()> {
    match arrivals()?.get(view, txn, &arrivals_key(tenant)?)? {
        Some(found) => arrivals()?.delete(txn, &found),
        None => Ok(()),
    }
}

fn waiting() -> Result<Collection<Waiting>> {
    crate::collection("waiting")
}

fn waiting_key(tenant: &TenantRef, id: &ReservationId) -> Result<Key> {
    waiting()?.key([&tenant.to_string(), id.as_str()])
}

fn waiting_of(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<Vec<Stamped<Waiting>>> {
    waiting()?.list(view, txn, &waiting()?.below([tenant.to_string()])?)
}

/// How many requests of one tenant wait.
pub(super) fn count(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<usize> {
    waiting_of(view, txn, tenant).map(|all| all.len())
}

/// How turns are given.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Turns {
    /// In which order.
    pub queue: FairQueue,
    /// How much each tenant counts for; those that are not named count for one.
    pub weights: BTreeMap<TenantId, NonZeroU32>,
    /// How long what is admitted is held unless it is committed; `None` commits it at once.
    pub hold: Option<Duration>,
}

impl Turns {
    /// In the order of `queue`, all tenants alike, committed at once.
    pub fn new(queue: FairQueue) -> Self {
        Self { queue, weights: BTreeMap::new(), hold: None }
    }

    /// With this tenant counting for so much.
    #[must_use]
    pub fn with_weight(mut self, tenant: TenantId, weight: NonZeroU32) -> Self {
        self.weights.insert(tenant, weight);
        self
    }

    /// Held for so long unless it is committed.
    #[must_use]
    pub fn with_hold(mut self, hold: Duration) -> Self {
        self.hold = Some(hold);
        self
    }
}

/// One that waits, and whose it is.
struct Candidate {
    tenant: TenantRef,
    record: Stamped<Waiting>,
    listed: WaitingRequest,
}

impl Candidate {
    fn request(&self, hold_until: Option<Timestamp>) -> QuotaRequest {
        QuotaRequest {
            id: self.listed.id.clone(),
            amount: self.record.amount.clone(),
            deadline: hold_until,
            attributes: self.record.attributes.clone(),
            demands: self.record.demands.clone(),
        }
    }

    /// The context in which it was asked for, at the time of `ctx`.
    fn ctx(&self, ctx: &TenantContext, now: Timestamp) -> TenantContext {
        TenantContext::new(self.tenant.clone(), self.record.owner.clone(), ctx.request().clone())
            .with_time(now)
    }
}

fn now_of(ctx: &TenantContext, operation: &'static str) -> Result<Timestamp> {
    ctx.at().ok_or_else(|| Error::invalid(operation, "a queue goes by time: say when this is decided"))
}

impl TenantQuota {
    /// Stages that `request` waits for its turn from the time of `ctx` on; until just before its deadline, if it has
    /// one. The same again keeps its place. One that is charged already has nothing to wait for.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if another amount waits, or is charged, under the id; [`ErrorKind::Exhausted`] if
    /// [`MAX_WAITING`] wait; [`ErrorKind::Invalid`] if `ctx` has no time, the deadline has passed, or the demands are
    /// refused as by [`stage_request`](Self::stage_request), and as there if the tenant admits no work.
    pub fn stage_enqueue(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        request: &QuotaRequest,
    ) -> Result<()> {
        let arrived = now_of(ctx, "enqueue")?;
        let (id, chain) = (&request.id, Tenant::chain(view, txn, ctx)?);
        let charged = find(view, txn, ctx.tenant(), id)?;
        if let Some(charged) = charged.as_ref().filter(|charged| !charged.is_over(Some(arrived))) {
            same(charged, &QuotaRequest { deadline: Some(arrived), ..request.clone() })?;
            return charged.expect(view, txn);
        }
        let key = waiting_key(ctx.tenant(), id)?;
        if let Some(known) = waiting()?.get(view, txn, &key)? {
            if known.amount == request.amount {
                return waiting()?.expect(txn, &known);
            }
            let message = format!("request {id} waits for {}, not {}", known.amount, request.amount);
            return Err(Error::new(ErrorKind::AlreadyExists, "enqueue", message));
        }
        let mut books = Books::at(ctx.at());
        let levels = books.open(view, txn, &chain)?;
        admissible(&books, &levels, ctx, request)?;
        if count(view, txn, ctx.tenant())? >= MAX_WAITING {
            let message =
                format!("{MAX_WAITING} requests of tenant {} wait: let some leave", ctx.tenant().id);
            return Err(Error::new(ErrorKind::Exhausted, "enqueue", message));
        }
        for tenant in &chain {
            tenants()?.expect(txn, tenant)?;
        }
        // The same request may have waited, had its turn and be charged by the time that this commits.
        let charge = reservation_key(ctx.tenant(), id)?;
        match charged {
            Some(over) => over.expect(view, txn)?,
            None if matches!(txn.staged(&charge), Staged::Untouched) => txn.guard(&charge, Guard::Absent)?,
            None => {}
        }
        stage_arrival(view, txn, ctx.tenant())?;
        let new = Waiting {
            amount: request.amount.clone(),
            arrived,
            until: request.deadline,
            owner: ctx.principal().clone(),
            attributes: request.attributes.clone(),
            demands: request.demands.clone(),
        };
        waiting()?.create(view, txn, key, &new)
    }

    /// Stages that a request of the tenant waits no more. Returns whether it did: one that had its turn, or was charged
    /// otherwise, is charged.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn stage_leave(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
    ) -> Result<bool> {
        match waiting()?.get(view, txn, &waiting_key(ctx.tenant(), id)?)? {
            Some(found) => {
                waiting()?.delete(txn, &found)?;
                let charged = find(view, txn, ctx.tenant(), id)?;
                Ok(charged.is_none_or(|charged| charged.is_over(ctx.at())))
            }
            None => Ok(false),
        }
    }

    /// The requests of the tenant itself that wait, in the order of names. One that is charged by now waits no more, even
    /// if no turn has cleared it away yet.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn waiting(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<WaitingRequest>> {
        let mut all = candidates(view, txn, ctx.tenant())?;
        if !all.is_empty() {
            let charged = reservations_of(view, txn, ctx.tenant())?.into_iter();
            let charged: BTreeSet<_> =
                charged.filter(|one| !one.is_over(ctx.at())).map(|one| one.id).collect();
            all.retain(|one| !charged.contains(&one.listed.id));
        }
        Ok(all.into_iter().map(|one| one.listed).collect())
    }

    /// Stages the charge of the request at or below the tenant of `ctx`, the pool, whose turn it is, and that it waits
    /// no more; returns it. Stage and commit again until it is nobody's turn.
    ///
    /// Its turn comes by [`FairQueue`]. A tenant's share is what it and everything below it take of the limits of the
    /// pool. A request borrows if it takes the tenant above a guarantee. A request that limits of the pool, or of
    /// tenants above it, keep waiting may hold up others; one that a limit below the pool is in the way of, or that is
    /// not allowed for another reason, holds up nobody of another tenant.
    ///
    /// Every charge below the pool changes the pool's ledger. So if two give turns at the same time, one of them
    /// conflicts and looks again; and nobody's turn is decided by usage that has changed since. Whatever waits too long,
    /// was charged otherwise, or is of a tenant that is being deleted, is cleared away, some of it each time.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if `ctx` has no time; [`ErrorKind::NotFound`] if the pool is gone.
    pub fn stage_admit_next(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        turns: &Turns,
    ) -> Result<Option<WaitingRequest>> {
        let now = now_of(ctx, "admit next")?;
        let pool = Tenant::of(view, txn, ctx)?;
        let (mut all, mut over) = (Vec::new(), Vec::new());
        for tenant in subtree(view, txn, &pool.tenant)? {
            for one in candidates(view, txn, &tenant.tenant)? {
                let charged = find(view, txn, &one.tenant, &one.listed.id)?;
                let charged = charged.is_some_and(|charged| !charged.is_over(Some(now)));
                let done = one.listed.is_expired(now) || charged || tenant.state.is_terminating();
                if done { over.push(one) } else { all.push(one) }
            }
        }
        over.iter().take(CLEARED_AT_ONCE).try_for_each(|one| waiting()?.delete(txn, &one.record))?;
        let shares = shares(view, txn, &pool, &all, turns, now)?;
        let mut fits = BTreeMap::new();
        for one in &mut all {
            let fit = fit(view, txn, &one.ctx(ctx, now), &one.request(None), &pool.tenant)?;
            one.listed.borrowing = fit.borrows;
            fits.insert((one.listed.tenant.clone(), one.listed.id.clone()), fit.fit);
        }
        let fit_of = |one: &WaitingRequest| {
            fits.get(&(one.tenant.clone(), one.id.clone())).copied().unwrap_or(QueueFit::OverLimit)
        };
        let Some(next) = turns.queue.next(all.iter().map(|one| &one.listed), &shares, now, fit_of) else {
            return Ok(None);
        };
        let Some(next) = all.iter().find(|one| one.listed == *next) else { return Ok(None) };
        let request = next.request(turns.hold.map(|hold| now.after(hold)));
        self.stage_request(view, txn, &next.ctx(ctx, now), &request)?;
        waiting()?.delete(txn, &next.record)?;
        Ok(Some(next.listed.clone()))
    }
}

fn candidates(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<Vec<Candidate>> {
    let named = |record: Stamped<Waiting>| {
        let id = String::from_utf8_lossy(record.stored_at.last()).into_owned();
        let id = id.parse().map_err(|e| Error::of(ErrorKind::Corrupt, "queue", e))?;
        let mut listed = WaitingRequest::new(tenant.id.clone(), id, record.amount.clone(), record.arrived);
        listed.deadline = record.until;
        Ok(Candidate { tenant: tenant.clone(), record, listed })
    };
    waiting_of(view, txn, tenant)?.into_iter().map(named).collect()
}

/// What everybody who waits has of the limits of `pool`; of what it has no limit of, of all that is in use there.
fn shares(
    view: &Snapshot,
    txn: &Txn,
    pool: &Tenant,
    all: &[Candidate],
    turns: &Turns,
    now: Timestamp,
) -> Result<BTreeMap<TenantId, DominantShare>> {
    let taken = |tenant: &TenantRef| -> Result<Resources> {
        let Some(ledger) = ledgers()?.get(view, txn, &ledger_key(tenant)?)? else {
            return Ok(Resources::new());
        };
        let broken = |e| Error::of(ErrorKind::Corrupt, "queue", e);
        ledger.used.checked_add(&ledger.reserved).map_err(broken)
    };
    let spec = limited_chain(view, txn, &pool.tenant)?.into_iter().next().and_then(|(_, spec)| spec);
    let spec = spec.map(|spec| (*spec.value).clone()).unwrap_or_default();
    let total = taken(&pool.tenant)?.iter().fold(Resources::new(), |total, (resource, used)| {
        let max = spec.level(pool, &resource, Some(now)).max;
        total.with(resource, if max == UNLIMITED { used } else { max })
    });
    let mut shares = BTreeMap::new();
    for one in all {
        if !shares.contains_key(&one.tenant.id) {
            let weight = turns.weights.get(&one.tenant.id).copied().unwrap_or(NonZeroU32::MIN);
            let share = DominantShare::dominant(&taken(&one.tenant)?, &total, weight);
            shares.insert(one.tenant.id.clone(), share);
        }
    }
    Ok(shares)
}

struct Fit {
    fit: QueueFit,
    borrows: bool,
}

/// What is in the way of a request, for those who share `pool`.
fn fit(
    view: &Snapshot,
    txn: &Txn,
    ctx: &TenantContext,
    request: &QuotaRequest,
    pool: &TenantRef,
) -> Result<Fit> {
    let chain = Tenant::chain(view, txn, ctx)?;
    let depth = chain.iter().position(|level| level.tenant == *pool).unwrap_or(0);
    let mut books = Books::at(ctx.at());
    // What was held under its id and is over goes before it is charged anew, so it is not in its way.
    let mut swept = None;
    if let Some(over) = find(view, txn, ctx.tenant(), &request.id)?.filter(|held| held.is_over(ctx.at())) {
        let mut staged = txn.clone();
        TenantQuota.give_back(view, &mut staged, ctx, &[over])?;
        swept = Some(staged);
    }
    let levels = books.open(view, swept.as_ref().unwrap_or(txn), &chain)?;
    let new = match admissible(&books, &levels, ctx, request) {
        Ok(new) => new,
        Err(e) if e.kind() == ErrorKind::Corrupt => return Err(e),
        Err(_) => return Ok(Fit { fit: QueueFit::OverLimit, borrows: true }),
    };
    books.add(&levels, &Change::default().with(&new, 1), &new.attributes);
    let fit = match books.over(&levels) {
        None => QueueFit::Fits,
        Some(over) if over.in_full().iter().all(|short| short.depth >= depth) => QueueFit::NoRoom,
        Some(_) => QueueFit::OverLimit,
    };
    let borrows = books.above_guarantee(&levels, &new.amount);
    Ok(Fit { fit, borrows })
}
