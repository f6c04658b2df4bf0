//! Progress as data: a call to the outside world is finished, or goes on under a token.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The answer of a call that may take long: ready, or to be asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums, reason = "finished or not is complete")]
pub enum Progress<T> {
    /// The call is finished.
    Ready(T),
    /// The call goes on: repeat it with the same arguments, or ask by token.
    Pending(Pending),
}

/// A call that goes on outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pending {
    /// Finds the operation again, also after a restart.
    pub token: OpToken,
    /// How long to wait before asking again.
    pub poll_after: Duration,
}

impl Pending {
    /// The operation `token`, to be asked for after `poll_after`.
    pub fn new(token: OpToken, poll_after: Duration) -> Self {
        Self { token, poll_after }
    }
}

/// Names one external operation; the same intent, repeated, has the same token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpToken(String);

impl OpToken {
    /// A token from a provider or an [`IdSource`](crate::IdSource); opaque to everybody else.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T> Progress<T> {
    /// The value, if the call is finished.
    pub fn ready(self) -> Option<T> {
        match self {
            Self::Ready(value) => Some(value),
            Self::Pending(_) => None,
        }
    }

    /// Changes the value of a finished call.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Progress<U> {
        match self {
            Self::Ready(value) => Progress::Ready(f(value)),
            Self::Pending(pending) => Progress::Pending(pending),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_is_ready_and_keeps_what_is_not() {
        assert_eq!(Progress::Ready(2).map(|n| n * 2).ready(), Some(4));
        let pending = Pending::new(OpToken::new("op-1"), Duration::from_secs(1));
        assert_eq!(Progress::<u8>::Pending(pending.clone()).map(u16::from), Progress::Pending(pending));
    }
}
