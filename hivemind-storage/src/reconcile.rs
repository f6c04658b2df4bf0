//! Brings providers in line with committed intent, step by step, crash by crash.

mod charges;
mod keys;
mod lanes;
mod late;
mod left;
mod needs;
mod node;
mod observe;
mod orphans;
mod snapshot;
mod tenant;
mod volume;
mod word;
mod work;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{
    AuditSink, Clock, Effect, Error, ErrorKind, NodeId, OpToken, Pending, ProviderName, QuotaGate, Result,
    Retry, Runtime, Stamped, StateStore, Stored,
};

pub use self::orphans::{OrphanSweep, Orphans, Swept, Unmatched};
pub use self::tenant::TenantRemoval;
use self::work::Working;
use crate::records::{NodeRecord, Todo, node_at, nodes, todo_of, todos};
use crate::{NodeRef, Overdue, ProviderApi, ProviderRegistry, steps};

/// What a tick did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TickReport {
    /// Volumes created.
    pub created: u64,
    /// Volumes attached to a node.
    pub attached: u64,
    /// Volumes detached from a node.
    pub detached: u64,
    /// Volumes grown, restored or modified.
    pub altered: u64,
    /// Volumes deleted.
    pub deleted: u64,
    /// Snapshots and groups of them taken or made ready.
    pub snapshots_taken: u64,
    /// Snapshots and groups of them deleted.
    pub snapshots_deleted: u64,
    /// Nodes kept out, or let in again.
    pub fenced: u64,
    /// Words of operators put on record.
    pub recorded: u64,
    /// What a provider refuses for good.
    pub refused: u64,
    /// Calls that go on at a provider.
    pub pending: u64,
    /// Calls that failed and will be repeated.
    pub failed: u64,
    /// What failed before, or goes on at a provider, and is not yet to be asked for again.
    pub waiting: u64,
}

impl TickReport {
    /// Whether anything moved, or still moves: tick again.
    pub fn changed(&self) -> bool {
        *self != Self::default()
    }
}

/// Makes committed intents so.
///
/// Every call to a provider has its intent committed before, and its token is the same when it is repeated. So a
/// crash at any point is healed by the next tick. What a tick costs grows with what there is to do, not with what there
/// is.
///
/// Calls go on beside each other, as many of each API of a provider as its [limits](crate::CallLimits) say, and never two
/// about one volume. None is waited for beyond its deadline: whether it happened is not known then, which is no failure
/// of the intent, and it is made again with the same token.
#[derive(Debug, Clone)]
pub struct VolumeController {
    store: Arc<dyn StateStore>,
    providers: ProviderRegistry,
    clock: Arc<dyn Clock>,
    runtime: Arc<dyn Runtime>,
    audit: Option<Arc<dyn AuditSink>>,
    quota: Option<Arc<dyn QuotaGate>>,
    #[cfg(feature = "encryption")]
    keys: Option<crate::VolumeKeys>,
}

/// What a step came to.
enum Did {
    Created,
    Attached,
    Detached,
    Altered,
    Deleted,
    SnapshotTaken,
    SnapshotDeleted,
    Fenced,
    Recorded,
    Refused,
    /// The provider is at it; how long to leave it alone.
    Pending(Duration),
    /// Something was written down that comes before the step itself.
    Prepared,
    /// It failed, and that is written down.
    Failed,
    Nothing,
}

impl Did {
    fn pending(at_it: &Pending) -> Self {
        Self::Pending(at_it.poll_after)
    }
}

impl VolumeController {
    /// A controller on these ports; `runtime` tells it when a call's deadline is over.
    pub fn new(
        store: Arc<dyn StateStore>,
        providers: ProviderRegistry,
        clock: Arc<dyn Clock>,
        runtime: Arc<dyn Runtime>,
    ) -> Self {
        Self {
            store,
            providers,
            clock,
            runtime,
            audit: None,
            quota: None,
            #[cfg(feature = "encryption")]
            keys: None,
        }
    }

    /// Puts what operators say on record: without it, no volume is taken from a node by an operator's word.
    #[must_use]
    pub fn with_audit(mut self, audit: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Brings the keys of encrypted volumes with each call; without them, a provider must have its own.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn with_keys(mut self, keys: crate::VolumeKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Takes each thing that is not as intended one step further.
    ///
    /// What fails does not hold up the others, and is repeated after a pause that grows. Repeat until nothing
    /// [`changed`](TickReport::changed).
    ///
    /// # Errors
    /// Those of reading the store; failures of providers and conflicts are counted in the report.
    pub async fn tick(&self) -> Result<TickReport> {
        let (due, waiting) = self.due().await?;
        let mut report = TickReport { waiting, ..TickReport::default() };
        let mut working = Working::default();
        working.refill(due);
        let mut told = Ok(());
        while let Some(done) = std::future::poll_fn(|context| working.poll_next(self, context)).await {
            match done {
                Ok(did) => report.count(&did),
                // What was begun beside it is not dropped half done.
                Err(e) => told = told.and(Err(e)),
            }
        }
        told.map(|()| report)
    }

    /// Ticks until `shutdown` is ready, every `interval`. What takes longer goes on meanwhile, and holds up nothing else.
    pub async fn run(&self, interval: Duration, shutdown: impl Future<Output = ()>) {
        let (mut shutdown, mut working) = (pin!(shutdown), Working::default());
        loop {
            let mut round = pin!(async {
                // A store that does not answer is asked again after the interval, like everything else.
                self.due().await.map(|(due, _)| due)
            });
            let mut pause = None;
            let stopped = std::future::poll_fn(|context| {
                if shutdown.as_mut().poll(context).is_ready() {
                    return Poll::Ready(true);
                }
                if pause.is_none()
                    && let Poll::Ready(due) = round.as_mut().poll(context)
                {
                    pause = Some(self.runtime.sleep(interval));
                    if let Ok(due) = due {
                        working.refill(due);
                    }
                }
                while let Poll::Ready(Some(_)) = working.poll_next(self, context) {}
                match &mut pause {
                    Some(pause) => pause.as_mut().poll(context).map(|()| false),
                    None => Poll::Pending,
                }
            });
            if stopped.await {
                return;
            }
        }
    }

    /// Waits for a call of a provider until its deadline, and not longer.
    async fn within<T>(
        &self,
        provider: &ProviderName,
        api: ProviderApi,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let deadline = self.providers.limits(provider).of(api).deadline;
        let (mut call, mut over) = (pin!(call), self.runtime.sleep(deadline));
        std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = call.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            over.as_mut().poll(context).map(|()| {
                let overdue = Overdue::new(provider.clone(), api, deadline);
                let error = Error::of(ErrorKind::Unavailable, "tick", overdue);
                Err(error.with_effect(Effect::Unknown).with_retry(Retry::Later))
            })
        })
        .await
    }

    async fn step(&self, todo: &Stamped<Todo>, read: Option<Snapshot>) -> Result<Did> {
        let at = todo_of(&todo.stored_at)?;
        let view = match read {
            Some(view) => view,
            None => self.records(std::slice::from_ref(&at)).await?,
        };
        match at.segments().nth(1) {
            Some(b"volumes") => self.volume_step(todo, &view, &at).await,
            Some(b"snapshots") => self.snapshot_step(todo, &view, &at).await,
            Some(b"groups") => self.group_step(todo, &view, &at).await,
            Some(b"nodes") => self.node_step(todo, &view, &at).await,
            Some(b"audit") => self.word_step(todo, &view, &at).await,
            _ => Err(Error::internal(
                "tick",
                format!("there is something to do about {at}, and nobody knows what"),
            )),
        }
    }

    /// What failed is repeated later. Another tick may have got further meanwhile: then nothing is put off.
    async fn put_off(&self, todo: &Stamped<Todo>, error: &Error) -> Result<()> {
        let mut hasher = DefaultHasher::new();
        todo.stored_at.hash(&mut hasher);
        let failures = todo.failures.saturating_add(1);
        let not_before = self.clock.now().after(steps::pause(failures, hasher.finish()));
        let later = Todo { failures, not_before, because: Some(error.to_string()), pending: false };
        self.note(todo, &later).await
    }

    /// What goes on at its provider is asked for again when that has said, and after five minutes at the latest.
    async fn look_again(&self, todo: &Stamped<Todo>, after: Duration) -> Result<()> {
        let not_before = self.clock.now().after(after.min(steps::LONGEST));
        self.note(todo, &Todo { not_before, pending: true, ..Todo::default() }).await
    }

    async fn note(&self, todo: &Stamped<Todo>, later: &Todo) -> Result<()> {
        let mut txn = Txn::new();
        todos()?.update(&mut txn, todo, later)?;
        match self.store.commit(&txn).await {
            // The note is for patience only: without it, the step is repeated at once.
            Err(e) if e.retry() == Retry::AfterReread || e.effect() == Effect::Unknown => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    /// The records at these keys, as a snapshot.
    async fn records(&self, keys: &[Key]) -> Result<Snapshot> {
        let (mut found, mut revision) = (Vec::new(), hivemind_core::store::Revision::default());
        for key in keys {
            if let Some(record) = self.store.get(key, None).await? {
                revision = revision.max(record.mod_revision);
                found.push(record);
            }
        }
        Ok(Snapshot::new(revision, found))
    }

    /// Commits `txn`, and with it that there is nothing left to do, or that the failures before are forgotten.
    async fn done(&self, mut txn: Txn, todo: &Stamped<Todo>, more: bool) -> Result<()> {
        if !more {
            todos()?.delete(&mut txn, todo)?;
        } else if *todo.value != Todo::default() {
            todos()?.update(&mut txn, todo, &Todo::default())?;
        }
        self.store.commit(&txn).await.map(|_| ())
    }

    /// How the provider calls a node, and what else is known of it.
    async fn node(
        &self,
        provider: &ProviderName,
        node: &NodeId,
    ) -> Result<(NodeRef, Option<Stamped<NodeRecord>>)> {
        let at = node_at(provider, node)?;
        let view = self.records(std::slice::from_ref(&at)).await?;
        let found = nodes()?.get(&view, &Txn::new(), &at)?;
        let name = found.as_ref().map_or_else(|| node.clone().into(), |there| there.info.node.clone());
        Ok((name, found))
    }
}

/// Whether the provider says that it will never do that, and has done nothing.
fn is_refusal(error: &Error) -> bool {
    error.effect() == Effect::NotStarted && error.retry() == Retry::Never
}

/// Whether the provider will not hear this token any more: nothing was done, and the same can be asked for by another.
fn is_used_up(error: &Error) -> bool {
    error.kind() == ErrorKind::Expired && error.effect() == Effect::NotStarted
}

/// A token for the same intent, in place of one that is used up.
fn another(token: &OpToken) -> OpToken {
    let (base, number) = token.as_str().rsplit_once('~').unwrap_or((token.as_str(), "1"));
    match number.parse::<u32>() {
        Ok(number) => OpToken::new(format!("{base}~{}", number.saturating_add(1))),
        Err(_) => OpToken::new(format!("{}~2", token.as_str())),
    }
}

/// Reads one record.
fn read<T: Stored>(
    of: &hivemind_core::Collection<T>,
    view: &Snapshot,
    at: &Key,
) -> Result<Option<Stamped<T>>> {
    of.get(view, &Txn::new(), at)
}

/// A token for a step of something's life: the same for the same intent, another for a later one.
fn token<T>(of: &Stamped<T>, first: &hivemind_core::OpToken, step: &str) -> hivemind_core::OpToken {
    let revision = of.revision.unwrap_or_default();
    hivemind_core::OpToken::new(format!("{}#{step}@{revision}", first.as_str()))
}

impl TickReport {
    fn count(&mut self, did: &Did) {
        let counter = match did {
            Did::Created => &mut self.created,
            Did::Attached => &mut self.attached,
            Did::Detached => &mut self.detached,
            Did::Altered => &mut self.altered,
            Did::Deleted => &mut self.deleted,
            Did::SnapshotTaken => &mut self.snapshots_taken,
            Did::SnapshotDeleted => &mut self.snapshots_deleted,
            Did::Fenced => &mut self.fenced,
            Did::Recorded => &mut self.recorded,
            Did::Refused => &mut self.refused,
            Did::Pending(_) | Did::Prepared => &mut self.pending,
            Did::Failed => &mut self.failed,
            Did::Nothing => return,
        };
        *counter += 1;
    }
}
