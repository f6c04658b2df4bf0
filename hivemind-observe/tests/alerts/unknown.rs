//! What nobody knows: series that are gone, and samples that could not be had.

use std::collections::BTreeMap;
use std::time::Duration;

use hivemind_observe::{AlertPhase, AlertRule, Sample, WhenUnknown};

use crate::lifecycle::{Restarting, degrees, hot};

use AlertPhase::{Firing, Inactive, Pending};
use WhenUnknown::{Fire, Keep, Resolve};

/// What was seen in a second.
#[derive(Clone, Copy)]
enum Seen {
    Hot,
    Cold,
    Nothing,
    Failure,
}
use Seen::{Cold, Failure, Hot, Nothing};

fn story(rule: &AlertRule, seen: &[Seen]) -> Vec<(u64, AlertPhase)> {
    let mut alerts = Restarting::new(rule.clone());
    let mut told = Vec::new();
    for (second, seen) in (0..).zip(seen) {
        let samples = match seen {
            Hot => Some(degrees(Some(99.0))),
            Cold => Some(degrees(Some(20.0))),
            Nothing => Some(Vec::new()),
            Failure => None,
        };
        told.extend(alerts.at(second, samples.as_deref()).iter().map(|one| (second, one.to)));
    }
    told
}

/// `pitfall_02` of observability: an error or a gap is not the end of an alert, unless somebody said so.
#[test]
fn pitfall_02_what_is_unknown_counts_as_each_rule_says() {
    let missing = |what| hot().when_missing(what).held_for(Duration::from_secs(2));
    let failed = |what| hot().when_failed(what).held_for(Duration::from_secs(2));
    let (default, plain) = (hot().held_for(Duration::from_secs(2)), [(0, Pending), (2, Firing)]);
    for (rule, unknown, fires, pends) in [
        // What fires; then what is pending for a second, is unknown for three, and holds again for three.
        (
            missing(Resolve),
            Nothing,
            &[(3, Inactive)][..],
            &[(0, Pending), (2, Inactive), (5, Pending), (7, Firing)][..],
        ),
        (missing(Keep), Nothing, &[], &[(0, Pending), (5, Firing)]),
        (missing(Fire), Nothing, &[], &[(0, Pending), (2, Firing)]),
        (
            failed(Resolve),
            Failure,
            &[(3, Inactive)],
            &[(0, Pending), (2, Inactive), (5, Pending), (7, Firing)],
        ),
        (failed(Keep), Failure, &[], &[(0, Pending), (5, Firing)]),
        (failed(Fire), Failure, &[], &[(0, Pending), (2, Firing)]),
        (
            default.clone(),
            Nothing,
            &[(3, Inactive)],
            &[(0, Pending), (2, Inactive), (5, Pending), (7, Firing)],
        ),
        (default, Failure, &[], &[(0, Pending), (5, Firing)]),
    ] {
        let firing = story(&rule, &[Hot, Hot, Hot, unknown, unknown, unknown]);
        assert_eq!(firing, [&plain, fires].concat(), "{rule:?}");
        let pending = story(&rule, &[Hot, Hot, unknown, unknown, unknown, Hot, Hot, Hot]);
        assert_eq!(pending, pends, "{rule:?}");
    }
}

#[test]
fn a_gap_within_the_time_it_goes_on_does_not_shorten_it() {
    let lasting = hot().when_missing(Keep).keep_firing_for(Duration::from_secs(2));
    let told = story(&lasting, &[Hot, Nothing, Nothing, Nothing, Cold, Cold, Cold]);
    assert_eq!(told, [(0, Firing), (5, Inactive)]);
}

#[test]
fn a_rule_can_fire_because_there_is_nothing_at_all() {
    let absent = hot().matching("room", "server").when_missing(Fire).held_for(Duration::from_secs(1));
    let mut alerts = Restarting::new(absent.clone());
    let told: Vec<_> = (0..3).flat_map(|second| alerts.at(second, Some(&[]))).collect();
    assert_eq!(told.iter().map(|one| one.to).collect::<Vec<_>>(), [Pending, Firing]);
    assert_eq!((told[1].labels["room"].as_str(), told[1].value), ("server", None));
    // A series of another room says nothing.
    assert!(alerts.at(3, Some(&degrees(Some(20.0)))).is_empty());
    let server = BTreeMap::from([("room".to_owned(), "server".to_owned())]);
    let server = [Sample::new("degrees", server, 20.0)];
    assert!(alerts.at(4, Some(&server))[0].resolved());
    // A failure is not nothing.
    assert!(alerts.at(5, None).is_empty() && alerts.1.firing(absent.name()).is_empty());
}

#[test]
fn a_failure_can_fire_too_and_is_over_with_it() {
    let told = story(&hot().when_failed(Fire), &[Cold, Failure, Failure, Cold, Failure, Nothing]);
    assert_eq!(told, [(1, Firing), (3, Inactive), (4, Firing), (5, Inactive)]);
}
