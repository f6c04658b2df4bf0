//! A store that writes down what its client asks and is told.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Call, History, Outcome};
use crate::store::{Conflict, Key, Limits, Prefix, Record, Revision, ScanPage, ScanRequest, Txn};
use crate::{Effect, Error, ErrorKind, Result, StateStore, WatchStream};

/// One client's view of a store, whose calls go into a [`History`].
///
/// Watches and compactions are passed through unrecorded. The future of a commit that is dropped leaves the commit
/// pending for ever, as the port says. A commit that fails *after the change was made* counts as unknown.
#[derive(Debug, Clone)]
pub struct Recorded {
    inner: Arc<dyn StateStore>,
    history: History,
    client: usize,
}

impl Recorded {
    /// `inner` as `client` sees it.
    pub fn new(inner: Arc<dyn StateStore>, history: &History, client: usize) -> Self {
        Self { inner, history: history.clone(), client }
    }

    async fn record<T>(
        &self,
        call: Call,
        run: impl Future<Output = Result<T>>,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> Result<T> {
        let token = self.history.invoke(self.client, call);
        let result = run.await;
        let told = match &result {
            Ok(value) => outcome(value),
            Err(error) => failure(error),
        };
        self.history.complete(token, told);
        result
    }
}

fn failure(error: &Error) -> Outcome {
    match (error.effect(), error.kind()) {
        (Effect::Unknown | Effect::Done, _) => Outcome::Unknown,
        (Effect::NotStarted, ErrorKind::Conflict) => Outcome::Conflict(error.detail::<Conflict>().cloned()),
        (Effect::NotStarted, _) => Outcome::NotStarted,
    }
}

// A new method of the port must be thought about here, and not fall through to a default.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl StateStore for Recorded {
    async fn revision(&self) -> Result<Revision> {
        self.record(Call::Revision, self.inner.revision(), |newest| Outcome::Newest(*newest)).await
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        let call = Call::Get(key.clone(), at);
        self.record(call, self.inner.get(key, at), |found| Outcome::Found(found.clone())).await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        let call = Call::Scan(request.clone());
        self.record(call, self.inner.scan(request), |page| Outcome::Page(page.clone())).await
    }

    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        let call = Call::Commit(txn.clone());
        self.record(call, self.inner.commit(txn), |revision| Outcome::Committed(*revision)).await
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
