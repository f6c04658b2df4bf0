//! Plain threads as a runtime: for hosts without one, and for tests.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::{BoxFuture, Runtime};

/// Runs each spawned future on a thread of its own, and each sleep on another.
///
/// Simple and without dependencies; a host with thousands of sleeps brings its own runtime.
#[derive(Debug, Default, Clone, Copy)]
#[non_exhaustive]
pub struct ThreadRuntime;

impl ThreadRuntime {
    /// Plain threads.
    pub fn new() -> Self {
        Self
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives `future` to its end on the calling thread.
///
/// ```
/// assert_eq!(hivemind_core::block_on(async { 6 * 7 }), 42);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[derive(Default)]
struct Timer {
    state: Mutex<(bool, Option<Waker>)>,
}

#[allow(clippy::disallowed_methods, reason = "this is the adapter that may")]
fn beside(work: impl FnOnce() + Send + 'static) {
    thread::spawn(work);
}

#[allow(clippy::disallowed_methods, reason = "this is the adapter that may")]
fn wait(duration: Duration) {
    thread::sleep(duration);
}

impl Runtime for ThreadRuntime {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut started: Option<Arc<Timer>> = None;
        Box::pin(std::future::poll_fn(move |context| {
            let timer = started.get_or_insert_with(|| {
                let timer = Arc::new(Timer::default());
                let theirs = Arc::clone(&timer);
                beside(move || {
                    wait(duration);
                    let mut state = theirs.state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.0 = true;
                    if let Some(waker) = state.1.take() {
                        waker.wake();
                    }
                });
                timer
            });
            let mut state = timer.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0 {
                return Poll::Ready(());
            }
            state.1 = Some(context.waker().clone());
            Poll::Pending
        }))
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        beside(move || block_on(future));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn spawned_work_runs_and_sleeps_end() {
        let (done, wait) = mpsc::channel();
        let runtime = ThreadRuntime::new();
        runtime.spawn(Box::pin(async move {
            runtime.sleep(Duration::from_millis(1)).await;
            done.send(42).unwrap();
        }));
        assert_eq!(wait.recv().unwrap(), 42);
    }
}
