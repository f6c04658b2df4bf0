//! What went wrong in a call to etcd, and whether it may have happened all the same. No I/O, no clock, no async.

use std::error::Error as StdError;
use std::io;

use etcd_client::Error as ClientError;

use crate::{Effect, Error, ErrorKind};

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) class: Class,
    pub(super) text: String,
}

/// What kind of failure it is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The revision has been compacted away.
    Compacted,
    /// The revision has not been reached.
    Future,
    /// The answer is larger than the client takes.
    TooLong,
    /// The authentication has expired. Nothing was done.
    Token,
    /// etcd says no, and will again. Nothing was done.
    Refused(ErrorKind),
    /// Nothing was done; later, or at another endpoint, it may be.
    NotStarted,
    /// Nobody knows.
    Lost,
}

/// gRPC's numbers for what etcd answers.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

impl Failure {
    pub(super) fn new(class: Class, text: impl Into<String>) -> Self {
        Self { class, text: text.into() }
    }

    /// Whether another endpoint may do better.
    pub(super) fn is_of_the_endpoint(&self) -> bool {
        matches!(self.class, Class::NotStarted | Class::Lost)
    }

    /// It failed before the request itself was sent.
    pub(super) fn before_sending(mut self) -> Self {
        if self.class == Class::Lost {
            self.class = Class::NotStarted;
        }
        self
    }

    /// The error of a call that changes nothing, whatever happened.
    pub(super) fn of_read(self, operation: &'static str) -> Error {
        self.of_write(operation).with_effect(Effect::NotStarted)
    }

    /// The error of a call that changes something.
    pub(super) fn of_write(self, operation: &'static str) -> Error {
        let kind = match self.class {
            Class::Refused(kind) => kind,
            Class::Token => ErrorKind::Denied,
            Class::NotStarted | Class::Lost => ErrorKind::Unavailable,
            Class::Compacted | Class::Future | Class::TooLong => ErrorKind::Internal,
        };
        let effect = if self.class == Class::Lost { Effect::Unknown } else { Effect::NotStarted };
        Error::new(kind, operation, self.text).with_effect(effect)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let status = match error {
            ClientError::GRpcStatus(status) => status,
            ClientError::InvalidArgs(text) => return Self::new(Class::Refused(ErrorKind::Invalid), text),
            ClientError::InvalidUri(e) => {
                return Self::new(
                    Class::Refused(ErrorKind::Invalid),
                    with_causes(&e.to_string(), e.source()),
                );
            }
            // Raised while the client is set up, such as by a certificate that is none.
            ClientError::TransportError(e) => {
                return Self::new(
                    Class::Refused(ErrorKind::Invalid),
                    with_causes(&e.to_string(), e.source()),
                );
            }
            other => return Self::new(Class::Lost, other.to_string()),
        };
        let (code, message) = (i32::from(status.code()), status.message());
        if let Some(class) = said_by_etcd(code, message) {
            return Self::new(class, advice(class, message));
        }
        if code == code::OUT_OF_RANGE && message.contains("message length too large") {
            return Self::new(Class::TooLong, message);
        }
        let class = if was_refused(&status) { Class::NotStarted } else { Class::Lost };
        Self::new(class, format!("etcd cannot be reached: {}", with_causes(message, status.source())))
    }
}

/// What etcd itself said, before or instead of doing anything. Anything else may come from the network, half-way.
fn said_by_etcd(code: i32, message: &str) -> Option<Class> {
    if code == code::RESOURCE_EXHAUSTED && message.starts_with("grpc: received message larger than max") {
        return Some(Class::Refused(ErrorKind::Invalid));
    }
    let said = message.strip_prefix("etcdserver: ")?;
    Some(match (code, said) {
        (code::OUT_OF_RANGE, "mvcc: required revision has been compacted") => Class::Compacted,
        (code::OUT_OF_RANGE, "mvcc: required revision is a future revision") => Class::Future,
        (code::UNAVAILABLE, "no leader") => Class::NotStarted,
        (code::RESOURCE_EXHAUSTED, "too many requests") => Class::NotStarted,
        (code::RESOURCE_EXHAUSTED, _) => Class::Refused(ErrorKind::Exhausted),
        // The users changed since we authenticated.
        (code::UNAUTHENTICATED, _) | (code::INVALID_ARGUMENT, "revision of auth store is old") => {
            Class::Token
        }
        (code::INVALID_ARGUMENT, "user name is empty") => Class::Refused(ErrorKind::Denied),
        (code::INVALID_ARGUMENT, text) if text.starts_with("authentication failed") => {
            Class::Refused(ErrorKind::Denied)
        }
        (code::INVALID_ARGUMENT | code::FAILED_PRECONDITION, _) => Class::Refused(ErrorKind::Invalid),
        (code::PERMISSION_DENIED, _) => Class::Refused(ErrorKind::Denied),
        _ => return None,
    })
}

/// What etcd said, and what to do about it.
fn advice(class: Class, message: &str) -> String {
    let what = match class {
        Class::Refused(ErrorKind::Denied) => "check user, password and role",
        Class::Refused(ErrorKind::Exhausted) => "compact, defragment and disarm etcd, or give it more room",
        Class::Refused(_) => "check etcd's settings: limits below its defaults, authentication not enabled",
        _ => return message.to_owned(),
    };
    format!("{message}: {what}")
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// Whether no connection was made at all, so that nothing can have been sent.
fn was_refused(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused)
    })
}

/// What an error says, and what is behind it, each said once.
fn with_causes(says: &str, behind: Option<&(dyn StdError + 'static)>) -> String {
    let mut text = says.to_owned();
    for cause in behind.into_iter().flat_map(causes) {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_says() {
        use Class::{Compacted, Future, NotStarted, Refused, Token};
        use ErrorKind::{Denied, Exhausted, Invalid};
        for (code, message, class) in [
            (11, "etcdserver: mvcc: required revision has been compacted", Some(Compacted)),
            (11, "etcdserver: mvcc: required revision is a future revision", Some(Future)),
            (14, "etcdserver: no leader", Some(NotStarted)),
            (8, "etcdserver: too many requests", Some(NotStarted)),
            (8, "etcdserver: mvcc: database space exceeded", Some(Refused(Exhausted))),
            (16, "etcdserver: invalid auth token", Some(Token)),
            (3, "etcdserver: authentication failed, invalid user ID or password", Some(Refused(Denied))),
            (3, "etcdserver: user name is empty", Some(Refused(Denied))),
            (3, "etcdserver: request is too large", Some(Refused(Invalid))),
            (7, "etcdserver: permission denied", Some(Refused(Denied))),
            // These may have been proposed to the cluster before.
            (14, "etcdserver: request timed out", None),
            (14, "etcdserver: server stopped", None),
            (14, "etcdserver: leader changed", None),
            // Not from etcd: the connection said so, and the request may have passed it.
            (8, "h2 protocol error: too many pings", None),
            (14, "transport error", None),
        ] {
            assert_eq!(said_by_etcd(code, message), class, "{message}");
        }
    }

    #[test]
    fn only_a_lost_write_is_in_doubt() {
        let lost = Failure::new(Class::Lost, "x");
        assert_eq!(lost.clone().of_write("commit").effect(), Effect::Unknown);
        assert_eq!(lost.clone().of_read("get").effect(), Effect::NotStarted);
        assert_eq!(lost.before_sending().of_write("commit").effect(), Effect::NotStarted);
        let denied = Failure::new(Class::Refused(ErrorKind::Denied), "x").of_write("commit");
        assert_eq!((denied.kind(), denied.effect()), (ErrorKind::Denied, Effect::NotStarted));
    }
}
