//! One transaction for many requests, and the answer to each. No I/O, no clock, no async.
//!
//! All of them wait at the same time, so any order of them is right: first what is given back, then what is put in
//! use, then what is new. What fits together is admitted together; only if it does not is it looked at in halves,
//! down to the single request that is denied for what is short for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, ReservationId, Result, TenantContext, TenantRef, Timestamp};

use crate::Tenant;
use crate::quota::OverQuota;
use crate::quota::batch::{BATCH_SIZE, Batch, Held, batch_key, batches};
use crate::quota::books::Books;
use crate::quota::gate::{QuotaRequest, Returned, TenantQuota, admissible, asked, same};
use crate::quota::ledger::{Change, Reservation, reservation_key};

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

/// The answers by the number of the request; it can be that some are missing.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<Option<Answer>>);

impl Answers {
    pub(super) fn set(&mut self, number: usize, answer: Answer) {
        if self.0.len() <= number {
            self.0.resize_with(number + 1, || None);
        }
        if let Some(place) = self.0.get_mut(number) {
            *place = Some(answer);
        }
    }

    pub(super) fn take(&mut self, number: usize) -> Option<Answer> {
        self.0.get_mut(number)?.take()
    }

    fn get(&self, number: usize) -> Option<&Answer> {
        self.0.get(number)?.as_ref()
    }
}

/// A reservation, and the record it is in from now on; `None` if it is given back.
pub(super) type Moved = (TenantRef, ReservationId, Option<Key>);

/// What to commit, and what to tell once that is done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) txn: Txn,
    pub(super) answers: Answers,
    pub(super) moved: Vec<Moved>,
}

/// Charges of one tenant that are given back at one time.
struct Gone<'a> {
    ctx: &'a TenantContext,
    numbers: Vec<usize>,
    held: Vec<Held>,
}

impl<'a> Gone<'a> {
    fn of(ctx: &'a TenantContext) -> Self {
        Self { ctx, numbers: Vec::new(), held: Vec::new() }
    }
}

/// What is known before: the state, and in which record each reservation is.
pub(super) struct Facts<'a> {
    pub(super) view: &'a Snapshot,
    pub(super) place: &'a dyn Fn(&TenantRef, &ReservationId) -> Result<Option<&'a Key>>,
    /// The tenants of which something could not be read.
    pub(super) failed: &'a BTreeMap<TenantRef, Error>,
    /// Makes the names of new batches unique.
    pub(super) name: &'a str,
}

/// A new reservation that is not decided yet.
struct New<'a> {
    number: usize,
    ctx: &'a TenantContext,
    id: &'a ReservationId,
    reservation: Reservation,
    levels: Arc<[usize]>,
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

/// Why a plan cannot be made, and which requests must be left out of it. None: that is not known.
struct Broken {
    error: Error,
    by: Vec<usize>,
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self { error, by: Vec::new() }
    }
}

impl Plan {
    /// Decides `asks`. What is damaged is told to those it concerns, and the others are decided without them.
    ///
    /// # Errors
    /// What concerns no request that could be named: decide fewer.
    pub(super) fn of(facts: &Facts<'_>, asks: &[Ask]) -> Result<Self> {
        let mut failed: BTreeMap<usize, Error> = BTreeMap::new();
        for (number, ask) in asks.iter().enumerate() {
            failed.extend(facts.failed.get(ask.ctx.tenant()).map(|error| (number, again(error))));
        }
        loop {
            let mut plan = Self::default();
            failed.iter().for_each(|(number, error)| plan.answers.set(*number, Err(again(error))));
            let Err(Broken { error, by }) = plan.decide(facts, asks) else { return Ok(plan) };
            let known = failed.len();
            // What they had staged so far goes with the plan.
            failed.extend(by.into_iter().map(|one| (one, again(&error))));
            if failed.len() == known {
                return Err(error);
            }
        }
    }

    fn decide(&mut self, facts: &Facts<'_>, asks: &[Ask]) -> Result<(), Broken> {
        self.release(facts, asks)?;
        self.commit(facts, asks)?;
        self.reserve(facts, asks)
    }

    fn held(&self, facts: &Facts<'_>, tenant: &TenantRef, id: &ReservationId) -> Result<Option<Held>> {
        match (facts.place)(tenant, id)? {
            Some(key) => Held::at(facts.view, &self.txn, id, key),
            None => Ok(None),
        }
    }

    /// The requests that are not answered yet, with their numbers.
    fn open_asks<'a>(&self, asks: &'a [Ask]) -> Vec<(usize, &'a Ask)> {
        let open = |(number, _): &(usize, &Ask)| self.answers.get(*number).is_none();
        asks.iter().enumerate().filter(open).collect()
    }

    fn release(&mut self, facts: &Facts<'_>, asks: &[Ask]) -> Result<(), Broken> {
        let mut taken: BTreeSet<(&TenantRef, &ReservationId)> = BTreeSet::new();
        let mut timeless: BTreeMap<&TenantRef, bool> = BTreeMap::new();
        let mut gone: BTreeMap<(Option<Timestamp>, &TenantRef), Gone<'_>> = BTreeMap::new();
        for (number, ask) in self.open_asks(asks) {
            let (Operation::Release(id), tenant) = (&ask.operation, ask.ctx.tenant()) else { continue };
            let found = match taken.contains(&(tenant, id)) {
                true => Ok(None),
                false => self.held(facts, tenant, id),
            };
            let answer = match found {
                Ok(None) => Ok(Returned::Already),
                Err(e) => Err(e),
                Ok(Some(held)) => {
                    taken.insert((tenant, id));
                    let timeless =
                        *timeless.entry(tenant).or_insert_with(|| self.is_timeless(facts, &ask.ctx));
                    let at = ask.ctx.at().filter(|_| !timeless);
                    let answer = Returned::Now(held.amount.clone());
                    let of = gone.entry((at, tenant)).or_insert_with(|| Gone::of(&ask.ctx));
                    of.numbers.push(number);
                    of.held.push(held);
                    Ok(answer)
                }
            };
            self.answers.set(number, answer);
        }
        for ((_, tenant), Gone { ctx, numbers, held }) in gone {
            self.moved.extend(held.iter().map(|held| (tenant.clone(), held.id.clone(), None)));
            TenantQuota
                .give_back(facts.view, &mut self.txn, ctx, &held)
                .map_err(|error| Broken { error, by: numbers })?;
        }
        Ok(())
    }

    /// Whether nothing that counts for the tenant of `ctx` depends on when things happen.
    fn is_timeless(&self, facts: &Facts<'_>, ctx: &TenantContext) -> bool {
        let mut books = Books::at(None);
        self.open(&mut books, facts, ctx).is_ok_and(|levels| books.adds_up(&levels))
    }

    fn commit(&mut self, facts: &Facts<'_>, asks: &[Ask]) -> Result<(), Broken> {
        let mut changed: BTreeMap<&TenantRef, BTreeMap<&ReservationId, (usize, Held, Reservation)>> =
            BTreeMap::new();
        let mut first: BTreeMap<&TenantRef, &TenantContext> = BTreeMap::new();
        for (number, ask) in self.open_asks(asks) {
            let (Operation::Commit(id), tenant) = (&ask.operation, ask.ctx.tenant()) else { continue };
            let answer = match self.held(facts, tenant, id) {
                Err(e) => Err(e),
                Ok(None) => Err(TenantQuota::missing(&ask.ctx, id)),
                Ok(Some(held)) => match TenantQuota::committed(&ask.ctx, &held) {
                    Err(e) => Err(e),
                    Ok(None) => held
                        .expect(facts.view, &mut self.txn)
                        .map(|()| Returned::Already)
                        .map_err(|error| Broken { error, by: vec![number] })
                        .map(Ok)?,
                    Ok(Some(new)) => {
                        first.entry(tenant).or_insert(&ask.ctx);
                        changed.entry(tenant).or_default().entry(id).or_insert((number, held, new));
                        told()
                    }
                },
            };
            self.answers.set(number, answer);
        }
        for (tenant, of_tenant) in changed {
            let Some(ctx) = first.get(tenant) else { continue };
            let numbers = of_tenant.values().map(|(number, ..)| *number).collect();
            let changes: Vec<_> = of_tenant.into_values().map(|(_, held, new)| (held, new)).collect();
            TenantQuota
                .replace_all(facts.view, &mut self.txn, ctx, &changes)
                .map_err(|error| Broken { error, by: numbers })?;
        }
        Ok(())
    }

    fn reserve(&mut self, facts: &Facts<'_>, asks: &[Ask]) -> Result<(), Broken> {
        let mut books = Books::at(None);
        let mut chains: BTreeMap<&TenantRef, Result<Arc<[usize]>>> = BTreeMap::new();
        let mut first: HashMap<(&TenantRef, &ReservationId), usize, RandomState> = HashMap::default();
        let (mut news, mut repeated, mut over) = (Vec::new(), Vec::new(), Vec::new());
        for (number, ask) in self.open_asks(asks) {
            let Operation::Reserve(request) = &ask.operation else { continue };
            let tenant = ask.ctx.tenant();
            if let Some(first) = first.get(&(tenant, &request.id)) {
                repeated.push((number, *first, request));
                continue;
            }
            let levels = chains.entry(tenant).or_insert_with(|| self.open(&mut books, facts, &ask.ctx));
            let decided = match (levels, self.held(facts, tenant, &request.id)) {
                (Err(e), _) => Some(Err(again(e))),
                (_, Err(e)) => Some(Err(e)),
                (Ok(_), Ok(Some(existing))) if existing.is_over(ask.ctx.at()) => {
                    first.insert((tenant, &request.id), number);
                    over.push((number, ask, request, existing));
                    None
                }
                (Ok(_), Ok(Some(existing))) => Some(same(&existing, request).map(|()| Returned::Already)),
                (Ok(levels), Ok(None)) => {
                    first.insert((tenant, &request.id), number);
                    match admissible(&books, levels, &ask.ctx, request) {
                        Err(e) => Some(Err(e)),
                        Ok(reservation) => {
                            let (ctx, id, levels) = (&ask.ctx, &request.id, Arc::clone(levels));
                            news.push(New { number, ctx, id, reservation, levels });
                            None
                        }
                    }
                }
            };
            if let Some(answer) = decided {
                self.answers.set(number, answer);
            }
        }
        admit_all(&mut books, &mut news, &mut self.answers);
        news.retain(|new| self.answers.get(new.number).is_none());
        self.record(facts, &mut books, news)?;
        self.renew(facts, over)?;
        for (number, first, request) in repeated {
            let before = asks.get(first).map(|ask| (&ask.ctx, &ask.operation));
            let answer = match (before, self.answers.get(first)) {
                (Some((ctx, Operation::Reserve(before))), Some(Ok(_))) => {
                    asked(ctx, before).and_then(|before| same(&before, request)).map(|()| Returned::Already)
                }
                (_, Some(Err(e))) => Err(denied_too(e)),
                _ => Err(Error::internal("reserve", "a repeated request has no first one")),
            };
            self.answers.set(number, answer);
        }
        Ok(())
    }

    /// Stages those whose id was held before and is over: one by one, for each gives back first what was held.
    fn renew(
        &mut self,
        facts: &Facts<'_>,
        mut over: Vec<(usize, &Ask, &QuotaRequest, Held)>,
    ) -> Result<(), Broken> {
        over.sort_by_key(|(_, ask, ..)| ask.ctx.at());
        for (number, Ask { ctx, .. }, request, existing) in over {
            let answer = TenantQuota.renew(facts.view, &mut self.txn, ctx, &existing, request);
            if answer.is_ok() {
                let key = reservation_key(ctx.tenant(), &request.id)?;
                self.moved.push((ctx.tenant().clone(), request.id.clone(), Some(key)));
            }
            self.answers.set(number, answer.map(|()| Returned::Already));
        }
        Ok(())
    }

    fn open(&self, books: &mut Books, facts: &Facts<'_>, ctx: &TenantContext) -> Result<Arc<[usize]>> {
        let chain = Tenant::chain(facts.view, &self.txn, ctx)?;
        Ok(books.open(facts.view, &self.txn, &chain)?.into())
    }

    /// Stages what is admitted, in batches of a tenant each.
    fn record(&mut self, facts: &Facts<'_>, books: &mut Books, admitted: Vec<New<'_>>) -> Result<()> {
        if admitted.is_empty() {
            return Ok(());
        }
        let mut number = 0;
        let mut admitted = admitted.into_iter().peekable();
        while let Some(first) = admitted.peek() {
            books.touch(&first.levels);
            let tenant = first.ctx.tenant();
            let key = batch_key(tenant, &format!("{}-{number:04}", facts.name))?;
            number += 1;
            let mut batch = Batch::default();
            while batch.reservations.len() < BATCH_SIZE
                && let Some(new) = admitted.next_if(|new| new.ctx.tenant() == tenant)
            {
                self.answers.set(new.number, told());
                self.moved.push((tenant.clone(), new.id.clone(), Some(key.clone())));
                batch.reservations.insert(new.id.clone(), new.reservation);
            }
            batches()?.create(facts.view, &mut self.txn, key, &batch)?;
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

/// Adds to `books` those of `news` that fit, and answers those that do not. Neighbours are of one tenant afterwards.
fn admit_all(books: &mut Books, news: &mut Vec<New<'_>>, answers: &mut Answers) {
    let of_tenant = |a: &New<'_>, b: &New<'_>| a.ctx.tenant().cmp(b.ctx.tenant());
    news.sort_by(of_tenant);
    let mut chains = news.chunk_by(|a, b| Arc::ptr_eq(&a.levels, &b.levels)).filter_map(<[_]>::first);
    if chains.all(|new| books.adds_up(&new.levels)) {
        return admit(books, news, answers);
    }
    let (together, mut alone): (Vec<_>, Vec<_>) =
        std::mem::take(news).into_iter().partition(|new| books.adds_up(&new.levels));
    admit(books, &together, answers);
    // The clock of one who asks says nothing about the others: each at its own time, in the order of time.
    alone.sort_by_key(|new| new.ctx.at());
    for one in &alone {
        admit_one(books, one, answers);
    }
    *news = together;
    news.extend(alone);
    news.sort_by(of_tenant);
}

/// Adds one to `books` by itself, as if there had been no other at the same time.
fn admit_one(books: &mut Books, new: &New<'_>, answers: &mut Answers) {
    let mut trial = books.clone();
    trial.set_time(new.ctx.at());
    let change = Change::default().with(&new.reservation, 1);
    trial.add(&new.levels, &change, &new.reservation.attributes);
    let denied = trial.over(&new.levels).map(|over| Error::of(ErrorKind::QuotaExceeded, "reserve", over));
    match denied.map_or_else(|| trial.settle(), Err) {
        Ok(()) => *books = trial,
        Err(e) => {
            answers.set(new.number, Err(e));
        }
    }
}

/// Adds to `books` those of `news` that fit, and answers those that do not. Only for those that add up.
fn admit(books: &mut Books, news: &[New<'_>], answers: &mut Answers) {
    if news.is_empty() {
        return;
    }
    let mut trial = books.clone();
    add(&mut trial, news);
    let denied = over(&trial, news).map(|over| Error::of(ErrorKind::QuotaExceeded, "reserve", over));
    match (denied.map_or_else(|| trial.settle(), Err), news) {
        (Ok(()), _) => *books = trial,
        (Err(error), [one]) => {
            answers.set(one.number, Err(error));
        }
        (Err(_), _) => {
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
        let change = Change::of(some.iter().map(|new| &new.reservation), 1);
        books.add(&first.levels, &change, &first.reservation.attributes);
    }
}

/// What is short on any level of any of `news`.
fn over(books: &Books, news: &[New<'_>]) -> Option<OverQuota> {
    let neighbours = news.chunk_by(|a, b| Arc::ptr_eq(&a.levels, &b.levels));
    neighbours.filter_map(<[_]>::first).find_map(|new| books.over(&new.levels))
}
