//! How to wait and how to run something beside.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The two things that library code needs of an async runtime.
///
/// # Contract
///
/// A sleep ends no earlier than asked. A spawned future is polled until it is done or the host shuts down, on
/// whatever thread. Adapters: [`ThreadRuntime`](crate::ThreadRuntime), `TokioRuntime` (feature `tokio`), and the
/// simulator's (feature `testkit`).
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// A future that is ready after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Drives `future` to its end beside the caller.
    fn spawn(&self, future: BoxFuture<'static, ()>);
}
