//! The state store in one file on one machine, on the embedded engine redb.

mod disk;
mod fault;
mod frame;
mod options;
mod pipeline;
mod snapshot;
mod table;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::options::{Durability, RedbOptions};
use self::pipeline::{Pipeline, Step, sheltered};
pub use self::snapshot::RedbCheck;
use crate::store::{Key, Limits, Prefix, Record, Revision, ScanPage, ScanRequest, Txn};
use crate::{Result, StateStore, WatchStream, Worker};

/// All state in one file, durable and crash-safe, for a control plane of one process.
///
/// A commit is acknowledged once it is on the disk, and seen by readers from then on. Many at a time share one sync.
/// The present and the history since the last [`compact`](StateStore::compact) are kept in memory as well, so reads
/// and watches never wait for the disk; the file is read once, when it is opened. Writing happens on a thread of its own,
/// under any runtime or none. `docs/state-store.md` tells how much memory and disk that takes.
///
/// Clones share the store. Dropping the last one waits until everything queued is written, and closes the file.
///
/// ```
/// use hivemind_core::store::{Key, Txn};
/// use hivemind_core::{RedbStore, StateStore, block_on};
///
/// # let directory = std::env::temp_dir().join(format!("hivemind-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("state.redb");
/// let store = RedbStore::open(&path)?;
/// let mut txn = Txn::new();
/// txn.put(Key::new(["leader"])?, "node-1");
/// let revision = block_on(store.commit(&txn))?;
/// drop(store);
///
/// let again = RedbStore::open(&path)?;
/// assert_eq!(block_on(again.revision())?, revision);
/// # drop(again);
/// # std::fs::remove_dir_all(directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RedbStore {
    /// Dropped first: waits for jobs, which use the rest.
    worker: Worker,
    pipeline: Arc<Pipeline>,
    limits: Limits,
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("file", &self.pipeline.name).finish_non_exhaustive()
    }
}

impl RedbStore {
    /// Opens the file at `path`, made if missing, with the default options. Blocks: it reads the whole file.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if somebody else has it open or the disk fails;
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if it is damaged, of a newer schema, or something else altogether;
    /// [`Invalid`](crate::ErrorKind::Invalid) or [`NotFound`](crate::ErrorKind::NotFound) for a path that cannot be.
    /// Nothing is changed then.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        RedbOptions::new().open(path)
    }

    /// Writes everything as of now into a new file at `path`, while the store goes on. It can be opened as a store.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if there is a file; those of the disk. A part of a file is
    /// never left under that name.
    pub async fn snapshot(&self, path: impl AsRef<Path>) -> Result<()> {
        // Behind everything that was acknowledged before.
        self.worker.run(|| Ok(())).await?;
        let (database, path) = (self.pipeline.database("snapshot")?, path.as_ref().to_owned());
        let aside = Worker::start("snapshot")?;
        // Held by the job as well, so that nobody blocks on it who drops this future.
        let own = aside.clone();
        aside
            .run(move || {
                let outcome = snapshot::write(&database, &path);
                drop(own);
                outcome
            })
            .await
    }

    /// Reads everything in the file at `path`, which nobody may have open, and tells what is there. Blocks.
    ///
    /// It checks every page of the engine, every record, and that nothing is missing. A file left by a crash is brought
    /// in order first, as [`open`](Self::open) would.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); [`NotFound`](crate::ErrorKind::NotFound) if there is no such file.
    pub fn check(path: impl AsRef<Path>) -> Result<RedbCheck> {
        snapshot::check(path.as_ref())
    }
}

#[async_trait]
impl StateStore for RedbStore {
    async fn revision(&self) -> Result<Revision> {
        Ok(self.pipeline.mvcc.lock().history.newest())
    }

    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        self.pipeline.mvcc.lock().history.get(key, at)
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        self.pipeline.mvcc.lock().history.scan(request)
    }

    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        self.limits.check(txn)?;
        let flush = || {
            let pipeline = Arc::clone(&self.pipeline);
            self.worker.queue(move || pipeline.flush());
        };
        loop {
            match self.pipeline.stage(txn) {
                Step::Answer(answer) => return answer,
                Step::Flush(revision) => {
                    flush();
                    return Ok(revision);
                }
                Step::Wait(waiting, due) => {
                    if due {
                        flush();
                    }
                    return waiting.await;
                }
                Step::Recover => {
                    let pipeline = Arc::clone(&self.pipeline);
                    self.worker.run(move || pipeline.recover()).await?;
                }
            }
        }
    }

    async fn watch(&self, prefix: &Prefix, from: Revision) -> Result<WatchStream> {
        self.pipeline.mvcc.watch(prefix.clone(), from)
    }

    async fn compact(&self, at: Revision) -> Result<()> {
        // Refuses the future before anything is touched.
        self.pipeline.mvcc.lock().history.known("compact", at)?;
        loop {
            let pipeline = Arc::clone(&self.pipeline);
            let slice = move || {
                let database = pipeline.database("compact")?;
                sheltered(|| table::compact(&database, at)).map_err(|e| e.error("compact", &pipeline.name))
            };
            if self.worker.run(slice).await? {
                return self.pipeline.mvcc.compact(at);
            }
        }
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}
