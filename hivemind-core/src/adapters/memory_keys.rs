//! A key management service in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{DataKey, Error, ErrorKind, IdSource, KeyId, KeyProvider, Result, SecretBytes};

/// Data keys in a table: the wrapped form is only a handle into it, so that nothing leaves the process.
///
/// For tests, examples and simulation: what it wrapped is lost with it.
pub struct MemoryKeys {
    ids: Arc<dyn IdSource>,
    keys: Mutex<BTreeMap<KeyId, BTreeMap<Bytes, Wrapped>>>,
}

struct Wrapped {
    context: Vec<u8>,
    plain: SecretBytes,
}

impl MemoryKeys {
    /// A provider with no keys, whose data keys come from `ids`.
    pub fn new(ids: Arc<dyn IdSource>) -> Self {
        Self { ids, keys: Mutex::default() }
    }

    /// Makes `key`; an existing one stays as it is.
    pub fn create(&self, key: KeyId) {
        self.lock().entry(key).or_default();
    }

    /// Destroys `key`: what was wrapped under it can never be read again.
    pub fn destroy(&self, key: &KeyId) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyId, BTreeMap<Bytes, Wrapped>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeys").field("keys", &self.lock().len()).finish_non_exhaustive()
    }
}

fn no_key(operation: &'static str, key: &KeyId) -> Error {
    Error::not_found(operation, format!("there is no key {key}"))
}

#[async_trait]
impl KeyProvider for MemoryKeys {
    async fn generate_data_key(&self, key: &KeyId, context: &[u8]) -> Result<DataKey> {
        let fresh = [self.ids.next_u128().to_le_bytes(), self.ids.next_u128().to_le_bytes()].concat();
        let handle = Bytes::copy_from_slice(&self.ids.next_u128().to_le_bytes());
        let plain = SecretBytes::new(fresh);
        let mut keys = self.lock();
        let table = keys.get_mut(key).ok_or_else(|| no_key("generate_data_key", key))?;
        table.insert(handle.clone(), Wrapped { context: context.to_vec(), plain: plain.clone() });
        Ok(DataKey::new(plain, handle))
    }

    async fn unwrap_data_key(&self, key: &KeyId, wrapped: &Bytes, context: &[u8]) -> Result<SecretBytes> {
        let keys = self.lock();
        let table = keys.get(key).ok_or_else(|| no_key("unwrap_data_key", key))?;
        match table.get(wrapped) {
            Some(found) if found.context == context => Ok(found.plain.clone()),
            _ => Err(Error::new(
                ErrorKind::Denied,
                "unwrap_data_key",
                format!("this was not wrapped under key {key} for this context"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SeededIds, block_on};

    #[test]
    fn unwraps_for_the_same_key_and_context_only() {
        let keys = MemoryKeys::new(Arc::new(SeededIds::new(1)));
        let (a, b): (KeyId, KeyId) = ("a".parse().unwrap(), "b".parse().unwrap());
        keys.create(a.clone());
        keys.create(b.clone());
        block_on(async {
            let made = keys.generate_data_key(&a, b"backup-1").await.unwrap();
            assert_eq!(made.plain.expose().len(), 32);
            assert_eq!(keys.unwrap_data_key(&a, &made.wrapped, b"backup-1").await.unwrap(), made.plain);
            assert!(keys.unwrap_data_key(&a, &made.wrapped, b"backup-2").await.is_err());
            assert!(keys.unwrap_data_key(&b, &made.wrapped, b"backup-1").await.is_err());
            keys.destroy(&a);
            let gone = keys.unwrap_data_key(&a, &made.wrapped, b"backup-1").await.unwrap_err();
            assert_eq!(gone.kind(), ErrorKind::NotFound);
            assert!(!format!("{made:?}{keys:?}").contains(&format!("{:?}", made.plain.expose())));
        });
    }
}
