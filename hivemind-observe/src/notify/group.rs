//! What was told of some alerts that belong together, and what is to be. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hivemind_core::{ReceiverName, Stored, Timestamp};
use serde::{Deserialize, Serialize};

use super::alert::About;
use super::{Alert, Notification, Reason, Route};
use crate::weight::cut;

/// So many messages of a group wait at most; further changes go into the last of them.
const WAITING: usize = 8;
/// What a receiver was told of takes no more, and neither each of the lists of a message: all of it is one record.
const TOLD: usize = 256 << 10;
const LISTED: usize = 32 << 10;
/// How often a message is tried.
const ATTEMPTS: u32 = 12;
/// No receiver is left alone for longer, whatever it says.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// How long it waits after the first failure, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(900));

/// A group of alerts and one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Tells it from all others.
    name: String,
    pub(crate) receiver: ReceiverName,
    /// To the route that it is of.
    pub(crate) way: Vec<String>,
    labels: BTreeMap<String, String>,
    /// What the receiver was told fires, or will have been by what waits.
    told: Vec<Alert>,
    told_at: Option<Timestamp>,
    /// It has taken a message.
    #[serde(default)]
    heard: bool,
    /// How many more fire that there is no room for.
    #[serde(default)]
    more: usize,
    /// Not before.
    next: Timestamp,
    /// The number of the next message.
    number: u64,
    /// In order: the first is sent before any other.
    pub(crate) waiting: Vec<Waiting>,
}

/// A message that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) message: Notification,
    pub(crate) tried: u32,
    /// Not before: since somebody sends it, or after a failure.
    pub(crate) due: Timestamp,
}

impl Stored for Group {
    const KIND: &'static str = "group of alerts";
}

impl Group {
    pub(crate) fn begin(
        name: String,
        (way, route): (Vec<String>, &Route),
        labels: BTreeMap<String, String>,
        now: Timestamp,
    ) -> Self {
        Self {
            name,
            receiver: route.receiver().clone(),
            way,
            labels,
            told: Vec::new(),
            told_at: None,
            heard: false,
            more: 0,
            next: now.after(route.wait),
            // One of the same name that was before has used lower numbers.
            number: now.as_nanos(),
            waiting: Vec::new(),
        }
    }

    /// Its route is no longer there: what waits is sent, and nothing else is said.
    pub(crate) fn leave(&mut self) {
        self.told.clear();
    }

    /// Whether nothing of it is left to say or to remember.
    pub(crate) fn is_over(&self) -> bool {
        self.told.is_empty() && self.waiting.is_empty()
    }

    /// Decides whether there is something to say: `firing` is all that fires, and whether it is to be told of.
    pub(crate) fn advance(
        &mut self,
        route: &Route,
        now: Timestamp,
        firing: &[(&Alert, bool)],
        anywhere: &BTreeSet<About<'_>>,
    ) {
        // A clock that was ahead when it was written is none to wait for.
        let far = self.next.since(now) > route.wait.max(route.interval).max(PAUSES.1);
        if now < self.next && !far {
            return;
        }
        let here: BTreeSet<_> = firing.iter().map(|(alert, _)| alert.about()).collect();
        let loud: Vec<&Alert> = firing.iter().filter(|(_, loud)| *loud).map(|(alert, _)| *alert).collect();
        // What was told is told to be over, also if it is quiet by then.
        let told = std::mem::take(&mut self.told);
        let (goes_on, gone): (Vec<_>, Vec<_>) = told.into_iter().partition(|one| here.contains(&one.about()));
        // What fires all the same is only told by another route from now on.
        let over: Vec<_> = gone.into_iter().filter(|one| !anywhere.contains(&one.about())).collect();
        let (known, new) = self.keep(&loud, &goes_on);
        // In one moment nothing is said again, however often somebody looks.
        let again = self.told_at.is_none_or(|at| at < now && now.since(at) >= route.repeat);
        let reason = match (new, !over.is_empty() && route.tells_end, again) {
            (true, ..) => Reason::Fired,
            (_, true, _) if self.told.is_empty() => Reason::Over,
            (_, true, _) => Reason::Resolved,
            (_, _, true) if !known.is_empty() => Reason::Repeated,
            _ => return,
        };
        (self.told_at, self.next) = (Some(now), now.after(route.interval));
        let (firing, _) = cut(known, LISTED, Alert::weight);
        let over = if route.tells_end { over } else { Vec::new() };
        let (resolved, more_resolved) = cut(over, LISTED, Alert::weight);
        self.say(Notification {
            receiver: self.receiver.clone(),
            id: self.name.clone(),
            group: self.labels.clone(),
            number: self.number,
            reason,
            more_firing: loud.len() - firing.len(),
            firing,
            resolved,
            more_resolved,
            at: now,
        });
    }

    /// Keeps what is told from now on: what was and goes on, and as much of the rest as there is room for. Gives what of it is loud,
    /// the new first, and tells whether something is new, be it that there is no room for it.
    fn keep(&mut self, loud: &[&Alert], goes_on: &[Alert]) -> (Vec<Alert>, bool) {
        let before: BTreeSet<_> = goes_on.iter().map(Alert::about).collect();
        let (known, new): (Vec<&Alert>, Vec<&Alert>) =
            loud.iter().copied().partition(|one| before.contains(&one.about()));
        let room = TOLD.saturating_sub(goes_on.iter().map(Alert::weight).sum());
        let (fits, more) = cut(new, room, |one| one.weight());
        let is_new = !fits.is_empty() || more > self.more;
        self.more = more;
        let loud: Vec<Alert> = fits.into_iter().chain(known).cloned().collect();
        let among: BTreeSet<_> = loud.iter().map(Alert::about).collect();
        let quiet = goes_on.iter().filter(|one| !among.contains(&one.about()));
        self.told = loud.iter().chain(quiet).cloned().collect();
        self.told.sort_unstable();
        (loud, is_new)
    }

    fn say(&mut self, mut message: Notification) {
        self.number += 1;
        let due = message.at;
        // The first may be on its way.
        if self.waiting.len() >= WAITING
            && let Some(Waiting { message: before, .. }) = self.waiting.pop()
        {
            let fires: BTreeSet<_> = message.firing.iter().map(Alert::about).collect();
            if before.reason == Reason::Fired && before.firing.iter().any(|one| fires.contains(&one.about()))
            {
                message.reason = Reason::Fired;
            }
            let known: BTreeSet<_> =
                message.resolved.iter().chain(&message.firing).map(Alert::about).collect();
            let further = before.resolved.into_iter().filter(|one| !known.contains(&one.about()));
            let further: Vec<_> = further.collect();
            message.resolved.extend(further);
            let (resolved, more) = cut(message.resolved, LISTED, Alert::weight);
            message.resolved = resolved;
            message.more_resolved += more + before.more_resolved;
        }
        self.waiting.push(Waiting { message, tried: 0, due });
    }

    /// Since when its first message is due, if it is.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let first = self.waiting.first()?;
        let far = first.due.since(now) > FOREVER;
        (far || first.due <= now).then_some(first.due)
    }

    /// The first message, which is for `lease` that of whoever takes it.
    pub(crate) fn take(&mut self, now: Timestamp, lease: Duration) -> Option<Notification> {
        let first = self.waiting.first_mut()?;
        first.tried = first.tried.saturating_add(1);
        first.due = now.after(lease);
        Some(first.message.clone())
    }

    /// A message has arrived.
    pub(crate) fn sent(&mut self, number: u64) {
        self.heard = true;
        self.waiting.retain(|one| one.message.number != number);
    }

    /// A message has not arrived; tells whether it is given up.
    pub(crate) fn failed(
        &mut self,
        number: u64,
        for_good: bool,
        after: Option<Duration>,
        now: Timestamp,
    ) -> bool {
        let Some(at) = self.waiting.iter().position(|one| one.message.number == number) else { return false };
        let Some(one) = self.waiting.get_mut(at) else { return false };
        if for_good || one.tried >= ATTEMPTS {
            let lost = self.waiting.remove(at).message;
            self.forget(lost, for_good, now);
            return true;
        }
        let (first, most) = PAUSES;
        let doubled = first.saturating_mul(2_u32.saturating_pow(one.tried.saturating_sub(1))).min(most);
        one.due = now.after(after.unwrap_or_default().min(FOREVER).max(doubled));
        false
    }

    /// The receiver has not been told what a message said: how things are is said again after a while. One that has never taken a message
    /// and refuses them for good is told of nothing that is over.
    fn forget(&mut self, lost: Notification, for_good: bool, now: Timestamp) {
        if for_good && !self.heard {
            let unknown: BTreeSet<_> = lost.firing.iter().map(Alert::about).collect();
            self.told.retain(|one| !unknown.contains(&one.about()));
        } else {
            let room = TOLD.saturating_sub(self.told.iter().map(Alert::weight).sum());
            self.told.extend(cut(lost.resolved, room, Alert::weight).0);
            self.told.sort_unstable();
            self.told_at = None;
        }
        self.next = self.next.max(now.after(PAUSES.1));
    }
}
