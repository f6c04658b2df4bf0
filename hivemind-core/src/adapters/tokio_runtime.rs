//! Tokio as a runtime.

use std::time::Duration;

use crate::{BoxFuture, Error, ErrorKind, Result, Runtime};

/// Sleeps and spawns on a tokio runtime.
#[derive(Debug, Clone)]
pub struct TokioRuntime(tokio::runtime::Handle);

impl TokioRuntime {
    /// The runtime of `handle`, which must have its time driver enabled.
    pub fn new(handle: tokio::runtime::Handle) -> Self {
        Self(handle)
    }

    /// The runtime that the caller runs in.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] outside a tokio runtime.
    pub fn current() -> Result<Self> {
        tokio::runtime::Handle::try_current()
            .map(Self)
            .map_err(|e| Error::new(ErrorKind::Invalid, "current", e.to_string()))
    }
}

impl Runtime for TokioRuntime {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let handle = self.0.clone();
        Box::pin(async move {
            // Enters the handle's runtime, so that any thread may poll the sleep.
            let sleep = {
                let _entered = handle.enter();
                tokio::time::sleep(duration)
            };
            sleep.await;
        })
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.0.spawn(future);
    }
}
