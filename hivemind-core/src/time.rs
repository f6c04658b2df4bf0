//! A point in time as one number. Calendars live at the edges, behind feature `jiff`.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01T00:00:00Z, without leap seconds; good until the year 2554.
///
/// Arithmetic saturates at both ends of the range.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The last representable instant.
    pub const MAX: Self = Self(u64::MAX);

    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the epoch, saturating.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds since the epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// This instant and `duration` more.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// This instant less `duration`.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }

    /// The time from `earlier` until this instant; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Timestamp {
    /// Seconds since the epoch with nine decimals, such as `1764000000.000000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.as_secs(), self.0 % 1_000_000_000)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

impl From<Timestamp> for SystemTime {
    fn from(at: Timestamp) -> Self {
        Self::UNIX_EPOCH + Duration::from_nanos(at.0)
    }
}

impl From<SystemTime> for Timestamp {
    /// Times before 1970 become the epoch.
    fn from(at: SystemTime) -> Self {
        Self(at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, nanos))
    }
}

#[cfg(feature = "jiff")]
impl Timestamp {
    /// The instant as a calendar crate's timestamp; the year 2554 is within its range.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the calendar cannot hold it.
    pub fn to_jiff(self) -> crate::Result<jiff::Timestamp> {
        jiff::Timestamp::from_nanosecond(i128::from(self.0))
            .map_err(|e| crate::Error::invalid("to_jiff", e.to_string()))
    }

    /// From a calendar crate's timestamp.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) before 1970 or after 2554.
    pub fn from_jiff(at: jiff::Timestamp) -> crate::Result<Self> {
        u64::try_from(at.as_nanosecond())
            .map(Self)
            .map_err(|_| crate::Error::invalid("from_jiff", format!("{at} is outside 1970 to 2554")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saturates_at_both_ends() {
        assert_eq!(Timestamp::MAX.after(Duration::from_nanos(1)), Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH.before(Duration::MAX), Timestamp::EPOCH);
        assert_eq!(Timestamp::from_secs(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_secs(1).since(Timestamp::from_secs(2)), Duration::ZERO);
    }

    #[test]
    fn converts_to_system_time_and_back() {
        let at = Timestamp::from_nanos(1_764_000_000_000_000_001);
        assert_eq!(Timestamp::from(SystemTime::from(at)), at);
        assert_eq!(at.to_string(), "1764000000.000000001");
    }

    #[cfg(feature = "jiff")]
    #[test]
    fn converts_to_civil_time_and_back() {
        let at = Timestamp::from_secs(1_764_000_000);
        assert_eq!(at.to_jiff().unwrap().to_string(), "2025-11-24T16:00:00Z");
        assert_eq!(Timestamp::from_jiff(at.to_jiff().unwrap()).unwrap(), at);
        assert!(Timestamp::MAX.to_jiff().is_ok());
        assert!(Timestamp::from_jiff("1969-12-31T23:59:59Z".parse().unwrap()).is_err());
    }
}
