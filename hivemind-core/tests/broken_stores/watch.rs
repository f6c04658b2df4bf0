//! A watch with one bug.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::Stream;
use hivemind_core::store::{Event, WatchBatch};
use hivemind_core::{Result, WatchStream};

use crate::Bug;

pub(crate) struct BrokenWatch {
    inner: WatchStream,
    bug: Bug,
    seen: u32,
    ready: VecDeque<WatchBatch>,
}

impl BrokenWatch {
    pub(crate) fn new(inner: WatchStream, bug: Bug) -> Self {
        Self { inner, bug, seen: 0, ready: VecDeque::new() }
    }

    fn broken(&mut self, mut batch: WatchBatch) -> Vec<WatchBatch> {
        self.seen += 1;
        let third = self.seen.is_multiple_of(3);
        match self.bug {
            Bug::WatchWithoutBookmarks if batch.events.is_empty() => Vec::new(),
            Bug::WatchMissesABatch if third => Vec::new(),
            Bug::WatchRepeatsABatch if third => vec![batch.clone(), batch],
            Bug::WatchSplitsABatch if batch.events.len() > 1 => {
                let at = batch.revision;
                batch.events.into_iter().map(|event| WatchBatch::new(at, vec![event])).collect()
            }
            Bug::WatchForgetsDeletes => {
                batch.events.retain(|event| matches!(event, Event::Put(_)));
                vec![batch]
            }
            _ => vec![batch],
        }
    }
}

impl Stream for BrokenWatch {
    type Item = Result<WatchBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(batch)));
            }
            let mut deaf = Context::from_waker(Waker::noop());
            let unwoken = self.bug == Bug::WatchIsNotWoken;
            match self.inner.as_mut().poll_next(if unwoken { &mut deaf } else { context }) {
                Poll::Ready(Some(Ok(batch))) => {
                    let batches = self.broken(batch);
                    self.ready.extend(batches);
                }
                Poll::Ready(Some(Err(_))) if self.bug == Bug::ExpiredEndsInSilence => {
                    return Poll::Ready(None);
                }
                other => return other,
            }
        }
    }
}
