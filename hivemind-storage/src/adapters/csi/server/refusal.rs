//! Which gRPC code an error of a provider is, by the tables of the CSI specification. Details stay empty.

use hivemind_core::{Effect, Error, ErrorKind, Progress, Result};
use tonic::{Code, Status};

use crate::Beyond;

/// What a call does, as far as its codes depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// It makes a volume: what the provider cannot do is a wrong argument.
    Create,
    /// It grows one: what is wrong is the range.
    Expand,
    /// It lists: what is wrong is the token.
    List,
    /// It makes a volume usable on a node: what the volume was not made for has to wait for another volume.
    Use,
    /// Anything else.
    Other,
}

/// The code of `error`. Only `ABORTED`, `UNAVAILABLE` and `RESOURCE_EXHAUSTED` let a caller believe that something may
/// have happened; an effect that nobody knows must have one of them.
pub(super) fn code(call: Call, error: &Error) -> Code {
    match error.kind() {
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::QuotaExceeded | ErrorKind::Exhausted => Code::ResourceExhausted,
        _ if error.effect() != Effect::NotStarted => Code::Aborted,
        ErrorKind::Invalid if error.detail() == Some(&Beyond::Size) => Code::OutOfRange,
        ErrorKind::Invalid if call == Call::Use && error.detail() == Some(&Beyond::Use) => {
            Code::FailedPrecondition
        }
        ErrorKind::Unsupported if call == Call::Use => Code::FailedPrecondition,
        ErrorKind::Invalid if call == Call::Expand => Code::OutOfRange,
        ErrorKind::Invalid | ErrorKind::Expired if call == Call::List => Code::Aborted,
        ErrorKind::Unsupported if call == Call::Create => Code::InvalidArgument,
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Conflict | ErrorKind::Expired => Code::FailedPrecondition,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::Corrupt => Code::DataLoss,
        _ => Code::Internal,
    }
}

/// The answer of a call, as CSI says it.
pub(super) fn answer<T>(call: Call, outcome: Result<T>) -> Result<T, Status> {
    outcome.map_err(|error| Status::new(code(call, &error), error.message()))
}

/// The answer of a call that may go on: then it is `ABORTED`, and the caller repeats it.
pub(super) fn finished<T>(call: Call, outcome: Result<Progress<T>>) -> Result<T, Status> {
    match answer(call, outcome)? {
        Progress::Ready(done) => Ok(done),
        Progress::Pending(_) => Err(Status::aborted("the call goes on: repeat it to learn its outcome")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_that_nobody_knows_keeps_the_operation_alive() {
        let alive = [Code::Aborted, Code::Unavailable, Code::ResourceExhausted];
        for kind in ErrorKind::ALL {
            for call in [Call::Create, Call::Expand, Call::List, Call::Use, Call::Other] {
                let error =
                    Error::new(kind, "test", "").with_source(Beyond::Size).with_effect(Effect::Unknown);
                assert!(alive.contains(&code(call, &error)), "{kind} {call:?}");
            }
        }
    }

    #[test]
    fn codes_follow_the_tables_of_the_specification() {
        let code = |call, kind| code(call, &Error::new(kind, "test", ""));
        assert_eq!(code(Call::Create, ErrorKind::AlreadyExists), Code::AlreadyExists);
        assert_eq!(code(Call::Create, ErrorKind::Unsupported), Code::InvalidArgument);
        assert_eq!(code(Call::Create, ErrorKind::Exhausted), Code::ResourceExhausted);
        assert_eq!(code(Call::Expand, ErrorKind::Invalid), Code::OutOfRange);
        assert_eq!(code(Call::List, ErrorKind::Invalid), Code::Aborted);
        assert_eq!(code(Call::Other, ErrorKind::Conflict), Code::FailedPrecondition);
        assert_eq!(code(Call::Other, ErrorKind::Unsupported), Code::Unimplemented);
        assert_eq!(code(Call::Other, ErrorKind::Denied), Code::PermissionDenied);
        assert_eq!(code(Call::Use, ErrorKind::Unsupported), Code::FailedPrecondition);
        assert_eq!(code(Call::Use, ErrorKind::Invalid), Code::InvalidArgument);
    }

    #[test]
    fn what_is_beyond_a_volume_has_codes_of_its_own() {
        let code = |call, beyond| code(call, &Error::invalid("test", "").with_source(beyond));
        assert_eq!(code(Call::Create, Beyond::Size), Code::OutOfRange);
        assert_eq!(code(Call::Use, Beyond::Use), Code::FailedPrecondition);
        // Elsewhere the specification knows no such code.
        assert_eq!(code(Call::Other, Beyond::Use), Code::InvalidArgument);
    }

    #[test]
    fn details_stay_empty_and_what_goes_on_is_aborted() {
        let error: Result<()> = Err(Error::new(ErrorKind::NotFound, "test", "there is no volume a"));
        let status = answer(Call::Other, error).unwrap_err();
        assert_eq!((status.message(), status.details()), ("there is no volume a", &[][..]));
        let token = hivemind_core::OpToken::new("t");
        let pending = hivemind_core::Pending::new(token, std::time::Duration::from_secs(1));
        let outcome: Result<Progress<()>> = Ok(Progress::Pending(pending));
        assert_eq!(finished(Call::Other, outcome).unwrap_err().code(), Code::Aborted);
    }
}
