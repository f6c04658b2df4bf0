//! Where the I/O runs: gRPC needs tokio, whoever calls need not have it.

use std::sync::Arc;

use hivemind_core::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tonic::Status;

/// A tokio runtime: somebody's, or our own.
#[derive(Debug, Clone)]
pub(super) struct Io {
    handle: Handle,
    /// Kept while the provider is there.
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
        let runtime = builder.worker_threads(1).thread_name("hivemind-csi").enable_all().build();
        let runtime = runtime.map_err(|e| {
            Error::internal("connect", format!("no thread for the I/O of CSI can be started: {e}"))
                .with_source(e)
        })?;
        let handle = runtime.handle().clone();
        Ok(Self { handle, _own: Some(Arc::new(Own(Some(runtime)))) })
    }

    /// Does `work` under any executor; it goes on if nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        self.handle.spawn(work).await.unwrap_or_else(|e| {
            Err(Status::unknown(if e.is_panic() {
                "the task panicked: are the I/O and time drivers of its tokio runtime on?"
            } else {
                "its tokio runtime was shut down"
            }))
        })
    }

    /// Does `make` where tokio is there.
    pub(super) fn enter<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = self.handle.enter();
        make()
    }
}
