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

/// A threshold on one metric, for each of its series by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRule {
    name: AlertName,
    metric: String,
    comparison: Comparison,
    threshold: f64,
    matching: BTreeMap<String, String>,
    held_for: Duration,
    keep_firing_for: Duration,
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
        let (matching, zero) = (BTreeMap::new(), Duration::ZERO);
        Ok(Self { name, metric, comparison, threshold, matching, held_for: zero, keep_firing_for: zero })
    }

    /// Only series with this label.
    #[must_use]
    pub fn matching(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.matching.insert(label.into(), value.into());
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

    pub(super) fn keeps_firing(&self) -> Duration {
        self.keep_firing_for
    }

    pub(super) fn is_about(&self, sample: &Sample) -> bool {
        sample.metric == self.metric
            && self.matching.iter().all(|(label, value)| sample.labels.get(label) == Some(value))
    }

    pub(super) fn holds(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Above => value > self.threshold,
            Comparison::AtLeast => value >= self.threshold,
            Comparison::Below => value < self.threshold,
            Comparison::AtMost => value <= self.threshold,
            Comparison::Equal => value.total_cmp(&self.threshold).is_eq(),
            Comparison::NotEqual => !value.is_nan() && value.total_cmp(&self.threshold).is_ne(),
        }
    }
}
