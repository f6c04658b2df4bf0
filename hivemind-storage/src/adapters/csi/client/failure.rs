//! What a gRPC status means for the caller of a port: which class, whether to repeat, whether it may have happened.

use std::time::Duration;

use hivemind_core::{Effect, Error, ErrorKind, OpToken, Pending, Progress, Result, Retry};
use tonic::{Code, Status};

/// When to repeat a call that the driver has going on.
const POLL: Duration = Duration::from_secs(1);

/// The codes after which a call that changes something may have happened, or may still happen.
///
/// The first five keep an operation alive for every CSI caller. The others are no answer that the specification lists:
/// a driver, or a proxy, that fails in the middle of something says so with one of them.
fn unknown(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Unavailable
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::Unknown
            | Code::Internal
            | Code::DataLoss
    )
}

fn kind(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::Invalid,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::Denied,
        Code::ResourceExhausted => ErrorKind::Exhausted,
        Code::FailedPrecondition => ErrorKind::Conflict,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::Ok | Code::Unknown | Code::Internal => ErrorKind::Internal,
        Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable | Code::Aborted => {
            ErrorKind::Unavailable
        }
    }
}

fn error(operation: &'static str, status: Status) -> Error {
    let kind = kind(status.code());
    let message = if status.message().is_empty() { status.code().description() } else { status.message() };
    Error::new(kind, operation, format!("the CSI driver says: {message}")).with_source(status)
}

/// A call that changes nothing has failed.
pub(super) fn of_read(operation: &'static str, status: Status) -> Error {
    let again = unknown(status.code());
    let error = error(operation, status);
    if again { error.with_retry(Retry::Later) } else { error }
}

/// A list has failed: a token that the driver does not know is `ABORTED`.
pub(super) fn of_list(operation: &'static str, status: Status) -> Error {
    if status.code() == Code::Aborted {
        return Error::of(ErrorKind::Invalid, operation, status);
    }
    of_read(operation, status)
}

/// A call that changes something has failed.
pub(super) fn of_write(operation: &'static str, status: Status) -> Error {
    let (code, error) = (status.code(), error(operation, status));
    if !unknown(code) {
        return error;
    }
    let retry = if code == Code::ResourceExhausted { Retry::AfterChange } else { Retry::Later };
    error.with_effect(Effect::Unknown).with_retry(retry)
}

/// The outcome of a call that changes something, which goes on if the driver says `ABORTED`.
pub(super) fn progress<T>(
    operation: &'static str,
    token: &OpToken,
    outcome: Result<T, Status>,
) -> Result<Progress<T>> {
    match outcome {
        Ok(done) => Ok(Progress::Ready(done)),
        Err(status) if status.code() == Code::Aborted => {
            Ok(Progress::Pending(Pending::new(token.clone(), POLL)))
        }
        Err(status) => Err(of_write(operation, status)),
    }
}

/// An answer that no driver may give: what was asked for may have happened.
pub(super) fn broken(operation: &'static str, what: &str) -> Error {
    let error = Error::internal(operation, format!("the CSI driver breaks the specification: {what}"));
    error.with_effect(Effect::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: [Code; 16] = [
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    #[test]
    fn pitfall_02_no_code_of_an_unfinished_operation_is_taken_for_its_end() {
        let alive = [
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Unavailable,
            Code::Aborted,
            Code::ResourceExhausted,
        ];
        for code in CODES {
            let error = of_write("create_volume", Status::new(code, "why"));
            if alive.contains(&code) {
                assert_eq!(error.effect(), Effect::Unknown, "{code:?}");
                assert_ne!(error.retry(), Retry::Never, "{code:?}");
            }
            assert_eq!(of_read("probe", Status::new(code, "why")).effect(), Effect::NotStarted, "{code:?}");
        }
        let final_ones = CODES.into_iter().filter(|code| {
            of_write("create_volume", Status::new(*code, "why")).effect() == Effect::NotStarted
        });
        let expected = [
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::FailedPrecondition,
            Code::OutOfRange,
            Code::Unimplemented,
            Code::Unauthenticated,
        ];
        assert_eq!(final_ones.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_goes_on_is_pending_under_its_token() {
        let token = OpToken::new("t");
        let aborted = progress::<()>("create_volume", &token, Err(Status::aborted("busy"))).unwrap();
        assert!(matches!(aborted, Progress::Pending(pending) if pending.token == token));
        let list = of_list("list_volumes", Status::aborted("no such token"));
        assert_eq!(list.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn an_error_says_what_the_driver_said() {
        let error = of_write("attach_volume", Status::failed_precondition("it is on node n2"));
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Conflict, "the CSI driver says: it is on node n2")
        );
        assert_eq!(error.detail::<Status>().map(Status::code), Some(Code::FailedPrecondition));
    }
}
