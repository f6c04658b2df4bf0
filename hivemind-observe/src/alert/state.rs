//! What alerts remember. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::time::Duration;

use hivemind_core::{AlertName, Stored, Timestamp};
use serde::{Deserialize, Serialize};

use super::AlertPhase;
use crate::weight::weight;

/// One series that a rule is about, while its condition holds or held lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Instance {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) phase: AlertPhase,
    /// Since when it is in that phase.
    pub(super) since: Timestamp,
    /// When the condition last held.
    pub(super) held: Timestamp,
    /// It is about there being no series at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) absent: bool,
    /// Since when nobody knows whether the condition holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unknown: Option<Timestamp>,
    /// When it fired lately, if the rule counts that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) fired: Vec<Timestamp>,
}

impl Instance {
    pub(super) fn new(labels: BTreeMap<String, String>, now: Timestamp, absent: bool) -> Self {
        let (phase, fired) = (AlertPhase::Inactive, Vec::new());
        Self { labels, phase, since: now, held: now, absent, unknown: None, fired }
    }

    /// Its place among others.
    pub(super) fn place(&self) -> (bool, &BTreeMap<String, String>) {
        (self.absent, &self.labels)
    }

    /// How many bytes of its rule's record it takes, at most.
    pub(super) fn weight(&self) -> usize {
        weight(&self.labels) + 21 * self.fired.len()
    }

    /// Whether there is something to remember of it.
    pub(super) fn is_worth_keeping(&self) -> bool {
        self.phase != AlertPhase::Inactive || !self.fired.is_empty()
    }

    /// Every time it knows.
    fn times(&mut self) -> impl Iterator<Item = &mut Timestamp> {
        [&mut self.since, &mut self.held].into_iter().chain(&mut self.unknown).chain(&mut self.fired)
    }

    /// Time that counts for nothing lies between what it knows and now.
    pub(super) fn pass_over(&mut self, time: Duration) {
        self.times().for_each(|at| *at = at.after(time));
    }

    pub(super) fn go_back(&mut self, time: Duration) {
        self.times().for_each(|at| *at = at.before(time));
    }
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
    pub(crate) rules: BTreeMap<AlertName, RuleState>,
}

/// The same of one rule: a record of its own, so that many rules fit into a store and those that change are written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleState {
    pub(super) instances: Vec<Instance>,
    pub(super) totals: AlertTotals,
    /// When it was last evaluated, to the minute.
    #[serde(default)]
    pub(super) seen: Timestamp,
    /// How many alerts there are beyond the limit.
    #[serde(default)]
    pub(super) refused: usize,
}

impl Stored for RuleState {
    const KIND: &'static str = "state of an alert rule";
}

impl RuleState {
    /// What fires, and since when.
    pub(super) fn firing(&self) -> impl Iterator<Item = (&BTreeMap<String, String>, Timestamp)> {
        let firing = self.instances.iter().filter(|one| one.phase == AlertPhase::Firing);
        firing.map(|one| (&one.labels, one.since))
    }
}

impl AlertState {
    /// How often `rule` fired and resolved.
    pub fn totals(&self, rule: &AlertName) -> AlertTotals {
        self.rules.get(rule).map(|state| state.totals).unwrap_or_default()
    }

    /// The labels of what fires by `rule` now.
    pub fn firing(&self, rule: &AlertName) -> Vec<&BTreeMap<String, String>> {
        self.rules.get(rule).into_iter().flat_map(RuleState::firing).map(|(labels, _)| labels).collect()
    }

    /// How many series there are for which the condition of `rule` holds and that are no alerts, because it has as many as
    /// it [may](super::AlertRule::limited_to).
    pub fn refused(&self, rule: &AlertName) -> usize {
        self.rules.get(rule).map_or(0, |state| state.refused)
    }
}
