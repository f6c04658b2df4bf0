//! Budgets of use over time, such as core-hours in 30 days. No I/O, no clock, no async.

mod month;

use std::time::Duration;

use hivemind_core::Timestamp;
use serde::{Deserialize, Serialize};

use self::month::{month_end, month_start};

const NANOS: u128 = 1_000_000_000;

/// So many unit-seconds in every period; a unit is the base unit of the resource, such as a thousandth of a core.
///
/// Periods are calendar months in UTC, or have one length and follow each other from `start` in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Budget(Written);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    unit_seconds: u64,
    period: Period,
    #[serde(default)]
    start: Timestamp,
}

/// As it is written: a length, or `"month"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Period {
    Fixed(Duration),
    Calendar(Calendar),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Calendar {
    Month,
}

/// A period has no length, or one that cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("period of {period:?}: give more than zero and less than 584 years")]
#[non_exhaustive]
pub struct InvalidPeriod {
    /// The period.
    pub period: Duration,
}

/// Usage must not grow: the budget does not allow any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum BudgetExceeded {
    /// All of it is spent.
    #[error("the budget of {unit_seconds} unit-seconds is spent until {period_end}")]
    Spent {
        /// The budget of a period, in unit-seconds.
        unit_seconds: u64,
        /// When the next period starts.
        period_end: Timestamp,
    },
    /// The request carries no time, so that what is spent cannot be known.
    #[error("the request carries no time: a budget cannot be checked without")]
    NoTime,
}

/// What was used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct BudgetState {
    /// How many units are in use now.
    pub in_use: u64,
    /// Up to when `spent` is counted.
    pub counted_to: Timestamp,
    /// Unit-nanoseconds spent in the period of `counted_to`.
    #[serde(with = "as_text")]
    pub spent: u128,
}

/// Numbers above 2^64 as text: many readers of JSON lose their last digits otherwise.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u128, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Budget {
    /// `unit_seconds` in every period of this length, one of which starts at `start`.
    ///
    /// # Errors
    /// [`InvalidPeriod`] if `period` is zero or 584 years and more.
    pub fn new(unit_seconds: u64, period: Duration, start: Timestamp) -> Result<Self, InvalidPeriod> {
        Self::try_from(Written { unit_seconds, period: Period::Fixed(period), start })
    }

    /// `unit_seconds` in every calendar month in UTC, whatever its length (proleptic Gregorian, as ISO 8601).
    pub fn monthly(unit_seconds: u64) -> Self {
        Self(Written { unit_seconds, period: Period::Calendar(Calendar::Month), start: Timestamp::EPOCH })
    }

    /// The budget of a period, in unit-seconds.
    pub fn unit_seconds(&self) -> u64 {
        self.0.unit_seconds
    }

    /// How long the period of `at` has lasted at `at`, if all are of this length.
    fn since_period_start(&self, length: Duration, at: Timestamp) -> Duration {
        let length = i128::try_from(length.as_nanos()).unwrap_or(i128::MAX).max(1);
        let since_start = i128::from(at.as_nanos()) - i128::from(self.0.start.as_nanos());
        Duration::from_nanos(u64::try_from(since_start.rem_euclid(length)).unwrap_or(0))
    }

    /// The first instant of the period of `at`, or of all time if that is later.
    pub fn period_start(&self, at: Timestamp) -> Timestamp {
        match self.0.period {
            Period::Fixed(length) => at.before(self.since_period_start(length, at)),
            Period::Calendar(Calendar::Month) => month_start(at),
        }
    }

    /// The first instant after the period of `at`, or the last of all time if that is earlier.
    pub fn period_end(&self, at: Timestamp) -> Timestamp {
        match self.0.period {
            Period::Fixed(length) => at.after(length.saturating_sub(self.since_period_start(length, at))),
            Period::Calendar(Calendar::Month) => month_end(at),
        }
    }

    /// The state counted up to `now`. A clock that went backwards counts nothing, and nothing twice.
    #[must_use]
    pub fn advance(&self, state: BudgetState, now: Timestamp) -> BudgetState {
        if now <= state.counted_to {
            return state;
        }
        let start = self.period_start(now);
        // What came before this period is no concern of it any more.
        let (from, before) =
            if start > state.counted_to { (start, 0) } else { (state.counted_to, state.spent) };
        let nanos = now.as_nanos().saturating_sub(from.as_nanos());
        let more = u128::from(state.in_use) * u128::from(nanos);
        BudgetState { counted_to: now, spent: before.saturating_add(more), ..state }
    }

    /// The state after `in_use` units came into use at `now`, in place of those before.
    #[must_use]
    pub fn record(&self, state: BudgetState, now: Timestamp, in_use: u64) -> BudgetState {
        BudgetState { in_use, ..self.advance(state, now) }
    }

    /// Whether `extra` more unit-seconds would be above the budget of the period of `now`.
    ///
    /// Without a time they would: what is spent cannot be known.
    pub fn would_exceed(&self, state: BudgetState, now: Option<Timestamp>, extra: u64) -> bool {
        now.is_none_or(|now| {
            let wanted = self.advance(state, now).spent.checked_add(u128::from(extra) * NANOS);
            wanted.is_none_or(|wanted| wanted > self.nanos())
        })
    }

    /// Why no more may come into use at `now`; `None` if it may.
    pub(super) fn exceeded(&self, state: BudgetState, now: Option<Timestamp>) -> Option<BudgetExceeded> {
        let Some(now) = now else { return Some(BudgetExceeded::NoTime) };
        let (unit_seconds, period_end) = (self.unit_seconds(), self.period_end(now));
        (self.left(state, now) == 0).then_some(BudgetExceeded::Spent { unit_seconds, period_end })
    }

    /// Why what was and is used is all that may be: nothing is left of a budget that was drawn on.
    ///
    /// Without a time it is judged as it was last counted, which may be less than was used.
    pub(super) fn spent(&self, state: BudgetState, now: Option<Timestamp>) -> Option<BudgetExceeded> {
        let now = now.unwrap_or(state.counted_to).max(state.counted_to);
        let drawn_on = state.in_use > 0 || self.advance(state, now).spent > 0;
        self.exceeded(state, Some(now)).filter(|_| drawn_on)
    }

    /// Unit-nanoseconds left in the period of `now`.
    pub fn left(&self, state: BudgetState, now: Timestamp) -> u128 {
        self.nanos().saturating_sub(self.advance(state, now).spent)
    }

    /// When the budget of this period is used up if as much stays in use; `None` if it lasts to the end of the period.
    pub fn exhausted_at(&self, state: BudgetState, now: Timestamp) -> Option<Timestamp> {
        let state = self.advance(state, now);
        let at = state.counted_to;
        let left = self.left(state, at);
        if left == 0 {
            return Some(at);
        }
        let nanos = left.div_ceil(u128::from(state.in_use).max(1));
        let end = u128::from(self.period_end(at).as_nanos());
        let when = u128::from(at.as_nanos()).checked_add(nanos)?;
        let when = u64::try_from(when).ok().filter(|when| u128::from(*when) < end)?;
        (state.in_use > 0).then_some(Timestamp::from_nanos(when))
    }

    fn nanos(&self) -> u128 {
        u128::from(self.0.unit_seconds) * NANOS
    }
}

impl TryFrom<Written> for Budget {
    type Error = InvalidPeriod;
    fn try_from(written: Written) -> Result<Self, InvalidPeriod> {
        match written.period {
            Period::Fixed(period) if period.is_zero() || period.as_nanos() > u128::from(u64::MAX) => {
                Err(InvalidPeriod { period })
            }
            Period::Fixed(_) | Period::Calendar(_) => Ok(Self(written)),
        }
    }
}

impl From<Budget> for Written {
    fn from(budget: Budget) -> Self {
        budget.0
    }
}

#[cfg(test)]
mod tests;
