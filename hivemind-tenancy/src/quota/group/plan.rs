//! One transaction for many requests, and the answer to each. No I/O, no clock, no async.
//!
//! All of them wait at the same time, so any order of them is right: first what is given back, then what is put in
//! use, then what is new. What fits together is admitted together; only if it does not is it looked at in halves,
//! down to the single request that is denied for what is short for it.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, ReservationId, Result, TenantContext, TenantRef, Timestamp};

use crate::Tenant;
use crate::quota::batch::{BATCH_SIZE, Batch, Held, batch_key, batches};
use crate::quota::books::Books;
use crate::quota::gate::{QuotaRequest, Returned, TenantQuota, asked, same, still};
use crate::quota::ledger::{Change, Reservation};

/// What a caller wants.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Reserve(QuotaRequest),
    Commit(ReservationId),
    Release(ReservationId),
}

impl Operation {
    pub(super) fn id(&self) -> &ReservationId {
        match self {
            Self::Reserve(request) => &request.id,
            Self::Commit(id) | Self::Release(id) => id,
        }
    }
}

/// A request and whose it is.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) ctx: TenantContext,
    pub(super) operation: Operation,
}

/// What is told to who reserved or committed, or released.
pub(super) type Answer = Result<Returned>;

/// A reservation, and the record it is in from now on; `None` if it is given back.
pub(super) type Moved = (TenantRef, ReservationId, Option<Key>);

/// What to commit, and what to tell once that is done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) txn: Txn,
    /// By the number of the request.
    pub(super) answers: BTreeMap<usize, Answer>,
    pub(super) moved: Vec<Moved>,
}

/// What is known before: the state, and in which record each reservation is.
pub(super) struct Facts<'a> {
    pub(super) view: &'a Snapshot,
    pub(super) place: &'a dyn Fn(&TenantRef, &ReservationId) -> Option<Key>,
    /// Makes the names of new batches unique.
    pub(super) name: &'a str,
}

/// A new reservation that is not decided yet.
struct New<'a> {
    number: usize,
    ctx: &'a TenantContext,
    id: &'a ReservationId,
    reservation: Reservation,
    levels: Vec<usize>,
}

fn told() -> Answer {
    Ok(Returned::Already)
}

/// The same error for another caller.
pub(super) fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.operation(), error.message().to_owned())
        .with_retry(error.retry())
        .with_effect(error.effect())
}

impl Plan {
    /// Decides `asks`.
    ///
    /// # Errors
    /// What concerns all of them together, such as a damaged ledger: decide fewer.
    pub(super) fn of(facts: &Facts<'_>, asks: &[Ask]) -> Result<Self> {
        let mut plan = Self::default();
        plan.release(facts, asks)?;
        plan.commit(facts, asks)?;
        plan.reserve(facts, asks)?;
        Ok(plan)
    }

    fn held(&self, facts: &Facts<'_>, tenant: &TenantRef, id: &ReservationId) -> Result<Option<Held>> {
        match (facts.place)(tenant, id) {
            Some(key) => Held::at(facts.view, &self.txn, id, &key),
            None => Ok(None),
        }
    }

    fn release(&mut self, facts: &Facts<'_>, asks: &[Ask]) -> Result<()> {
        let mut gone: BTreeMap<&TenantRef, (&TenantContext, BTreeMap<&ReservationId, Held>)> =
            BTreeMap::new();
        for (number, ask) in asks.iter().enumerate() {
            let Operation::Release(id) = &ask.operation else { continue };
            let (_, of_tenant) = gone.entry(ask.ctx.tenant()).or_insert_with(|| (&ask.ctx, BTreeMap::new()));
            let found = match of_tenant.contains_key(id) {
                true => None,
                false => self.held(facts, ask.ctx.tenant(), id)?,
            };
            let answer = found.as_ref().map_or(Returned::Already, |held| Returned::Now(held.amount.clone()));
            self.answers.insert(number, Ok(answer));
            if let Some(held) = found {
                of_tenant.insert(id, held);
            }
        }
        for (tenant, (ctx, of_tenant)) in gone {
            let moved = of_tenant.keys().map(|id| (tenant.clone(), (*id).clone(), None));
            self.moved.extend(moved);
            let all: Vec<_> = of_tenant.into_values().collect();
            TenantQuota.give_back(facts.view, &mut self.txn, ctx, &all)?;
        }
        Ok(())
    }

    fn commit(&mut self, facts: &Facts<'_>, asks: &[Ask]) -> Result<()> {
        for (number, ask) in asks.iter().enumerate() {
            let Operation::Commit(id) = &ask.operation else { continue };
            let done = match self.held(facts, ask.ctx.tenant(), id)? {
                Some(held) => TenantQuota.commit_held(facts.view, &mut self.txn, &ask.ctx, &held),
                None => Err(TenantQuota::missing(&ask.ctx, id)),
            };
            let answer = match done {
                Ok(()) => told(),
                // These were decided before anything was staged.
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::QuotaExceeded
                    ) =>
                {
                    Err(e)
                }
                Err(other) => return Err(other),
            };
            self.answers.insert(number, answer);
        }
        Ok(())
    }

    fn reserve(&mut self, facts: &Facts<'_>, asks: &[Ask]) -> Result<()> {
        let mut books = Books::at(None);
        let mut chains: BTreeMap<&TenantRef, Result<Vec<usize>>> = BTreeMap::new();
        let mut first: BTreeMap<(&TenantRef, &ReservationId), usize> = BTreeMap::new();
        let (mut news, mut repeated) = (Vec::new(), Vec::new());
        for (number, ask) in asks.iter().enumerate() {
            let Operation::Reserve(request) = &ask.operation else { continue };
            let tenant = ask.ctx.tenant();
            if let Some(first) = first.get(&(tenant, &request.id)) {
                repeated.push((number, *first, request));
                continue;
            }
            let levels = chains.entry(tenant).or_insert_with(|| self.open(&mut books, facts, &ask.ctx));
            let decided = match levels {
                Err(e) => Some(Err(again(e))),
                Ok(levels) => match self.held(facts, tenant, &request.id)? {
                    Some(existing) => {
                        Some(still(&existing, request, ask.ctx.at()).map(|()| Returned::Already))
                    }
                    None => {
                        first.insert((tenant, &request.id), number);
                        match asked(&books, levels, &ask.ctx, request) {
                            Err(e) => Some(Err(e)),
                            Ok(reservation) => {
                                let (ctx, id, levels) = (&ask.ctx, &request.id, levels.clone());
                                news.push(New { number, ctx, id, reservation, levels });
                                None
                            }
                        }
                    }
                },
            };
            self.answers.extend(decided.map(|answer| (number, answer)));
        }
        // Neighbours of one tenant add up to one change.
        news.sort_by(|a, b| a.ctx.tenant().cmp(b.ctx.tenant()));
        admit(&mut books, &news, &mut self.answers);
        news.retain(|new| !self.answers.contains_key(&new.number));
        self.record(facts, &mut books, &news)?;
        for new in &news {
            self.answers.insert(new.number, told());
        }
        for (number, first, request) in repeated {
            let kept = news.iter().find(|new| new.number == first);
            let answer = match (kept, self.answers.get(&first)) {
                (Some(new), _) => same(&new.reservation, request).map(|()| Returned::Already),
                (None, Some(Err(e))) => Err(denied_too(e)),
                (None, _) => Err(Error::internal("reserve", "a repeated request has no first one")),
            };
            self.answers.insert(number, answer);
        }
        Ok(())
    }

    fn open(&self, books: &mut Books, facts: &Facts<'_>, ctx: &TenantContext) -> Result<Vec<usize>> {
        let chain = Tenant::chain(facts.view, &self.txn, ctx)?;
        books.open(facts.view, &self.txn, &chain)
    }

    /// Stages what is admitted, in batches.
    fn record(&mut self, facts: &Facts<'_>, books: &mut Books, admitted: &[New<'_>]) -> Result<()> {
        if admitted.is_empty() {
            return Ok(());
        }
        let mut number = 0;
        for of_tenant in admitted.chunk_by(|a, b| a.ctx.tenant() == b.ctx.tenant()) {
            for chunk in of_tenant.chunks(BATCH_SIZE) {
                let Some(first) = chunk.first() else { continue };
                books.touch(&first.levels);
                let tenant = first.ctx.tenant();
                let key = batch_key(tenant, &format!("{}-{number:04}", facts.name))?;
                number += 1;
                let reservations =
                    chunk.iter().map(|new| (new.id.clone(), new.reservation.clone())).collect();
                batches()?.create(facts.view, &mut self.txn, key.clone(), &Batch { reservations })?;
                let moved = chunk.iter().map(|new| (tenant.clone(), new.id.clone(), Some(key.clone())));
                self.moved.extend(moved);
            }
        }
        books.stage(facts.view, &mut self.txn)
    }
}

/// The answer to the second of two equal requests, of which the first was refused.
fn denied_too(first: &Error) -> Error {
    match first.detail::<crate::OverQuota>() {
        Some(over) => Error::of(first.kind(), first.operation(), over.clone()),
        None => again(first),
    }
}

/// Adds to `books` those of `news` that fit, and answers those that do not.
fn admit(books: &mut Books, news: &[New<'_>], answers: &mut BTreeMap<usize, Answer>) {
    if news.is_empty() {
        return;
    }
    let mut trial = books.clone();
    add(&mut trial, news);
    let Some(error) = over(&mut trial, news) else {
        trial.settle();
        *books = trial;
        return;
    };
    match news {
        [one] => {
            answers.insert(one.number, Err(error));
        }
        _ => {
            let (left, right) = news.split_at(news.len() / 2);
            admit(books, left, answers);
            admit(books, right, answers);
        }
    }
}

fn add(books: &mut Books, news: &[New<'_>]) {
    let alike = |a: &New<'_>, b: &New<'_>| {
        a.levels == b.levels && a.reservation.attributes == b.reservation.attributes
    };
    for some in news.chunk_by(alike) {
        let Some(first) = some.first() else { continue };
        let change = some.iter().fold(Change::default(), |change, new| change.with(&new.reservation, 1));
        books.add(&first.levels, &change, &first.reservation.attributes);
    }
}

/// What is short on any level of any of `news`, at the time of any of them.
fn over(books: &mut Books, news: &[New<'_>]) -> Option<Error> {
    let asked: BTreeSet<(&[usize], Option<Timestamp>)> =
        news.iter().map(|new| (new.levels.as_slice(), new.ctx.at())).collect();
    asked.into_iter().find_map(|(levels, at)| {
        books.set_time(at);
        books.over(levels).map(|over| Error::of(ErrorKind::QuotaExceeded, "reserve", over))
    })
}
