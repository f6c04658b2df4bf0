//! Brings providers in line with committed intent, step by step, crash by crash.

mod late;
mod node;
mod orphans;
mod snapshot;
mod volume;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{
    Clock, Effect, Error, ErrorKind, NodeId, OpToken, ProviderName, Result, Retry, Runtime, Stamped,
    StateStore, StateStoreExt, Stored,
};

pub use self::orphans::{OrphanSweep, Orphans};
use crate::records::{NodeRecord, Todo, node_at, nodes, todo_of, todos};
use crate::{NodeRef, ProviderRegistry, steps};

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
    /// What a provider refuses for good.
    pub refused: u64,
    /// Calls that go on at a provider.
    pub pending: u64,
    /// Calls that failed and will be repeated.
    pub failed: u64,
    /// What failed before and is not yet to be repeated.
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
#[derive(Debug, Clone)]
pub struct VolumeController {
    store: Arc<dyn StateStore>,
    providers: ProviderRegistry,
    clock: Arc<dyn Clock>,
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
    Refused,
    Pending,
    Nothing,
}

impl VolumeController {
    /// A controller on these ports.
    pub fn new(store: Arc<dyn StateStore>, providers: ProviderRegistry, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            providers,
            clock,
            #[cfg(feature = "encryption")]
            keys: None,
        }
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
        let view = self.store.snapshot(&[todos()?.prefix().clone()]).await?;
        let mut report = TickReport::default();
        for todo in todos()?.list(&view, &Txn::new(), todos()?.prefix())? {
            if todo.not_before > self.clock.now() {
                // An archived volume waits for its time, and that is as wished.
                report.waiting += u64::from(todo.failures > 0);
                continue;
            }
            match self.step(&todo).await {
                Ok(did) => report.count(&did),
                Err(e) => {
                    report.failed += 1;
                    self.put_off(&todo, &e).await?;
                }
            }
        }
        Ok(report)
    }

    /// Ticks until `shutdown` is ready, every `interval`.
    pub async fn run(
        &self,
        runtime: Arc<dyn Runtime>,
        interval: Duration,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = pin!(shutdown);
        loop {
            let mut round = pin!(async {
                // A store that does not answer is asked again after the interval, like everything else.
                let _ = self.tick().await;
                runtime.sleep(interval).await;
            });
            let stopped = std::future::poll_fn(|context| {
                if shutdown.as_mut().poll(context).is_ready() {
                    return Poll::Ready(true);
                }
                round.as_mut().poll(context).map(|()| false)
            });
            if stopped.await {
                return;
            }
        }
    }

    async fn step(&self, todo: &Stamped<Todo>) -> Result<Did> {
        let at = todo_of(&todo.stored_at)?;
        match at.segments().nth(1) {
            Some(b"volumes") => self.volume_step(todo, &at).await,
            Some(b"snapshots") => self.snapshot_step(todo, &at).await,
            Some(b"groups") => self.group_step(todo, &at).await,
            Some(b"nodes") => self.node_step(todo, &at).await,
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
        let later = Todo { failures, not_before, because: Some(error.to_string()) };
        let mut txn = Txn::new();
        todos()?.update(&mut txn, todo, &later)?;
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
            Did::Refused => &mut self.refused,
            Did::Pending => &mut self.pending,
            Did::Nothing => return,
        };
        *counter += 1;
    }
}
