//! What can be wrong with the bytes of a backup.

use hivemind_core::{Error, ErrorKind};

/// What is wrong with the bytes of a backup. Detail of a [`Corrupt`](hivemind_core::ErrorKind::Corrupt) error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// It does not begin as a backup does.
    #[error("this is not a backup: it does not begin with the right bytes")]
    NotABackup,
    /// It is of a version that this crate does not know.
    #[error("format version {0} is unknown: use a newer release")]
    UnknownVersion(u16),
    /// It is compressed or encrypted in another way than its metadata say.
    #[error("the header disagrees with the metadata on compression or encryption")]
    OtherHeader,
    /// It ends too early.
    #[error("the backup ends in block {0}, before its trailer")]
    Truncated(u64),
    /// Bytes follow the trailer.
    #[error("bytes follow the end of the backup")]
    Trailing,
    /// A block claims an impossible size or kind.
    #[error("block {0} has an impossible head")]
    BadHead(u64),
    /// A block cannot be decrypted: it was changed, moved, or is under another key.
    #[error("block {0} is not authentic: changed, moved, or under another key")]
    NotAuthentic(u64),
    /// A block cannot be decompressed to the size it claims.
    #[error("block {0} cannot be decompressed")]
    BadCompression(u64),
    /// A block does not hold whole records in key order.
    #[error("block {0} does not hold whole records in key order")]
    BadRecords(u64),
    /// The counts or the digest of the trailer are not those of the records.
    #[error("the records are not those that the trailer counts")]
    OtherTotals,
    /// The counts, sizes or checksum of the metadata are not those of the bytes.
    #[error("the bytes are not those that the metadata describe")]
    OtherMetadata,
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Self::of(ErrorKind::Corrupt, "read_backup", damage)
    }
}
