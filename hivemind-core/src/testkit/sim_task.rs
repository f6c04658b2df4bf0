//! A task whose output can be awaited.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A task of a [`Sim`](super::Sim): await it for its output. Dropping it lets the task go on.
pub struct SimTask<T>(Arc<Mutex<Slot<T>>>);

struct Slot<T> {
    output: Option<T>,
    waiting: Option<Waker>,
}

impl<T> fmt::Debug for SimTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimTask").field("done", &lock(&self.0).output.is_some()).finish()
    }
}

fn lock<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `future` as a task, and the handle to its output.
pub(super) fn task<T>(future: impl Future<Output = T>) -> (impl Future<Output = ()>, SimTask<T>) {
    let slot = Arc::new(Mutex::new(Slot { output: None, waiting: None }));
    let theirs = Arc::clone(&slot);
    let work = async move {
        let output = future.await;
        let waiting = {
            let mut slot = lock(&theirs);
            slot.output = Some(output);
            slot.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    };
    (work, SimTask(slot))
}

impl<T> Future for SimTask<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut slot = lock(&self.0);
        match slot.output.take() {
            Some(output) => Poll::Ready(output),
            None => {
                slot.waiting = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
