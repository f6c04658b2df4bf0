//! Messages in a list: for tests, examples, and a host that shows them itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hivemind_core::{Result, async_trait};

use crate::Notifier;
use crate::notify::Notification;

/// All messages, in the order in which they came.
#[derive(Debug, Default)]
pub struct MemoryNotifier(Mutex<Vec<Notification>>);

impl MemoryNotifier {
    /// Without any.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was told.
    pub fn told(&self) -> Vec<Notification> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Notification>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Notifier for MemoryNotifier {
    async fn notify(&self, notification: &Notification) -> Result<()> {
        self.lock().push(notification.clone());
        Ok(())
    }
}
