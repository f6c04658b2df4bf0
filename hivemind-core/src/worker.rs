//! One thread for blocking work, so that no executor is blocked.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use crate::{Effect, Error, ErrorKind, Result};

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs one after the other, in order, on a thread of its own: for adapters whose engine blocks.
///
/// Clones share the thread. The last one to be dropped waits until every job is done.
///
/// ```
/// use hivemind_core::{Worker, block_on};
///
/// let worker = Worker::start("files")?;
/// let found = block_on(worker.run(|| Ok(std::path::Path::new("/").is_dir())))?;
/// assert!(found);
/// # Ok::<(), hivemind_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Worker(Arc<Thread>);

struct Thread {
    /// Always there, until it is dropped to end the thread.
    jobs: Option<mpsc::Sender<Job>>,
    handle: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        let Some(handle) = self.handle.take() else { return };
        // A job may hold the last handle: the thread cannot wait for itself, and ends anyway.
        if handle.thread().id() != std::thread::current().id() {
            let _ = handle.join();
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Worker").field(&self.0.handle.as_ref().and_then(|h| h.thread().name())).finish()
    }
}

impl Worker {
    /// A thread called `hivemind-` and `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system gives no thread.
    pub fn start(name: &str) -> Result<Self> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let handle = std::thread::Builder::new()
            .name(format!("hivemind-{name}"))
            .spawn(move || {
                for job in jobs {
                    // A panic ends this job alone; its reply says so.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            })
            .map_err(|e| Error::new(ErrorKind::Unavailable, "start thread", e.to_string()).with_source(e))?;
        Ok(Self(Arc::new(Thread { jobs: Some(sender), handle: Some(handle) })))
    }

    /// Queues `job`, which runs although nobody waits.
    pub fn queue(&self, job: impl FnOnce() + Send + 'static) {
        if let Some(jobs) = &self.0.jobs {
            // The thread outlives every handle.
            let _ = jobs.send(Box::new(job));
        }
    }

    /// Runs `job` beside the caller. Once begun, it runs to its end also if the future is dropped.
    ///
    /// # Errors
    /// Those of `job`; [`ErrorKind::Internal`] if it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, waiting) = reply();
        self.queue(move || reply.send(job()));
        waiting.await
    }
}

struct Slot<T> {
    result: Option<Result<T>>,
    waker: Option<Waker>,
}

/// The end at which a result is handed in. Dropped without one, it says so.
pub(crate) struct Reply<T>(Option<Arc<Mutex<Slot<T>>>>);

/// The result, once it is there.
pub(crate) struct Waiting<T>(Arc<Mutex<Slot<T>>>);

/// Two ends of one result.
pub(crate) fn reply<T>() -> (Reply<T>, Waiting<T>) {
    let slot = Arc::new(Mutex::new(Slot { result: None, waker: None }));
    (Reply(Some(Arc::clone(&slot))), Waiting(slot))
}

impl<T> Reply<T> {
    pub(crate) fn send(mut self, result: Result<T>) {
        self.fill(result);
    }

    fn fill(&mut self, result: Result<T>) {
        let Some(slot) = self.0.take() else { return };
        let mut held = slot.lock().unwrap_or_else(PoisonError::into_inner);
        held.result = Some(result);
        let waker = held.waker.take();
        drop(held);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let lost = Error::internal("worker", "the job ended without a result");
        self.fill(Err(lost.with_effect(Effect::Unknown)));
    }
}

impl<T> Future for Waiting<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                held.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::block_on;

    #[test]
    fn jobs_run_in_order_and_the_last_handle_waits_for_them() {
        let (worker, done) = (Worker::start("test").unwrap(), Arc::new(AtomicU32::new(0)));
        for n in 0..100 {
            let done = Arc::clone(&done);
            worker.queue(move || {
                let _ = done.compare_exchange(n, n + 1, Ordering::Relaxed, Ordering::Relaxed);
            });
        }
        drop(worker);
        assert_eq!(done.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn a_panic_is_an_error_and_ends_that_job_alone() {
        let worker = Worker::start("test").unwrap();
        let failed = block_on(worker.run::<()>(|| panic!("on purpose"))).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Internal);
        assert_eq!(block_on(worker.run(|| Ok(7))).unwrap(), 7);
    }

    #[test]
    fn a_job_may_hold_the_last_handle() {
        let worker = Worker::start("test").unwrap();
        let own = worker.clone();
        let (reply, waiting) = reply();
        worker.queue(move || {
            drop(own);
            reply.send(Ok(()));
        });
        drop(worker);
        block_on(waiting).unwrap();
    }
}
