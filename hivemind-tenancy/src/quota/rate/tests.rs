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
