//! Who is told of alerts.

use std::fmt;

use hivemind_core::{Result, async_trait};

use crate::notify::Notification;

/// Tells one receiver: by mail, in a chat, by a call over HTTP.
///
/// # Contract
///
/// Success means that the message has arrived with whoever takes care of it. A call ends within half a minute, well or not. After an error, or if the future is dropped, the same message
/// comes again, told apart by its `id` and its `number`. An error says by [`retry`](hivemind_core::Error::retry) whether that can help, and
/// by a [`RetryAfter`](crate::notify::RetryAfter) as its detail when: what HTTP's 429 says. Messages of a group come one after the
/// other; those of different groups in any order. Adapter: [`MemoryNotifier`](crate::MemoryNotifier).
#[async_trait]
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Notifier: fmt::Debug + Send + Sync + 'static {
    /// Sends one message.
    async fn notify(&self, notification: &Notification) -> Result<()>;
}
