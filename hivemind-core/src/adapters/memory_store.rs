//! The state store in memory: MVCC, compaction, watches. The reference for every other adapter.

use async_trait::async_trait;

use super::mvcc::{Mvcc, Staged, wake};
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
    mvcc: Mvcc,
    limits: Limits,
}

impl MemoryStore {
    /// An empty store with the default limits, which fit into etcd's.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store with other limits.
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn revision(&self) -> Result<Revision> {
        Ok(self.mvcc.lock().history.newest())
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        self.mvcc.lock().history.get(key, at)
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        self.mvcc.lock().history.scan(request)
    }

    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        self.limits.check(txn)?;
        let mut held = self.mvcc.lock();
        match held.history.stage(txn)? {
            Staged::Nothing(newest) => Ok(newest),
            Staged::Changed(revision) => {
                held.history.publish(revision);
                let woken = held.take_wakers();
                drop(held);
                wake(woken);
                Ok(revision)
            }
        }
    }

    async fn watch(&self, prefix: &Prefix, from: Revision) -> Result<WatchStream> {
        self.mvcc.watch(prefix.clone(), from)
    }

    async fn compact(&self, at: Revision) -> Result<()> {
        self.mvcc.compact(at)
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}
