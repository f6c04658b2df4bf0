//! What is known about a backup without reading it. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use hivemind_core::store::Revision;
use hivemind_core::{BackupId, ClusterId, KeyId, RequestId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::BackupOptions;

/// The version of the format that this crate writes.
pub const FORMAT_VERSION: u16 = 1;

/// Whether a backup stands alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BackupKind {
    /// Every record of its scope.
    Full,
    /// What changed since another backup.
    Incremental {
        /// The backup it is based on.
        base: BackupId,
        /// The revision of that backup.
        base_revision: Revision,
    },
}

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// How blocks are encrypted: with XChaCha20-Poly1305, under a data key that only the key provider can unwrap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Encryption {
    /// The key of the provider that wraps the data key.
    pub key: KeyId,
    /// The wrapped data key; never the data key itself.
    pub wrapped: Bytes,
}

impl Encryption {
    /// Under a data key that `key` wraps as `wrapped`.
    pub fn new(key: KeyId, wrapped: Bytes) -> Self {
        Self { key, wrapped }
    }
}

/// A digest by algorithm; prints as `blake3:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Checksum {
    /// BLAKE3, 32 bytes.
    Blake3([u8; 32]),
}

impl Checksum {
    /// The BLAKE3 digest of `bytes`.
    pub fn blake3(bytes: &[u8]) -> Self {
        Self::Blake3(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Blake3(digest) = self;
        write!(f, "blake3:{}", blake3::Hash::from_bytes(*digest).to_hex())
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}

/// A text is not a [`Checksum`] that this crate knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a checksum is \"blake3:\" and 64 hexadecimal digits")]
#[non_exhaustive]
pub struct InvalidChecksum;

impl FromStr for Checksum {
    type Err = InvalidChecksum;
    fn from_str(text: &str) -> Result<Self, InvalidChecksum> {
        let hex = text.strip_prefix("blake3:").ok_or(InvalidChecksum)?;
        let digest = blake3::Hash::from_hex(hex).map_err(|_| InvalidChecksum)?;
        Ok(Self::Blake3(*digest.as_bytes()))
    }
}

impl TryFrom<String> for Checksum {
    type Error = InvalidChecksum;
    fn try_from(text: String) -> Result<Self, InvalidChecksum> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

/// What a backup holds of one component.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ComponentCount {
    /// Records put.
    pub records: u64,
    /// Keys deleted.
    pub deletions: u64,
}

/// What is known about a backup without reading it. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupMetadata {
    /// Names the backup.
    pub id: BackupId,
    /// The format its bytes are in.
    pub format: u16,
    /// When it was begun.
    pub created_at: Timestamp,
    /// The cluster it is of.
    pub cluster: ClusterId,
    /// The request that asked for it.
    pub request: RequestId,
    /// Whether it stands alone.
    pub kind: BackupKind,
    /// The revision of the source that it shows.
    pub revision: Revision,
    /// How many records it puts.
    pub records: u64,
    /// How many keys it deletes; zero in a full backup.
    pub deletions: u64,
    /// The same by component: the first segment of the key, with bytes outside printable ASCII escaped.
    pub components: BTreeMap<String, ComponentCount>,
    /// How many bytes its records have, before compression.
    pub plain_bytes: u64,
    /// How many bytes are stored.
    pub stored_bytes: u64,
    /// Of the stored bytes.
    pub checksum: Checksum,
    /// How blocks are compressed.
    pub compression: Compression,
    /// How blocks are encrypted, if they are.
    pub encryption: Option<Encryption>,
    /// How it was asked for.
    pub options: BackupOptions,
}

impl BackupMetadata {
    /// The metadata of a full backup that holds nothing yet.
    pub fn new(id: BackupId, cluster: ClusterId, request: RequestId, created_at: Timestamp) -> Self {
        Self {
            id,
            format: FORMAT_VERSION,
            created_at,
            cluster,
            request,
            kind: BackupKind::Full,
            revision: Revision::ZERO,
            records: 0,
            deletions: 0,
            components: BTreeMap::new(),
            plain_bytes: 0,
            stored_bytes: 0,
            checksum: Checksum::blake3(b""),
            compression: Compression::None,
            encryption: None,
            options: BackupOptions::default(),
        }
    }

    /// The backup it is based on, if it is incremental.
    pub fn base(&self) -> Option<&BackupId> {
        match &self.kind {
            BackupKind::Full => None,
            BackupKind::Incremental { base, .. } => Some(base),
        }
    }

    /// What the bytes and the data key are bound to, so that they cannot pass for those of another backup.
    pub(crate) fn binding(&self) -> Vec<u8> {
        let (base, base_revision) = match &self.kind {
            BackupKind::Full => ("", Revision::ZERO),
            BackupKind::Incremental { base, base_revision } => (base.as_str(), *base_revision),
        };
        let (id, cluster) = (&self.id, &self.cluster);
        format!("hivemind-backup/{id}/{cluster}/{}/{base}/{base_revision}", self.revision).into_bytes()
    }
}
