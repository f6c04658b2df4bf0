//! What keeps an alert quiet, though it fires. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::labels::Selector;
use hivemind_core::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Alert;

/// Nobody is told of some alerts for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Silence {
    /// Whose alerts; without one, everybody's: such a silence is the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Which of them.
    pub matching: Selector,
    /// From then on.
    pub from: Timestamp,
    /// Before then.
    pub until: Timestamp,
    /// Why, and who says so.
    pub reason: String,
}

impl Silence {
    /// The alerts of `tenant` that match are not told of from `from` until `until`.
    pub fn new(
        tenant: Option<TenantId>,
        matching: Selector,
        (from, until): (Timestamp, Timestamp),
        reason: impl Into<String>,
    ) -> Self {
        Self { tenant, matching, from, until, reason: reason.into() }
    }

    /// Whether it keeps `alert` quiet at `now`.
    pub fn covers(&self, alert: &Alert, now: Timestamp) -> bool {
        self.from <= now
            && now < self.until
            && self.tenant.as_ref().is_none_or(|tenant| alert.is_of(tenant))
            && self.matching.matches_values(|label| alert.value(label))
    }
}

/// Nobody is told of one thing while another fires, which explains it. Alerts of one tenant never keep those of another quiet; those
/// of nobody, which are the host's, may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inhibition {
    source: Selector,
    target: Selector,
    equal: BTreeSet<String>,
}

/// By what a source is found: the values of the labels that have to be equal, and the tenant.
type Sources<'a> = BTreeSet<(Vec<Option<&'a str>>, Option<&'a str>)>;

impl Inhibition {
    /// While something fires that `source` matches, what `target` matches is not told of.
    pub fn new(source: Selector, target: Selector) -> Self {
        Self { source, target, equal: BTreeSet::new() }
    }

    /// Only where both have the same values of these labels, or neither has one.
    #[must_use]
    pub fn with_equal<L: Into<String>>(mut self, labels: impl IntoIterator<Item = L>) -> Self {
        self.equal.extend(labels.into_iter().map(Into::into));
        self
    }

    fn values<'a>(&self, alert: &'a Alert) -> Vec<Option<&'a str>> {
        self.equal.iter().map(|label| alert.value(label)).collect()
    }

    fn is_source(&self, alert: &Alert) -> bool {
        self.source.matches_values(|label| alert.value(label))
    }

    pub(super) fn sources<'a>(&self, firing: &'a [Alert]) -> Sources<'a> {
        let sources = firing.iter().filter(|alert| self.is_source(alert));
        sources.map(|alert| (self.values(alert), alert.tenant())).collect()
    }

    /// Whether one of the sources keeps `alert` quiet. What is a source itself is not kept quiet by its like.
    pub(super) fn covers(&self, alert: &Alert, sources: &Sources<'_>) -> bool {
        if sources.is_empty()
            || !self.target.matches_values(|label| alert.value(label))
            || self.is_source(alert)
        {
            return false;
        }
        let of = |tenant| sources.contains(&(self.values(alert), tenant));
        of(None) || alert.tenant().is_some_and(|tenant| of(Some(tenant)))
    }
}
