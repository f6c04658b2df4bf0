//! What fires, and what is said of it. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hivemind_core::{AlertName, ReceiverName, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::weight::weight;

/// An alert that fires.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Alert {
    /// The rule by which it does.
    pub rule: AlertName,
    /// Of the series and of the rule, `tenant` among them.
    pub labels: BTreeMap<String, String>,
    /// Since when.
    pub since: Timestamp,
}

impl Alert {
    /// `rule` has fired since then.
    pub fn new(rule: AlertName, since: Timestamp) -> Self {
        Self { rule, labels: BTreeMap::new(), since }
    }

    /// With this label too.
    #[must_use]
    pub fn with(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// The value of a label; that of `alertname` is the rule.
    pub(super) fn value(&self, label: &str) -> Option<&str> {
        match label {
            "alertname" => Some(self.rule.as_str()),
            other => self.labels.get(other).map(String::as_str),
        }
    }

    /// Whose it is: by the label that the registry alone sets.
    pub(super) fn tenant(&self) -> Option<&str> {
        self.labels.get("tenant").map(String::as_str)
    }

    pub(super) fn is_of(&self, tenant: &TenantId) -> bool {
        self.tenant() == Some(tenant.as_str())
    }

    /// What it is about: when it began does not tell one alert from another.
    pub(super) fn about(&self) -> About<'_> {
        (&self.rule, &self.labels)
    }

    pub(super) fn weight(&self) -> usize {
        weight(&self.labels)
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule)?;
        self.labels.iter().try_for_each(|(label, value)| write!(f, ", {label} {value}"))
    }
}

/// What an alert is about: its rule, and its labels.
pub(super) type About<'a> = (&'a AlertName, &'a BTreeMap<String, String>);

/// Why something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// Something fires that did not.
    Fired,
    /// Something is over, and the rest goes on.
    Resolved,
    /// All of it is over.
    Over,
    /// It goes on, and it is time to say so again.
    Repeated,
}

/// One message to one receiver, about alerts that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Notification {
    /// To whom.
    pub receiver: ReceiverName,
    /// Which alerts it is about: what goes on in one conversation has the same.
    pub id: String,
    /// The labels that its alerts have in common, by which they are together.
    pub group: BTreeMap<String, String>,
    /// Tells messages with the same `id` apart, and grows: a message may arrive twice after a lost reply, with the same number.
    pub number: u64,
    /// Why.
    pub reason: Reason,
    /// What fires now, unless something keeps it quiet, what is new first: as much as fits into 32 KiB.
    pub firing: Vec<Alert>,
    /// How many more there are.
    #[serde(default)]
    pub more_firing: usize,
    /// What was told before and is over: as much as fits into 32 KiB.
    pub resolved: Vec<Alert>,
    /// How many more there are.
    #[serde(default)]
    pub more_resolved: usize,
    /// When it was decided.
    pub at: Timestamp,
}

impl fmt::Display for Notification {
    /// One line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let lists =
            [(&self.firing, self.more_firing, "fires"), (&self.resolved, self.more_resolved, "is over")];
        for (alerts, more, what) in lists {
            for alert in alerts {
                let divider = if std::mem::take(&mut first) { "" } else { "; " };
                write!(f, "{divider}{} {what}", alert.rule)?;
                alert.labels.iter().try_for_each(|(label, value)| write!(f, ", {label} {value}"))?;
            }
            if more > 0 {
                let divider = if std::mem::take(&mut first) { "" } else { "; " };
                write!(f, "{divider}what {what} is {more} more")?;
            }
        }
        Ok(())
    }
}

/// How long a receiver wants to be left alone: the detail of an error of a [`Notifier`](crate::Notifier).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not before {0:?} have passed")]
#[allow(clippy::exhaustive_structs, reason = "a duration")]
pub struct RetryAfter(pub Duration);
