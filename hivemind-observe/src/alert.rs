//! Alerts as a pure state machine: samples and the time in, transitions out. No I/O, no clock, no async.

mod rule;

use std::collections::BTreeMap;
use std::fmt;

use hivemind_core::{AlertName, Stored, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::rule::{AlertRule, Comparison, InvalidRule};
use crate::Sample;

/// How far an alert has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums, reason = "Prometheus' three states")]
pub enum AlertPhase {
    /// The condition does not hold.
    Inactive,
    /// The condition holds, not yet for as long as the rule asks.
    Pending,
    /// The condition has held for as long as the rule asks.
    Firing,
}

impl fmt::Display for AlertPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        })
    }
}

/// An alert that changed its phase.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Transition {
    /// The rule.
    pub rule: AlertName,
    /// The labels of the series it is about.
    pub labels: BTreeMap<String, String>,
    /// The phase before.
    pub from: AlertPhase,
    /// The phase now.
    pub to: AlertPhase,
    /// When it changed.
    pub at: Timestamp,
    /// The value that did it; `None` if the series is gone.
    pub value: Option<f64>,
}

impl Transition {
    /// Whether people should hear that something is wrong.
    pub fn fired(&self) -> bool {
        self.to == AlertPhase::Firing
    }

    /// Whether people should hear that it is over.
    pub fn resolved(&self) -> bool {
        self.from == AlertPhase::Firing && self.to == AlertPhase::Inactive
    }
}

/// One series that a rule is about, while its condition holds or held lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Instance {
    labels: BTreeMap<String, String>,
    phase: AlertPhase,
    /// Since when it is in that phase.
    since: Timestamp,
    /// When the condition last held.
    held: Timestamp,
}

/// How often a rule fired and resolved, since its state began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AlertTotals {
    /// Transitions into firing.
    pub fired: u64,
    /// Transitions out of firing.
    pub resolved: u64,
}

/// Everything an engine remembers between evaluations: keep it, and a restart changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AlertState {
    rules: BTreeMap<AlertName, RuleState>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct RuleState {
    instances: Vec<Instance>,
    totals: AlertTotals,
}

impl Stored for AlertState {
    const KIND: &'static str = "alert state";
}

impl AlertState {
    /// How often `rule` fired and resolved.
    pub fn totals(&self, rule: &AlertName) -> AlertTotals {
        self.rules.get(rule).map(|state| state.totals).unwrap_or_default()
    }

    /// The labels of what fires by `rule` now.
    pub fn firing(&self, rule: &AlertName) -> Vec<&BTreeMap<String, String>> {
        let instances = self.rules.get(rule).map(|state| state.instances.as_slice()).unwrap_or_default();
        instances.iter().filter(|one| one.phase == AlertPhase::Firing).map(|one| &one.labels).collect()
    }
}

/// Evaluates rules.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::time::Duration;
/// use hivemind_core::Timestamp;
/// use hivemind_observe::{AlertEngine, AlertRule, AlertState, Comparison, Sample};
///
/// let rule = AlertRule::new("node-down".parse()?, "nodes_ready", Comparison::Below, 5.0)?
///     .held_for(Duration::from_secs(30));
/// let (engine, mut state) = (AlertEngine::new([rule]), AlertState::default());
/// let ready = |count| [Sample::new("nodes_ready", BTreeMap::new(), count)];
///
/// engine.evaluate(&mut state, Timestamp::from_secs(0), &ready(4.0));
/// let later = engine.evaluate(&mut state, Timestamp::from_secs(30), &ready(4.0));
/// assert!(later[0].fired());
/// let after = engine.evaluate(&mut state, Timestamp::from_secs(45), &ready(5.0));
/// assert!(after[0].resolved());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct AlertEngine {
    rules: BTreeMap<AlertName, AlertRule>,
}

impl AlertEngine {
    /// An engine for `rules`; of two with the same name the later counts.
    pub fn new(rules: impl IntoIterator<Item = AlertRule>) -> Self {
        Self { rules: rules.into_iter().map(|rule| (rule.name().clone(), rule)).collect() }
    }

    /// Brings `state` up to `now`, when `samples` were taken; returns what changed, in the order of rules and labels.
    ///
    /// What fires by a rule that is no longer there resolves.
    pub fn evaluate(&self, state: &mut AlertState, now: Timestamp, samples: &[Sample]) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for (name, rule) in &self.rules {
            let seen: BTreeMap<_, _> = samples
                .iter()
                .filter(|sample| rule.is_about(sample))
                .map(|sample| (&sample.labels, sample.value))
                .collect();
            let old = state.rules.entry(name.clone()).or_default();
            evaluate_rule(rule, old, now, &seen, &mut transitions);
        }
        let gone: Vec<_> =
            state.rules.keys().filter(|name| !self.rules.contains_key(*name)).cloned().collect();
        for name in gone {
            let Some(old) = state.rules.get_mut(&name) else { continue };
            for instance in std::mem::take(&mut old.instances) {
                change(&name, &mut old.totals, &instance, AlertPhase::Inactive, now, None, &mut transitions);
            }
        }
        transitions
    }
}

fn evaluate_rule(
    rule: &AlertRule,
    state: &mut RuleState,
    now: Timestamp,
    seen: &BTreeMap<&BTreeMap<String, String>, f64>,
    out: &mut Vec<Transition>,
) {
    let mut instances: BTreeMap<_, _> =
        std::mem::take(&mut state.instances).into_iter().map(|one| (one.labels.clone(), one)).collect();
    for (labels, value) in seen {
        if rule.holds(*value) {
            instances.entry((*labels).clone()).or_insert_with(|| Instance {
                labels: (*labels).clone(),
                phase: AlertPhase::Inactive,
                since: now,
                held: now,
            });
        }
    }
    for mut instance in instances.into_values() {
        let value = seen.get(&instance.labels).copied();
        let holds = value.is_some_and(|value| rule.holds(value));
        // Only where it decides something: the state of an alert that just goes on need not be written.
        if holds && !rule.keeps_firing().is_zero() {
            instance.held = now;
        }
        let next = next_phase(rule, &instance, now, holds);
        if next != instance.phase {
            change(rule.name(), &mut state.totals, &instance, next, now, value, out);
            instance.phase = next;
            instance.since = now;
        }
        if instance.phase != AlertPhase::Inactive {
            state.instances.push(instance);
        }
    }
}

fn next_phase(rule: &AlertRule, instance: &Instance, now: Timestamp, holds: bool) -> AlertPhase {
    match (instance.phase, holds) {
        (AlertPhase::Firing, true) => AlertPhase::Firing,
        (AlertPhase::Firing, false) if now.since(instance.held) < rule.keeps_firing() => AlertPhase::Firing,
        (_, false) => AlertPhase::Inactive,
        (AlertPhase::Pending, true) if now.since(instance.since) < rule.holds_for() => AlertPhase::Pending,
        (AlertPhase::Inactive, true) if !rule.holds_for().is_zero() => AlertPhase::Pending,
        (_, true) => AlertPhase::Firing,
    }
}

fn change(
    rule: &AlertName,
    totals: &mut AlertTotals,
    instance: &Instance,
    to: AlertPhase,
    at: Timestamp,
    value: Option<f64>,
    out: &mut Vec<Transition>,
) {
    let labels = instance.labels.clone();
    let transition = Transition { rule: rule.clone(), labels, from: instance.phase, to, at, value };
    totals.fired += u64::from(transition.fired());
    totals.resolved += u64::from(transition.resolved());
    out.push(transition);
}
