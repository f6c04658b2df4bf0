//! A store that lets others go first, and has at most one bug.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use hivemind_core::store::{Key, Limits, Prefix, Record, Revision, ScanPage, ScanRequest, Txn, Write};
use hivemind_core::{Effect, Error, ErrorKind, Result, StateStore, WatchStream, async_trait};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A read shows the past.
    StaleReads,
    /// A scan shows the past, and says that it is the present.
    StaleScans,
    /// Guards are checked, and then somebody else writes.
    LostUpdates,
    /// An acknowledged commit did not happen.
    LostCommits,
    /// A commit happens once more.
    CommitsTwice,
    /// Only the first half of a commit happens.
    TornCommits,
    /// A refused commit happens all the same.
    RefusedAndDone,
    /// A commit fails as if it had not happened.
    DoneAndNotStarted,
    /// The revision that a commit got is told wrong.
    WrongRevision,
}

impl Bug {
    pub(crate) const ALL: [Self; 9] = [
        Self::StaleReads,
        Self::StaleScans,
        Self::LostUpdates,
        Self::LostCommits,
        Self::CommitsTwice,
        Self::TornCommits,
        Self::RefusedAndDone,
        Self::DoneAndNotStarted,
        Self::WrongRevision,
    ];
}

#[derive(Debug)]
pub(crate) struct Broken {
    inner: Arc<dyn StateStore>,
    bug: Bug,
    calls: AtomicU64,
}

impl Broken {
    pub(crate) fn new(inner: Arc<dyn StateStore>, bug: Bug) -> Self {
        Self { inner, bug, calls: AtomicU64::new(0) }
    }

    /// Whether it is this bug's turn: seldom, as with real ones.
    fn strikes(&self, bug: Bug) -> bool {
        self.bug == bug && self.calls.fetch_add(1, Ordering::Relaxed) % 10 == 9
    }

    /// A while ago.
    async fn before(&self) -> Result<Revision> {
        Ok(Revision::new(self.inner.revision().await?.as_u64().saturating_sub(20)))
    }

    async fn buggy_commit(&self, txn: &Txn) -> Result<Revision> {
        if self.strikes(Bug::LostCommits) {
            return self
                .inner
                .commit(&only(&[(&Key::new(["elsewhere"]).unwrap(), &Write::Put("".into()))]))
                .await;
        }
        let writes: Vec<_> = txn.writes().collect();
        if self.bug == Bug::TornCommits && writes.len() > 1 {
            return self.inner.commit(&only(&writes[..1])).await;
        }
        let outcome = self.inner.commit(txn).await;
        let refused = outcome.is_err();
        if refused && self.bug == Bug::LostUpdates {
            return self.inner.commit(&only(&writes)).await;
        }
        if refused && self.strikes(Bug::RefusedAndDone) || !refused && self.strikes(Bug::CommitsTwice) {
            self.inner.commit(&only(&writes)).await?;
        }
        match outcome {
            Ok(_) if self.strikes(Bug::DoneAndNotStarted) => {
                let error = Error::new(ErrorKind::Unavailable, "commit", "nothing was done, it says");
                Err(error.with_effect(Effect::NotStarted))
            }
            Ok(revision) if self.strikes(Bug::WrongRevision) => Ok(revision.next()),
            outcome => outcome,
        }
    }
}

/// Lets other tasks and threads go first.
async fn give_way() {
    let mut given = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::thread::yield_now();
        Poll::Pending
    })
    .await;
}

/// A transaction of these writes, without guards.
fn only(writes: &[(&Key, &Write)]) -> Txn {
    let mut txn = Txn::new();
    for (key, write) in writes {
        match write {
            Write::Put(value) => txn.put((*key).clone(), value.clone()),
            Write::Delete => txn.delete((*key).clone()),
        }
    }
    txn
}

#[async_trait]
impl StateStore for Broken {
    async fn revision(&self) -> Result<Revision> {
        give_way().await;
        let outcome = self.inner.revision().await;
        give_way().await;
        outcome
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        give_way().await;
        let at = if self.strikes(Bug::StaleReads) { Some(self.before().await?) } else { at };
        let outcome = self.inner.get(key, at).await;
        give_way().await;
        outcome
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        give_way().await;
        let newest = self.inner.revision().await?;
        let mut request = request.clone();
        let stale = self.strikes(Bug::StaleScans);
        if stale {
            request.at = Some(self.before().await?);
        }
        let mut page = self.inner.scan(&request).await?;
        if stale {
            page.revision = newest;
        }
        give_way().await;
        Ok(page)
    }

    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        give_way().await;
        let outcome = self.buggy_commit(txn).await;
        give_way().await;
        outcome
    }

    async fn watch(&self, prefix: &Prefix, from: Revision) -> Result<WatchStream> {
        self.inner.watch(prefix, from).await
    }

    async fn compact(&self, at: Revision) -> Result<()> {
        self.inner.compact(at).await
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}
