//! What was told, in the store; and the sending.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hivemind_core::{
    Clock, Error, ErrorKind, Metric, NoopRecorder, ReceiverName, Recorder, Result, Retry, StateStore,
    Timestamp,
};

use super::records::Records;
use crate::Notifier;
use crate::notify::{Alert, Groups, Notification, NotifyRules, RetryAfter, Silence};

const MESSAGES: Metric = Metric::new(
    "hivemind_observe_notifications_total",
    "Messages about alerts, by receiver and what became of them.",
);
/// How often a step is repeated when another replica changes the same groups.
const ATTEMPTS: u32 = 16;
/// How many messages are sent at once.
const AT_ONCE: usize = 16;
/// How long a message is that of whoever sends it: afterwards another may try.
const LEASE: Duration = Duration::from_secs(60);

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
        while self.change(|groups| self.plan(groups, now, firing)).await?.0 {}
        let mut ticked = Ticked::default();
        loop {
            let (_, due) = self.change(|groups| take(groups, self.clock.now())).await?;
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
        let (_, gone) = self.change(|groups| settle(groups, name, message.number, &outcome, now)).await?;
        let gone = gone.iter().any(|(_, gone)| *gone);
        let count = |result| {
            let labels = [("receiver", message.receiver.as_str()), ("result", result)];
            self.recorder.counter(&MESSAGES, None, &labels).add(1);
        };
        match outcome {
            Ok(()) => {
                ticked.sent += 1;
                count("sent");
            }
            Err(e) if gone => {
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

    fn plan(&self, groups: &mut Groups, now: Timestamp, firing: &[Alert]) -> Decided<()> {
        self.rules.plan(groups, now, firing, &self.silences);
        Vec::new()
    }

    /// Changes groups and commits some of what has changed, as often as others are faster; tells whether there was anything, and
    /// what was decided of those.
    async fn change<T>(&self, decide: impl Fn(&mut Groups) -> Decided<T>) -> Result<(bool, Decided<T>)> {
        let records = Records::of(&self.store, "notify")?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (view, before) = records.read().await?;
            let mut after = before.clone();
            let decided = decide(&mut after);
            match records.commit(&view, &before, &after).await {
                Ok(done) => {
                    let decided = decided.into_iter().filter(|(name, _)| done.contains(name));
                    return Ok((!done.is_empty(), decided.collect()));
                }
                Err(e) if e.kind() == ErrorKind::Conflict && attempts < ATTEMPTS => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// What was decided of groups, by their names.
type Decided<T> = Vec<(String, T)>;

/// Some messages that are due, one of each group.
fn take(groups: &mut Groups, now: Timestamp) -> Decided<Notification> {
    let due = groups.iter_mut().filter_map(|(name, group)| Some((name.clone(), group.take(now, LEASE)?)));
    due.take(AT_ONCE).collect()
}

/// What became of a message; tells whether it is given up.
fn settle(
    groups: &mut Groups,
    name: &str,
    number: u64,
    outcome: &Result<()>,
    now: Timestamp,
) -> Decided<bool> {
    let Some(group) = groups.get_mut(name) else { return Vec::new() };
    let Err(e) = outcome else {
        group.sent(number);
        return vec![(name.to_owned(), false)];
    };
    let after = e.detail::<RetryAfter>().map(|RetryAfter(after)| *after);
    vec![(name.to_owned(), group.failed(number, e.retry() == Retry::Never, after, now))]
}
