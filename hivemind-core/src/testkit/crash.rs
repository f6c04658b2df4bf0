//! One life of a process: it ends when it is done, or when its store says that it was killed.

use std::pin::pin;
use std::task::Poll;

use super::FaultyStore;

/// The process was killed before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process was killed before it was done")]
#[non_exhaustive]
pub struct Crashed;

/// Runs `future` until it is done, or until `store` crashes; then drops it, wherever it was.
///
/// What had taken effect stays. A restart is a new [`FaultyStore`] over the same inner store.
///
/// ```
/// use hivemind_core::store::{Key, Txn};
/// use hivemind_core::testkit::{Crashed, FaultPlan, FaultyStore, until_crash};
/// use hivemind_core::{MemoryStore, StateStore, block_on};
/// use std::sync::Arc;
///
/// let disk = Arc::new(MemoryStore::new());
/// let first_life = FaultyStore::new(disk.clone(), FaultPlan::new(1).with_crash_at(1));
/// let mut txn = Txn::new();
/// txn.put(Key::new(["a"])?, "1");
/// let outcome = block_on(until_crash(&first_life, first_life.commit(&txn)));
/// assert!(matches!(outcome, Err(Crashed { .. })));
///
/// let second_life = FaultyStore::new(disk, FaultPlan::new(1));
/// assert!(block_on(second_life.revision())?.as_u64() <= 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Crashed`] if the store crashed first.
pub async fn until_crash<T>(store: &FaultyStore, future: impl Future<Output = T>) -> Result<T, Crashed> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        if store.poll_crashed(context).is_ready() {
            return Poll::Ready(Err(Crashed));
        }
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            // The future itself may just have made the fatal call.
            Poll::Pending => store.poll_crashed(context).map(|()| Err(Crashed)),
        }
    })
    .await
}
