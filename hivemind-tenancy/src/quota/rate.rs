//! How fast a tenant may do things: the generic cell rate algorithm on whole nanoseconds. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::time::Duration;

use hivemind_core::store::Key;
use hivemind_core::{Collection, Stored, TenantRef, Timestamp};
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

pub(crate) fn rates() -> hivemind_core::Result<Collection<RateStates>> {
    crate::collection("rates")
}

pub(crate) fn rates_key(tenant: &TenantRef) -> hivemind_core::Result<Key> {
    rates()?.key([tenant.to_string()])
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
mod tests;
