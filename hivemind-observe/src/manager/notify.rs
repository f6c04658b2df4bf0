//! What was told, in the store; and the sending.

use std::collections::{BTreeMap, BTreeSet};
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
/// How many messages one receiver is sent at once.
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

    /// Decides what there is to say, given all that fires, and says what is due: of each group one message, and to each receiver no more
    /// than sixteen. It takes as long as the slowest receiver.
    ///
    /// # Errors
    /// Those of the store: then what was sent may be sent again. What a receiver says is in [`Ticked`].
    pub async fn tick(&self, firing: &[Alert]) -> Result<Ticked> {
        let now = self.clock.now();
        while self.change(|groups| self.plan(groups, now, firing)).await?.0 {}
        let (_, due) = self.change(|groups| take(groups, self.clock.now())).await?;
        let sending = due.into_iter().map(async |(name, message)| {
            let outcome = self.send(&message).await;
            (name, message, outcome)
        });
        let outcomes = join_all(sending).await;
        self.settle(outcomes).await
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

    /// Records what became of messages.
    async fn settle(&self, outcomes: Vec<(String, Notification, Result<()>)>) -> Result<Ticked> {
        let now = self.clock.now();
        let mut given_up = BTreeSet::new();
        loop {
            let (more, gone) = self.change(|groups| settle(groups, &outcomes, now)).await?;
            given_up.extend(gone.into_iter().map(|(name, ())| name));
            if !more {
                break;
            }
        }
        let mut ticked = Ticked::default();
        for (name, message, outcome) in outcomes {
            let gone = given_up.contains(&name);
            let result = match &outcome {
                Ok(()) => "sent",
                Err(_) if gone => "given_up",
                Err(_) => "failed",
            };
            let labels = [("receiver", message.receiver.as_str()), ("result", result)];
            self.recorder.counter(&MESSAGES, None, &labels).add(1);
            match outcome {
                Ok(()) => ticked.sent += 1,
                Err(e) if gone => ticked.given_up.push((message, e.message().to_owned())),
                Err(_) => ticked.failed += 1,
            }
        }
        Ok(ticked)
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

/// The messages that have been due for longest, one of each group, and no more to a receiver than are sent at once.
fn take(groups: &mut Groups, now: Timestamp) -> Decided<Notification> {
    let mut due: Vec<_> =
        groups.iter_mut().filter_map(|(name, group)| Some((group.due(now)?, name, group))).collect();
    due.sort_by_key(|(since, ..)| *since);
    let mut of_receiver = BTreeMap::<ReceiverName, usize>::new();
    let mut taken = Vec::new();
    for (_, name, group) in due {
        let count = of_receiver.entry(group.receiver.clone()).or_default();
        if *count < AT_ONCE {
            *count += 1;
            taken.extend(group.take(now, LEASE).map(|message| (name.clone(), message)));
        }
    }
    taken
}

/// What became of messages; tells which are given up.
fn settle(
    groups: &mut Groups,
    outcomes: &[(String, Notification, Result<()>)],
    now: Timestamp,
) -> Decided<()> {
    let mut given_up = Vec::new();
    for (name, message, outcome) in outcomes {
        let Some(group) = groups.get_mut(name) else { continue };
        let Err(e) = outcome else {
            group.sent(message.number);
            continue;
        };
        let after = e.detail::<RetryAfter>().map(|RetryAfter(after)| *after);
        if group.failed(message.number, e.retry() == Retry::Never, after, now) {
            given_up.push((name.clone(), ()));
        }
    }
    given_up
}
