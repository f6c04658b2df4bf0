use proptest::prelude::*;

use super::*;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn trend(keep: u16, events: &[(u64, u64)]) -> Trend {
    let empty = Trend::new(Duration::from_secs(10), keep).unwrap();
    events.iter().fold(empty, |trend, (secs, used)| trend.observe(UsageEvent::new(at(*secs), *used)))
}

fn peaks(trend: &Trend) -> Vec<(u64, u64)> {
    trend.high_waters().map(|high| (high.start.as_secs(), high.peak)).collect()
}

#[test]
fn a_window_starts_with_what_is_in_use() {
    let trend = trend(4, &[(1, 5), (2, 9), (3, 7), (31, 2)]);
    assert_eq!(peaks(&trend), [(0, 9), (10, 7), (20, 7), (30, 7)]);
    assert_eq!((trend.peak(), trend.used()), (9, 2));
    assert_eq!(peaks(&trend.advance(at(1000))), [(970, 2), (980, 2), (990, 2), (1000, 2)]);
}

#[test]
fn an_event_from_the_past_changes_only_the_present() {
    assert_eq!(peaks(&trend(4, &[(1, 5), (12, 1), (2, 8)])), [(0, 5), (10, 8)]);
}

#[test]
fn a_straight_rise_is_foreseen() {
    let rising = trend(8, &[(0, 10), (10, 20), (20, 30)]);
    assert_eq!(rising.exhausted_at(100), Some(at(90)));
    assert_eq!(rising.exhausted_at(101), Some(at(100)));
    assert_eq!(rising.exhausted_at(30), Some(at(20)), "reached already");
    assert_eq!(trend(8, &[(0, 30), (10, 20)]).advance(at(35)).exhausted_at(100), None, "falls");
    assert_eq!(trend(8, &[(0, 30)]).exhausted_at(100), None, "one window is no line");
}

#[test]
fn the_largest_numbers_neither_wrap_nor_panic() {
    let steep = trend(2, &[(0, 0), (10, u64::MAX - 1)]);
    assert_eq!(steep.exhausted_at(u64::MAX), Some(at(20)));
    let mut flat = Trend::new(Duration::from_nanos(1), 256).unwrap();
    for step in 0..256u64 {
        flat = flat.observe(UsageEvent::new(Timestamp::from_nanos(u64::MAX - 255 + step), step / 255));
    }
    assert_eq!(flat.exhausted_at(u64::MAX), None, "beyond the end of time");
    assert_eq!(
        flat.observe(UsageEvent::new(Timestamp::MAX, 0)).peak(),
        1,
        "a second event in the last window"
    );
}

#[test]
fn useless_windows_are_refused() {
    assert!(Trend::new(Duration::ZERO, 4).is_err());
    assert!(Trend::new(Duration::from_secs(1), 1).is_err() && Trend::new(Duration::MAX, 4).is_err());
    assert!(serde_json::from_str::<Trend>(r#"{"window":{"secs":1,"nanos":0},"keep":999}"#).is_err());
}

proptest! {
    /// The model looks at usage in every second of each window.
    #[test]
    fn peaks_are_those_of_every_second(
        keep in 2..6u16, steps in proptest::collection::vec((0..25u64, 0..100u64), 1..30),
    ) {
        let (mut now, mut events) = (0u64, Vec::new());
        for (pause, used) in steps {
            now += pause;
            events.push((now, used));
        }
        let found = trend(keep, &events);
        let first = events[0].0;
        for high in found.high_waters() {
            let start = high.start.as_secs();
            let used_at = |second: u64| {
                let before = events.iter().rfind(|(when, _)| *when <= second);
                before.map_or(0, |(_, used)| *used)
            };
            let within = events.iter().filter(|(when, _)| (start..start + 10).contains(when)).map(|(_, used)| *used);
            // Several events of one second all count.
            let seconds = (start.max(first)..(start + 10).min(now + 1)).map(used_at);
            let carried = if start > first { used_at(start - 1) } else { 0 };
            prop_assert_eq!(high.peak, seconds.chain(within).chain([carried]).max().unwrap());
        }
        let windows = (now / 10 - first / 10 + 1).min(u64::from(keep));
        prop_assert_eq!(found.high_waters().count(), usize::try_from(windows).unwrap());
        let copy: Trend = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
        prop_assert_eq!(copy, found);
    }

    /// The model fits the line in fractions and tries one window after the other.
    #[test]
    fn the_forecast_is_the_first_window_of_the_line(
        list in proptest::collection::vec(0..40u64, 2..8), limit in 1..200u64,
    ) {
        let events: Vec<_> = (0..).zip(&list).map(|(n, used)| (n * 10, *used)).collect();
        let found = trend(8, &events);
        // Each window starts with what the one before left.
        let ys: Vec<i64> = found.high_waters().map(|high| i64::try_from(high.peak).unwrap()).collect();
        let n = i64::try_from(ys.len()).unwrap();
        let (mean_x2, sum_y) = (n - 1, ys.iter().sum::<i64>());
        let centred = |x: i64| 2 * x - mean_x2;
        let rise: i64 = (0..).zip(&ys).map(|(x, y)| centred(x) * y).sum();
        let run: i64 = (0..n).map(|x| centred(x) * centred(x)).sum();
        let limit_i = i64::try_from(limit).unwrap();
        // y(x) = sum_y / n + rise / run * centred(x) >= limit, times n and run
        let reaches = |x: i64| sum_y * run + n * rise * centred(x) >= limit_i * n * run;
        let expected = if ys[ys.len() - 1] >= limit_i { Some(n - 1) }
            else if rise <= 0 { None }
            else { (n - 1..1_000_000).find(|x| reaches(*x)) };
        let expected = expected.map(|x| at(u64::try_from(x).unwrap() * 10));
        prop_assert_eq!(found.exhausted_at(limit), expected);
    }
}
