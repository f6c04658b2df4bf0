//! What was told, in the store; and the sending.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    Clock, Collection, Effect, Error, ErrorKind, Metric, NoopRecorder, ReceiverName, Recorder, Result, Retry,
    StateStore, StateStoreExt, Timestamp,
};

use super::plan::Groups;
use super::{Alert, Group, Notification, NotifyRules, Silence};
use crate::Notifier;

const MESSAGES: Metric = Metric::new(
    "hivemind_observe_notifications_total",
    "Messages about alerts, by receiver and what became of them.",
);
/// How often a step is repeated when another replica changes the same groups.
const ATTEMPTS: u32 = 16;
/// How many groups change in one transaction.
const GROUPS: usize = 50;
/// How many messages are sent at once.
const AT_ONCE: usize = 16;
/// How long a message is that of whoever sends it: afterwards another may try.
const LEASE: Duration = Duration::from_secs(60);

/// How long a receiver wants to be left alone: the detail of an error of a [`Notifier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not before {0:?} have passed")]
#[allow(clippy::exhaustive_structs, reason = "a duration")]
pub struct RetryAfter(pub Duration);

/// What a tick did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ticked {
    /// Messages that have arrived.
    pub sent: usize,
    /// Messages that have not, and are tried again.
    pub failed: usize,
    /// Messages that never will: the receiver refused them, or failed too often, or is unknown.
    pub given_up: Vec<(Notification, String)>,
}

/// Tells receivers of what fires, and keeps in the store what they were told.
///
/// Call [`tick`](Self::tick) every few seconds with all that fires, on one replica or on all: a message is sent by one of them, and by two only
/// if one did not hear from the receiver for a minute. A crash between deciding and sending loses nothing.
#[derive(Debug, Clone)]
pub struct NotifyLoop {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    rules: NotifyRules,
    receivers: BTreeMap<ReceiverName, Arc<dyn Notifier>>,
    silences: Vec<Silence>,
    recorder: Arc<dyn Recorder>,
}

fn collection() -> Result<Collection<Group>> {
    let prefix =
        Prefix::new(["observe", "notify"]).map_err(|e| Error::of(ErrorKind::Internal, "notify", e))?;
    Ok(Collection::new(prefix))
}

fn read(view: &Snapshot) -> Result<Groups> {
    let groups = collection()?;
    let mut all = Groups::new();
    for record in groups.list(view, &Txn::new(), groups.prefix())? {
        let name = record.stored_at.segments().next_back().unwrap_or_default();
        all.insert(String::from_utf8_lossy(name).into_owned(), (*record.value).clone());
    }
    Ok(all)
}

impl NotifyLoop {
    /// By `rules`, without receivers.
    pub fn new(store: Arc<dyn StateStore>, clock: Arc<dyn Clock>, rules: NotifyRules) -> Self {
        let (receivers, silences) = (BTreeMap::new(), Vec::new());
        Self { store, clock, rules, receivers, silences, recorder: Arc::new(NoopRecorder::new()) }
    }

    /// With a receiver that routes name. What goes to one that nobody knows is given up.
    #[must_use]
    pub fn with_receiver(mut self, name: ReceiverName, notifier: Arc<dyn Notifier>) -> Self {
        self.receivers.insert(name, notifier);
        self
    }

    /// With these silences; who may make which is the host's to say.
    #[must_use]
    pub fn with_silences(mut self, silences: impl IntoIterator<Item = Silence>) -> Self {
        self.silences = silences.into_iter().collect();
        self
    }

    /// Counts messages in `recorder`.
    #[must_use]
    pub fn with_recorder(mut self, recorder: Arc<dyn Recorder>) -> Self {
        self.recorder = recorder;
        self
    }

    /// Decides what there is to say, given all that fires, and says what is due.
    ///
    /// # Errors
    /// Those of the store. What a receiver says is in [`Ticked`].
    pub async fn tick(&self, firing: &[Alert]) -> Result<Ticked> {
        let now = self.clock.now();
        self.change(|groups| {
            self.rules.plan(groups, now, firing, &self.silences);
            Vec::<()>::new()
        })
        .await?;
        let mut ticked = Ticked::default();
        loop {
            let due = self.change(|groups| take(groups, self.clock.now())).await?;
            if due.is_empty() {
                return Ok(ticked);
            }
            let sending = due.into_iter().map(async |(name, message)| {
                let outcome = self.send(&message).await;
                (name, message, outcome)
            });
            for (name, message, outcome) in join_all(sending).await {
                self.settle(&name, message, outcome, &mut ticked).await?;
            }
        }
    }

    async fn send(&self, message: &Notification) -> Result<()> {
        match self.receivers.get(&message.receiver) {
            Some(receiver) => receiver.notify(message).await,
            None => {
                let why = format!("no receiver {} is known", message.receiver);
                Err(Error::not_found("notify", why).with_retry(Retry::Never))
            }
        }
    }

    /// Records what became of a message.
    async fn settle(
        &self,
        name: &str,
        message: Notification,
        outcome: Result<()>,
        ticked: &mut Ticked,
    ) -> Result<()> {
        let now = self.clock.now();
        let gone = self.change(|groups| settle(groups, name, message.number, &outcome, now)).await?;
        let count = |result| {
            let labels = [("receiver", message.receiver.as_str()), ("result", result)];
            self.recorder.counter(&MESSAGES, None, &labels).add(1);
        };
        match outcome {
            Ok(()) => {
                ticked.sent += 1;
                count("sent");
            }
            Err(e) if gone.contains(&true) => {
                count("given_up");
                ticked.given_up.push((message, e.message().to_owned()));
            }
            Err(_) => {
                ticked.failed += 1;
                count("failed");
            }
        }
        Ok(())
    }

    /// Changes groups and commits what has changed, as often as others are faster.
    async fn change<T>(&self, decide: impl Fn(&mut Groups) -> Vec<T>) -> Result<Vec<T>> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.try_change(&decide).await {
                Err(e) if e.kind() == ErrorKind::Conflict && attempts < ATTEMPTS => {}
                other => return other,
            }
        }
    }

    async fn try_change<T>(&self, decide: impl Fn(&mut Groups) -> Vec<T>) -> Result<Vec<T>> {
        let groups = collection()?;
        let view = self.store.snapshot(&[groups.prefix().clone()]).await?;
        let before = read(&view)?;
        let mut after = before.clone();
        let told = decide(&mut after);
        let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| before.get(*name) != after.get(*name));
        for some in names.chunks(GROUPS) {
            let mut txn = Txn::new();
            for name in some {
                let key = groups.key([name.as_str()])?;
                match (groups.get(&view, &txn, &key)?, after.get(*name)) {
                    (Some(old), Some(new)) => groups.update(&mut txn, &old, new)?,
                    (Some(old), None) => groups.delete(&mut txn, &old)?,
                    (None, Some(new)) => groups.create(&view, &mut txn, key, new)?,
                    (None, None) => {}
                }
            }
            match self.store.commit(&txn).await {
                // Did it happen? If it reads as we left it, it did.
                Err(e) if e.effect() == Effect::Unknown => {
                    let now_there = read(&self.store.snapshot(&[groups.prefix().clone()]).await?)?;
                    if some.iter().any(|name| now_there.get(*name) != after.get(*name)) {
                        return Err(
                            Error::new(ErrorKind::Conflict, "notify", "groups have changed").with_source(e)
                        );
                    }
                }
                other => drop(other?),
            }
        }
        Ok(told)
    }
}

/// Some messages that are due, one of each group.
fn take(groups: &mut Groups, now: Timestamp) -> Vec<(String, Notification)> {
    let due = groups.iter_mut().filter_map(|(name, group)| Some((name.clone(), group.take(now, LEASE)?)));
    due.take(AT_ONCE).collect()
}

/// What became of a message; tells whether it is given up.
fn settle(groups: &mut Groups, name: &str, number: u64, outcome: &Result<()>, now: Timestamp) -> Vec<bool> {
    let Some(group) = groups.get_mut(name) else { return Vec::new() };
    let Err(e) = outcome else {
        group.sent(number);
        return vec![false];
    };
    let after = e.detail::<RetryAfter>().map(|RetryAfter(after)| *after);
    vec![group.failed(number, e.retry() == Retry::Never, after, now)]
}
