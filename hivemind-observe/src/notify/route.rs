//! Who is told of what: a tree, as in Alertmanager. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hivemind_core::ReceiverName;
use hivemind_core::labels::Selector;

use super::Alert;

/// A receiver, of what it is told, and how patiently. What is more special comes below: an alert goes to the first of those
/// that matches, and further to the next if that one [goes on](Self::and_further); to this one, if none does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    receiver: ReceiverName,
    matching: Selector,
    below: Vec<Self>,
    further: bool,
    together_by: BTreeSet<String>,
    across_tenants: bool,
    pub(super) wait: Duration,
    pub(super) interval: Duration,
    pub(super) repeat: Duration,
    pub(super) tells_end: bool,
}

impl Route {
    /// `receiver` is told of all alerts of a rule and a tenant together: half a minute after the first, every five minutes if
    /// something changed, and every four hours while they go on; also that they are over.
    pub fn to(receiver: ReceiverName) -> Self {
        Self {
            receiver,
            matching: Selector::everything(),
            below: Vec::new(),
            further: false,
            together_by: BTreeSet::from(["alertname".to_owned()]),
            across_tenants: false,
            wait: Duration::from_secs(30),
            interval: Duration::from_secs(300),
            repeat: Duration::from_secs(4 * 3600),
            tells_end: true,
        }
    }

    /// Of those alone whose labels match; `alertname` is the rule.
    #[must_use]
    pub fn matching(mut self, selector: Selector) -> Self {
        self.matching = selector;
        self
    }

    /// Unless one that comes here before matches. Of several the first to be added counts.
    #[must_use]
    pub fn or_else(mut self, below: Self) -> Self {
        self.below.push(below);
        self
    }

    /// An alert that matches is looked at by the next beside it, too.
    #[must_use]
    pub fn and_further(mut self) -> Self {
        self.further = true;
        self
    }

    /// Alerts with the same values of these labels are told of together; of different tenants never, until
    /// [that](Self::across_tenants) is said.
    #[must_use]
    pub fn together_by<L: Into<String>>(mut self, labels: impl IntoIterator<Item = L>) -> Self {
        self.together_by = labels.into_iter().map(Into::into).collect();
        self
    }

    /// Alerts of different tenants may be in one message: for receivers who may see all of them.
    #[must_use]
    pub fn across_tenants(mut self) -> Self {
        self.across_tenants = true;
        self
    }

    /// Waits so long after the first, for others that belong to it.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Waits so long between two messages of a group.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Says again after so long what goes on.
    #[must_use]
    pub fn repeating(mut self, repeat: Duration) -> Self {
        self.repeat = repeat;
        self
    }

    /// Does not say that something is over.
    #[must_use]
    pub fn without_end(mut self) -> Self {
        self.tells_end = false;
        self
    }

    /// Whom it tells.
    pub fn receiver(&self) -> &ReceiverName {
        &self.receiver
    }

    /// What it is called on its way from above: it stays the same if others are added or patience changes.
    fn step(&self) -> String {
        format!("{}:{}", self.receiver, self.matching)
    }

    /// The one at the end of a way.
    pub(super) fn find(&self, way: &[String]) -> Option<&Self> {
        let (first, rest) = way.split_first()?;
        if *first != self.step() {
            return None;
        }
        if rest.is_empty() { Some(self) } else { self.below.iter().find_map(|one| one.find(rest)) }
    }

    /// Where an alert goes, each with its way there; this one if no other. Tells whether it matches at all.
    pub(super) fn of<'a>(
        &'a self,
        alert: &Alert,
        way: &[String],
        out: &mut Vec<(Vec<String>, &'a Self)>,
    ) -> bool {
        if !self.matching.matches_values(|label| alert.value(label)) {
            return false;
        }
        let way = [way, &[self.step()]].concat();
        let mut found = false;
        for one in &self.below {
            if one.of(alert, &way, out) {
                found = true;
                if !one.further {
                    break;
                }
            }
        }
        if !found {
            out.push((way, self));
        }
        true
    }

    /// The labels by which an alert is together with others.
    pub(super) fn group_of(&self, alert: &Alert) -> BTreeMap<String, String> {
        let tenant = (!self.across_tenants).then_some("tenant");
        let labels = self.together_by.iter().map(String::as_str).chain(tenant);
        labels.filter_map(|label| Some((label.to_owned(), alert.value(label)?.to_owned()))).collect()
    }
}
