//! What was told of some alerts that belong together, and what is to be. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::time::Duration;

use hivemind_core::{ReceiverName, Stored, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Alert, Notification, Reason, Route};

/// So many messages of a group wait at most; further changes go into the last of them.
const WAITING: usize = 8;
/// How often a message is tried.
const ATTEMPTS: u32 = 12;
/// How long it waits after the first failure, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(900));

/// A group of alerts and one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(super) receiver: ReceiverName,
    /// To the route that it is of.
    pub(super) way: Vec<String>,
    labels: BTreeMap<String, String>,
    /// What the receiver was told fires, or will have been by what waits.
    told: Vec<Alert>,
    told_at: Option<Timestamp>,
    /// Not before.
    next: Timestamp,
    /// The number of the next message.
    number: u64,
    /// In order: the first is sent before any other.
    pub(super) waiting: Vec<Waiting>,
}

/// A message that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(super) message: Notification,
    pub(super) tried: u32,
    /// Not before: since somebody sends it, or after a failure.
    pub(super) due: Timestamp,
}

impl Stored for Group {
    const KIND: &'static str = "group of alerts";
}

impl Group {
    pub(super) fn begin(
        route: &Route,
        way: Vec<String>,
        labels: BTreeMap<String, String>,
        now: Timestamp,
    ) -> Self {
        let (receiver, next) = (route.receiver().clone(), now.after(route.wait));
        Self { receiver, way, labels, told: Vec::new(), told_at: None, next, number: 0, waiting: Vec::new() }
    }

    /// Its route is no longer there: what waits is sent, and nothing else is said.
    pub(super) fn leave(&mut self) {
        self.told.clear();
    }

    /// Whether nothing of it is left to say or to remember.
    pub(super) fn is_over(&self) -> bool {
        self.told.is_empty() && self.waiting.is_empty()
    }

    /// Decides whether there is something to say: `firing` is all that fires, and whether it is to be told of.
    pub(super) fn advance(&mut self, route: &Route, now: Timestamp, firing: &[(&Alert, bool)]) {
        if now < self.next {
            return;
        }
        let fires = |told: &Alert| firing.iter().any(|(alert, _)| alert.is_about(told));
        let loud: Vec<&Alert> = firing.iter().filter(|(_, loud)| *loud).map(|(alert, _)| *alert).collect();
        let new = loud.iter().any(|alert| !self.told.iter().any(|told| told.is_about(alert)));
        // What was told is told to be over, also if it is quiet by then.
        let (goes_on, over): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.told).into_iter().partition(|one| fires(one));
        let again = self.told_at.is_none_or(|at| now.since(at) >= route.repeat);
        let reason = match (new, !over.is_empty() && route.tells_end, again) {
            (true, ..) => Some(Reason::Fired),
            (_, true, _) if goes_on.is_empty() && loud.is_empty() => Some(Reason::Over),
            (_, true, _) => Some(Reason::Resolved),
            (_, _, true) if !loud.is_empty() => Some(Reason::Repeated),
            _ => None,
        };
        // What was told and is quiet now is still known to the receiver.
        self.told = loud.iter().copied().cloned().collect();
        let quiet = goes_on.into_iter().filter(|one| !loud.iter().any(|alert| alert.is_about(one)));
        self.told.extend(quiet.collect::<Vec<_>>());
        let Some(reason) = reason else { return };
        (self.told_at, self.next) = (Some(now), now.after(route.interval));
        let resolved = if route.tells_end { over } else { Vec::new() };
        self.say(Notification {
            receiver: self.receiver.clone(),
            group: self.labels.clone(),
            number: self.number,
            reason,
            firing: loud.into_iter().cloned().collect(),
            resolved,
            at: now,
        });
    }

    fn say(&mut self, mut message: Notification) {
        self.number += 1;
        let due = message.at;
        // The first may be on its way.
        if self.waiting.len() >= WAITING
            && let Some(last) = self.waiting.pop()
        {
            let known =
                |one: &Alert| message.resolved.iter().chain(&message.firing).any(|other| other.is_about(one));
            let before: Vec<_> = last.message.resolved.into_iter().filter(|one| !known(one)).collect();
            message.resolved.extend(before);
        }
        self.waiting.push(Waiting { message, tried: 0, due });
    }

    /// The first message, if it is due; from now on it is, for `lease`, that of whoever takes it.
    pub(super) fn take(&mut self, now: Timestamp, lease: Duration) -> Option<Notification> {
        let first = self.waiting.first_mut().filter(|first| first.due <= now)?;
        first.tried = first.tried.saturating_add(1);
        first.due = now.after(lease);
        Some(first.message.clone())
    }

    /// A message has arrived.
    pub(super) fn sent(&mut self, number: u64) {
        self.waiting.retain(|one| one.message.number != number);
    }

    /// A message has not arrived; tells whether it is given up.
    pub(super) fn failed(
        &mut self,
        number: u64,
        for_good: bool,
        after: Option<Duration>,
        now: Timestamp,
    ) -> bool {
        let Some(at) = self.waiting.iter().position(|one| one.message.number == number) else { return false };
        let Some(one) = self.waiting.get_mut(at) else { return false };
        if for_good || one.tried >= ATTEMPTS {
            self.waiting.remove(at);
            return true;
        }
        let (first, most) = PAUSES;
        let doubled = first.saturating_mul(2_u32.saturating_pow(one.tried.saturating_sub(1))).min(most);
        one.due = now.after(after.unwrap_or_default().max(doubled));
        false
    }
}
