//! Alerts as a pure state machine: samples and the time in, transitions out. No I/O, no clock, no async.

mod evaluate;
mod rule;
mod state;

use std::collections::BTreeMap;
use std::fmt;

use hivemind_core::{AlertName, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::rule::{AlertRule, Comparison, InvalidRule, WhenUnknown};
pub(crate) use self::state::RuleState;
pub use self::state::{AlertState, AlertTotals};
use crate::Sample;
use crate::notify::Alert;

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
    /// It has fired so often lately that it goes on from now until it has been quiet for a while.
    pub flapping: bool,
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
///
/// If a clock goes back by five minutes or more, what is pending goes on where it was, give or take a minute; and of a time in which
/// nobody looked five minutes count at most.
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
        self.look(state, now, Some(samples))
    }

    /// Brings `state` up to `now`, when samples were asked for and could not be had: what each rule says for
    /// [that](AlertRule::when_failed).
    pub fn evaluate_failed(&self, state: &mut AlertState, now: Timestamp) -> Vec<Transition> {
        self.look(state, now, None)
    }

    /// All that fires, with the labels of its series and of its rule: what [`notify`](crate::notify) tells of.
    pub fn firing(&self, state: &AlertState) -> Vec<Alert> {
        let rules = self.rules.values().filter_map(|rule| Some((rule, state.rules.get(rule.name())?)));
        let alerts = rules.flat_map(|(rule, state)| {
            state.firing().map(|(labels, since)| {
                let mut alert = Alert::new(rule.name().clone(), since);
                let own = rule.labels().iter().filter(|(label, _)| *label != "tenant");
                alert.labels =
                    own.chain(labels).map(|(label, value)| (label.clone(), value.clone())).collect();
                alert
            })
        });
        alerts.collect()
    }

    fn look(&self, state: &mut AlertState, now: Timestamp, samples: Option<&[Sample]>) -> Vec<Transition> {
        let mut transitions = Vec::new();
        let by_metric = samples.map(|samples| {
            let mut all = BTreeMap::<&str, Vec<&Sample>>::new();
            samples.iter().for_each(|sample| all.entry(&sample.metric).or_default().push(sample));
            all
        });
        for (name, rule) in &self.rules {
            let seen = by_metric.as_ref().map(|all| {
                let about =
                    all.get(rule.metric()).into_iter().flatten().filter(|sample| rule.is_about(sample));
                let mut seen: Vec<_> = about.map(|sample| (&*sample.labels, sample.value)).collect();
                seen.sort_by_key(|(labels, _)| *labels);
                seen.dedup_by_key(|(labels, _)| *labels);
                seen
            });
            let old = state.rules.entry(name.clone()).or_default();
            evaluate::rule(rule, old, now, seen.as_deref(), &mut transitions);
        }
        for (name, old) in state.rules.iter_mut().filter(|(name, _)| !self.rules.contains_key(*name)) {
            evaluate::end(name, old, now, &mut transitions);
        }
        transitions
    }
}
