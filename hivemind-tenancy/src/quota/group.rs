//! Many callers' reservations in one commit of the store.
//!
//! - `plan`: one transaction for many requests, and the answer to each; pure;
//! - `known`: which reservations there are, without reading all of them each time;
//! - `turn`: who works for all that wait.
//!
//! There is no task of its own: whoever finds nobody at work takes what waits, decides and commits it, and tells the
//! others. What is in flight belongs to the group and not to the caller that drives it, so that a caller that is
//! dropped loses nothing: the next one finds out what became of it.

mod known;
mod plan;
mod turn;

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use futures_channel::oneshot::Sender;
use hivemind_core::store::{Conflict, Key, OverLimit, Revision};
use hivemind_core::{
    Collection, Effect, Error, ErrorKind, IdSource, ReservationId, Result, StateStore, Stored, TenantContext,
};
use serde::{Deserialize, Serialize};

use self::known::{Known, Viewed};
use self::plan::{Answer, Ask, Facts, Operation, Plan, again};
use self::turn::{Line, Turn, Waiting, Word};
use super::{QuotaRequest, Returned};

/// The most requests of one commit.
const AT_ONCE: usize = 8192;

/// How often a commit with an unknown outcome, or a decision on an outdated state, is repeated.
const ATTEMPTS: u32 = 32;

/// What a group committed last: by this it knows its own commit again after a lost reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Which life of the group.
    life: String,
    /// Which of its commits.
    number: u64,
}

impl Stored for Mark {
    const KIND: &'static str = "mark of a group commit";
}

fn marks() -> Result<Collection<Mark>> {
    crate::collection("groups")
}

/// Reserves, commits and releases quota for many callers at once, durably: what waits at the same time is decided
/// together, by the rules of [`TenantQuota`](super::TenantQuota), and committed in one transaction.
///
/// Each caller gets its own answer, and only once it is known: what was told is in the store. Clones are the same
/// group. Several groups, and the staged operations, may work on one store: they are conflicts for each other, and
/// decide again. It keeps the reservations of the tenants it serves in memory, up to 64 tenants, and reads those of
/// one anew after somebody else has changed them. So one group for each tenant is fastest.
///
/// A caller may be dropped at any time. Then its request happens or not, and the same id asked again gets the answer.
/// It runs on any executor and spawns nothing; it goes on while somebody awaits it.
///
/// ```
/// use std::sync::Arc;
/// use hivemind_core::resources::{MilliCpu, Resources};
/// use hivemind_core::{block_on, MemoryStore, Principal, SystemClock, SystemIds, TenantContext, TenantRef};
/// use hivemind_tenancy::{QuotaRequest, ResourceQuotas, TenantManager, TenantSpec};
/// use hivemind_tenancy::quota::GroupCommit;
///
/// # block_on(async {
/// let store = Arc::new(MemoryStore::new());
/// let tenants = TenantManager::new(store.clone(), Arc::new(SystemClock::new()), Arc::new(SystemIds::new()));
/// let operator = Principal::User("root".parse()?);
/// let admin = TenantContext::new(TenantRef::system(), operator.clone(), "req-1".parse()?);
/// let two_cores = ResourceQuotas::default().with_cpu_limit(MilliCpu::from_cores(2));
/// let acme = tenants.create(&admin, TenantSpec::new("acme".parse()?).with_quotas(two_cores)).await?;
///
/// let group = GroupCommit::new(store, &SystemIds::new(), "scheduler-1")?;
/// let ctx = TenantContext::new(acme.tenant.clone(), operator, "req-2".parse()?);
/// let core = |id: &str| Ok::<_, hivemind_core::Error>(
///     QuotaRequest::new(id.parse().unwrap(), Resources::new().with_cpu(MilliCpu::from_cores(1))));
/// group.reserve(&ctx, core("web-1")?).await?;
/// group.reserve(&ctx, core("web-2")?).await?;
/// assert!(group.reserve(&ctx, core("web-3")?).await.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct GroupCommit(Arc<Shared>);

struct Shared {
    store: Arc<dyn StateStore>,
    mark: Key,
    life: String,
    line: Arc<Line>,
}

/// What is being decided.
struct Flight {
    known: Known,
    commits: u64,
    asks: Vec<Ask>,
    replies: Vec<Sender<Word>>,
    /// How many of them are decided next at the most; `None`: as many as a transaction holds.
    next: Option<usize>,
    /// How many a transaction held lately, so that it is seldom planned too large.
    likely: usize,
    /// The record under which the last decision was changed: those that do not depend on it go first.
    contended: Option<Key>,
    sent: Option<Sent>,
}

impl Default for Flight {
    fn default() -> Self {
        let (asks, replies, known) = (Vec::new(), Vec::new(), Known::default());
        Self { known, commits: 0, asks, replies, next: None, likely: AT_ONCE, contended: None, sent: None }
    }
}

/// A decision on the first requests of a flight, on its way.
struct Sent {
    plan: Plan,
    number: u64,
    count: usize,
    /// Whether the store may have got it.
    tried: bool,
}

/// What came of one attempt.
enum Step {
    /// So many requests are decided, for good.
    Done(usize, Plan),
    /// Try again; the error is for so many callers if that is no use.
    Again(usize, Error),
    /// Trying again is no use to so many of them.
    Failed(usize, Error),
}

impl fmt::Debug for GroupCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit").field("mark", &self.0.mark).finish_non_exhaustive()
    }
}

impl GroupCommit {
    /// A group on `store`. It keeps one small record under `name`; give each process on the store another one, and
    /// the same again after a restart.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if `name` cannot be part of a key.
    pub fn new(store: Arc<dyn StateStore>, ids: &dyn IdSource, name: &str) -> Result<Self> {
        let (mark, life) = (marks()?.key([name])?, format!("{:032x}", ids.next_u128()));
        Ok(Self(Arc::new(Shared { store, mark, life, line: Line::new(Flight::default()) })))
    }

    /// Charges as `request` says. The same id again is charged once.
    ///
    /// # Errors
    /// As [`TenantQuota::stage_request`](super::TenantQuota::stage_request), and those of the store. A denial is
    /// final: nothing of it is ever charged. With [`Effect::Unknown`] nobody knows: ask again under the same id.
    pub async fn reserve(&self, ctx: &TenantContext, request: QuotaRequest) -> Result<()> {
        self.ask(ctx, Operation::Reserve(request)).await.map(|_| ())
    }

    /// Puts a held charge in use. One that is in use already stays as it is.
    ///
    /// # Errors
    /// As [`TenantQuota::stage_commit`](super::TenantQuota::stage_commit), and those of the store.
    pub async fn commit(&self, ctx: &TenantContext, id: &ReservationId) -> Result<()> {
        self.ask(ctx, Operation::Commit(id.clone())).await.map(|_| ())
    }

    /// Gives a charge back, in use or held. It is given back once, however often this is called: only one caller is
    /// told [`Returned::Now`].
    ///
    /// # Errors
    /// As [`TenantQuota::stage_release`](super::TenantQuota::stage_release), and those of the store.
    pub async fn release(&self, ctx: &TenantContext, id: &ReservationId) -> Result<Returned> {
        self.ask(ctx, Operation::Release(id.clone())).await
    }

    async fn ask(&self, ctx: &TenantContext, operation: Operation) -> Answer {
        let shared = &*self.0;
        let (mut heard, mut turn) = shared.line.join(Ask { ctx: ctx.clone(), operation });
        loop {
            if let Some(flight) = turn.as_mut().and_then(Turn::flight) {
                // In a box of its own: of thousands who wait only one needs the room.
                Box::pin(shared.work(flight)).await;
            }
            // Passed on, before anything is waited for.
            drop(turn.take());
            match heard.await {
                Ok(Word::Answer(answer)) => return answer,
                Ok(Word::Turn(rest, mine)) => (heard, turn) = (rest, Some(mine)),
                Err(_) => {
                    let lost = Error::internal("group commit", "a request was lost");
                    return Err(lost.with_effect(Effect::Unknown));
                }
            }
        }
    }
}

impl Shared {
    /// Takes what waits and is still wanted.
    fn take(&self, flight: &mut Flight) {
        while flight.asks.len() < AT_ONCE {
            let some = self.line.take(AT_ONCE - flight.asks.len());
            if some.is_empty() {
                return;
            }
            for Waiting { ask, reply } in some {
                if !reply.is_canceled() {
                    flight.asks.push(ask);
                    flight.replies.push(reply);
                }
            }
        }
    }

    /// Brings some of what waits to its end.
    async fn work(&self, flight: &mut Flight) {
        if flight.asks.is_empty() {
            others_first().await;
            self.take(flight);
        }
        let mut left = ATTEMPTS;
        while !flight.asks.is_empty() {
            left = left.saturating_sub(1);
            match self.attempt(flight).await {
                Step::Done(count, plan) => return flight.tell(count, plan),
                Step::Again(..) if left > 0 => {}
                Step::Again(count, error) | Step::Failed(count, error) => return flight.fail(count, error),
            }
        }
    }

    async fn attempt(&self, flight: &mut Flight) -> Step {
        if flight.sent.is_none() {
            flight.set_aside();
            let count = flight.next.unwrap_or(AT_ONCE).min(flight.likely.max(1)).min(flight.asks.len());
            let asks = flight.asks.get(..count).unwrap_or_default();
            let viewed = match flight.known.view(&*self.store, asks).await {
                Ok(viewed) => viewed,
                // The state was compacted away while it was read.
                Err(e) if e.kind() == ErrorKind::Expired => return Step::Again(count, e),
                Err(e) => return Step::Failed(count, e),
            };
            match self.decide(flight, &viewed, count) {
                // Nothing changes: what was read is the answer.
                Ok(sent) if sent.plan.txn.writes().len() == 0 => return Step::Done(sent.count, sent.plan),
                Ok(sent) => flight.sent = Some(sent),
                Err(e) => return Step::Failed(count, e),
            }
        }
        self.send(flight).await
    }

    /// Decides as many of the first `count` requests as one transaction can hold.
    fn decide(&self, flight: &mut Flight, viewed: &Viewed, mut count: usize) -> Result<Sent> {
        flight.commits += 1;
        let (number, known) = (flight.commits, &flight.known);
        let name = format!("{}-{number:016x}", self.life);
        let facts = Facts {
            view: &viewed.view,
            place: &|tenant, id| known.place(tenant, id),
            failed: &viewed.failed,
            name: &name,
        };
        loop {
            let planned = Plan::of(&facts, flight.asks.get(..count).unwrap_or_default());
            let fitting = planned.and_then(|mut plan| {
                if plan.txn.writes().len() > 0 {
                    let mark = Mark { life: self.life.clone(), number };
                    plan.txn.put(self.mark.clone(), hivemind_core::encode(&mark)?);
                }
                self.store.limits().check(&plan.txn)?;
                Ok(plan)
            });
            match fitting {
                Ok(plan) => {
                    if count == flight.likely {
                        flight.likely += flight.likely / 8 + 1;
                    }
                    return Ok(Sent { plan, number, count, tried: false });
                }
                Err(e) if count > 1 => {
                    count /= 2;
                    if e.detail::<OverLimit>().is_some() {
                        flight.likely = count;
                    }
                }
                Err(e) => {
                    let mut plan = Plan::default();
                    plan.answers.set(0, Err(e));
                    return Ok(Sent { plan, number, count, tried: false });
                }
            }
        }
    }

    async fn send(&self, flight: &mut Flight) -> Step {
        let Some(sent) = &mut flight.sent else {
            let error = Error::internal("group commit", "there is nothing to send");
            return Step::Failed(flight.asks.len(), error);
        };
        let count = sent.count;
        // Before it is awaited: whoever awaits may be dropped, and the next one must know.
        let doubtful = std::mem::replace(&mut sent.tried, true);
        let (revision, error) = match self.store.commit(&sent.plan.txn).await {
            Ok(revision) => (Some(revision), None),
            Err(e) if e.effect() == Effect::Unknown => return Step::Again(count, e),
            Err(e) if e.kind() == ErrorKind::Conflict && doubtful => match self.happened(sent.number).await {
                Ok(revision) => (revision, Some(e)),
                Err(unread) => return Step::Again(count, unread),
            },
            Err(e) if doubtful => return Step::Again(count, e),
            Err(e) => (None, Some(e)),
        };
        match (revision, flight.sent.take(), error) {
            (Some(revision), Some(Sent { plan, .. }), _) => match flight.known.settle(&plan, revision) {
                Ok(()) => Step::Done(count, plan),
                Err(e) => Step::Failed(count, e.with_effect(Effect::Done)),
            },
            (_, _, Some(e)) => flight.refused(count, e),
            _ => Step::Failed(count, Error::internal("group commit", "what was sent is gone")),
        }
    }

    /// At which revision commit `number` of this group happened, if it did.
    async fn happened(&self, number: u64) -> Result<Option<Revision>> {
        let Some(record) = self.store.get(&self.mark, None).await? else { return Ok(None) };
        let mark = hivemind_core::decode::<Mark>(&self.mark, &record.value)?;
        Ok((mark == Mark { life: self.life.clone(), number }).then_some(record.mod_revision))
    }
}

impl Flight {
    /// Takes the first `count` requests out.
    fn land(&mut self, count: usize) -> Vec<Sender<Word>> {
        (self.sent, self.next) = (None, None);
        self.asks.drain(..count.min(self.asks.len()));
        self.replies.drain(..count.min(self.replies.len())).collect()
    }

    /// The store took nothing of what was decided for the first `count`.
    fn refused(&mut self, count: usize, error: Error) -> Step {
        match error.kind() {
            ErrorKind::Conflict => {
                self.contended = error.detail::<Conflict>().map(|conflict| conflict.key.clone());
                Step::Again(count, error)
            }
            ErrorKind::Unavailable => Step::Failed(count, error),
            // Whoever it is that the store cannot take: the others need not share it.
            _ if count > 1 => {
                self.next = Some(count / 2);
                Step::Again(count, error)
            }
            _ => Step::Failed(count, error),
        }
    }

    /// Lets those go first that do not depend on what others keep changing.
    fn set_aside(&mut self) {
        let Some(key) = self.contended.take() else { return };
        let waiting = std::mem::take(&mut self.asks).into_iter().zip(std::mem::take(&mut self.replies));
        let (later, first): (Vec<_>, Vec<_>) =
            waiting.partition(|(ask, _)| self.known.concerns(ask.ctx.tenant(), &key));
        self.next = Some(first.len()).filter(|first| *first > 0);
        (self.asks, self.replies) = first.into_iter().chain(later).unzip();
    }

    fn tell(&mut self, count: usize, mut plan: Plan) {
        for (number, reply) in self.land(count).into_iter().enumerate() {
            let forgotten = || Err(Error::internal("group commit", "a request was not decided"));
            let answer = plan.answers.take(number).unwrap_or_else(forgotten);
            // Whoever is gone hears nothing.
            let _ = reply.send(Word::Answer(answer));
        }
    }

    /// Tells the first `count` that it came to nothing, or that nobody knows.
    fn fail(&mut self, count: usize, error: Error) {
        let tried = self.sent.as_ref().is_some_and(|sent| sent.tried);
        let error = if tried { error.with_effect(Effect::Unknown) } else { error };
        for reply in self.land(count) {
            let _ = reply.send(Word::Answer(Err(again(&error))));
        }
    }
}

/// Lets those go first that are ready, too: they come to wait, and are decided together.
async fn others_first() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
