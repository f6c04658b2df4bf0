//! What can be wrong with the database, and what it means for the caller.

use std::io;

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

use super::frame::SCHEMA;
use crate::{Error, ErrorKind};

/// Something is wrong with the file or with what it holds.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("another process or handle has it open")]
    Held,
    #[error("it holds something other than Hivemind's state")]
    Foreign,
    #[error("its schema is {found}, and this version of Hivemind reads {SCHEMA}: use a newer version")]
    Schema { found: u64 },
    #[error("{0}: restore the latest snapshot or backup")]
    Damaged(String),
    #[error("{0}")]
    Engine(redb::Error),
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Held,
            redb::Error::Corrupted(what) => Self::Damaged(what),
            redb::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => Self::Foreign,
            other => Self::Engine(other),
        }
    }
}

macro_rules! from_engine {
    ($($error:ty)*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

from_engine! { CommitError DatabaseError StorageError TableError TransactionError io::Error }

impl Fault {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Held => ErrorKind::Unavailable,
            Self::Foreign | Self::Schema { .. } | Self::Damaged(_) => ErrorKind::Corrupt,
            Self::Engine(redb::Error::UpgradeRequired(_)) => ErrorKind::Corrupt,
            Self::Engine(redb::Error::Io(e)) => match e.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Invalid,
                _ => ErrorKind::Unavailable,
            },
            Self::Engine(_) => ErrorKind::Unavailable,
        }
    }

    /// As the error of an operation on the database called `name`.
    pub(super) fn error(self, operation: &'static str, name: &str) -> Error {
        Error::new(self.kind(), operation, format!("{name}: {self}")).with_source(self)
    }
}
