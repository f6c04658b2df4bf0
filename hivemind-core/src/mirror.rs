//! An in-memory copy of part of the store, kept current by a watch, from which decisions read without I/O.

use std::fmt;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::store::{Event, Prefix, Revision, Snapshot, WatchBatch};
use crate::{ErrorKind, Result, Runtime, StateStore, StateStoreExt, WatchStream};

/// A current [`Snapshot`] of everything below a prefix. Clones share it.
///
/// It shows only states that were: each transaction is applied whole. How far behind the store it may be is up to
/// whoever drives its [`MirrorFeed`]; a decision on an outdated view fails at commit and does no harm.
///
/// ```
/// use hivemind_core::store::{Key, Prefix, Txn};
/// use hivemind_core::{MemoryStore, Mirror, StateStore, block_on};
/// use std::sync::Arc;
///
/// # block_on(async {
/// let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
/// let (mirror, mut feed) = Mirror::open(Arc::clone(&store), Prefix::ROOT).await?;
///
/// let mut txn = Txn::new();
/// txn.put(Key::new(["a"])?, "1");
/// let revision = store.commit(&txn).await?;
///
/// feed.catch_up(revision).await?;
/// assert_eq!(mirror.view().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Mirror(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    view: RwLock<Snapshot>,
    waiting: Mutex<Vec<Waker>>,
}

/// A mirror's state, held still while it is read. Never keep one over an `.await`.
#[derive(Debug)]
pub struct MirrorView<'a>(RwLockReadGuard<'a, Snapshot>);

impl Deref for MirrorView<'_> {
    type Target = Snapshot;
    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl Mirror {
    /// A mirror of everything below `prefix`, current as of now, and the feed that keeps it so.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(store: Arc<dyn StateStore>, prefix: Prefix) -> Result<(Self, MirrorFeed)> {
        let shared = Arc::new(Shared::default());
        let mut feed = MirrorFeed { store, prefix, shared: Arc::clone(&shared), watch: None };
        feed.resync().await?;
        Ok((Self(shared), feed))
    }

    /// The state now.
    pub fn view(&self) -> MirrorView<'_> {
        MirrorView(self.0.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the mirror shows `revision` or a later one. Somebody else must drive the feed.
    pub async fn reached(&self, revision: Revision) {
        std::future::poll_fn(|context| {
            // Registers first and looks second, so that no advance falls between the two.
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if !waiting.iter().any(|known| known.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            drop(waiting);
            if self.view().revision() >= revision { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// What brought a [`Mirror`] forward: what is derived from it can follow, without a watch of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MirrorChange {
    /// One transaction: what the watch told of it. They come in order and without a gap.
    Applied(WatchBatch),
    /// The state of this revision was read anew, for what came before it is compacted away: what is derived must be
    /// derived anew, too.
    ReadAnew(Revision),
    /// Nothing changed: the watch ended, and the next call begins another.
    Nothing,
}

/// Keeps a [`Mirror`] current: drive it with [`run`](Self::run), or step by step.
pub struct MirrorFeed {
    store: Arc<dyn StateStore>,
    prefix: Prefix,
    shared: Arc<Shared>,
    watch: Option<WatchStream>,
}

impl fmt::Debug for MirrorFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorFeed").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl MirrorFeed {
    /// Waits for the next transaction and applies it; returns the revision the mirror then shows.
    ///
    /// After a compaction it reads the present state anew. After any other failure it can be called again and goes on
    /// where it was.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn tick(&mut self) -> Result<Revision> {
        match self.change_to_apply().await? {
            MirrorChange::Applied(batch) => self.apply(batch),
            MirrorChange::ReadAnew(_) | MirrorChange::Nothing => {}
        }
        Ok(self.revision())
    }

    /// As [`tick`](Self::tick), and tells what changed, once the mirror shows it.
    ///
    /// ```
    /// use hivemind_core::store::{Event, Key, Prefix, Txn};
    /// use hivemind_core::{MemoryStore, Mirror, MirrorChange, StateStore, block_on};
    /// use std::sync::Arc;
    ///
    /// # block_on(async {
    /// let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    /// let (mirror, mut feed) = Mirror::open(Arc::clone(&store), Prefix::ROOT).await?;
    /// let mut txn = Txn::new();
    /// txn.put(Key::new(["a"])?, "1");
    /// store.commit(&txn).await?;
    ///
    /// // A list that is derived from the mirror.
    /// let mut names: Vec<String> = Vec::new();
    /// match feed.advance().await? {
    ///     MirrorChange::Applied(batch) => names.extend(batch.events.iter().map(|event| match event {
    ///         Event::Put(record) => format!("+{}", record.key),
    ///         Event::Delete(key) => format!("-{key}"),
    ///     })),
    ///     MirrorChange::ReadAnew(_) => names = mirror.view().scan(&Prefix::ROOT).map(|one| one.key.to_string()).collect(),
    ///     _ => {}
    /// }
    /// assert_eq!(names, ["+a"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of the store.
    pub async fn advance(&mut self) -> Result<MirrorChange> {
        let change = self.change_to_apply().await?;
        if let MirrorChange::Applied(batch) = &change {
            self.apply(batch.clone());
        }
        Ok(change)
    }

    /// The next change; one of a transaction is not applied yet.
    async fn change_to_apply(&mut self) -> Result<MirrorChange> {
        if self.watch.is_none() {
            let next = self.revision().next();
            match self.store.watch(&self.prefix, next).await {
                Ok(watch) => self.watch = Some(watch),
                Err(e) if e.kind() == ErrorKind::Expired => return self.resync().await,
                Err(other) => return Err(other),
            }
        }
        let Some(watch) = &mut self.watch else { return Ok(MirrorChange::Nothing) };
        match std::future::poll_fn(|context| watch.as_mut().poll_next(context)).await {
            Some(Ok(batch)) => Ok(MirrorChange::Applied(batch)),
            None => {
                self.watch = None;
                Ok(MirrorChange::Nothing)
            }
            Some(Err(e)) => {
                self.watch = None;
                if e.kind() == ErrorKind::Expired { self.resync().await } else { Err(e) }
            }
        }
    }

    /// Ticks until the mirror shows `revision` or a later one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn catch_up(&mut self, revision: Revision) -> Result<()> {
        while self.revision() < revision {
            self.tick().await?;
        }
        Ok(())
    }

    /// Ticks until `shutdown` is ready; waits `pause` after a failure of the store.
    pub async fn run(self, runtime: Arc<dyn Runtime>, pause: Duration, shutdown: impl Future<Output = ()>) {
        self.run_with(runtime, pause, shutdown, |_| {}).await;
    }

    /// As [`run`](Self::run), and tells `each` what changed, in order and once the mirror shows it.
    pub async fn run_with(
        mut self,
        runtime: Arc<dyn Runtime>,
        pause: Duration,
        shutdown: impl Future<Output = ()>,
        mut each: impl FnMut(&MirrorChange),
    ) {
        let mut shutdown = pin!(shutdown);
        loop {
            let step = async {
                match self.advance().await {
                    Ok(change) => each(&change),
                    Err(_) => runtime.sleep(pause).await,
                }
            };
            if first(shutdown.as_mut(), pin!(step)).await {
                return;
            }
        }
    }

    fn revision(&self) -> Revision {
        self.shared.view.read().unwrap_or_else(PoisonError::into_inner).revision()
    }

    async fn resync(&mut self) -> Result<MirrorChange> {
        self.watch = None;
        let (revision, records) = self.store.scan_all(&self.prefix, None).await?;
        self.change(|view| *view = Snapshot::new(revision, records));
        Ok(MirrorChange::ReadAnew(revision))
    }

    fn apply(&self, batch: WatchBatch) {
        self.change(|view| {
            for event in batch.events {
                match event {
                    Event::Put(record) => view.put(record),
                    Event::Delete(key) => view.remove(&key),
                }
            }
            view.advance(batch.revision);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.shared.view.write().unwrap_or_else(PoisonError::into_inner));
        let woken = std::mem::take(&mut *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for waker in woken {
            waker.wake();
        }
    }
}

/// Whether `stop` was ready before `step` was.
async fn first(
    mut stop: Pin<&mut impl Future<Output = ()>>,
    mut step: Pin<&mut impl Future<Output = ()>>,
) -> bool {
    std::future::poll_fn(|context| {
        if stop.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        step.as_mut().poll(context).map(|()| false)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Key, Txn};
    use crate::{MemoryStore, block_on};

    fn put(store: &MemoryStore, name: &str, value: &str) -> Revision {
        let mut txn = Txn::new();
        txn.put(Key::new(name.split('/')).unwrap(), value.to_owned());
        block_on(store.commit(&txn)).unwrap()
    }

    fn names(mirror: &Mirror) -> Vec<String> {
        mirror.view().scan(&Prefix::ROOT).map(|record| record.key.to_string()).collect()
    }

    #[test]
    fn follows_its_prefix_and_knows_how_far_it_is() {
        let store = MemoryStore::new();
        put(&store, "a/1", "x");
        let (mirror, mut feed) =
            block_on(Mirror::open(Arc::new(store.clone()), Prefix::new(["a"]).unwrap())).unwrap();
        put(&store, "a/2", "y");
        let last = put(&store, "b/1", "z");
        block_on(feed.catch_up(last)).unwrap();
        block_on(mirror.reached(last));
        assert_eq!((names(&mirror), mirror.view().revision()), (vec!["a/1".into(), "a/2".into()], last));
    }

    #[test]
    fn reads_anew_after_a_compaction() {
        let store = MemoryStore::new();
        let (mirror, mut feed) = block_on(Mirror::open(Arc::new(store.clone()), Prefix::ROOT)).unwrap();
        put(&store, "a", "1");
        put(&store, "b", "1");
        let last = put(&store, "c", "1");
        block_on(store.compact(last)).unwrap();
        assert_eq!(block_on(feed.advance()).unwrap(), MirrorChange::ReadAnew(last));
        assert_eq!(names(&mirror), ["a", "b", "c"]);
    }

    #[test]
    fn tells_each_change_once_in_order_and_after_it_shows() {
        let store = MemoryStore::new();
        let (mirror, feed) =
            block_on(Mirror::open(Arc::new(store.clone()), Prefix::new(["a"]).unwrap())).unwrap();
        let put_all = ["a/1", "b/1", "a/2"].map(|name| put(&store, name, "x"));
        let (told, mirror) = (Arc::new(Mutex::new(Vec::new())), mirror.clone());
        let each = {
            let (told, mirror) = (Arc::clone(&told), mirror.clone());
            move |change: &MirrorChange| {
                let MirrorChange::Applied(batch) = change else { panic!("{change:?}") };
                assert_eq!(mirror.view().revision(), batch.revision);
                told.lock().unwrap().extend(batch.events.iter().map(|event| match event {
                    Event::Put(record) => (batch.revision, record.key.to_string()),
                    Event::Delete(key) => panic!("{key}"),
                }));
            }
        };
        let runtime = Arc::new(crate::ThreadRuntime::new());
        block_on(feed.run_with(runtime, Duration::from_secs(1), mirror.reached(put_all[2]), each));
        let told = told.lock().unwrap();
        assert_eq!(*told, [(put_all[0], "a/1".to_owned()), (put_all[2], "a/2".to_owned())]);
    }

    #[test]
    fn stops_when_told() {
        let store = MemoryStore::new();
        let (_, feed) = block_on(Mirror::open(Arc::new(store), Prefix::ROOT)).unwrap();
        let runtime = Arc::new(crate::ThreadRuntime::new());
        block_on(feed.run(runtime, Duration::from_secs(1), std::future::ready(())));
    }
}
