//! Budgets: periods, months, spending.

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

const DAY: u64 = 86_400;

/// The days on which months start, from 1970 until the end of all time and the month after, counted one by one.
fn month_starts() -> Vec<u64> {
    let (mut starts, mut day) = (vec![0u64], 0u64);
    for year in 1970..2555u64 {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        for length in [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            day += length;
            starts.push(day);
        }
    }
    starts
}

#[test]
fn every_day_is_in_its_month() {
    let (budget, starts) = (Budget::monthly(1), month_starts());
    for month in starts.windows(2) {
        for day in month[0]..month[1].min(Timestamp::MAX.as_secs() / DAY) {
            for second in [day * DAY, day * DAY + DAY - 1] {
                let bounds = (budget.period_start(at(second)), budget.period_end(at(second)));
                assert_eq!(bounds, (at(month[0] * DAY), at(month[1] * DAY)), "day {day}");
            }
        }
    }
    // 2024-02-29 is in a month that ends on 2024-03-01.
    assert_eq!(budget.period_end(at(1_709_164_800)), at(1_709_251_200));
    assert_eq!(budget.period_end(Timestamp::MAX), Timestamp::MAX);
}

#[test]
fn a_month_is_written_as_a_word_and_a_length_as_before() {
    let month = Budget::monthly(7);
    let text = serde_json::to_string(&month).unwrap();
    assert_eq!(text, r#"{"unitSeconds":7,"period":"month","start":0}"#);
    assert_eq!(serde_json::from_str::<Budget>(&text).unwrap(), month);
    let old = r#"{"unitSeconds":7,"period":{"secs":60,"nanos":0},"start":5000000000}"#;
    let fixed = Budget::new(7, Duration::from_secs(60), at(5)).unwrap();
    assert_eq!(serde_json::from_str::<Budget>(old).unwrap(), fixed);
    assert_eq!(serde_json::to_string(&fixed).unwrap(), old);
    assert!(serde_json::from_str::<Budget>(r#"{"unitSeconds":7,"period":"week"}"#).is_err());
    assert!(serde_json::from_str::<Budget>(r#"{"unitSeconds":7,"period":{"secs":0,"nanos":0}}"#).is_err());
}

proptest! {
    /// The model goes on day by day, and begins anew on the first of each month.
    #[test]
    fn use_in_months_is_the_sum_of_days(
        first in 0..200_000u64, steps in proptest::collection::vec((0..40u64, 0..5u64), 1..20),
    ) {
        let (budget, starts) = (Budget::monthly(40), month_starts());
        let (mut state, mut day, mut in_use, mut spent) = (BudgetState::default(), first, 0u64, 0u64);
        for (pause, next) in steps {
            for _ in 0..pause {
                spent += in_use;
                day += 1;
                if starts.binary_search(&day).is_ok() {
                    spent = 0;
                }
            }
            let now = at(day * DAY);
            prop_assert_eq!(budget.advance(state, now).spent, u128::from(spent * DAY) * NANOS);
            state = budget.record(state, now, next);
            in_use = next;
        }
    }

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
