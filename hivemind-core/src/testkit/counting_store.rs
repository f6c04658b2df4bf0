//! A store that counts what is read of it: what a test can compare, where time says nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use crate::store::{Key, Limits, Prefix, Record, Revision, ScanPage, ScanRequest, Txn};
use crate::{Result, StateStore, WatchStream};

/// Hands everything on to the store behind it, and counts the records that are read. Clones count together.
#[derive(Debug, Clone)]
pub struct CountingStore {
    inner: Arc<dyn StateStore>,
    read: Arc<AtomicUsize>,
}

impl CountingStore {
    /// One that has counted nothing of `inner`.
    pub fn new(inner: Arc<dyn StateStore>) -> Self {
        Self { inner, read: Arc::default() }
    }

    /// How many records were read since the last call: a key that has none, and a page without any, count for one.
    pub fn take_read(&self) -> usize {
        self.read.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl StateStore for CountingStore {
    async fn revision(&self) -> Result<Revision> {
        self.inner.revision().await
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        self.read.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key, at).await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        let page = self.inner.scan(request).await?;
        self.read.fetch_add(page.records.len().max(1), Ordering::Relaxed);
        Ok(page)
    }

    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        self.inner.commit(txn).await
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
