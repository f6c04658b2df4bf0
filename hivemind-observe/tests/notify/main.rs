//! Who is told of what, when, and how often.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod quiet;
mod replicas;
mod sending;
mod timing;

use std::sync::Arc;
use std::time::Duration;

use hivemind_core::{ManualClock, MemoryStore, Timestamp, block_on};
use hivemind_observe::notify::{Alert, NotifyRules, Route, Silence};
use hivemind_observe::{MemoryNotifier, NotifyLoop, Ticked};

pub(crate) fn alert(rule: &str, labels: &[(&str, &str)]) -> Alert {
    let alert = Alert::new(rule.parse().unwrap(), Timestamp::from_secs(1));
    labels.iter().fold(alert, |alert, (label, value)| alert.with(*label, *value))
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A route to `name` that waits 10 seconds, and 60 between messages, and says again after 600.
pub(crate) fn route(name: &str) -> Route {
    Route::to(name.parse().unwrap()).waiting(secs(10)).every(secs(60)).repeating(secs(600))
}

/// A loop that is begun anew for each tick: what it knows is in the store. Receivers are `mail` and `phone`.
pub(crate) struct Telling {
    pub(crate) clock: Arc<ManualClock>,
    store: Arc<MemoryStore>,
    rules: NotifyRules,
    pub(crate) silences: Vec<Silence>,
    pub(crate) mail: Arc<MemoryNotifier>,
    pub(crate) phone: Arc<MemoryNotifier>,
}

impl Telling {
    pub(crate) fn new(rules: NotifyRules) -> Self {
        Self {
            clock: Arc::new(ManualClock::new(Timestamp::from_secs(1000))),
            store: Arc::new(MemoryStore::new()),
            rules,
            silences: Vec::new(),
            mail: Arc::new(MemoryNotifier::new()),
            phone: Arc::new(MemoryNotifier::new()),
        }
    }

    /// The same store and receivers, by other rules.
    pub(crate) fn with_rules(self, rules: NotifyRules) -> Self {
        Self { rules, ..self }
    }

    /// `seconds` pass in which all of `firing` fires, looked at each second.
    pub(crate) fn pass(&self, seconds: u64, firing: &[Alert]) {
        for _ in 0..seconds {
            self.tick(firing);
            self.clock.advance(secs(1));
        }
    }

    pub(crate) fn tick(&self, firing: &[Alert]) -> Ticked {
        let telling = NotifyLoop::new(self.store.clone(), self.clock.clone(), self.rules.clone())
            .with_receiver("mail".parse().unwrap(), self.mail.clone())
            .with_receiver("phone".parse().unwrap(), self.phone.clone())
            .with_silences(self.silences.clone());
        block_on(telling.tick(firing)).unwrap()
    }

    /// What was told by mail: when, by the seconds that had passed, and what.
    pub(crate) fn mailed(&self) -> Vec<(u64, String)> {
        let told = self.mail.told().into_iter();
        told.map(|one| (one.at.since(Timestamp::from_secs(1000)).as_secs(), one.to_string())).collect()
    }
}
