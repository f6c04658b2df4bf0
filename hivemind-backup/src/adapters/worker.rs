//! One thread for blocking work, so that no executor is blocked.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Poll, Waker};

use hivemind_core::{Error, ErrorKind, Result};

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs one after the other, in order, on a thread of its own. The thread ends with the last handle.
#[derive(Debug, Clone)]
pub(super) struct Worker(mpsc::Sender<Job>);

/// Where a job leaves its result.
struct Slot<T> {
    result: Option<Result<T>>,
    waker: Option<Waker>,
}

/// Fills the slot, also if the job panics.
struct Reply<T>(Arc<Mutex<Slot<T>>>, bool);

impl<T> Reply<T> {
    fn fill(&mut self, result: Result<T>) {
        self.1 = true;
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.result = Some(result);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if !self.1 {
            self.fill(Err(Error::internal("file_work", "the job ended without a result")));
        }
    }
}

impl Worker {
    pub(super) fn start() -> Result<Self> {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("hivemind-backup-files".into())
            .spawn(move || {
                for job in jobs {
                    // A panic ends this job alone; its reply says so.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                }
            })
            .map_err(|e| Error::new(ErrorKind::Unavailable, "start_thread", e.to_string()).with_source(e))?;
        Ok(Self(sender))
    }

    /// Queues `job`, which runs although nobody waits.
    pub(super) fn queue(&self, job: impl FnOnce() + Send + 'static) {
        // The thread outlives every handle.
        let _ = self.0.send(Box::new(job));
    }

    /// Runs `job` beside the caller.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let slot = Arc::new(Mutex::new(Slot { result: None, waker: None }));
        let mut reply = Reply(Arc::clone(&slot), false);
        self.queue(move || {
            let result = job();
            reply.fill(result);
        });
        std::future::poll_fn(move |context| {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            match slot.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    slot.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
