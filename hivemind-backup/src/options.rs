//! What to back up, and how. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::KeyId;
use hivemind_core::store::{Key, Prefix};
use serde::{Deserialize, Serialize};

/// Which records a backup holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BackupScope {
    /// Every record.
    #[default]
    Everything,
    /// The records below these keys, such as `tenancy`; not the keys themselves.
    Below(BTreeSet<Key>),
}

impl BackupScope {
    /// The disjoint prefixes to scan, in key order.
    pub(crate) fn prefixes(&self) -> Vec<Prefix> {
        let Self::Below(keys) = self else { return vec![Prefix::ROOT] };
        let all: BTreeSet<_> = keys.iter().filter_map(|key| Prefix::new(key.segments()).ok()).collect();
        let mut disjoint: Vec<Prefix> = Vec::new();
        for prefix in all {
            // In byte order, what is below another prefix follows it directly.
            if !disjoint.last().is_some_and(|last| prefix.as_bytes().starts_with(last.as_bytes())) {
                disjoint.push(prefix);
            }
        }
        disjoint
    }
}

/// How hard to compress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CompressionLevel {
    /// Not at all; the only level without feature `zstd`.
    #[cfg_attr(not(feature = "zstd"), default)]
    None,
    /// Zstandard level 1.
    Fast,
    /// Zstandard level 3.
    #[cfg_attr(feature = "zstd", default)]
    Default,
    /// Zstandard level 19.
    Best,
}

impl CompressionLevel {
    /// The Zstandard level, if it compresses.
    pub fn zstd_level(self) -> Option<i32> {
        match self {
            Self::None => None,
            Self::Fast => Some(1),
            Self::Default => Some(3),
            Self::Best => Some(19),
        }
    }
}

/// How to make a backup.
///
/// It names a key and never holds one: options are stored beside the backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupOptions {
    /// Which records.
    pub scope: BackupScope,
    /// How hard to compress.
    pub compression: CompressionLevel,
    /// The key of the provider under which to encrypt; `None` leaves the backup in the clear.
    pub encrypt_with: Option<KeyId>,
}

impl BackupOptions {
    /// Holds only the records of `scope`.
    #[must_use]
    pub fn with_scope(mut self, scope: BackupScope) -> Self {
        self.scope = scope;
        self
    }

    /// Holds the records below `key` and of earlier calls, and no others.
    #[must_use]
    pub fn with_records_below(mut self, key: Key) -> Self {
        match &mut self.scope {
            BackupScope::Below(keys) => drop(keys.insert(key)),
            BackupScope::Everything => self.scope = BackupScope::Below([key].into()),
        }
        self
    }

    /// Compresses at `level`.
    #[must_use]
    pub fn with_compression(mut self, level: CompressionLevel) -> Self {
        self.compression = level;
        self
    }

    /// Encrypts under `key` of the key provider.
    #[must_use]
    pub fn with_encryption(mut self, key: KeyId) -> Self {
        self.encrypt_with = Some(key);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_disjoint_and_in_byte_order() {
        let key = |text: &str| Key::from_bytes(text.as_bytes()).unwrap();
        let scope = BackupScope::Below([key("a"), key("a/b"), key("a."), key("c/d")].into());
        let found: Vec<_> = scope.prefixes().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["a./", "a/", "c/d/"]);
        assert_eq!(BackupScope::Everything.prefixes(), [Prefix::ROOT]);
    }
}
