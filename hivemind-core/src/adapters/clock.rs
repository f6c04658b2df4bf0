//! The system's clock and one that is set by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::{Clock, Timestamp};

/// The operating system's clock, held still while the system's goes back.
#[derive(Debug, Default)]
pub struct SystemClock(AtomicU64);

impl SystemClock {
    /// The operating system's clock.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the adapter that may")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::from(SystemTime::now()).as_nanos();
        Timestamp::from_nanos(self.0.fetch_max(now, Ordering::Relaxed).max(now))
    }
}

/// A clock that stands until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.as_nanos()))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_add(by)));
    }

    /// Moves the clock forward to `at`; an earlier instant changes nothing.
    pub fn advance_to(&self, at: Timestamp) {
        self.0.fetch_max(at.as_nanos(), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_only_goes_forward() {
        let clock = ManualClock::new(Timestamp::from_secs(10));
        clock.advance(Duration::from_secs(5));
        clock.advance_to(Timestamp::from_secs(3));
        assert_eq!(clock.now(), Timestamp::from_secs(15));
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
    }

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = SystemClock(AtomicU64::new(u64::MAX));
        assert_eq!(clock.now(), Timestamp::MAX);
        let clock = SystemClock::new();
        assert!(clock.now() <= clock.now());
        assert!(clock.now() > Timestamp::from_secs(1_700_000_000));
    }
}
