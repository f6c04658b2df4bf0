//! The time of the simulated cluster.

use std::time::Duration;

use hivemind_core::{BoxFuture, Clock, ManualClock, Runtime, ThreadRuntime, Timestamp};

/// A clock that goes on only while somebody sleeps, and lets long sleeps take no time at all.
#[derive(Debug)]
pub(super) struct Simulated {
    clock: ManualClock,
    /// Shorter sleeps than this are real: they are pauses before asking a store again.
    real: Duration,
}

impl Simulated {
    /// Shows `now`; a sleep shorter than `real` takes as long as it says.
    pub(super) fn new(now: Timestamp, real: Duration) -> Self {
        Self { clock: ManualClock::new(now), real }
    }
}

impl Clock for Simulated {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Runtime for Simulated {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.advance(duration);
        if duration < self.real {
            ThreadRuntime::new().sleep(duration)
        } else {
            Box::pin(std::future::ready(()))
        }
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        ThreadRuntime::new().spawn(future);
    }
}
