//! What an alert is about.

use std::collections::BTreeMap;
use std::time::Duration;

use hivemind_core::AlertName;
use serde::{Deserialize, Serialize};

use crate::Sample;

/// How a value is compared with a rule's threshold. A value that is not a number never holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums, reason = "the six orders there are")]
pub enum Comparison {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

impl Comparison {
    fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Above => value > threshold,
            Self::AtLeast => value >= threshold,
            Self::Below => value < threshold,
            Self::AtMost => value <= threshold,
            Self::Equal => value.total_cmp(&threshold).is_eq(),
            Self::NotEqual => !value.is_nan() && value.total_cmp(&threshold).is_ne(),
        }
    }

    /// Whether whatever fires by `threshold` goes on by `clear` at least as long; there is no such thing for equality.
    fn is_wider(self, threshold: f64, clear: f64) -> bool {
        match self {
            Self::Above | Self::AtLeast => clear <= threshold,
            Self::Below | Self::AtMost => clear >= threshold,
            Self::Equal | Self::NotEqual => false,
        }
    }
}

/// What counts where nobody knows whether the condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WhenUnknown {
    /// It does not hold.
    Resolve,
    /// As it was: what fires goes on, and what is pending stays so without coming closer.
    Keep,
    /// It holds.
    Fire,
}

/// A threshold on one metric, for each of its series by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRule {
    name: AlertName,
    metric: String,
    comparison: Comparison,
    threshold: f64,
    clears_at: f64,
    matching: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    held_for: Duration,
    keep_firing_for: Duration,
    when_missing: WhenUnknown,
    when_failed: WhenUnknown,
    limit: usize,
    flapping: Option<(u32, Duration)>,
}

/// A rule could never fire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRule {
    /// The threshold is not a number.
    #[error("the threshold of an alert is not a number: nothing compares with it")]
    ThresholdNotANumber,
    /// No metric is named.
    #[error("an alert names no metric")]
    NoMetric,
    /// It would be over before it begins.
    #[error(
        "an alert that fires at {threshold} cannot clear at {clear}: clear on the other side of it, and not for equality"
    )]
    ClearsFirst {
        /// Where it fires.
        threshold: String,
        /// Where it was to clear.
        clear: String,
    },
}

impl AlertRule {
    /// `name` fires while `metric` compares so with `threshold`.
    ///
    /// # Errors
    /// [`InvalidRule`] if it could never fire.
    pub fn new(
        name: AlertName,
        metric: impl Into<String>,
        comparison: Comparison,
        threshold: f64,
    ) -> Result<Self, InvalidRule> {
        let metric = metric.into();
        if threshold.is_nan() {
            return Err(InvalidRule::ThresholdNotANumber);
        }
        if metric.is_empty() {
            return Err(InvalidRule::NoMetric);
        }
        Ok(Self {
            name,
            metric,
            comparison,
            threshold,
            clears_at: threshold,
            matching: BTreeMap::new(),
            labels: BTreeMap::new(),
            held_for: Duration::ZERO,
            keep_firing_for: Duration::ZERO,
            when_missing: WhenUnknown::Resolve,
            when_failed: WhenUnknown::Keep,
            limit: 1000,
            flapping: None,
        })
    }

    /// Goes on until the value is past `clear`, once it fires: so that a value about the threshold is one alert.
    ///
    /// # Errors
    /// [`InvalidRule::ClearsFirst`]: `clear` is on the wrong side, or no number.
    pub fn clears_at(mut self, clear: f64) -> Result<Self, InvalidRule> {
        if !self.comparison.is_wider(self.threshold, clear) {
            let (threshold, clear) = (self.threshold.to_string(), clear.to_string());
            return Err(InvalidRule::ClearsFirst { threshold, clear });
        }
        self.clears_at = clear;
        Ok(self)
    }

    /// What counts for the series of an alert that is pending or fires, when it is gone: [`WhenUnknown::Resolve`], until told otherwise; what
    /// was well and is gone is not known any more. With
    /// [`WhenUnknown::Fire`] the rule also fires when there is no series at all, with the labels that it matches.
    #[must_use]
    pub fn when_missing(mut self, what: WhenUnknown) -> Self {
        self.when_missing = what;
        self
    }

    /// What counts if the samples could not be had at all: [`WhenUnknown::Keep`], until told otherwise.
    #[must_use]
    pub fn when_failed(mut self, what: WhenUnknown) -> Self {
        self.when_failed = what;
        self
    }

    /// At most so many alerts at once: 1,000, until told otherwise; and no more than half a megabyte of them, as they are
    /// one record. No tenant gets more than half of either. Those that are there stay, and no other comes.
    #[must_use]
    pub fn limited_to(mut self, alerts: usize) -> Self {
        self.limit = alerts;
        self
    }

    /// An alert that fires so many times within `window` flaps: it goes on until the condition has not held for that
    /// long. A storm of notices becomes `times`, a hundred at most, of which the last says so.
    #[must_use]
    pub fn flapping(mut self, times: u32, window: Duration) -> Self {
        self.flapping = Some((times.clamp(1, 100), window));
        self
    }

    /// Only series with this label.
    #[must_use]
    pub fn matching(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.matching.insert(label.into(), value.into());
        self
    }

    /// What fires by it has this label too, such as a severity; unless its series has one of that name.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// Only after the condition has held for so long (Prometheus' `for`).
    #[must_use]
    pub fn held_for(mut self, duration: Duration) -> Self {
        self.held_for = duration;
        self
    }

    /// For so long after the condition last held (Prometheus' `keep_firing_for`).
    #[must_use]
    pub fn keep_firing_for(mut self, duration: Duration) -> Self {
        self.keep_firing_for = duration;
        self
    }

    /// The name.
    pub fn name(&self) -> &AlertName {
        &self.name
    }

    pub(super) fn holds_for(&self) -> Duration {
        self.held_for
    }

    /// For how long what has fired so many times lately goes on after its condition held.
    pub(super) fn keeps_firing(&self, fired: usize) -> Duration {
        match self.flapping {
            Some((times, window)) if fired >= times as usize => window.max(self.keep_firing_for),
            _ => self.keep_firing_for,
        }
    }

    /// The window in which it counts how often something fired, and how often is flapping.
    pub(super) fn flaps(&self) -> Option<(u32, Duration)> {
        self.flapping
    }

    pub(super) fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    pub(super) fn matches(&self) -> &BTreeMap<String, String> {
        &self.matching
    }

    pub(super) fn missing(&self) -> WhenUnknown {
        self.when_missing
    }

    pub(super) fn failed(&self) -> WhenUnknown {
        self.when_failed
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn metric(&self) -> &str {
        &self.metric
    }

    /// Whether a sample of the metric is one that it is about.
    pub(super) fn is_about(&self, sample: &Sample) -> bool {
        self.matching.iter().all(|(label, value)| sample.labels.get(label) == Some(value))
    }

    /// Whether the condition holds: for what fires already, until the value is past where it clears.
    pub(super) fn holds(&self, value: f64, fires: bool) -> bool {
        self.comparison.holds(value, if fires { self.clears_at } else { self.threshold })
    }
}
