//! The key of backups, in a file.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use hivemind_core::{
    DataKey, Error, ErrorKind, IdSource, KeyId, KeyProvider, Result, SecretBytes, async_trait,
};

use super::files::{io, replace};

const NAME: &str = "key";
const BYTES: usize = 32;
const NONCE: usize = 24;

/// A key in a file that only its owner can read, wrapping data keys.
///
/// It stands for a key management service, as the whole directory stands for the outside world: who has the backups
/// and this file can read them.
pub(super) struct FileKey {
    id: KeyId,
    secret: SecretBytes,
    ids: Arc<dyn IdSource>,
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// So many fresh bytes.
fn fresh(ids: &dyn IdSource, count: usize) -> Vec<u8> {
    std::iter::repeat_with(|| ids.next_u128().to_le_bytes()).flatten().take(count).collect()
}

impl FileKey {
    /// Makes a key in `directory`, in place of one that was never used.
    pub(super) fn create(directory: &Path, ids: &dyn IdSource) -> Result<()> {
        replace(directory, NAME, SecretBytes::new(fresh(ids, BYTES)).expose())
    }

    /// The key in `directory`, under the name `id`.
    pub(super) fn open(directory: &Path, id: KeyId, ids: Arc<dyn IdSource>) -> Result<Self> {
        let path = directory.join(NAME);
        let secret = SecretBytes::new(fs::read(&path).map_err(io(&path))?);
        if secret.expose().len() != BYTES {
            let message = format!(
                "{} has {} bytes, and a key has {BYTES}: bring back the file that was there",
                path.display(),
                secret.expose().len()
            );
            return Err(Error::new(ErrorKind::Corrupt, "key", message));
        }
        Ok(Self { id, secret, ids })
    }

    fn cipher(&self, key: &KeyId) -> Result<XChaCha20Poly1305> {
        if *key != self.id {
            return Err(Error::not_found("key", format!("there is no key {key}")));
        }
        XChaCha20Poly1305::new_from_slice(self.secret.expose())
            .map_err(|_| Error::internal("key", "a key that was checked is not 32 bytes long"))
    }
}

#[async_trait]
impl KeyProvider for FileKey {
    async fn generate_data_key(&self, key: &KeyId, context: &[u8]) -> Result<DataKey> {
        let cipher = self.cipher(key)?;
        let (plain, nonce) = (SecretBytes::new(fresh(&*self.ids, BYTES)), fresh(&*self.ids, NONCE));
        let Some(nonce) = nonce.first_chunk::<NONCE>() else {
            return Err(Error::internal("generate_data_key", "a nonce is too short"));
        };
        let sealed = cipher
            .encrypt(&(*nonce).into(), Payload { msg: plain.expose(), aad: context })
            .map_err(|_| Error::internal("generate_data_key", "a data key could not be wrapped"))?;
        Ok(DataKey::new(plain, [&nonce[..], &sealed].concat().into()))
    }

    async fn unwrap_data_key(&self, key: &KeyId, wrapped: &Bytes, context: &[u8]) -> Result<SecretBytes> {
        let cipher = self.cipher(key)?;
        let refused = || {
            let message = format!("this was not wrapped under key {key} for this context");
            Error::new(ErrorKind::Denied, "unwrap_data_key", message)
        };
        let (nonce, msg) = wrapped.split_first_chunk::<NONCE>().ok_or_else(refused)?;
        let plain = cipher.decrypt(&(*nonce).into(), Payload { msg, aad: context });
        Ok(SecretBytes::new(plain.map_err(|_| refused())?))
    }
}

#[cfg(test)]
mod tests {
    use hivemind_core::{SystemIds, block_on};

    use super::*;

    #[test]
    fn unwraps_after_a_restart_for_the_same_key_and_context_only() {
        let (own, ids) = (tempfile::tempdir().unwrap(), Arc::new(SystemIds::new()));
        let (id, other): (KeyId, KeyId) = ("a".parse().unwrap(), "b".parse().unwrap());
        FileKey::create(own.path(), &*ids).unwrap();
        let open = || FileKey::open(own.path(), id.clone(), ids.clone()).unwrap();
        block_on(async {
            let made = open().generate_data_key(&id, b"backup-1").await.unwrap();
            let key = open();
            assert_eq!(key.unwrap_data_key(&id, &made.wrapped, b"backup-1").await.unwrap(), made.plain);
            let denied = key.unwrap_data_key(&id, &made.wrapped, b"backup-2").await.unwrap_err();
            assert_eq!(denied.kind(), ErrorKind::Denied);
            let short = key.unwrap_data_key(&id, &made.wrapped.slice(..20), b"backup-1").await.unwrap_err();
            assert_eq!(short.kind(), ErrorKind::Denied);
            let missing = key.unwrap_data_key(&other, &made.wrapped, b"backup-1").await.unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::NotFound);
            assert!(!format!("{key:?}").contains(&format!("{:?}", key.secret.expose())));
            // Another key of that name unwraps nothing.
            FileKey::create(own.path(), &*ids).unwrap();
            assert!(open().unwrap_data_key(&id, &made.wrapped, b"backup-1").await.is_err());
        });
    }
}
