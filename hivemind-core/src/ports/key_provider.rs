//! Keys that encrypt keys: a key management service.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use zeroize::Zeroize;

use crate::{KeyId, Result};

/// Secret bytes: wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The secret itself: do not log it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

/// A fresh key for data, in the clear and wrapped.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DataKey {
    /// 32 random bytes, to encrypt with and forget.
    pub plain: SecretBytes,
    /// The same, wrapped under the provider's key, to store beside the ciphertext.
    pub wrapped: Bytes,
}

impl DataKey {
    /// A key and its wrapped form.
    pub fn new(plain: SecretBytes, wrapped: Bytes) -> Self {
        Self { plain, wrapped }
    }
}

/// Holds the keys that wrap data keys (envelope encryption).
///
/// # Contract
///
/// `unwrap_data_key` gives back exactly what `generate_data_key` made, for the same key and context only; anything
/// else is refused. A destroyed key never unwraps again. Secrets never appear in errors.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait KeyProvider: fmt::Debug + Send + Sync + 'static {
    /// A fresh data key of 32 bytes, wrapped under `key` and bound to `context`.
    async fn generate_data_key(&self, key: &KeyId, context: &[u8]) -> Result<DataKey>;

    /// The data key that was wrapped under `key` for `context`.
    async fn unwrap_data_key(&self, key: &KeyId, wrapped: &Bytes, context: &[u8]) -> Result<SecretBytes>;
}
