//! From pending to firing to over: hysteresis, clocks, limits, and what flaps.

use std::collections::BTreeMap;
use std::time::Duration;

use hivemind_core::Timestamp;
use hivemind_observe::{
    AlertEngine, AlertPhase, AlertRule, AlertState, Comparison, InvalidRule, Sample, Transition,
};
use proptest::prelude::*;

pub(crate) fn hot() -> AlertRule {
    AlertRule::new("hot".parse().unwrap(), "degrees", Comparison::Above, 90.0).unwrap()
}

pub(crate) fn degrees(value: Option<f64>) -> Vec<Sample> {
    value.map(|value| Sample::new("degrees", BTreeMap::new(), value)).into_iter().collect()
}

/// An engine whose state is all that is left after each step.
pub(crate) struct Restarting(pub(crate) AlertEngine, pub(crate) AlertState);

impl Restarting {
    pub(crate) fn new(rule: AlertRule) -> Self {
        Self(AlertEngine::new([rule]), AlertState::default())
    }

    pub(crate) fn at(&mut self, second: u64, samples: Option<&[Sample]>) -> Vec<Transition> {
        let now = Timestamp::from_secs(second);
        self.1 = serde_json::from_str(&serde_json::to_string(&self.1).unwrap()).unwrap();
        match samples {
            Some(samples) => self.0.evaluate(&mut self.1, now, samples),
            None => self.0.evaluate_failed(&mut self.1, now),
        }
    }
}

/// Values and when they were seen; when it fires and when it is over, by their place.
fn story(rule: AlertRule, values: impl IntoIterator<Item = (u64, f64)>) -> Vec<(usize, AlertPhase)> {
    let mut alerts = Restarting::new(rule);
    let mut told = Vec::new();
    for (place, (second, value)) in values.into_iter().enumerate() {
        told.extend(alerts.at(second, Some(&degrees(Some(value)))).iter().map(|one| (place, one.to)));
    }
    told
}

use AlertPhase::{Firing, Inactive, Pending};

#[test]
fn a_value_about_the_threshold_is_one_alert_if_it_clears_elsewhere() {
    let values = || [91.0, 89.0, 91.0, 81.0, 80.0, 89.0, 91.0].into_iter().zip(0..).map(|(v, at)| (at, v));
    let plain = [(0, Firing), (1, Inactive), (2, Firing), (3, Inactive), (6, Firing)];
    assert_eq!(story(hot(), values()), plain);
    assert_eq!(story(hot().clears_at(80.0).unwrap(), values()), [(0, Firing), (4, Inactive), (6, Firing)]);
    // What is pending has not begun.
    let patient = hot().clears_at(80.0).unwrap().held_for(Duration::from_secs(2));
    assert_eq!(
        story(patient, [(0, 91.0), (1, 89.0), (2, 91.0)]),
        [(0, Pending), (1, Inactive), (2, Pending)]
    );
}

#[test]
fn an_alert_that_would_clear_before_it_fires_is_refused() {
    let rule = |comparison| AlertRule::new("x".parse().unwrap(), "m", comparison, 5.0).unwrap();
    for (comparison, right, wrong) in [
        (Comparison::Above, 4.0, 6.0),
        (Comparison::AtLeast, 5.0, 5.1),
        (Comparison::Below, 6.0, 4.0),
        (Comparison::AtMost, 5.0, 4.9),
    ] {
        assert!(rule(comparison).clears_at(right).is_ok());
        for wrong in [wrong, f64::NAN] {
            let refused = rule(comparison).clears_at(wrong).unwrap_err();
            assert!(matches!(refused, InvalidRule::ClearsFirst { .. }), "{comparison:?} {wrong}");
        }
    }
    assert!(
        rule(Comparison::Equal).clears_at(5.0).is_err() && rule(Comparison::NotEqual).clears_at(5.0).is_err()
    );
}

/// `pitfall_07` of observability: a clock that jumps, either way, and a long time in which nobody looked.
#[test]
fn pitfall_07_time_that_nobody_saw_counts_for_nothing() {
    let rule = || hot().held_for(Duration::from_secs(600)).keep_firing_for(Duration::from_secs(600));
    // Held for 720 seconds, then over; 10 seconds apart.
    let values = |place: u64| if place < 72 { 91.0 } else { 20.0 };
    let told = |jump_at: u64, jump: i64| {
        let seconds = (0..200).map(|place| {
            let second = 100_000 + place * 10;
            (if place < jump_at { second } else { second.saturating_add_signed(jump) }, values(place))
        });
        story(rule(), seconds)
    };
    let steady = told(0, 0);
    assert_eq!(steady, [(0, Pending), (60, Firing), (131, Inactive)]);
    for jump in [-3600, -90_000, 3600, 86_400] {
        for jump_at in [1, 30, 59, 61, 73, 100, 130] {
            let jumped = told(jump_at, jump);
            assert_eq!(jumped.len(), 3, "{jump} at {jump_at}: {jumped:?}");
            for ((place, phase), (expected, same)) in jumped.iter().zip(&steady) {
                assert_eq!(phase, same);
                // Give or take the minute to which it is written, or, forwards, the five that are not yet a gap.
                let apart = (*place as i64 - *expected as i64) * 10;
                let allowed = if jump < 0 { 0..=70 } else { -300..=0 };
                assert!(allowed.contains(&apart), "{jump} at {jump_at}: {apart} seconds");
            }
        }
    }
}

/// `pitfall_23` of observability: over its limit a rule keeps what it has.
#[test]
fn pitfall_23_over_the_limit_what_is_there_stays() {
    let mut alerts = Restarting::new(hot().limited_to(2));
    let rooms = |names: &[&str]| {
        let labels = |name: &str| BTreeMap::from([("room".to_owned(), name.to_owned())]);
        names.iter().map(|name| Sample::new("degrees", labels(name), 99.0)).collect::<Vec<_>>()
    };
    let told = |changes: Vec<Transition>| {
        changes.iter().map(|one| format!("{}:{}", one.labels["room"], one.to)).collect::<Vec<_>>()
    };
    let name = hot().name().clone();
    assert_eq!(told(alerts.at(0, Some(&rooms(&["m", "n"])))), ["m:firing", "n:firing"]);
    assert!(alerts.at(1, Some(&rooms(&["a", "b", "m", "n", "z"]))).is_empty());
    assert_eq!(alerts.1.refused(&name), 3);
    let next = told(alerts.at(2, Some(&rooms(&["a", "b", "n"]))));
    assert_eq!(next, ["m:inactive"], "an alert that ends makes room from then on");
    assert_eq!(told(alerts.at(3, Some(&rooms(&["a", "b", "n"])))), ["a:firing"]);
    assert_eq!(alerts.1.refused(&name), 1);
    alerts.at(4, Some(&[]));
    assert_eq!((alerts.1.refused(&name), alerts.1.firing(&name).len()), (0, 0));
}

/// What a tenant asks for in vain makes nobody forget that something of another's flaps.
#[test]
fn what_is_refused_makes_no_room() {
    let of = |tenant: &str, number: usize, value| {
        let labels = [("tenant", tenant.to_owned()), ("number", number.to_string())];
        Sample::new("degrees", labels.map(|(name, value)| (name.to_owned(), value)).into(), value)
    };
    let mut alerts = Restarting::new(hot().limited_to(4).flapping(2, Duration::from_secs(600)));
    let mut flapping = Vec::new();
    for second in 0..4 {
        let mut samples: Vec<_> = (0..10).map(|number| of("loud", number, 99.0)).collect();
        samples.push(of("quiet", 0, if second % 2 == 0 { 99.0 } else { 20.0 }));
        let told = alerts.at(second, Some(&samples));
        flapping.extend(told.into_iter().filter(|one| one.flapping).map(|one| one.labels["tenant"].clone()));
    }
    assert_eq!(flapping, ["quiet"]);
}

/// `pitfall_03` of observability: what goes up and down all day is told a few times, and once that it flaps.
#[test]
fn pitfall_03_a_storm_of_notices_becomes_a_few() {
    let rule = hot().flapping(3, Duration::from_secs(600));
    let wave = |second: u64| if second < 86_400 && (second / 60).is_multiple_of(2) { 99.0 } else { 20.0 };
    let mut alerts = Restarting::new(rule);
    let mut told = Vec::new();
    for second in (0..90_000).step_by(15) {
        told.extend(
            alerts.at(second, Some(&degrees(Some(wave(second))))).into_iter().map(|one| (second, one)),
        );
    }
    let fired: Vec<_> = told.iter().filter(|(_, one)| one.fired()).collect();
    assert_eq!(
        fired.iter().map(|(second, one)| (*second, one.flapping)).collect::<Vec<_>>(),
        [(0, false), (120, false), (240, true)]
    );
    // It was last seen hot in second 86,325, and is over ten quiet minutes later.
    let last = told.last().unwrap();
    assert!(last.1.resolved() && last.0 == 86_325 + 600, "{}", last.0);
    assert_eq!(told.len(), 6);
    // Nothing is remembered for ever.
    let text = serde_json::to_string(&alerts.1).unwrap();
    assert!(text.contains(r#""instances":[]"#), "{text}");
}

proptest! {
    /// Beside a model that looks at all that was seen: hysteresis, `for` and `keep_firing_for` together.
    #[test]
    fn phases_are_those_of_a_model_with_the_whole_past(
        values in prop::collection::vec(prop_oneof![Just(95.0), Just(85.0), Just(70.0), Just(f64::NAN)], 1..60),
        wait in 0_u64..4,
        keep in 0_u64..4,
    ) {
        let rule = hot()
            .clears_at(80.0)
            .unwrap()
            .held_for(Duration::from_secs(wait))
            .keep_firing_for(Duration::from_secs(keep));
        let mut alerts = Restarting::new(rule.clone());
        let mut fires = false;
        let mut fired_at = 0;
        for now in 0..values.len() {
            alerts.at(now as u64, Some(&degrees(Some(values[now]))));
            let hot_for = values[..=now].iter().rev().take_while(|value| **value > 90.0).count() as u64;
            // The last moment since it fired at which it was above where it clears.
            let warm = (fired_at..=now).rev().find(|at| values[*at] > 80.0);
            fires = if fires {
                warm.is_some_and(|at| at == now || ((now - at) as u64) < keep)
            } else {
                hot_for > wait
            };
            if fires && alerts.1.totals(rule.name()).fired > 0 && hot_for == wait + 1 {
                fired_at = now;
            }
            prop_assert_eq!(alerts.1.firing(rule.name()).len(), usize::from(fires), "at {}", now);
        }
    }
}
