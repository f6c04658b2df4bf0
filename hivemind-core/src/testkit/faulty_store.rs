//! Any store, with faults in front of it: seeded, counted, and honest about their effect.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;

use super::faulty_watch::FaultyWatch;
use super::{FaultCounts, FaultPlan, SimRng};
use crate::store::{Conflict, Guard, Key, Limits, Prefix, Record, Revision, ScanPage, ScanRequest, Txn};
use crate::{BoxFuture, Effect, Error, ErrorKind, Result, StateStore, WatchStream};

/// A store that fails by a [`FaultPlan`], in front of one that does not. Clones are the same store.
///
/// Faults never break the port's contract: a caller that follows it must cope. The same plan and the same order of
/// calls give the same faults. After a crash no call returns any more; see [`until_crash`](super::until_crash).
///
/// ```
/// use hivemind_core::store::{Key, Txn};
/// use hivemind_core::testkit::{FaultPlan, FaultyStore};
/// use hivemind_core::{Effect, MemoryStore, StateStore, block_on};
/// use std::sync::Arc;
///
/// let inner = MemoryStore::new();
/// let store = FaultyStore::new(Arc::new(inner.clone()), FaultPlan::new(1).with_lost_replies(1_000_000));
/// let mut txn = Txn::new();
/// txn.put(Key::new(["a"])?, "1");
/// assert_eq!(block_on(store.commit(&txn)).unwrap_err().effect(), Effect::Unknown);
/// assert_eq!(block_on(inner.revision())?.as_u64(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FaultyStore(Arc<Shared>);

pub(super) struct Shared {
    inner: Arc<dyn StateStore>,
    plan: FaultPlan,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) rng: SimRng,
    pub(super) counts: FaultCounts,
    crashed: bool,
    /// Who wants to hear of the crash.
    waiting: Vec<Waker>,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("FaultyStore");
        out.field("inner", &self.0.inner).field("plan", &self.0.plan).field("counts", &self.counts());
        out.finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn plan(&self) -> &FaultPlan {
        &self.plan
    }

    pub(super) fn crashed(&self) -> bool {
        self.lock().crashed
    }

    /// A wait by the plan's latency, if it has one.
    pub(super) fn delay(&self) -> Option<BoxFuture<'static, ()>> {
        let (runtime, range) = self.plan.latency.as_ref()?;
        let spread = range.end().saturating_sub(*range.start());
        let spread = u64::try_from(spread.as_nanos()).unwrap_or(u64::MAX);
        let extra = self.lock().rng.below(spread.saturating_add(1));
        Some(runtime.sleep(*range.start() + Duration::from_nanos(extra)))
    }

    /// Draws one fault and counts it.
    fn strikes(&self, ppm: u32, count: impl FnOnce(&mut FaultCounts) -> &mut u64) -> bool {
        let mut state = self.lock();
        let hit = state.rng.chance(ppm);
        if hit {
            *count(&mut state.counts) += 1;
        }
        hit
    }

    fn crash(&self) {
        let waiting = {
            let mut state = self.lock();
            if !state.crashed {
                state.crashed = true;
                state.counts.crashes += 1;
            }
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Counts a call and sends it on its way. Whether the process dies once the call took effect.
    async fn enter(&self) -> bool {
        self.unless_crashed().await;
        let fatal = {
            let mut state = self.lock();
            state.counts.calls += 1;
            self.plan.crash_at.is_some_and(|at| state.counts.calls == at).then(|| state.rng.chance(500_000))
        };
        if let Some(delay) = self.delay() {
            delay.await;
        }
        if fatal == Some(false) {
            self.crash();
        }
        self.unless_crashed().await;
        fatal == Some(true)
    }

    /// Sends the reply on its way; there is none if the process dies.
    async fn leave(&self, fatal: bool) {
        if fatal {
            self.crash();
        } else if let Some(delay) = self.delay() {
            delay.await;
        }
        self.unless_crashed().await;
    }

    /// A call of a dead process never returns.
    async fn unless_crashed(&self) {
        if self.crashed() {
            std::future::pending::<()>().await;
        }
    }

    async fn read<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let fatal = self.enter().await;
        let outcome = if self.strikes(self.plan.read_failures, |counts| &mut counts.read_failures) {
            Err(unavailable(operation, "the read failed"))
        } else {
            call.await
        };
        self.leave(fatal).await;
        outcome
    }

    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        // A transaction without guards has nothing to conflict with.
        if txn.guards().len() > 0 && self.strikes(self.plan.conflicts, |counts| &mut counts.conflicts) {
            return Err(self.conflict(txn).await?);
        }
        if self.strikes(self.plan.unavailable, |counts| &mut counts.unavailable) {
            return Err(unavailable("commit", "the store was not reached"));
        }
        if self.strikes(self.plan.lost_requests, |counts| &mut counts.lost_requests) {
            return Err(unavailable("commit", "no reply came").with_effect(Effect::Unknown));
        }
        let outcome = self.inner.commit(txn).await;
        if self.strikes(self.plan.lost_replies, |counts| &mut counts.lost_replies) {
            return Err(unavailable("commit", "no reply came").with_effect(Effect::Unknown));
        }
        outcome
    }

    /// A conflict on one of the guarded keys, with a state in which its guard would not hold.
    async fn conflict(&self, txn: &Txn) -> Result<Error> {
        let newest = self.inner.revision().await?.max(Revision::ZERO.next());
        let nth = self.lock().rng.below(u64::try_from(txn.guards().len()).unwrap_or(u64::MAX));
        let Some((key, guard)) = txn.guards().nth(usize::try_from(nth).unwrap_or_default()) else {
            return Ok(Error::internal("commit", "a conflict was drawn for a transaction without guards"));
        };
        let found = match guard {
            Guard::Absent => Some(newest),
            Guard::Unchanged(at) if at != newest => Some(newest),
            Guard::Exists | Guard::Unchanged(_) => None,
        };
        Ok(Error::of(ErrorKind::Conflict, "commit", Conflict::new(key.clone(), found)))
    }
}

fn unavailable(operation: &'static str, what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, operation, format!("{what}, by the fault plan"))
}

impl FaultyStore {
    /// `inner` with the faults of `plan`.
    pub fn new(inner: Arc<dyn StateStore>, plan: FaultPlan) -> Self {
        let rng = SimRng::new(plan.seed);
        let state = State { rng, counts: FaultCounts::default(), crashed: false, waiting: Vec::new() };
        Self(Arc::new(Shared { inner, plan, state: Mutex::new(state) }))
    }

    /// What went wrong so far.
    pub fn counts(&self) -> FaultCounts {
        self.0.lock().counts
    }

    /// Whether the process is dead.
    pub fn is_crashed(&self) -> bool {
        self.0.crashed()
    }

    /// Waits for the crash.
    pub async fn crashed(&self) {
        std::future::poll_fn(|context| self.poll_crashed(context)).await;
    }

    /// Kills the process now, whatever the plan says.
    pub fn crash(&self) {
        self.0.crash();
    }

    pub(super) fn poll_crashed(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.crashed {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

// A new method of the port must be thought about here, and not fall through to a default.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl StateStore for FaultyStore {
    async fn revision(&self) -> Result<Revision> {
        self.0.read("revision", self.0.inner.revision()).await
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        self.0.read("get", self.0.inner.get(key, at)).await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        self.0.read("scan", self.0.inner.scan(request)).await
    }

    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        let fatal = self.0.enter().await;
        let outcome = self.0.commit(txn).await;
        self.0.leave(fatal).await;
        outcome
    }

    async fn watch(&self, prefix: &Prefix, from: Revision) -> Result<WatchStream> {
        let inner = self.0.read("watch", self.0.inner.watch(prefix, from)).await?;
        Ok(Box::pin(FaultyWatch::new(inner, Arc::clone(&self.0))))
    }

    async fn compact(&self, at: Revision) -> Result<()> {
        let fatal = self.0.enter().await;
        let outcome = if self.0.strikes(self.0.plan.unavailable, |counts| &mut counts.unavailable) {
            Err(unavailable("compact", "the store was not reached"))
        } else {
            self.0.inner.compact(at).await
        };
        self.0.leave(fatal).await;
        outcome
    }

    fn limits(&self) -> Limits {
        self.0.inner.limits()
    }
}
