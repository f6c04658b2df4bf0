//! Reserve, commit, abort, resize, release, expire: the `QuotaGate` of this crate. It only stages.

use hivemind_core::resources::Resources;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, QuotaGate, ReservationId, Result, TenantContext, Timestamp};

use super::batch::{Held, charges_of, find, remove, replace_all};
use super::books::Books;
use super::ledger::{Change, Reservation, ReservationState, reservation_key, reservations};
use super::{Demand, OverQuota, RequestAttributes, Usage};
use crate::Tenant;

/// The most reservations that one [`TenantQuota::stage_expire`] gives back, so that a transaction holds them.
const EXPIRED_AT_ONCE: usize = 64;

/// Charges tenants: the [`QuotaGate`] of this crate, and the two-phase operations.
///
/// A charge counts for the tenant and for every tenant above it, against every quota there is, or not at all. All
/// operations are pure: they stage into the host's transaction. A denial is final for its decision: nothing was
/// staged that could turn into a charge.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "it has no state and never will: all of it is in the store")]
pub struct TenantQuota;

/// What is asked for under one id.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaRequest {
    /// The id; the same again is charged once, and the first deadline stands until it has passed.
    pub id: ReservationId,
    /// How much.
    pub amount: Resources,
    /// Until when it is held unless it is committed; `None` commits it at once.
    pub deadline: Option<Timestamp>,
    /// What scoped quotas look at.
    pub attributes: RequestAttributes,
    /// What each thing in it asks for, if limit ranges are to bound it.
    pub demands: Vec<Demand>,
}

impl QuotaRequest {
    /// A request for `amount`, to be in use at once.
    pub fn new(id: ReservationId, amount: Resources) -> Self {
        Self { id, amount, deadline: None, attributes: RequestAttributes::default(), demands: Vec::new() }
    }

    /// To be held until `deadline`, and committed or aborted by then.
    #[must_use]
    pub fn held_until(mut self, deadline: Timestamp) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// With what scoped quotas look at.
    #[must_use]
    pub fn with_attributes(mut self, attributes: RequestAttributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// With what each thing in it asks for. Every [`LimitRange`](super::LimitRange) of the tenant and of those above it
    /// for the kind of the attributes must allow each of them as it is; [`TenantQuota::defaulted`] fills defaults in
    /// before. Together they must not ask for more than the amount.
    ///
    /// A charge by demands may grow by demands only.
    #[must_use]
    pub fn with_demands(mut self, demands: impl IntoIterator<Item = Demand>) -> Self {
        self.demands.extend(demands);
        self
    }
}

/// How a charge was given back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "it is given back now, or there is nothing to give back")]
pub enum Returned {
    /// So much, by this decision.
    Now(Resources),
    /// Nothing: it was given back before, or never charged.
    Already,
}

impl TenantQuota {
    /// Stages a charge as `request` says.
    ///
    /// An id whose hold is over at the time of `ctx` is free again, swept or not: what was held is given back, and this is
    /// a new request, which may be denied. Then what was held stays for a sweep.
    ///
    /// # Errors
    /// As [`QuotaGate::reserve`]; [`ErrorKind::QuotaExceeded`] lists everything that is short as [`OverQuota`];
    /// [`ErrorKind::Conflict`] if the tenant, or one above it, admits no work; [`ErrorKind::Invalid`] if the deadline
    /// has passed already, if the demands ask for more than the amount, or if limit ranges do not allow them: then
    /// [`RangeViolations`](super::RangeViolations) lists what is wrong with the first of them that is.
    pub fn stage_request(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        request: &QuotaRequest,
    ) -> Result<()> {
        if let Some(existing) = find(view, txn, ctx.tenant(), &request.id)? {
            if existing.is_over(ctx.at()) {
                return self.renew(view, txn, ctx, &existing, request);
            }
            same(&existing, request)?;
            return existing.expect(view, txn);
        }
        self.stage_new(view, txn, ctx, request)
    }

    /// Stages `request` in place of `existing`, whose hold is over; if it is denied, nothing is staged.
    pub(super) fn renew(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        existing: &Held,
        request: &QuotaRequest,
    ) -> Result<()> {
        // As if it had been given back already: whether a sweep came by must make no difference.
        let mut swept = txn.clone();
        self.give_back(view, &mut swept, ctx, std::slice::from_ref(existing))?;
        self.stage_new(view, &mut swept, ctx, request)?;
        *txn = swept;
        Ok(())
    }

    fn stage_new(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        request: &QuotaRequest,
    ) -> Result<()> {
        let mut books = Books::at(ctx.at());
        let levels = books.open(view, txn, &Tenant::chain(view, txn, ctx)?)?;
        let new = admissible(&books, &levels, ctx, request)?;
        books.add(&levels, &Change::default().with(&new, 1), &new.attributes);
        if let Some(over) = books.over(&levels) {
            return Err(Error::of(ErrorKind::QuotaExceeded, "reserve", over));
        }
        books.touch(&levels);
        books.stage(view, txn)?;
        reservations()?.create(view, txn, reservation_key(ctx.tenant(), &request.id)?, &new)
    }

    /// Stages a charge that is held until `deadline`, to be committed or aborted.
    ///
    /// # Errors
    /// As [`stage_request`](Self::stage_request).
    pub fn stage_reserve(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
        deadline: Timestamp,
    ) -> Result<()> {
        let request = QuotaRequest::new(id.clone(), amount.clone()).held_until(deadline);
        self.stage_request(view, txn, ctx, &request)
    }

    /// Stages that a held charge is in use now. One that is in use already stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if nothing is held under `id`, or no longer at the time of `ctx`;
    /// [`ErrorKind::Invalid`] if `ctx` has no time.
    pub fn stage_commit(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
    ) -> Result<()> {
        let held = self.require(view, txn, ctx, id)?;
        self.commit_held(view, txn, ctx, &held)
    }

    /// Stages that `held` is in use now.
    fn commit_held(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext, held: &Held) -> Result<()> {
        match Self::committed(ctx, held)? {
            Some(committed) => {
                let mut books = Books::at(ctx.at());
                let levels = books.open(view, txn, &Tenant::chain(view, txn, ctx)?)?;
                self.replace(view, txn, (books, &levels), held, &committed)
            }
            None => held.expect(view, txn),
        }
    }

    /// `held` as it is once it is in use; `None` if it is so already.
    pub(super) fn committed(ctx: &TenantContext, held: &Held) -> Result<Option<Reservation>> {
        let id = &held.id;
        let ReservationState::Reserved { deadline } = held.state else { return Ok(None) };
        let timeless = || {
            let message = format!("reservation {id} is held until {deadline}: say when this is decided");
            Error::invalid("commit", message)
        };
        if deadline <= ctx.at().ok_or_else(timeless)? {
            let message = format!("reservation {id} was held until {deadline}: reserve again");
            return Err(Error::not_found("commit", message));
        }
        Ok(Some(Reservation { state: ReservationState::Committed, ..(**held).clone() }))
    }

    /// Stages `changes` of charges of one tenant, whether they fit or not.
    pub(super) fn replace_all(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        changes: &[(Held, Reservation)],
    ) -> Result<()> {
        let mut books = Books::at(ctx.at());
        let levels = books.open(view, txn, &Tenant::chain(view, txn, ctx)?)?;
        for (old, new) in changes {
            books.add(&levels, &Change::default().with(old, -1).with(new, 1), &new.attributes);
        }
        books.touch(&levels);
        books.stage(view, txn)?;
        replace_all(view, txn, changes)
    }

    /// Stages that a held charge is given back. Aborting twice is fine.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if it is in use: then it is released, not aborted.
    pub fn stage_abort(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
    ) -> Result<Returned> {
        let found = find(view, txn, ctx.tenant(), id)?;
        if found.is_some_and(|found| found.state == ReservationState::Committed) {
            let message = format!("reservation {id} is committed: release it instead");
            return Err(Error::new(ErrorKind::Conflict, "abort", message));
        }
        self.stage_release(view, txn, ctx, id)
    }

    /// Stages that a charge, in use or held, is given back. It is given back once, however often this is called.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant is gone, [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn stage_release(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
    ) -> Result<Returned> {
        let found = find(view, txn, ctx.tenant(), id)?;
        let Some(found) = found else { return Ok(Returned::Already) };
        self.give_back(view, txn, ctx, std::slice::from_ref(&found))?;
        Ok(Returned::Now(found.amount.clone()))
    }

    /// Stages that a charge is of another amount from now on. Less always fits.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if nothing is charged under `id`; more is refused as by
    /// [`stage_request`](Self::stage_request), and then the charge stays as it was.
    pub fn stage_resize(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
    ) -> Result<()> {
        self.stage_resize_request(view, txn, ctx, &QuotaRequest::new(id.clone(), amount.clone()))
    }

    /// Stages that a charge is of the amount of `request` from now on. Its demands must be allowed by limit ranges if
    /// there is more of anything; its deadline and attributes stay as they were first.
    ///
    /// # Errors
    /// As [`stage_resize`](Self::stage_resize); [`ErrorKind::Invalid`] if a charge by demands is to grow without, or if
    /// the demands are refused as by [`stage_request`](Self::stage_request).
    pub fn stage_resize_request(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        request: &QuotaRequest,
    ) -> Result<()> {
        let old = self.require(view, txn, ctx, &request.id)?;
        let mut books = Books::at(ctx.at());
        let levels = books.open(view, txn, &Tenant::chain(view, txn, ctx)?)?;
        let mut new = Reservation { amount: request.amount.clone(), ..(*old).clone() };
        if !new.amount.fits_in(&old.amount) {
            books.admits(&levels, "resize")?;
            if old.bounded && request.demands.is_empty() {
                let message =
                    format!("reservation {} was charged by demands: say those it grows by", request.id);
                return Err(Error::invalid("resize", message));
            }
            let sized = QuotaRequest { attributes: old.attributes.clone(), ..request.clone() };
            books.bounds(&levels, &sized)?;
            new.bounded |= !request.demands.is_empty();
        }
        self.replace(view, txn, (books, &levels), &old, &new)
    }

    /// Stages the release of held charges of the tenant whose deadline is not after `now`, and of slices of nodes whose
    /// lease and grace are over, the first 64 of them; returns how many. Call it until that is none.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn stage_expire(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        now: Timestamp,
    ) -> Result<usize> {
        let mut expired = charges_of(view, txn, ctx.tenant())?;
        expired.retain(|held| match held.slice {
            Some(lease) => lease.is_over(now),
            None => held.is_over(Some(now)),
        });
        expired.truncate(EXPIRED_AT_ONCE);
        self.give_back(view, txn, ctx, &expired)?;
        Ok(expired.len())
    }

    /// What would be short if `amount` were charged now by such a request; nothing is staged.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant is gone.
    pub fn what_if(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        amount: &Resources,
        attributes: &RequestAttributes,
    ) -> Result<Option<OverQuota>> {
        let mut books = Books::at(ctx.at());
        let levels = books.open(view, txn, &Tenant::chain(view, txn, ctx)?)?;
        books.add(&levels, &Change::default().adding(amount), attributes);
        Ok(books.over(&levels))
    }

    /// What the tenant and everything below it have charged.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the ledger cannot be read.
    pub fn usage(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Usage> {
        self.usage_in(view, &Txn::new(), ctx)
    }

    pub(super) fn usage_in(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Usage> {
        let key = super::ledger::ledger_key(ctx.tenant())?;
        let found = super::ledger::ledgers()?.get(view, txn, &key)?;
        Ok(found.map(|found| (*found.value).clone()).unwrap_or_default())
    }

    pub(super) fn missing(ctx: &TenantContext, id: &ReservationId) -> Error {
        Error::not_found("quota", format!("tenant {} has no reservation {id}", ctx.tenant().id))
    }

    fn require(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext, id: &ReservationId) -> Result<Held> {
        find(view, txn, ctx.tenant(), id)?.ok_or_else(|| Self::missing(ctx, id))
    }

    fn replace(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        (mut books, levels): (Books, &[usize]),
        old: &Held,
        new: &Reservation,
    ) -> Result<()> {
        books.add(levels, &Change::default().with(old, -1).with(new, 1), &new.attributes);
        if let Some(over) = books.over(levels) {
            return Err(Error::of(ErrorKind::QuotaExceeded, "resize", over));
        }
        books.touch(levels);
        books.stage(view, txn)?;
        old.replace(view, txn, new)
    }

    pub(super) fn give_back(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        gone: &[Held],
    ) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut books = Books::at(ctx.at());
        let levels = books.open(view, txn, &Tenant::chain(view, txn, ctx)?)?;
        for alike in gone.chunk_by(|a, b| a.attributes == b.attributes) {
            let Some(first) = alike.first() else { continue };
            books.add(&levels, &Change::of(alike.iter().map(|one| &**one), -1), &first.attributes);
        }
        remove(view, txn, gone)?;
        books.touch(&levels);
        books.stage(view, txn)
    }
}

/// What is charged if `request` fits, unless something else is in the way of it.
pub(super) fn admissible(
    books: &Books,
    levels: &[usize],
    ctx: &TenantContext,
    request: &QuotaRequest,
) -> Result<Reservation> {
    books.admits(levels, "reserve")?;
    books.bounds(levels, request)?;
    asked(ctx, request)
}

/// What is charged if `request` is admitted.
pub(super) fn asked(ctx: &TenantContext, request: &QuotaRequest) -> Result<Reservation> {
    if let Some(deadline) = request.deadline.filter(|deadline| ctx.at().is_some_and(|at| *deadline <= at)) {
        let message = format!("reservation {}: its deadline {deadline} has passed already", request.id);
        return Err(Error::invalid("reserve", message));
    }
    let state = match request.deadline {
        Some(deadline) => ReservationState::Reserved { deadline },
        None => ReservationState::Committed,
    };
    Ok(Reservation {
        amount: request.amount.clone(),
        state,
        owner: Some(ctx.principal().clone()),
        attributes: request.attributes.clone(),
        bounded: !request.demands.is_empty(),
        slice: None,
    })
}

/// Whether what is charged under an id is what is asked for under it again.
pub(super) fn same(existing: &Reservation, request: &QuotaRequest) -> Result<()> {
    let exists = |what: String| Err(Error::new(ErrorKind::AlreadyExists, "reserve", what));
    if existing.amount != request.amount {
        let (amount, asked) = (&existing.amount, &request.amount);
        return exists(format!("reservation {} is charged with {amount}, not {asked}", request.id));
    }
    // A charge that may expire is not one for good; the other way round, it was committed since.
    match (existing.state, request.deadline) {
        (ReservationState::Reserved { deadline }, None) => {
            exists(format!("reservation {} is only held, until {deadline}: commit it", request.id))
        }
        _ => Ok(()),
    }
}

impl QuotaGate for TenantQuota {
    fn reserve(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
    ) -> Result<()> {
        self.stage_request(view, txn, ctx, &QuotaRequest::new(id.clone(), amount.clone()))
    }

    fn settle(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
    ) -> Result<()> {
        let old = self.require(view, txn, ctx, id)?;
        let new = Reservation { amount: amount.clone(), ..(*old).clone() };
        self.replace_all(view, txn, ctx, &[(old, new)])
    }

    fn release(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext, id: &ReservationId) -> Result<()> {
        let held = self.require(view, txn, ctx, id)?;
        self.give_back(view, txn, ctx, std::slice::from_ref(&held))
    }
}
