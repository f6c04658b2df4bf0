//! How a store is opened.

use std::path::Path;
use std::sync::Arc;

use redb::{DatabaseError, StorageBackend};

use super::RedbStore;
use super::disk::{self, Opener};
use super::pipeline::Pipeline;
use super::snapshot;
use crate::store::Limits;
use crate::{Result, Worker};

/// When a commit is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Once it is on the disk: what was acknowledged survives a crash of the process and a loss of power.
    #[default]
    Immediate,
    /// At once; it is written right after, together with others. A crash loses the last few milliseconds, as a whole and
    /// from the end: what is left is the state as of an earlier revision, never a mixture. If the disk fails, the store
    /// accepts nothing more. For development, and for state that can be made anew.
    Deferred,
}

/// Opens [`RedbStore`]s.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedbOptions {
    durability: Durability,
    limits: Limits,
}

impl RedbOptions {
    /// Immediate durability, and the limits of every adapter.
    pub fn new() -> Self {
        Self::default()
    }

    /// When a commit is acknowledged.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Other limits on a transaction.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Opens the file at `path`, made if missing. Blocks: it reads the whole file.
    ///
    /// # Errors
    /// Those of [`RedbStore::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<RedbStore> {
        let path = path.as_ref();
        snapshot::create(path)?;
        self.start(path.display().to_string(), disk::file(path.to_owned()))
    }

    /// Opens whatever storage the engine can use, called `name` in messages; `open` is called again after a failure.
    ///
    /// For tests that lose power, and for storage that is no file. Whoever brings new storage sees to it that it stays
    /// powered until it has been opened for the first time: the engine does not take up its own half-made file.
    ///
    /// # Errors
    /// Those of [`RedbStore::open`].
    pub fn open_on<B: StorageBackend>(
        &self,
        name: &str,
        open: impl Fn() -> std::io::Result<B> + Send + Sync + 'static,
    ) -> Result<RedbStore> {
        let opener: Opener =
            Box::new(move || -> std::result::Result<Box<dyn StorageBackend>, DatabaseError> {
                Ok(Box::new(open()?))
            });
        self.start(name.to_owned(), opener)
    }

    fn start(&self, name: String, opener: Opener) -> Result<RedbStore> {
        let pipeline = Arc::new(Pipeline::open(name, opener, self.durability)?);
        Ok(RedbStore { worker: Worker::start("store")?, pipeline, limits: self.limits })
    }
}
