//! What labels must look like, and what they may never do. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hivemind_core::labels::{LabelKey, Labels};
use hivemind_core::{Error, ErrorKind, Result, TenantId};
use serde::{Deserialize, Serialize};

use super::Tenant;

/// The label that says whose a thing is. No write of labels may make it say another tenant.
pub const TENANT_LABEL: &str = "hivemind.dev/tenant";

/// A pattern for the value of a label: text in which `*` stands for any text, also none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValuePattern(String);

impl ValuePattern {
    /// The pattern `text`; `*` matches every value.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether all of `value` matches.
    pub fn matches(&self, value: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = value.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // The leftmost place for each part leaves the most for those after it.
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for ValuePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the labels in a tenant, and in every tenant below it, must look like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LabelPolicy {
    /// Labels that everything must have, with what their values must match.
    pub required: BTreeMap<LabelKey, ValuePattern>,
    /// Labels that nothing may have.
    pub forbidden: BTreeSet<LabelKey>,
    /// What the value of a label must match, where it is there.
    pub values: BTreeMap<LabelKey, ValuePattern>,
}

impl LabelPolicy {
    /// Everything must have `key`, with a value that matches `pattern`.
    #[must_use]
    pub fn require(mut self, key: LabelKey, pattern: ValuePattern) -> Self {
        self.required.insert(key, pattern);
        self
    }

    /// Nothing may have `key`.
    #[must_use]
    pub fn forbid(mut self, key: LabelKey) -> Self {
        self.forbidden.insert(key);
        self
    }

    /// Where there is a `key`, its value must match `pattern`.
    #[must_use]
    pub fn restrict(mut self, key: LabelKey, pattern: ValuePattern) -> Self {
        self.values.insert(key, pattern);
        self
    }

    fn violations(&self, by: &Tenant, labels: &Labels, found: &mut Vec<LabelViolation>) {
        let mut add = |label: &LabelKey, what: String| {
            found.push(LabelViolation {
                label: label.to_string(),
                what,
                demanded_by: by.tenant.id.to_string(),
            });
        };
        for (key, pattern) in &self.required {
            match labels.get(key.as_str()) {
                None => add(key, format!("is missing: give it a value like {pattern}")),
                Some(value) if !pattern.matches(value.as_str()) => {
                    add(key, format!("has the value {value:?}: give it one like {pattern}"));
                }
                Some(_) => {}
            }
        }
        for (key, value) in labels.iter() {
            if self.forbidden.contains(key) {
                add(key, "is forbidden: leave it out".to_owned());
            }
            if let Some(pattern) = self.values.get(key).filter(|pattern| !pattern.matches(value.as_str())) {
                add(key, format!("has the value {value:?}: give it one like {pattern}"));
            }
        }
    }
}

/// What is wrong with one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("label {label} {what} (policy of tenant {demanded_by})")]
#[non_exhaustive]
pub struct LabelViolation {
    /// The key of the label.
    pub label: String,
    /// What is wrong, and what to do.
    pub what: String,
    /// The tenant whose policy it is.
    pub demanded_by: String,
}

/// Everything that is wrong with some labels. Detail of an [`Invalid`](ErrorKind::Invalid) error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct LabelViolations(pub Vec<LabelViolation>);

/// Succeeds if a thing of `owner` may have `labels`: the policy of each tenant of `chain` is met, and
/// [`TENANT_LABEL`], if there, names `owner`.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) with [`LabelViolations`] as detail names everything that is wrong.
pub fn check_labels<'a>(
    owner: &TenantId,
    chain: impl IntoIterator<Item = &'a Tenant>,
    labels: &Labels,
) -> Result<()> {
    let mut found = Vec::new();
    if let Some(named) = labels.get(TENANT_LABEL)
        && named.as_str() != owner.as_str()
    {
        let what = format!("would move it to another tenant: leave it out, or say {owner}");
        let demanded_by = owner.to_string();
        found.push(LabelViolation { label: TENANT_LABEL.to_owned(), what, demanded_by });
    }
    for one in chain {
        one.label_policy.violations(one, labels, &mut found);
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::of(ErrorKind::Invalid, "labels", LabelViolations(found)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the book: a star is nothing, or one character and a star.
    fn naive(pattern: &[u8], value: &[u8]) -> bool {
        match (pattern.split_first(), value.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), one) => {
                naive(rest, value) || one.is_some_and(|(_, others)| naive(pattern, others))
            }
            (Some((a, rest)), Some((b, others))) => a == b && naive(rest, others),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_it_does_by_the_book(pattern in "[ab*]{0,8}", value in "[ab]{0,8}") {
            prop_assert_eq!(
                ValuePattern::new(pattern.clone()).matches(&value),
                naive(pattern.as_bytes(), value.as_bytes())
            );
        }
    }
}
