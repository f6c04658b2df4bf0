//! Where the I/O runs: the client needs tokio, whoever calls need not have it.

use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use super::failure::{Class, Failure};
use crate::{Error, Result};

/// A tokio runtime: somebody's, or the store's own.
#[derive(Debug, Clone)]
pub(super) struct Io {
    handle: Handle,
    /// Kept while the store or one of its watches is there.
    _own: Option<Arc<Own>>,
}

#[derive(Debug)]
struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        // In the background, since this may be a thread that must not block.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Io {
    /// `wanted`, or the runtime that the caller runs in, or one of our own.
    pub(super) fn new(wanted: Option<Handle>) -> Result<Self> {
        if let Some(handle) = wanted.or_else(|| Handle::try_current().ok()) {
            return Ok(Self { handle, _own: None });
        }
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("hivemind-etcd").enable_all().build();
        let runtime = runtime.map_err(|e| {
            Error::internal("connect", format!("no thread for etcd's I/O can be started: {e}")).with_source(e)
        })?;
        let handle = runtime.handle().clone();
        Ok(Self { handle, _own: Some(Arc::new(Own(Some(runtime)))) })
    }

    /// Starts `work`, which goes on if nobody waits for it any more.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(work)
    }

    /// Does `work`, under any executor.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        self.spawn(work).await.unwrap_or_else(|e| {
            let text = if e.is_panic() {
                "the task panicked: are the I/O and time drivers of its tokio runtime on?"
            } else {
                "its tokio runtime was shut down"
            };
            Err(Failure::new(Class::Lost, text))
        })
    }
}
