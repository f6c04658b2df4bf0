//! What went wrong in the kernel.

use hivemind_core::ErrorKind;
use nix::errno::Errno;

/// An error while reading or changing the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Something that is there and not ours.
    pub(super) fn foreign(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::AlreadyExists, format!("{what} is there and not ours: it is left alone"))
    }

    /// `errno` while `doing` something.
    pub(super) fn system(doing: impl std::fmt::Display, errno: Errno) -> Self {
        let kind = match errno {
            Errno::ENOENT | Errno::ENODEV | Errno::ESRCH | Errno::ENXIO | Errno::EADDRNOTAVAIL => {
                ErrorKind::NotFound
            }
            Errno::EEXIST => ErrorKind::AlreadyExists,
            Errno::EPERM | Errno::EACCES => ErrorKind::Denied,
            Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => ErrorKind::Unsupported,
            Errno::EINVAL | Errno::ERANGE | Errno::ENETUNREACH | Errno::EHOSTUNREACH => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, format!("{doing}: {}", errno.desc()))
    }

    pub(super) fn io(doing: impl std::fmt::Display, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(code) => Self::system(doing, Errno::from_raw(code)),
            None => Self::new(ErrorKind::Unavailable, format!("{doing}: {error}")),
        }
    }
}
