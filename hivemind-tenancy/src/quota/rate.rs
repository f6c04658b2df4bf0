//! How fast a tenant may do things: the generic cell rate algorithm on whole nanoseconds. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::time::Duration;

use hivemind_core::{Stored, Timestamp};
use serde::{Deserialize, Serialize};

/// So many things in a period, with so many at once. Each takes `per / count`, rounded up to a nanosecond, so that
/// rounding never admits more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct RateLimit {
    written: Written,
    /// Nanoseconds that one thing takes.
    interval: u64,
    /// Nanoseconds that a burst takes.
    tolerance: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    count: u32,
    per: Duration,
    burst: u32,
}

/// A rate allows nothing, or its burst takes longer than 292 years.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "rate of {count} in {per:?} with bursts of {burst}: give whole numbers of one and more, and less than 292 years"
)]
#[non_exhaustive]
pub struct InvalidRate {
    /// How many in a period.
    pub count: u32,
    /// The period.
    pub per: Duration,
    /// How many at once.
    pub burst: u32,
}

/// Why something must not be done now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum RateExceeded {
    /// Too many were done lately.
    #[error("too many lately: try again in {retry_after:?}")]
    Later {
        /// When so many will be allowed, if nothing else is done.
        retry_after: Duration,
    },
    /// So many are never allowed at once.
    #[error("{asked} at once are never allowed: ask for at most {burst}")]
    AboveBurst {
        /// How many were asked for.
        asked: u64,
        /// The most at once.
        burst: u32,
    },
    /// The request carries no time, so the rate cannot be checked.
    #[error("the request carries no time: a rate cannot be checked without")]
    NoTime,
}

/// What is remembered of the past: when the last thing that was done would be, had all come evenly spaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateState {
    theoretical_arrival: Timestamp,
}

impl RateLimit {
    /// `count` in every period of `per`, and as many at once.
    ///
    /// # Errors
    /// [`InvalidRate`] if `count` or `per` is zero, or `per` is 292 years or more.
    pub fn new(count: u32, per: Duration) -> Result<Self, InvalidRate> {
        Self::try_from(Written { count, per, burst: count })
    }

    /// With `burst` at once.
    ///
    /// # Errors
    /// [`InvalidRate`] if `burst` is zero, or would take 292 years or more.
    pub fn with_burst(self, burst: u32) -> Result<Self, InvalidRate> {
        Self::try_from(Written { burst, ..self.written })
    }

    /// How many at once.
    pub fn burst(&self) -> u32 {
        self.written.burst
    }

    /// The time that one thing takes.
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    /// Whether `n` more may be done at `now`; if so, the state afterwards. A refusal changes nothing.
    ///
    /// A clock that goes backwards never admits more.
    ///
    /// # Errors
    /// [`RateExceeded`] says how long to wait, or that waiting does not help.
    pub fn decide(
        &self,
        state: RateState,
        now: Option<Timestamp>,
        n: u64,
    ) -> Result<RateState, RateExceeded> {
        let burst = self.written.burst;
        if n > u64::from(burst) {
            return Err(RateExceeded::AboveBurst { asked: n, burst });
        }
        let now = now.ok_or(RateExceeded::NoTime)?;
        if n == 0 {
            return Ok(state);
        }
        let start = u128::from(state.theoretical_arrival.max(now).as_nanos());
        let arrival = start + u128::from(n) * u128::from(self.interval);
        let latest = u128::from(now.as_nanos()) + u128::from(self.tolerance);
        let later = |nanos: u128| RateExceeded::Later {
            retry_after: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
        };
        if arrival > latest {
            return Err(later(arrival - latest));
        }
        // The end of time: what cannot be remembered must not be admitted.
        let arrival = u64::try_from(arrival).map_err(|_| later(u128::MAX))?;
        Ok(RateState { theoretical_arrival: Timestamp::from_nanos(arrival) })
    }
}

impl TryFrom<Written> for RateLimit {
    type Error = InvalidRate;
    fn try_from(written: Written) -> Result<Self, InvalidRate> {
        let Written { count, per, burst } = written;
        let invalid = InvalidRate { count, per, burst };
        if count == 0 || burst == 0 || per.is_zero() {
            return Err(invalid);
        }
        let interval = per.as_nanos().div_ceil(u128::from(count));
        let Some(tolerance) = interval.checked_mul(u128::from(burst)) else { return Err(invalid) };
        match (u64::try_from(interval), u64::try_from(tolerance)) {
            (Ok(interval), Ok(tolerance)) if tolerance <= u64::MAX / 2 => {
                Ok(Self { written, interval, tolerance })
            }
            _ => Err(invalid),
        }
    }
}

impl From<RateLimit> for Written {
    fn from(limit: RateLimit) -> Self {
        limit.written
    }
}

/// A tenant's rates by name, such as `api-calls` and `creates`, as they are kept in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct RateStates {
    /// What is remembered under each name.
    pub states: BTreeMap<String, RateState>,
}

impl Stored for RateStates {
    const KIND: &'static str = "rate states";
}

impl RateStates {
    /// Whether `n` more of what is called `name` may be done at `now`; if so, the record to store.
    ///
    /// # Errors
    /// As [`RateLimit::decide`].
    pub fn decide(
        &self,
        name: &str,
        limit: &RateLimit,
        now: Option<Timestamp>,
        n: u64,
    ) -> Result<Self, RateExceeded> {
        let state = limit.decide(self.states.get(name).copied().unwrap_or_default(), now, n)?;
        let mut next = self.clone();
        next.states.insert(name.to_owned(), state);
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> Option<Timestamp> {
        Some(Timestamp::from_nanos(nanos))
    }

    #[test]
    fn a_burst_passes_at_once_and_the_next_waits_one_interval() {
        let limit = RateLimit::new(10, Duration::from_secs(1)).unwrap();
        let full = limit.decide(RateState::default(), at(5), 10).unwrap();
        let wait = Duration::from_millis(100);
        assert_eq!(limit.decide(full, at(5), 1), Err(RateExceeded::Later { retry_after: wait }));
        assert!(limit.decide(full, at(100_000_004), 1).is_err());
        assert!(limit.decide(full, at(100_000_005), 1).is_ok());
    }

    #[test]
    fn more_than_a_burst_is_never_allowed() {
        let limit = RateLimit::new(10, Duration::from_secs(1)).unwrap().with_burst(2).unwrap();
        let denied = limit.decide(RateState::default(), at(u64::MAX), 3);
        assert_eq!(denied, Err(RateExceeded::AboveBurst { asked: 3, burst: 2 }));
    }

    #[test]
    fn without_a_time_nothing_is_admitted() {
        let limit = RateLimit::new(10, Duration::from_secs(1)).unwrap();
        assert_eq!(limit.decide(RateState::default(), None, 1), Err(RateExceeded::NoTime));
    }

    #[test]
    fn a_rate_of_nothing_or_for_ever_is_refused() {
        for (count, per) in [(0, 1), (1, 0), (1, u64::MAX / 2)] {
            assert!(RateLimit::new(count, Duration::from_secs(per)).is_err(), "{count} in {per} s");
        }
        let text = r#"{"count":0,"per":{"secs":1,"nanos":0},"burst":1}"#;
        assert!(serde_json::from_str::<RateLimit>(text).is_err());
    }

    #[test]
    fn at_the_end_of_time_nothing_is_admitted() {
        let limit = RateLimit::new(1, Duration::from_secs(1)).unwrap();
        assert!(limit.decide(RateState::default(), at(u64::MAX), 1).is_err());
    }

    #[test]
    fn names_do_not_share_a_rate() {
        let limit = RateLimit::new(1, Duration::from_secs(1)).unwrap();
        let states = RateStates::default().decide("creates", &limit, at(9), 1).unwrap();
        assert!(states.decide("creates", &limit, at(9), 1).is_err());
        assert!(states.decide("api-calls", &limit, at(9), 1).is_ok());
    }

    proptest! {
        /// The model keeps every admission and counts them in every window between two of them.
        #[test]
        fn no_window_holds_more_than_burst_and_rate(
            count in 1..20u32, per in 1..200u64, burst in 1..10u32,
            steps in proptest::collection::vec((0..40u64, 1..5u64), 1..60),
        ) {
            let limit = RateLimit::new(count, Duration::from_nanos(per)).unwrap().with_burst(burst).unwrap();
            let (mut state, mut now, mut log) = (RateState::default(), 0u64, Vec::new());
            for (pause, n) in steps {
                now += pause;
                if let Ok(next) = limit.decide(state, at(now), n) {
                    state = next;
                    log.push((now, n));
                }
            }
            for (first, (from, _)) in log.iter().enumerate() {
                for last in first..log.len() {
                    let admitted: u64 = log[first..=last].iter().map(|(_, n)| n).sum();
                    let window = log[last].0 - from;
                    // admitted <= burst + count / per * window, without fractions
                    prop_assert!(admitted * per <= u64::from(burst) * per + u64::from(count) * window);
                }
            }
        }

        /// Waiting as long as told is enough, and less is not.
        #[test]
        fn retry_after_is_exact(
            count in 1..20u32, per in 1..200u64, burst in 1..10u32, first in 1..10u64, n in 1..10u64,
        ) {
            let limit = RateLimit::new(count, Duration::from_nanos(per)).unwrap().with_burst(burst).unwrap();
            let state = limit.decide(RateState::default(), at(0), first).unwrap_or_default();
            if let Err(RateExceeded::Later { retry_after }) = limit.decide(state, at(0), n) {
                let wait = u64::try_from(retry_after.as_nanos()).unwrap();
                prop_assert!(limit.decide(state, at(wait), n).is_ok());
                prop_assert!(limit.decide(state, at(wait - 1), n).is_err());
            }
        }

        /// An earlier clock admits only what a later one would admit, too.
        #[test]
        fn going_back_never_admits_more(count in 1..20u32, per in 1..200u64, past in 0..400u64, back in 0..400u64) {
            let limit = RateLimit::new(count, Duration::from_nanos(per)).unwrap();
            let state = limit.decide(RateState::default(), at(past), 1).unwrap();
            if limit.decide(state, at(past.saturating_sub(back)), 1).is_ok() {
                prop_assert!(limit.decide(state, at(past), 1).is_ok());
            }
        }
    }
}
