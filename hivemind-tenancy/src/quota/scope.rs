//! Which requests a quota counts. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::labels::{Labels, Selector};
use serde::{Deserialize, Serialize};

/// What a quota may look at in a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct RequestAttributes {
    /// What is asked for, such as `pod` or `volume`.
    pub kind: String,
    /// How urgent it is; higher is more urgent, zero is ordinary.
    pub priority: i32,
    /// The labels of the thing.
    pub labels: Labels,
    /// Whether it asks for no guaranteed amount of anything.
    pub best_effort: bool,
    /// Whether it ends by itself at a known time.
    pub terminating: bool,
}

impl RequestAttributes {
    /// An ordinary request for a thing of this kind.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }

    /// With this priority.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// With these labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// Asking for no guaranteed amount, or for some.
    #[must_use]
    pub fn with_best_effort(mut self, best_effort: bool) -> Self {
        self.best_effort = best_effort;
        self
    }

    /// Ending by itself, or not.
    #[must_use]
    pub fn with_terminating(mut self, terminating: bool) -> Self {
        self.terminating = terminating;
        self
    }
}

/// A range of priorities that holds at least one: both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Ends", into = "Ends")]
pub struct PriorityRange(Ends);

/// As it is written: an end that is left out is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Ends {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_most: Option<i32>,
}

/// A range of priorities holds none, so that a quota of it would count nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no priority is at least {at_least} and at most {at_most}: swap them, or leave one out")]
#[non_exhaustive]
pub struct EmptyPriorityRange {
    /// The lower end.
    pub at_least: i32,
    /// The upper end.
    pub at_most: i32,
}

impl PriorityRange {
    /// This priority and all above.
    pub fn at_least(priority: i32) -> Self {
        Self(Ends { at_least: Some(priority), at_most: None })
    }

    /// This priority and all below.
    pub fn at_most(priority: i32) -> Self {
        Self(Ends { at_least: None, at_most: Some(priority) })
    }

    /// From `at_least` to `at_most`, both included.
    ///
    /// # Errors
    /// [`EmptyPriorityRange`] if `at_least` is above `at_most`.
    pub fn between(at_least: i32, at_most: i32) -> Result<Self, EmptyPriorityRange> {
        Self::try_from(Ends { at_least: Some(at_least), at_most: Some(at_most) })
    }

    /// Whether `priority` is in it.
    pub fn contains(&self, priority: i32) -> bool {
        self.0.at_least.is_none_or(|end| end <= priority) && self.0.at_most.is_none_or(|end| priority <= end)
    }
}

impl TryFrom<Ends> for PriorityRange {
    type Error = EmptyPriorityRange;
    fn try_from(ends: Ends) -> Result<Self, EmptyPriorityRange> {
        match (ends.at_least, ends.at_most) {
            (Some(at_least), Some(at_most)) if at_least > at_most => {
                Err(EmptyPriorityRange { at_least, at_most })
            }
            _ => Ok(Self(ends)),
        }
    }
}

impl From<PriorityRange> for Ends {
    fn from(range: PriorityRange) -> Self {
        range.0
    }
}

/// Which requests a quota counts: those that meet every predicate that is set. None set: all requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct QuotaScope {
    /// Requests of one of these kinds; empty: of any kind.
    pub kinds: BTreeSet<String>,
    /// Requests of these priorities.
    pub priority: Option<PriorityRange>,
    /// Requests for things with these labels.
    pub labels: Selector,
    /// Requests that are best effort, or only those that are not.
    pub best_effort: Option<bool>,
    /// Requests that are terminating, or only those that are not.
    pub terminating: Option<bool>,
}

impl QuotaScope {
    /// All requests.
    pub fn everything() -> Self {
        Self::default()
    }

    /// And only of this kind, or one given before.
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<String>) -> Self {
        self.kinds.insert(kind.into());
        self
    }

    /// And only of these priorities.
    #[must_use]
    pub fn with_priority(mut self, range: PriorityRange) -> Self {
        self.priority = Some(range);
        self
    }

    /// And only with these labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Selector) -> Self {
        self.labels = labels;
        self
    }

    /// And only best effort, or only not.
    #[must_use]
    pub fn with_best_effort(mut self, best_effort: bool) -> Self {
        self.best_effort = Some(best_effort);
        self
    }

    /// And only terminating, or only not.
    #[must_use]
    pub fn with_terminating(mut self, terminating: bool) -> Self {
        self.terminating = Some(terminating);
        self
    }

    /// Whether the quota counts this request.
    pub fn matches(&self, request: &RequestAttributes) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&request.kind))
            && self.priority.is_none_or(|range| range.contains(request.priority))
            && self.best_effort.is_none_or(|wanted| wanted == request.best_effort)
            && self.terminating.is_none_or(|wanted| wanted == request.terminating)
            && self.labels.matches(&request.labels)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_predicate_counts_everything() {
        assert!(QuotaScope::everything().matches(&RequestAttributes::new("pod").with_priority(i32::MIN)));
    }

    #[test]
    fn a_range_of_no_priority_is_refused_in_code_and_in_text() {
        assert_eq!(
            PriorityRange::between(5, 4).unwrap_err().to_string(),
            "no priority is at least 5 and at most 4: swap them, or leave one out"
        );
        assert!(serde_json::from_str::<PriorityRange>(r#"{"atLeast":5,"atMost":4}"#).is_err());
        assert!(serde_json::from_str::<QuotaScope>(r#"{"priorities":{}}"#).is_err());
    }

    #[test]
    fn an_old_record_without_scope_reads_as_everything() {
        assert_eq!(serde_json::from_str::<QuotaScope>("{}").unwrap(), QuotaScope::everything());
    }

    /// One predicate of a scope: how it is added, and what it means.
    #[derive(Debug, Clone)]
    enum Predicate {
        Kind(&'static str),
        Range(i32, i32),
        AtLeast(i32),
        AtMost(i32),
        Label(&'static str),
        BestEffort(bool),
        Terminating(bool),
    }

    fn add(scope: QuotaScope, predicate: &Predicate) -> QuotaScope {
        match *predicate {
            Predicate::Kind(kind) => scope.with_kind(kind),
            Predicate::Range(low, high) => scope.with_priority(PriorityRange::between(low, high).unwrap()),
            Predicate::AtLeast(low) => scope.with_priority(PriorityRange::at_least(low)),
            Predicate::AtMost(high) => scope.with_priority(PriorityRange::at_most(high)),
            Predicate::Label(text) => scope.with_labels(text.parse().unwrap()),
            Predicate::BestEffort(yes) => scope.with_best_effort(yes),
            Predicate::Terminating(yes) => scope.with_terminating(yes),
        }
    }

    fn holds(predicate: &Predicate, request: &RequestAttributes) -> bool {
        let team = request.labels.get("team").map(|value| value.as_str());
        match *predicate {
            Predicate::Kind(kind) => request.kind == kind,
            Predicate::Range(low, high) => (low..=high).contains(&request.priority),
            Predicate::AtLeast(low) => request.priority >= low,
            Predicate::AtMost(high) => request.priority <= high,
            Predicate::Label("team=a") => team == Some("a"),
            Predicate::Label(_) => team != Some("a"),
            Predicate::BestEffort(yes) => request.best_effort == yes,
            Predicate::Terminating(yes) => request.terminating == yes,
        }
    }

    fn predicates() -> impl Strategy<Value = Vec<Predicate>> {
        let kind = proptest::option::of(prop_oneof![Just("pod"), Just("volume")].prop_map(Predicate::Kind));
        let priority = proptest::option::of(prop_oneof![
            (-3..3i32, 0..3i32).prop_map(|(low, width)| Predicate::Range(low, low + width)),
            (-3..3i32).prop_map(Predicate::AtLeast),
            (-3..3i32).prop_map(Predicate::AtMost),
        ]);
        let label =
            proptest::option::of(prop_oneof![Just("team=a"), Just("team!=a")].prop_map(Predicate::Label));
        let best = proptest::option::of(any::<bool>().prop_map(Predicate::BestEffort));
        let ends = proptest::option::of(any::<bool>().prop_map(Predicate::Terminating));
        (kind, priority, label, best, ends)
            .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].into_iter().flatten().collect())
    }

    fn requests() -> impl Strategy<Value = RequestAttributes> {
        let kind = prop_oneof![Just("pod"), Just("volume"), Just("job")];
        let team = proptest::option::of(prop_oneof![Just("a"), Just("b")]);
        (kind, -4..5i32, team, any::<bool>(), any::<bool>()).prop_map(|(kind, priority, team, best, ends)| {
            let labels = team.map_or_else(Labels::new, |team| Labels::new().with("team", team).unwrap());
            RequestAttributes::new(kind)
                .with_priority(priority)
                .with_labels(labels)
                .with_best_effort(best)
                .with_terminating(ends)
        })
    }

    proptest! {
        #[test]
        fn a_scope_is_all_of_its_predicates(predicates in predicates(), request in requests()) {
            let scope = predicates.iter().fold(QuotaScope::everything(), add);
            let expected = predicates.iter().all(|one| holds(one, &request));
            prop_assert_eq!(scope.matches(&request), expected);
            let copy: QuotaScope = serde_json::from_str(&serde_json::to_string(&scope).unwrap()).unwrap();
            prop_assert_eq!(copy, scope);
        }
    }
}
