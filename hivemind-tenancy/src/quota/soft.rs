//! Limits that may be exceeded for a while, as the soft limits of filesystem quotas. No I/O, no clock, no async.

use std::time::Duration;

use hivemind_core::Timestamp;
use serde::{Deserialize, Serialize};

/// A limit that may be exceeded for `grace`. A hard limit, if any, stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct SoftLimit {
    /// The limit, in base units of the resource.
    pub limit: u64,
    /// How long usage may grow while it is above the limit.
    pub grace: Duration,
}

/// Since when usage has been above the soft limit without a break.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct SoftState {
    /// `None` while usage is within the limit.
    pub over_since: Option<Timestamp>,
}

/// Usage has crossed a soft limit; something to tell people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Crossing {
    /// Usage is above the limit now, and may grow until `hard_at`.
    Over {
        /// When the soft limit becomes hard.
        hard_at: Timestamp,
    },
    /// Usage is within the limit again.
    Within,
}

/// Usage must not grow above a soft limit any more. Amounts are in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SoftExceeded {
    /// The grace is used up.
    #[error(
        "{wanted} is above the soft limit {limit}, which became hard at {hard_at}: release something first"
    )]
    GraceOver {
        /// The soft limit.
        limit: u64,
        /// What usage would be.
        wanted: u64,
        /// When the soft limit became hard.
        hard_at: Timestamp,
    },
    /// The request carries no time, so no grace can be given.
    #[error("{wanted} is above the soft limit {limit}, and the request carries no time: no grace without")]
    NoTime {
        /// The soft limit.
        limit: u64,
        /// What usage would be.
        wanted: u64,
    },
}

impl SoftLimit {
    /// A limit that may be exceeded for `grace`.
    pub fn new(limit: u64, grace: Duration) -> Self {
        Self { limit, grace }
    }

    /// Whether usage may go from `before` to `after` at `now`; if so, the state afterwards and what to tell people.
    ///
    /// Usage may always fall. While it falls but stays above the limit, the clock goes on: grace is for the whole time
    /// above the limit. The start of the grace never moves once it is set, so a clock that steps back and forth
    /// neither gives more grace nor takes any. A refusal changes nothing.
    ///
    /// # Errors
    /// [`SoftExceeded`] if usage would grow above the limit after the grace, or without a time.
    pub fn decide(
        &self,
        state: SoftState,
        before: u64,
        after: u64,
        now: Option<Timestamp>,
    ) -> Result<(SoftState, Option<Crossing>), SoftExceeded> {
        let Self { limit, .. } = *self;
        if after <= limit {
            let event = state.over_since.map(|_| Crossing::Within);
            return Ok((SoftState::default(), event));
        }
        let grows = after > before;
        // A limit that was raised since has ended the time above it.
        let state = SoftState { over_since: state.over_since.filter(|_| before > limit) };
        let Some(now) = now else {
            return if grows {
                Err(SoftExceeded::NoTime { limit, wanted: after })
            } else {
                Ok((state, None))
            };
        };
        let since = state.over_since.unwrap_or(now);
        let hard_at = since.after(self.grace);
        if grows && now >= hard_at {
            return Err(SoftExceeded::GraceOver { limit, wanted: after, hard_at });
        }
        let event = state.over_since.is_none().then_some(Crossing::Over { hard_at });
        Ok((SoftState { over_since: Some(since) }, event))
    }

    /// Why `usage` must not stay as it is at `now`; `None` if it may.
    pub(super) fn exceeded(
        &self,
        state: SoftState,
        usage: u64,
        now: Option<Timestamp>,
    ) -> Option<SoftExceeded> {
        let Self { limit, grace } = *self;
        if usage <= limit {
            return None;
        }
        let Some(now) = now else { return Some(SoftExceeded::NoTime { limit, wanted: usage }) };
        let hard_at = state.over_since.unwrap_or(now).after(grace);
        (now >= hard_at).then_some(SoftExceeded::GraceOver { limit, wanted: usage, hard_at })
    }

    /// When the limit becomes hard; `None` while usage is within it.
    pub fn hard_at(&self, state: SoftState) -> Option<Timestamp> {
        state.over_since.map(|since| since.after(self.grace))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: SoftLimit = SoftLimit { limit: 10, grace: Duration::from_secs(5) };

    fn at(secs: u64) -> Option<Timestamp> {
        Some(Timestamp::from_secs(secs))
    }

    #[test]
    fn crossing_starts_the_clock_and_the_end_of_grace_makes_it_hard() {
        let (over, event) = LIMIT.decide(SoftState::default(), 8, 12, at(100)).unwrap();
        assert_eq!(event, Some(Crossing::Over { hard_at: Timestamp::from_secs(105) }));
        assert_eq!(LIMIT.decide(over, 12, 13, at(104)), Ok((over, None)));
        let refused = LIMIT.decide(over, 13, 14, at(105)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "14 is above the soft limit 10, which became hard at 105.000000000: release something first"
        );
        assert_eq!(LIMIT.decide(over, 13, 11, at(200)), Ok((over, None)), "usage may always fall");
    }

    #[test]
    fn falling_within_resets() {
        let (over, _) = LIMIT.decide(SoftState::default(), 0, 11, at(1)).unwrap();
        assert_eq!(LIMIT.decide(over, 11, 10, None), Ok((SoftState::default(), Some(Crossing::Within))));
    }

    #[test]
    fn without_a_time_a_soft_limit_is_hard() {
        let refused = LIMIT.decide(SoftState::default(), 0, 11, None);
        assert_eq!(refused, Err(SoftExceeded::NoTime { limit: 10, wanted: 11 }));
        assert!(LIMIT.decide(SoftState::default(), 0, 10, None).is_ok());
        assert!(LIMIT.decide(SoftState::default(), 20, 15, None).is_ok());
    }

    #[test]
    fn without_grace_a_soft_limit_is_hard() {
        assert!(SoftLimit::new(10, Duration::ZERO).decide(SoftState::default(), 0, 11, at(1)).is_err());
    }

    #[test]
    fn a_limit_lowered_below_usage_gives_its_grace_from_the_next_change() {
        let (over, event) = LIMIT.decide(SoftState::default(), 20, 19, at(7)).unwrap();
        assert_eq!((over.over_since, LIMIT.hard_at(over)), (at(7), at(12)));
        assert!(event.is_some());
    }

    #[test]
    fn a_limit_raised_above_usage_ends_the_grace() {
        let (over, _) = LIMIT.decide(SoftState::default(), 0, 12, at(1)).unwrap();
        let raised = SoftLimit::new(20, Duration::from_secs(5));
        let (again, event) = raised.decide(over, 12, 25, at(100)).unwrap();
        assert_eq!(again.over_since, at(100));
        assert_eq!(event, Some(Crossing::Over { hard_at: Timestamp::from_secs(105) }));
    }

    proptest! {
        /// The model keeps the whole history of usage and looks for the last time it went above the limit. Times
        /// jump both ways.
        #[test]
        fn grace_counts_from_the_last_crossing(steps in proptest::collection::vec((0..20u64, 0..30u64), 1..60)) {
            let (mut state, mut history) = (SoftState::default(), vec![(0u64, 0u64)]);
            for (after, now) in steps {
                let before = history.last().unwrap().0;
                let crossing = history.iter().rposition(|(usage, _)| *usage <= 10).unwrap();
                let since = history.get(crossing + 1).map_or(now, |(_, time)| *time);
                let allowed = after <= 10 || after <= before || now < since + 5;
                let decided = LIMIT.decide(state, before, after, at(now));
                prop_assert_eq!(decided.is_ok(), allowed);
                if let Ok((next, event)) = decided {
                    prop_assert_eq!(event.is_some(), (before > 10) != (after > 10));
                    state = next;
                    history.push((after, now));
                }
            }
        }
    }
}
