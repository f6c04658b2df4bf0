//! What must be done before a tenant's record goes. No I/O, no clock, no async.

use std::fmt;
use std::time::Duration;

use hivemind_core::{ComponentName, Timestamp};
use serde::{Deserialize, Serialize};

/// How far a finalizer is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FinalizerState {
    /// Its turn has not come: the tenant is not being deleted, or others come first.
    #[default]
    Pending,
    /// Whoever it names is at it.
    Running {
        /// Since when.
        started: Timestamp,
        /// When it counts as stuck.
        deadline: Timestamp,
    },
    /// It is done.
    Done {
        /// When.
        at: Timestamp,
    },
    /// It came to nothing, or said nothing in time. It may still become done, be tried again, or be removed by force.
    Stuck {
        /// Why, and what to do.
        reason: String,
        /// Since when.
        since: Timestamp,
    },
}

impl fmt::Display for FinalizerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.pad("pending"),
            Self::Running { .. } => f.pad("running"),
            Self::Done { .. } => f.pad("done"),
            Self::Stuck { reason, .. } => write!(f, "stuck: {reason}"),
        }
    }
}

/// Something that must be done before a tenant's record goes. Those of the lowest order go first; those of the same
/// order go side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finalizer {
    /// Who does it.
    pub name: ComponentName,
    /// When its turn is: lower goes first.
    pub order: u32,
    /// How long it may take once its turn has come.
    pub timeout: Duration,
    /// How far it is.
    #[serde(default)]
    pub state: FinalizerState,
}

impl Finalizer {
    /// `name` has something to do, in turn `order`, for `timeout` at most.
    pub fn new(name: ComponentName, order: u32, timeout: Duration) -> Self {
        Self { name, order, timeout, state: FinalizerState::Pending }
    }

    /// Whether it is done.
    pub fn is_done(&self) -> bool {
        matches!(self.state, FinalizerState::Done { .. })
    }

    /// Its turn has come.
    pub(crate) fn start(&mut self, now: Timestamp) {
        self.state = FinalizerState::Running { started: now, deadline: now.after(self.timeout) };
    }

    /// It came to nothing.
    pub(crate) fn stick(&mut self, reason: impl Into<String>, now: Timestamp) {
        self.state = FinalizerState::Stuck { reason: reason.into(), since: now };
    }
}

/// The finalizers whose turn it is: those of the lowest order that are not done.
pub(crate) fn due(finalizers: &mut [Finalizer]) -> impl Iterator<Item = &mut Finalizer> {
    let turn = finalizers.iter().filter(|one| !one.is_done()).map(|one| one.order).min();
    finalizers.iter_mut().filter(move |one| !one.is_done() && Some(one.order) == turn)
}

/// Starts the finalizers whose turn it is, and says of those past their deadline that they are stuck.
pub(crate) fn advance(finalizers: &mut [Finalizer], now: Timestamp) {
    for one in due(finalizers) {
        match one.state {
            FinalizerState::Pending => one.start(now),
            FinalizerState::Running { deadline, .. } if deadline <= now => {
                let reason =
                    format!("{} said nothing by {deadline}: look after it, try again, or force", one.name);
                one.stick(reason, now);
            }
            _ => {}
        }
    }
}
