//! A store whose revisions are counted from where it stood when the case began.
//!
//! An engine that others use too, as an etcd shared by several clusters is, begins wherever it happens to be. The cases
//! are written in small numbers all the same.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_core::Stream;

use super::support::Store;
use crate::store::{
    Compacted, Conflict, Event, FutureRevision, Guard, Key, Limits, Prefix, Record, Revision, ScanPage,
    ScanRequest, Txn, WatchBatch, Write,
};
use crate::{Error, Result, StateStore, WatchStream};

#[derive(Debug)]
pub(super) struct Relative {
    inner: Store,
    base: Base,
}

/// The revision that counts as zero.
#[derive(Debug, Clone, Copy)]
struct Base(u64);

impl Base {
    fn inward(self, revision: Revision) -> Revision {
        Revision::new(revision.as_u64().saturating_add(self.0))
    }

    fn outward(self, revision: Revision) -> Revision {
        Revision::new(revision.as_u64().saturating_sub(self.0))
    }

    fn record(self, record: Record) -> Record {
        let (modified, created) = (self.outward(record.mod_revision), self.outward(record.create_revision));
        Record::new(record.key, record.value, modified, created)
    }

    fn batch(self, batch: WatchBatch) -> WatchBatch {
        let events = batch.events.into_iter().map(|event| match event {
            Event::Put(record) => Event::Put(self.record(record)),
            Event::Delete(key) => Event::Delete(key),
        });
        WatchBatch::new(self.outward(batch.revision), events.collect())
    }

    fn txn(self, txn: &Txn) -> Result<Txn> {
        let mut inward = Txn::new();
        for (key, guard) in txn.guards() {
            let guard = match guard {
                Guard::Unchanged(at) => Guard::Unchanged(self.inward(at)),
                other => other,
            };
            inward.guard(key, guard)?;
        }
        for (key, write) in txn.writes() {
            match write {
                Write::Put(value) => inward.put(key.clone(), value.clone()),
                Write::Delete => inward.delete(key.clone()),
            }
        }
        Ok(inward)
    }

    fn error(self, error: Error) -> Error {
        fn with(error: &Error, detail: impl StdError + Send + Sync + 'static) -> Error {
            Error::new(error.kind(), error.operation(), detail.to_string())
                .with_source(detail)
                .with_retry(error.retry())
                .with_effect(error.effect())
        }
        if let Some(conflict) = error.detail::<Conflict>() {
            let found = conflict.found.map(|found| self.outward(found));
            return with(&error, Conflict::new(conflict.key.clone(), found));
        }
        if let Some(gone) = error.detail::<Compacted>() {
            return with(&error, Compacted::new(self.outward(gone.asked), self.outward(gone.oldest)));
        }
        if let Some(future) = error.detail::<FutureRevision>() {
            let (asked, newest) = (self.outward(future.asked), self.outward(future.newest));
            return with(&error, FutureRevision::new(asked, newest));
        }
        error
    }
}

impl Relative {
    pub(super) async fn to_now(inner: Store) -> Result<Self> {
        let base = Base(inner.revision().await?.as_u64());
        Ok(Self { inner, base })
    }
}

#[async_trait]
impl StateStore for Relative {
    async fn revision(&self) -> Result<Revision> {
        let found = self.inner.revision().await.map_err(|e| self.base.error(e))?;
        Ok(self.base.outward(found))
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        let found = self.inner.get(key, at.map(|at| self.base.inward(at))).await;
        Ok(found.map_err(|e| self.base.error(e))?.map(|record| self.base.record(record)))
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        let mut request = request.clone();
        request.at = request.at.map(|at| self.base.inward(at));
        let page = self.inner.scan(&request).await.map_err(|e| self.base.error(e))?;
        let records = page.records.into_iter().map(|record| self.base.record(record)).collect();
        Ok(ScanPage::new(self.base.outward(page.revision), records, page.more))
    }

    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        let done = self.inner.commit(&self.base.txn(txn)?).await;
        Ok(self.base.outward(done.map_err(|e| self.base.error(e))?))
    }

    async fn watch(&self, prefix: &Prefix, from: Revision) -> Result<WatchStream> {
        let stream = self.inner.watch(prefix, self.base.inward(from)).await;
        Ok(Box::pin(RelativeWatch { stream: stream.map_err(|e| self.base.error(e))?, base: self.base }))
    }

    async fn compact(&self, at: Revision) -> Result<()> {
        self.inner.compact(self.base.inward(at)).await.map_err(|e| self.base.error(e))
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}

struct RelativeWatch {
    stream: WatchStream,
    base: Base,
}

impl Stream for RelativeWatch {
    type Item = Result<WatchBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let base = self.base;
        self.stream.as_mut().poll_next(context).map(|item| {
            item.map(|told| told.map(|batch| base.batch(batch)).map_err(|error| base.error(error)))
        })
    }
}
