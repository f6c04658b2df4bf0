//! The one error of the suite: what went wrong, whether to repeat, whether it happened anyway.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by class.
///
/// Each kind maps to exactly one gRPC code, and no two kinds share one, so that a kind survives a round trip
/// through gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing does not exist, or belongs to somebody else.
    NotFound,
    /// The thing exists already, with other properties than asked for.
    AlreadyExists,
    /// The state changed under the decision: decide again on a newer snapshot.
    Conflict,
    /// A quota of the tenant is too small.
    QuotaExceeded,
    /// The principal may not do this.
    Denied,
    /// The input is wrong: the same input will always be refused.
    Invalid,
    /// A pool of the cluster is empty: addresses, nodes, space.
    Exhausted,
    /// The past that was asked for has been compacted away: start again from the present.
    Expired,
    /// A system did not answer, or not in time.
    Unavailable,
    /// Stored data is damaged or of an unknown newer version.
    Corrupt,
    /// The adapter cannot do this at all.
    Unsupported,
    /// A bug or a broken invariant in Hivemind or an adapter.
    Internal,
}

impl ErrorKind {
    /// Every kind, in order of declaration.
    pub const ALL: [Self; 12] = [
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::QuotaExceeded,
        Self::Denied,
        Self::Invalid,
        Self::Exhausted,
        Self::Expired,
        Self::Unavailable,
        Self::Corrupt,
        Self::Unsupported,
        Self::Internal,
    ];

    /// The gRPC status code, as in `google.rpc.Code`.
    pub fn grpc_code(self) -> u8 {
        match self {
            Self::Invalid => 3,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::Denied => 7,
            Self::QuotaExceeded => 8,
            Self::Exhausted => 9,
            Self::Conflict => 10,
            Self::Expired => 11,
            Self::Unsupported => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Corrupt => 15,
        }
    }

    /// The kind for a gRPC status code; codes that no kind has give `None`.
    pub fn from_grpc_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.grpc_code() == code)
    }

    /// The HTTP status code (RFC 9110).
    pub fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists => 409,
            Self::Expired => 410,
            Self::Conflict => 412,
            Self::QuotaExceeded => 429,
            Self::Internal => 500,
            Self::Unsupported => 501,
            Self::Corrupt => 502,
            Self::Unavailable => 503,
            Self::Exhausted => 507,
        }
    }

    /// What a caller may do when nothing more is known.
    fn default_retry(self) -> Retry {
        match self {
            Self::Conflict => Retry::AfterReread,
            Self::Unavailable => Retry::Later,
            Self::Exhausted | Self::QuotaExceeded => Retry::AfterChange,
            _ => Retry::Never,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::Conflict => "conflict",
            Self::QuotaExceeded => "quota exceeded",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Exhausted => "exhausted",
            Self::Expired => "expired",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal error",
        })
    }
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retry {
    /// The same call will fail the same way.
    Never,
    /// Read the newer state, decide again, and repeat at once.
    AfterReread,
    /// Repeat the same call after a pause.
    Later,
    /// Repeat once somebody has made room: a release, a larger quota, a new node.
    AfterChange,
}

/// Whether a call that failed may have happened all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "it happened, it did not, or nobody knows")]
pub enum Effect {
    /// Nothing was changed.
    NotStarted,
    /// Nobody knows: the reply was lost. Ask, or repeat with the same idempotency token.
    Unknown,
    /// The change was made, and something after it failed.
    Done,
}

/// An error from any Hivemind crate or adapter.
///
/// It answers what class of failure it is ([`kind`](Self::kind)), whether to try again ([`retry`](Self::retry)),
/// whether it may have happened anyway ([`effect`](Self::effect)), and carries the numbers of the crate that
/// raised it ([`detail`](Self::detail)).
///
/// ```
/// use hivemind_core::{Effect, Error, ErrorKind, Retry};
///
/// let error = Error::new(ErrorKind::Unavailable, "commit", "no reply within 5 s").with_effect(Effect::Unknown);
/// assert_eq!(error.retry(), Retry::Later);
/// assert_eq!(error.to_string(), "commit: unavailable: no reply within 5 s (it may have happened all the same)");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    effect: Effect,
    operation: &'static str,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` in `operation`; `message` says what was wrong, where, and what to do.
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            retry: kind.default_retry(),
            effect: Effect::NotStarted,
            operation,
            message: message.into(),
            source: None,
        }))
    }

    /// An error whose message and detail are `detail` itself.
    pub fn of<D: StdError + Send + Sync + 'static>(
        kind: ErrorKind,
        operation: &'static str,
        detail: D,
    ) -> Self {
        Self::new(kind, operation, detail.to_string()).with_source(detail)
    }

    /// Shorthand for [`ErrorKind::Invalid`].
    pub fn invalid(operation: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, operation, message)
    }

    /// Shorthand for [`ErrorKind::NotFound`].
    pub fn not_found(operation: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, operation, message)
    }

    /// Shorthand for [`ErrorKind::Internal`].
    pub fn internal(operation: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, operation, message)
    }

    /// Attaches the cause, which [`detail`](Self::detail) finds.
    #[must_use]
    pub fn with_source<D: StdError + Send + Sync + 'static>(mut self, source: D) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Overrides what the caller may do.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Says whether the call may have happened anyway.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.0.effect = effect;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Whether it may have happened anyway.
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// The operation that failed, such as `commit`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What was wrong, where, and what to do; without kind and operation.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The first cause, at any depth, that is a `D`.
    pub fn detail<D: StdError + 'static>(&self) -> Option<&D> {
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.0.operation, self.0.kind, self.0.message)?;
        match self.0.effect {
            Effect::NotStarted => Ok(()),
            Effect::Unknown => f.write_str(" (it may have happened all the same)"),
            Effect::Done => f.write_str(" (the change itself was made)"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, retry, effect, operation, message, source } = &*self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", kind).field("operation", operation).field("message", message);
        out.field("retry", retry).field("effect", effect);
        if let Some(source) = source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[derive(Debug, thiserror::Error, PartialEq)]
    #[error("short by {0}")]
    struct ShortBy(u64);

    #[test]
    fn is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn kinds_map_one_to_one_to_grpc_and_http() {
        let grpc: BTreeSet<u8> = ErrorKind::ALL.into_iter().map(ErrorKind::grpc_code).collect();
        let http: BTreeSet<u16> = ErrorKind::ALL.into_iter().map(ErrorKind::http_status).collect();
        assert_eq!((grpc.len(), http.len()), (ErrorKind::ALL.len(), ErrorKind::ALL.len()));
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_grpc_code(kind.grpc_code()), Some(kind));
        }
        assert_eq!(ErrorKind::from_grpc_code(0), None);
    }

    #[test]
    fn detail_is_found_at_any_depth() {
        let inner = Error::of(ErrorKind::QuotaExceeded, "reserve", ShortBy(3));
        let outer = Error::new(ErrorKind::QuotaExceeded, "deploy", "app web does not fit").with_source(inner);
        assert_eq!(outer.detail::<ShortBy>(), Some(&ShortBy(3)));
        assert!(outer.detail::<fmt::Error>().is_none());
        assert_eq!(outer.retry(), Retry::AfterChange);
    }
}
