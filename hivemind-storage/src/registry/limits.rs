//! How long calls to a provider may take, and how many go on at once. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use hivemind_core::ProviderName;
use serde::{Deserialize, Serialize};

use super::ProviderApi;

/// What one API of a provider is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallLimit {
    /// How long a call may take. After that nobody waits for it: whether it happened is not known, and it is repeated with
    /// the same token.
    pub deadline: Duration,
    /// How many volumes, snapshots or nodes are worked on at once, of those that need this API first.
    pub at_once: NonZeroUsize,
}

impl CallLimit {
    /// `at_once` calls at a time, of at most `deadline` each.
    pub fn new(deadline: Duration, at_once: NonZeroUsize) -> Self {
        Self { deadline, at_once }
    }
}

/// What each API of a provider is given.
///
/// What is not said is as by default: 32 at once, 60 seconds each, and 30 for questions. (The Kubernetes sidecars wait
/// 10 to 15 seconds unless told otherwise, and drivers of clouds tell them 60.)
///
/// ```
/// use hivemind_storage::{CallLimits, ProviderApi};
///
/// let limits: CallLimits = serde_json::from_str(
///     r#"{"create": {"deadline": {"secs": 300, "nanos": 0}, "at_once": 4}}"#,
/// )?;
/// assert_eq!(limits.of(ProviderApi::Create).deadline.as_secs(), 300);
/// assert_eq!(limits.of(ProviderApi::Attach).deadline.as_secs(), 60);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallLimits(BTreeMap<ProviderApi, CallLimit>);

impl CallLimits {
    /// With this for `api`.
    #[must_use]
    pub fn with(mut self, api: ProviderApi, limit: CallLimit) -> Self {
        self.0.insert(api, limit);
        self
    }

    /// What `api` is given.
    pub fn of(&self, api: ProviderApi) -> CallLimit {
        const AT_ONCE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);
        let seconds = if api == ProviderApi::Describe { 30 } else { 60 };
        self.0.get(&api).copied().unwrap_or(CallLimit::new(Duration::from_secs(seconds), AT_ONCE))
    }

    /// Whether all is as by default.
    pub(super) fn is_default(&self) -> bool {
        self.0.is_empty()
    }
}

/// A provider did not answer in time. Detail of an [`Unavailable`](hivemind_core::ErrorKind::Unavailable) error, whose
/// effect is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "provider {provider} did not answer in {deadline:?} ({api:?}): it is asked again with the same token"
)]
#[non_exhaustive]
pub struct Overdue {
    /// Which provider.
    pub provider: ProviderName,
    /// For what.
    pub api: ProviderApi,
    /// How long it had.
    pub deadline: Duration,
}

impl Overdue {
    pub(crate) fn new(provider: ProviderName, api: ProviderApi, deadline: Duration) -> Self {
        Self { provider, api, deadline }
    }
}
