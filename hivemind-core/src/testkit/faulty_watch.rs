//! A watch that is late, breaks off, or ends; what it does deliver is in order and without gap.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::faulty_store::Shared;
use crate::store::WatchBatch;
use crate::{BoxFuture, Error, ErrorKind, Result, WatchStream};

pub(super) struct FaultyWatch {
    inner: WatchStream,
    shared: Arc<Shared>,
    /// On its way to the reader.
    late: Option<(BoxFuture<'static, ()>, Result<WatchBatch>)>,
    ended: bool,
}

impl FaultyWatch {
    pub(super) fn new(inner: WatchStream, shared: Arc<Shared>) -> Self {
        Self { inner, shared, late: None, ended: false }
    }

    /// What the reader gets in place of `item`.
    fn tampered(&mut self, item: Result<WatchBatch>) -> Option<Result<WatchBatch>> {
        let (failures, ends) = (self.shared.plan().watch_failures, self.shared.plan().watch_ends);
        let mut state = self.shared.lock();
        if state.rng.chance(failures) {
            state.counts.watch_failures += 1;
            self.ended = true;
            let error = Error::new(ErrorKind::Unavailable, "watch", "the watch broke off, by the fault plan");
            return Some(Err(error));
        }
        if state.rng.chance(ends) {
            state.counts.watch_ends += 1;
            self.ended = true;
            return None;
        }
        Some(item)
    }
}

impl Stream for FaultyWatch {
    type Item = Result<WatchBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            // The reader of a dead process hears nothing any more.
            if self.shared.crashed() {
                return Poll::Pending;
            }
            if let Some((mut delay, item)) = self.late.take() {
                if delay.as_mut().poll(context).is_pending() {
                    self.late = Some((delay, item));
                    return Poll::Pending;
                }
                return Poll::Ready(self.tampered(item));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let Poll::Ready(item) = self.inner.as_mut().poll_next(context) else { return Poll::Pending };
            let Some(item) = item else {
                self.ended = true;
                return Poll::Ready(None);
            };
            match self.shared.delay() {
                Some(delay) => self.late = Some((delay, item)),
                None => return Poll::Ready(self.tampered(item)),
            }
        }
    }
}
