//! Budgets of use over time, such as core-hours in 30 days. No I/O, no clock, no async.

use std::time::Duration;

use hivemind_core::Timestamp;
use serde::{Deserialize, Serialize};

const NANOS: u128 = 1_000_000_000;

/// So many unit-seconds in every period; a unit is the base unit of the resource, such as a thousandth of a core.
///
/// Periods have one length and follow each other from `start` in both directions. Calendar months have several
/// lengths: a host that needs them makes a budget for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Budget(Written);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    unit_seconds: u64,
    period: Duration,
    #[serde(default)]
    start: Timestamp,
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
        Self::try_from(Written { unit_seconds, period, start })
    }

    /// The budget of a period, in unit-seconds.
    pub fn unit_seconds(&self) -> u64 {
        self.0.unit_seconds
    }

    fn period_nanos(&self) -> i128 {
        i128::try_from(self.0.period.as_nanos()).unwrap_or(i128::MAX)
    }

    /// How long the period of `at` has lasted at `at`, in nanoseconds.
    fn since_period_start(&self, at: Timestamp) -> u64 {
        let since_start = i128::from(at.as_nanos()) - i128::from(self.0.start.as_nanos());
        u64::try_from(since_start.rem_euclid(self.period_nanos())).unwrap_or(0)
    }

    /// The first instant of the period of `at`, or of all time if that is later.
    pub fn period_start(&self, at: Timestamp) -> Timestamp {
        at.before(Duration::from_nanos(self.since_period_start(at)))
    }

    /// The first instant after the period of `at`.
    pub fn period_end(&self, at: Timestamp) -> Timestamp {
        let left = self.0.period.saturating_sub(Duration::from_nanos(self.since_period_start(at)));
        at.after(left)
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
        let nanos = written.period.as_nanos();
        if nanos == 0 || nanos > u128::from(u64::MAX) {
            return Err(InvalidPeriod { period: written.period });
        }
        Ok(Self(written))
    }
}

impl From<Budget> for Written {
    fn from(budget: Budget) -> Self {
        budget.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn budget(unit_seconds: u64, period: u64) -> Budget {
        Budget::new(unit_seconds, Duration::from_secs(period), at(0)).unwrap()
    }

    #[test]
    fn use_is_counted_exactly_and_the_period_starts_anew() {
        let budget = budget(100, 60);
        let state = budget.record(BudgetState::default(), at(10), 2);
        assert!(!budget.would_exceed(state, Some(at(30)), 60));
        assert!(budget.would_exceed(state, Some(at(30)), 61));
        assert_eq!(budget.left(state, at(60)), 100 * NANOS, "a new period");
        assert_eq!(budget.left(state, at(61)), 98 * NANOS);
    }

    #[test]
    fn exhaustion_is_foreseen_within_the_period() {
        let budget = budget(100, 60);
        let state = budget.record(BudgetState::default(), at(0), 2);
        assert_eq!(budget.exhausted_at(state, at(1)), Some(at(50)));
        assert_eq!(budget.exhausted_at(budget.record(state, at(1), 1), at(1)), None);
        assert_eq!(budget.exhausted_at(budget.record(state, at(55), 0), at(55)), Some(at(55)));
    }

    #[test]
    fn without_a_time_the_budget_is_exceeded() {
        assert!(budget(100, 60).would_exceed(BudgetState::default(), None, 0));
    }

    #[test]
    fn a_clock_that_goes_back_counts_nothing_twice() {
        let budget = budget(100, 60);
        let state = budget.record(BudgetState::default(), at(0), 1);
        let ahead = budget.advance(state, at(20));
        assert_eq!(budget.advance(ahead, at(10)), ahead);
        assert_eq!(budget.advance(ahead, at(30)).spent, 30 * NANOS);
    }

    #[test]
    fn periods_reach_before_their_start() {
        let budget = Budget::new(1, Duration::from_secs(60), at(100)).unwrap();
        assert_eq!((budget.period_start(at(99)), budget.period_end(at(99))), (at(40), at(100)));
        assert_eq!((budget.period_start(at(100)), budget.period_end(at(100))), (at(100), at(160)));
        assert_eq!(budget.period_start(at(39)), at(0), "the first period is cut at the epoch");
    }

    #[test]
    fn the_largest_use_for_all_time_does_not_wrap() {
        let budget = Budget::new(u64::MAX, Duration::from_nanos(u64::MAX), at(0)).unwrap();
        let state = budget.record(BudgetState::default(), at(0), u64::MAX);
        let end = Timestamp::from_nanos(u64::MAX - 1);
        assert_eq!(budget.advance(state, end).spent, u128::from(u64::MAX) * u128::from(u64::MAX - 1));
        assert!(budget.would_exceed(state, Some(end), u64::MAX));
        assert!(Budget::new(1, Duration::ZERO, at(0)).is_err());
    }

    proptest! {
        /// The model goes on second by second and begins anew at each multiple of the period.
        #[test]
        fn the_integral_is_the_sum_of_steps(
            period in 1..40u64, start in 0..40u64, limit in 0..300u64,
            steps in proptest::collection::vec((0..30u64, 0..5u64, 0..50u64), 1..40),
        ) {
            let budget = Budget::new(limit, Duration::from_secs(period), at(start)).unwrap();
            let (mut state, mut second, mut in_use, mut spent) = (BudgetState::default(), 0u64, 0u64, 0u64);
            for (pause, next, extra) in steps {
                for _ in 0..pause {
                    spent += in_use;
                    second += 1;
                    if (second + period * 40 - start).is_multiple_of(period) {
                        spent = 0;
                    }
                }
                prop_assert_eq!(budget.advance(state, at(second)).spent, u128::from(spent) * NANOS);
                prop_assert_eq!(budget.would_exceed(state, Some(at(second)), extra), spent + extra > limit);
                state = budget.record(state, at(second), next);
                in_use = next;
                let text = serde_json::to_string(&state).unwrap();
                prop_assert_eq!(serde_json::from_str::<BudgetState>(&text).unwrap(), state);
            }
        }

        /// At the foreseen instant nothing is left, and just before something is.
        #[test]
        fn exhaustion_is_exact(limit in 1..300u64, in_use in 1..9u64, now in 0..60u64) {
            let budget = budget(limit, 60);
            let state = budget.record(BudgetState::default(), at(0), in_use);
            match budget.exhausted_at(state, at(now)) {
                Some(when) if when > at(now) => {
                    prop_assert_eq!(budget.left(state, when), 0);
                    prop_assert!(budget.left(state, when.before(Duration::from_nanos(1))) > 0);
                }
                Some(when) => prop_assert_eq!((when, budget.left(state, at(now))), (at(now), 0)),
                None => prop_assert!(in_use * 60 <= limit),
            }
        }
    }
}
