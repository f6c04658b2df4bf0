//! Every version of every key, and who watches them: what the memory store and the embedded store share.

mod history;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

pub(super) use self::history::{History, Staged};
use self::watch::{Watch, Watchers};
use crate::store::{Prefix, Revision};
use crate::{Result, WatchStream};

/// A history under a lock, with its watches. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Mvcc(Arc<Mutex<Watched>>);

#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) history: History,
    watchers: Watchers,
}

impl Watched {
    /// The readers that wait for something new: wake them once the lock is released, since a waker may run the
    /// reader at once.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        self.watchers.take()
    }
}

impl Mvcc {
    #[cfg(feature = "redb")]
    pub(super) fn new(history: History) -> Self {
        Self(Arc::new(Mutex::new(Watched { history, watchers: Watchers::default() })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self, prefix: Prefix, from: Revision) -> Result<WatchStream> {
        Ok(Box::pin(Watch::start(self.clone(), prefix, from)?))
    }

    /// Forgets the history before `at`; a sleeping watch that has fallen behind learns of it.
    pub(super) fn compact(&self, at: Revision) -> Result<()> {
        let mut held = self.lock();
        held.history.compact(at)?;
        let woken = held.take_wakers();
        drop(held);
        wake(woken);
        Ok(())
    }
}

pub(super) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}
