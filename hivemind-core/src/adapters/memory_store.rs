//! The state store in memory: MVCC, compaction, watches. The reference for every other adapter.

mod history;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use self::history::History;
use self::watch::{Watch, Watchers};
use crate::store::{Key, Limits, Prefix, Record, Revision, ScanPage, ScanRequest, Txn};
use crate::{Result, StateStore, WatchStream};

/// All state in memory, with all of its history until [`compact`](StateStore::compact) is called.
///
/// Clones share the same state.
///
/// ```
/// use hivemind_core::store::{Guard, Key, Txn};
/// use hivemind_core::{ErrorKind, MemoryStore, StateStore, block_on};
///
/// let store = MemoryStore::new();
/// let mut txn = Txn::new();
/// let key = Key::new(["leader"])?;
/// txn.guard(&key, Guard::Absent)?;
/// txn.put(key, "node-1");
///
/// assert_eq!(block_on(store.commit(&txn))?.as_u64(), 1);
/// assert_eq!(block_on(store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
    limits: Limits,
}

#[derive(Debug, Default)]
struct Shared {
    history: History,
    watchers: Watchers,
}

impl MemoryStore {
    /// An empty store with the default limits, which are etcd's.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store with other limits.
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn revision(&self) -> Result<Revision> {
        Ok(self.lock().history.newest())
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        self.lock().history.get(key, at)
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        self.lock().history.scan(request)
    }

    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        self.limits.check(txn)?;
        let mut shared = self.lock();
        let before = shared.history.newest();
        let revision = shared.history.commit(txn)?;
        let woken = if revision > before { shared.watchers.take() } else { Vec::new() };
        drop(shared);
        // Outside the lock: a waker may run the reader at once.
        for waker in woken {
            waker.wake();
        }
        Ok(revision)
    }

    async fn watch(&self, prefix: &Prefix, from: Revision) -> Result<WatchStream> {
        let watch = Watch::start(&self.shared, prefix.clone(), from)?;
        Ok(Box::pin(watch))
    }

    async fn compact(&self, at: Revision) -> Result<()> {
        let mut shared = self.lock();
        shared.history.compact(at)?;
        // A sleeping watch that has fallen behind must learn of it.
        let woken = shared.watchers.take();
        drop(shared);
        for waker in woken {
            waker.wake();
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}
