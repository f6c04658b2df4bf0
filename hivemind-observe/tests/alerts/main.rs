//! When an alert fires, goes on and resolves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod faults;
mod lifecycle;
mod unknown;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::{Clock, ManualClock, MemoryStore, Metric, Recorder, Timestamp, block_on};
use hivemind_observe::{
    AlertEngine, AlertManager, AlertPhase, AlertRule, AlertState, Comparison, Registry, Sample, Transition,
};
use proptest::prelude::*;

const READY: Metric = Metric::new("nodes_ready", "Nodes that are ready.");

fn rule() -> AlertRule {
    AlertRule::new("node-down".parse().unwrap(), "nodes_ready", Comparison::Below, 5.0).unwrap()
}

fn samples(value: Option<f64>) -> Vec<Sample> {
    value.map(|value| Sample::new("nodes_ready", BTreeMap::new(), value)).into_iter().collect()
}

/// Evaluates one value a second and tells what changed, as `second:phase`.
fn story(rule: AlertRule, values: &[Option<f64>]) -> Vec<String> {
    let (engine, mut state) = (AlertEngine::new([rule]), AlertState::default());
    let mut told = Vec::new();
    for (second, value) in (0..).zip(values) {
        // A restart at every step: the state is all that survives.
        state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        for change in engine.evaluate(&mut state, Timestamp::from_secs(second), &samples(*value)) {
            told.push(format!("{second}:{}", change.to));
        }
    }
    told
}

#[test]
fn fires_at_once_without_for_and_resolves() {
    assert_eq!(story(rule(), &[Some(5.0), Some(4.0), Some(4.0), Some(5.0)]), ["1:firing", "3:inactive"]);
}

#[test]
fn waits_for_as_long_as_it_is_told_also_across_restarts() {
    let patient = rule().held_for(Duration::from_secs(2));
    let down = [Some(4.0), Some(4.0), Some(4.0), Some(4.0)];
    assert_eq!(story(patient.clone(), &down), ["0:pending", "2:firing"]);
    let blip = [Some(4.0), Some(5.0), Some(4.0), Some(4.0), Some(4.0)];
    assert_eq!(story(patient, &blip), ["0:pending", "1:inactive", "2:pending", "4:firing"]);
}

#[test]
fn keeps_firing_for_a_while_after_the_condition_ended() {
    let lasting = rule().keep_firing_for(Duration::from_secs(2));
    let flapping = [Some(4.0), Some(5.0), Some(4.0), Some(5.0), Some(5.0), Some(5.0)];
    assert_eq!(story(lasting, &flapping), ["0:firing", "4:inactive"]);
}

#[test]
fn a_series_that_is_gone_or_no_number_does_not_hold() {
    assert_eq!(story(rule(), &[Some(4.0), None]), ["0:firing", "1:inactive"]);
    assert_eq!(story(rule(), &[Some(f64::NAN)]), [""; 0]);
    let unequal = AlertRule::new("x".parse().unwrap(), "nodes_ready", Comparison::NotEqual, 5.0).unwrap();
    assert_eq!(story(unequal, &[Some(f64::NAN), Some(6.0)]), ["1:firing"]);
    assert!(AlertRule::new("x".parse().unwrap(), "m", Comparison::Equal, f64::NAN).is_err());
}

#[test]
fn each_series_is_an_alert_of_its_own_and_a_removed_rule_resolves() {
    let series = |tenant: &str, value| {
        Sample::new("nodes_ready", BTreeMap::from([("tenant".to_owned(), tenant.to_owned())]), value)
    };
    let (engine, mut state) = (AlertEngine::new([rule()]), AlertState::default());
    let now = Timestamp::from_secs(1);
    let fired = engine.evaluate(&mut state, now, &[series("a", 4.0), series("b", 6.0), series("c", 0.0)]);
    assert_eq!(fired.iter().map(|t| t.labels["tenant"].as_str()).collect::<Vec<_>>(), ["a", "c"]);
    let only_a = rule().matching("tenant", "a");
    let resolved =
        AlertEngine::new([only_a]).evaluate(&mut state, now, &[series("a", 4.0), series("c", 0.0)]);
    assert_eq!(resolved.iter().map(|t| t.labels["tenant"].as_str()).collect::<Vec<_>>(), ["c"]);
    let ended = AlertEngine::default().evaluate(&mut state, now, &[]);
    assert!(ended.len() == 1 && ended[0].resolved());
    assert_eq!(state.totals(rule().name()).resolved, 2);
}

#[test]
fn two_replicas_on_one_store_tell_each_change_once() {
    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ManualClock::new(Timestamp::from_secs(1))));
    let registry = Registry::new();
    registry.gauge(&READY, None, &[]).set(3.0);
    let manager =
        || AlertManager::new(store.clone(), clock.clone(), registry.clone(), AlertEngine::new([rule()]));
    let told: Vec<Transition> =
        [manager(), manager()].iter().flat_map(|one| block_on(one.tick()).unwrap()).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].to, told[0].at), (AlertPhase::Firing, clock.now()));
    let state = block_on(manager().state()).unwrap();
    assert_eq!((state.totals(rule().name()).fired, state.firing(rule().name()).len()), (1, 1));
}

proptest! {
    /// Fires exactly when the last `held_for + 1` values were all below the threshold, as in Prometheus.
    #[test]
    fn fires_like_a_naive_model(values in prop::collection::vec(0u8..8, 1..40), wait in 0u64..4) {
        let (engine, mut state) =
            (AlertEngine::new([rule().held_for(Duration::from_secs(wait))]), AlertState::default());
        for now in 0..values.len() {
            engine.evaluate(&mut state, Timestamp::from_secs(now as u64), &samples(Some(f64::from(values[now]))));
            let run = values[..=now].iter().rev().take_while(|value| **value < 5).count() as u64;
            prop_assert_eq!(state.firing(rule().name()).len(), usize::from(run > wait));
        }
    }
}

#[test]
fn more_rules_than_fit_into_a_transaction_are_brought_up_one_after_the_other() {
    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ManualClock::new(Timestamp::from_secs(1))));
    let registry = Registry::new();
    registry.gauge(&READY, None, &[]).set(3.0);
    let rules = (0..300).map(|number| {
        let name = format!("rule-{number}").parse().unwrap();
        AlertRule::new(name, "nodes_ready", Comparison::Below, 5.0).unwrap()
    });
    let alerts = AlertManager::new(store, clock, registry.clone(), AlertEngine::new(rules));
    let fired = block_on(alerts.tick()).unwrap();
    assert!(fired.len() == 300 && fired.iter().all(Transition::fired));
    assert!(block_on(alerts.tick()).unwrap().is_empty());
    registry.gauge(&READY, None, &[]).set(5.0);
    assert_eq!(block_on(alerts.tick()).unwrap().iter().filter(|one| one.resolved()).count(), 300);
}

/// What a tenant puts into labels takes no room from other rules, nor all of a rule from other tenants: its own are refused and counted.
#[test]
fn alerts_with_long_labels_fit_into_a_store_as_far_as_they_do() {
    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ManualClock::new(Timestamp::from_secs(1))));
    let registry = Registry::new();
    let long = "\u{1}".repeat(4000);
    for number in 0..100 {
        let labels = [("number", number.to_string()), ("evil", long.clone())];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        registry.gauge(&READY, Some(&"acme".parse().unwrap()), &labels).set(1.0);
    }
    for number in 0..10 {
        let labels = [("number", number.to_string())];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        registry.gauge(&READY, Some(&"zeta".parse().unwrap()), &labels).set(1.0);
    }
    let rules = (0..5).map(|number| {
        let name = format!("rule-{number}").parse().unwrap();
        AlertRule::new(name, "nodes_ready", Comparison::Below, 5.0).unwrap()
    });
    let alerts = AlertManager::new(store, clock, registry, AlertEngine::new(rules));
    let fired = block_on(alerts.tick()).unwrap();
    let state = block_on(alerts.state()).unwrap();
    for number in 0..5 {
        let name = format!("rule-{number}").parse().unwrap();
        let fires = state.firing(&name).len();
        assert!(fires > 15 && fires + state.refused(&name) == 110, "{fires}");
        let others = state.firing(&name).into_iter().filter(|labels| labels["tenant"] == "zeta");
        assert_eq!(others.count(), 10);
        assert_eq!(fired.iter().filter(|one| one.rule == name).count(), fires);
    }
}
