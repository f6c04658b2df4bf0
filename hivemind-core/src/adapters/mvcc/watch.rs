//! A watch reads the log at its own pace, so a slow one misses nothing and holds nobody up.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use super::Mvcc;
use super::history::Since;
use crate::Result;
use crate::store::{Prefix, Revision, WatchBatch};

/// The watches that wait for the next commit.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    next_id: u64,
    asleep: BTreeMap<u64, Waker>,
}

impl Watchers {
    /// Everybody to be woken.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.asleep).into_values().collect()
    }
}

#[derive(Debug)]
pub(super) struct Watch {
    mvcc: Mvcc,
    id: u64,
    prefix: Prefix,
    /// The first revision that has not been delivered.
    next: Revision,
    ended: bool,
}

impl Watch {
    pub(super) fn start(mvcc: Mvcc, prefix: Prefix, from: Revision) -> Result<Self> {
        let mut held = mvcc.lock();
        let next = from.max(Revision::ZERO.next());
        // Refuses a start that is compacted away at once, rather than at the first poll.
        let _ = held.history.since(&prefix, next)?;
        held.watchers.next_id += 1;
        let id = held.watchers.next_id;
        drop(held);
        Ok(Self { mvcc, id, prefix, next, ended: false })
    }
}

impl Stream for Watch {
    type Item = Result<WatchBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mvcc = self.mvcc.clone();
        let mut held = mvcc.lock();
        match held.history.since(&self.prefix, self.next) {
            Err(expired) => {
                self.ended = true;
                Poll::Ready(Some(Err(expired)))
            }
            Ok(Since::Changed(batch)) => {
                self.next = batch.revision.next();
                Poll::Ready(Some(Ok(batch)))
            }
            Ok(Since::NothingUntil(seen)) if seen >= self.next => {
                self.next = seen.next();
                Poll::Ready(Some(Ok(WatchBatch::new(seen, Vec::new()))))
            }
            Ok(Since::NothingUntil(_)) => {
                held.watchers.asleep.insert(self.id, context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.mvcc.lock().watchers.asleep.remove(&self.id);
    }
}
