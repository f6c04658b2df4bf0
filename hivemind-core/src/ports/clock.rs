//! What time it is.

use std::fmt;

use crate::Timestamp;

/// A source of the current time.
///
/// # Contract
///
/// Never earlier than an instant it told before. Adapters: [`SystemClock`](crate::SystemClock) and
/// [`ManualClock`](crate::ManualClock).
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;
}
