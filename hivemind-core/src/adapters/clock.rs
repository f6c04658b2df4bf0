//! The system's clock and one that is set by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::{Clock, Timestamp};

/// The operating system's clock. If that goes back, this one goes on as time does, until the system's has caught up: whoever waits is not
/// held up.
#[derive(Debug)]
pub struct SystemClock {
    began: Instant,
    /// What the time was when it began, by the latest that the system has said.
    origin: AtomicU64,
}

impl SystemClock {
    /// The operating system's clock.
    #[allow(clippy::disallowed_methods, reason = "this is the adapter that may")]
    pub fn new() -> Self {
        Self { began: Instant::now(), origin: AtomicU64::new(0) }
    }

    /// The time, given that so much has passed since it began and what the system says.
    fn at(&self, passed: u64, system: u64) -> Timestamp {
        let origin = system.saturating_sub(passed);
        let origin = self.origin.fetch_max(origin, Ordering::Relaxed).max(origin);
        Timestamp::from_nanos(origin.saturating_add(passed))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the adapter that may")]
    fn now(&self) -> Timestamp {
        let passed = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.at(passed, Timestamp::from(SystemTime::now()).as_nanos())
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
        let clock = SystemClock::new();
        let times = [(0, 1000), (10, 1010), (20, 500), (30, 510), (40, 2000), (50, 1999), (60, u64::MAX)];
        let told = times.map(|(passed, system)| clock.at(passed, system).as_nanos());
        assert_eq!(told, [1000, 1010, 1020, 1030, 2000, 2010, u64::MAX]);
        let clock = SystemClock::new();
        assert!(clock.now() <= clock.now());
        assert!(clock.now() > Timestamp::from_secs(1_700_000_000));
    }
}
