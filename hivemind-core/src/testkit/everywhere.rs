//! One test body under every runtime we promise.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::{BoxFuture, Runtime, ThreadRuntime, TokioRuntime, block_on};

/// Sleeps and spawns on smol's global executor.
#[derive(Debug, Default, Clone, Copy)]
#[non_exhaustive]
pub struct SmolRuntime;

impl SmolRuntime {
    /// smol's global executor.
    pub fn new() -> Self {
        Self
    }
}

impl Runtime for SmolRuntime {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            smol::Timer::after(duration).await;
        })
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        smol::spawn(future).detach();
    }
}

/// Runs `body` under tokio (one thread, and many), smol, and a bare [`block_on`], each time anew.
///
/// A body that never ends hangs the test: there is no time limit, since time is no part of a test here.
///
/// ```
/// use hivemind_core::testkit::everywhere;
/// use hivemind_core::{MemoryStore, StateStore};
///
/// everywhere(|| async {
///     assert_eq!(MemoryStore::new().revision().await.unwrap().as_u64(), 0);
/// });
/// ```
///
/// # Panics
/// That is its job: when the body panics, with the runtime's name and the body's message.
pub fn everywhere<F>(mut body: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    everywhere_with(|_| body());
}

/// Like [`everywhere`], and gives the body the [`Runtime`] port of the runtime it runs under.
///
/// # Panics
/// As [`everywhere`].
pub fn everywhere_with<F>(mut body: impl FnMut(Arc<dyn Runtime>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let one = tokio::runtime::Builder::new_current_thread();
    under("tokio on one thread", || on_tokio(one, &mut body));
    let many = tokio::runtime::Builder::new_multi_thread();
    under("tokio on many threads", || on_tokio(many, &mut body));
    under("smol", || smol::block_on(smol::spawn(body(Arc::new(SmolRuntime::new())))));
    under("block_on", || block_on(body(Arc::new(ThreadRuntime::new()))));
}

#[allow(clippy::panic, reason = "a test helper fails by panicking")]
fn on_tokio<F>(mut builder: tokio::runtime::Builder, body: &mut impl FnMut(Arc<dyn Runtime>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = match builder.enable_time().build() {
        Ok(runtime) => runtime,
        Err(e) => panic!("tokio does not start: {e}"),
    };
    // Spawned, so that on many threads the body really leaves this one.
    let task = runtime.spawn(body(Arc::new(TokioRuntime::new(runtime.handle().clone()))));
    if let Err(e) = runtime.block_on(task) {
        match e.try_into_panic() {
            Ok(payload) => resume_unwind(payload),
            Err(e) => panic!("the body did not end: {e}"),
        }
    }
}

#[allow(clippy::panic, reason = "a test helper fails by panicking")]
fn under(name: &str, run: impl FnOnce()) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(run)) else { return };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    panic!("under {name}: {}", text.as_deref().unwrap_or("the body panicked with something that is no text"));
}
