//! The port behind which all state lives.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use futures_core::Stream;

use crate::store::{Key, Limits, Prefix, Record, Revision, ScanPage, ScanRequest, Snapshot, Txn, WatchBatch};
use crate::{Error, Result};

/// What a watch yields, until the consumer drops it or it ends in an error.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchBatch>> + Send + 'static>>;

/// A versioned key-value space with atomic transactions: the semantics of etcd v3, in one page.
///
/// # Contract
///
/// - **Strict serializability.** Each call takes effect at one instant between its start and its reply.
/// - **Revisions.** Every committed transaction that changes anything gets the next [`Revision`]: higher than any
///   before, also after a restart, and by one, unless others use the same engine. One that changes nothing (no writes,
///   or only deletes of missing keys) gets none and returns the newest. Putting an equal value is a change. An empty
///   store may be at any revision.
/// - **All or nothing.** No reader ever sees a part of a transaction. A refused transaction changes nothing.
/// - **Conflicts.** If a guard does not hold, [`commit`](Self::commit) fails with kind
///   [`Conflict`](crate::ErrorKind::Conflict) and detail [`Conflict`](crate::store::Conflict), which names the first
///   such key in key order.
/// - **Unknown outcomes.** A commit that may have happened although it failed has
///   [`Effect::Unknown`](crate::Effect::Unknown). An adapter never says `NotStarted` when it cannot know.
/// - **The past.** Scans and gets at any revision from the last compaction on are exact. Earlier ones fail with kind
///   [`Expired`](crate::ErrorKind::Expired) and detail [`Compacted`](crate::store::Compacted); later ones than the
///   newest with kind [`Invalid`](crate::ErrorKind::Invalid).
/// - **Watches.** Batches come in revision order, each transaction once and whole, without gap, however slow the
///   reader is. A watch whose next revision is compacted away yields `Expired` once and ends; one that starts there,
///   or at the revision of the compaction itself, is refused so. A watch that has nothing to tell up to the newest
///   revision says so, soon, by a batch without events.
/// - **Limits.** A transaction beyond [`limits`](Self::limits) is refused before anything is sent.
/// - **Cancellation.** Dropping the future of a read or a watch changes nothing. Dropping that of a commit leaves the
///   outcome unknown, never half done.
///
/// Check an implementation with [`conformance::state_store::run_all`](crate::conformance) (feature `testkit`).
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StateStore: fmt::Debug + Send + Sync + 'static {
    /// The newest revision: that of the last transaction, or where the store began.
    async fn revision(&self) -> Result<Revision>;

    /// The record of `key`, as of `at` or the newest revision; `None` if it does not exist there.
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>>;

    /// One page of the records below a prefix, in key order, all as of one revision.
    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage>;

    /// Checks every guard and makes every write, or does nothing. Returns the revision it got.
    async fn commit(&self, txn: &Txn) -> Result<Revision>;

    /// What is committed below `prefix`, from the transaction `from` on, including it.
    async fn watch(&self, prefix: &Prefix, from: Revision) -> Result<WatchStream>;

    /// Forgets the history before `at`, which stays readable itself. Going back is a no-op; a revision that is not
    /// committed yet is [`Invalid`](crate::ErrorKind::Invalid).
    async fn compact(&self, at: Revision) -> Result<()>;

    /// How large a transaction may be.
    fn limits(&self) -> Limits;
}

/// Conveniences on every [`StateStore`].
pub trait StateStoreExt {
    /// All records below `prefix` as of `at` or the newest revision, in as many pages as it takes.
    fn scan_all(
        &self,
        prefix: &Prefix,
        at: Option<Revision>,
    ) -> impl Future<Output = Result<(Revision, Vec<Record>)>> + Send;

    /// The records below all of `prefixes` as of one revision.
    fn snapshot(&self, prefixes: &[Prefix]) -> impl Future<Output = Result<Snapshot>> + Send;

    /// What `decide` makes of the newest state, of which that alone is read which it looks for, all as of one revision.
    ///
    /// `decide` is pure: it is called with what is read so far, and again with more for as long as it looked for something
    /// else. So it never takes for absent what was not read, whatever it reads next depends on, and it costs as much as
    /// that, however much there is in the store. How many records the snapshot has tells nothing.
    ///
    /// # Errors
    /// Those of the store.
    fn decide<T: Send>(
        &self,
        decide: impl FnMut(&Snapshot) -> T + Send,
    ) -> impl Future<Output = Result<T>> + Send;
}

impl<S: StateStore + ?Sized> StateStoreExt for S {
    async fn scan_all(&self, prefix: &Prefix, at: Option<Revision>) -> Result<(Revision, Vec<Record>)> {
        let mut request = ScanRequest::new(prefix.clone());
        request.at = at;
        let mut records = Vec::new();
        loop {
            let page = self.scan(&request).await?;
            records.extend(page.records);
            let Some(last) = records.last().filter(|_| page.more) else {
                return Ok((page.revision, records));
            };
            if request.after.as_ref() == Some(&last.key) {
                return Err(Error::internal("scan_all", "the store said there is more, and sent nothing"));
            }
            request = request.at(page.revision).after(last.key.clone());
        }
    }

    async fn snapshot(&self, prefixes: &[Prefix]) -> Result<Snapshot> {
        let revision = self.revision().await?;
        let mut all = Vec::new();
        for prefix in prefixes {
            all.extend(self.scan_all(prefix, Some(revision)).await?.1);
        }
        Ok(Snapshot::new(revision, all))
    }

    async fn decide<T: Send>(&self, mut decide: impl FnMut(&Snapshot) -> T + Send) -> Result<T> {
        let revision = self.revision().await?;
        let mut view = Snapshot::unread(revision);
        loop {
            let decided = decide(&view);
            let missed = view.missed();
            if missed.keys.is_empty() && missed.prefixes.is_empty() {
                return Ok(decided);
            }
            drop(decided);
            // With those keys it may not look for all of these prefixes any more.
            let prefixes = if missed.keys.is_empty() { missed.prefixes } else { BTreeSet::new() };
            for key in missed.keys {
                let record = self.get(&key, Some(revision)).await?;
                view.read(key, record);
            }
            for prefix in prefixes {
                let (_, records) = self.scan_all(&prefix, Some(revision)).await?;
                view.read_below(prefix, records);
            }
        }
    }
}
