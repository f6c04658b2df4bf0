//! A key management service in one file, sealed under a key that the host brings.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};

use crate::{DataKey, Effect, Error, ErrorKind, KeyId, KeyProvider, Result, SecretBytes, sync_directory};

/// How long every key is, in bytes.
const KEY: usize = 32;
/// How long the nonce before each sealed text is, in bytes.
const NONCE: usize = 24;
const FORMAT: &str = "hivemind-sealed-keys";

/// Keys in a file, each sealed (XChaCha20-Poly1305) under a key that never touches the disk: bring it from a TPM, a
/// credential of the service manager, or a cloud's key management.
///
/// Whoever has the file alone has nothing. Operations read and write a small file: they block. Changes are whole or
/// absent after a crash. One process at a time may change the file.
pub struct SealedKeys {
    path: PathBuf,
    seal: SecretBytes,
    keys: Mutex<BTreeMap<KeyId, SecretBytes>>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: String,
    version: u32,
    /// Hexadecimal: the nonce, and then the sealed key.
    keys: BTreeMap<KeyId, String>,
}

impl fmt::Debug for SealedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedKeys")
            .field("path", &self.path)
            .field("keys", &self.lock().len())
            .finish_non_exhaustive()
    }
}

fn denied(operation: &'static str, message: String) -> Error {
    Error::new(ErrorKind::Denied, operation, message)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| {
        Error::new(ErrorKind::Unavailable, "random", format!("the system gives no randomness: {e}"))
    })?;
    Ok(bytes)
}

fn cipher(key: &SecretBytes) -> Result<XChaCha20Poly1305> {
    XChaCha20Poly1305::new_from_slice(key.expose()).map_err(|_| {
        Error::invalid("keys", format!("a key of {KEY} bytes is needed, this has another length"))
    })
}

/// The nonce, and then `plain` sealed under `key` for `context`.
fn seal(key: &SecretBytes, plain: &[u8], context: &[u8]) -> Result<Vec<u8>> {
    let nonce = random::<NONCE>()?;
    let sealed = cipher(key)?
        .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: context })
        .map_err(|_| Error::internal("seal", "a key cannot be sealed"))?;
    Ok([nonce.as_slice(), &sealed].concat())
}

/// What was sealed under `key` for `context`; `None` if it was not.
fn open(key: &SecretBytes, sealed: &[u8], context: &[u8]) -> Result<Option<SecretBytes>> {
    let Some((nonce, sealed)) = sealed.split_first_chunk::<NONCE>() else { return Ok(None) };
    let plain = cipher(key)?.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: context });
    Ok(plain.ok().map(SecretBytes::new))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2).map(std::str::from_utf8);
    digits.map(|pair| u8::from_str_radix(pair.ok().filter(|pair| pair.len() == 2)?, 16).ok()).collect()
}

impl SealedKeys {
    /// The keys in the file at `path`, which is made if there is none, sealed under `seal`: 32 bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] if the file is sealed under another key; [`ErrorKind::Corrupt`] if it is damaged;
    /// [`ErrorKind::Invalid`] for a key of another length; those of the file system.
    pub fn open(path: impl Into<PathBuf>, seal: SecretBytes) -> Result<Self> {
        let path = path.into();
        cipher(&seal)?;
        // Only looking changes nothing: another process may just be making a key.
        let (keys, fresh) = match fs::read(&path) {
            Ok(bytes) => (read(&path, &seal, &bytes)?, false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => (BTreeMap::new(), true),
            Err(e) => return Err(failed(&path, e)),
        };
        let made = Self { path, seal, keys: Mutex::new(keys) };
        if fresh {
            made.write(&made.lock())?;
        }
        Ok(made)
    }

    /// Makes `key`; an existing one stays as it is.
    ///
    /// # Errors
    /// Those of the file system; then there is no such key, unless the effect is unknown: then there is one, which a loss
    /// of power may take away.
    pub fn create(&self, key: KeyId) -> Result<()> {
        let mut keys = self.lock();
        if keys.contains_key(&key) {
            return Ok(());
        }
        let mut next = keys.clone();
        next.insert(key, SecretBytes::new(random::<KEY>()?.to_vec()));
        self.write(&next)?;
        *keys = next;
        self.settle()
    }

    /// Destroys `key`: what was wrapped under it can never be read again. Copies of the file have it still.
    ///
    /// # Errors
    /// Those of the file system; then the key is still there, unless the effect is unknown: then it is gone, and a loss of
    /// power may bring it back.
    pub fn destroy(&self, key: &KeyId) -> Result<()> {
        let mut keys = self.lock();
        let mut next = keys.clone();
        if next.remove(key).is_some() {
            self.write(&next)?;
            *keys = next;
            return self.settle();
        }
        Ok(())
    }

    /// Seals the file under another key from now on: what is wrapped stays readable.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a key of another length; those of the file system: then the old one still opens it, unless
    /// the effect is unknown. Then the new one does, and after a loss of power either may: keep both.
    pub fn reseal(&mut self, seal: SecretBytes) -> Result<()> {
        cipher(&seal)?;
        let old = std::mem::replace(&mut self.seal, seal);
        let written = self.write(&self.lock());
        if written.is_err() {
            self.seal = old;
            return written;
        }
        // From here on the file has the new seal, whether a loss of power undoes that or not.
        self.settle()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyId, SecretBytes>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, keys: &BTreeMap<KeyId, SecretBytes>) -> Result<()> {
        let mut sealed = BTreeMap::new();
        for (id, key) in keys {
            sealed.insert(id.clone(), hex(&seal(&self.seal, key.expose(), id.as_str().as_bytes())?));
        }
        let document = Document { format: FORMAT.to_owned(), version: 1, keys: sealed };
        let text = serde_json::to_vec_pretty(&document)
            .map_err(|e| Error::internal("keys", "the keys cannot be written").with_source(e))?;
        replace(&self.path, &text).map_err(|e| failed(&self.path, e))
    }

    /// Makes what was written last.
    fn settle(&self) -> Result<()> {
        let named = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let settled = sync_directory(named.unwrap_or(Path::new(".")));
        settled.map_err(|e| failed(&self.path, e).with_effect(Effect::Unknown))
    }
}

/// Puts `text` in place of the file at `path`, whole or not at all, for its owner's eyes only. A loss of power may still
/// undo it.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(&fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

fn failed(path: &Path, e: io::Error) -> Error {
    let message = format!("{}: {e}", path.display());
    Error::new(ErrorKind::Unavailable, "keys", message).with_source(e)
}

fn read(path: &Path, seal: &SecretBytes, bytes: &[u8]) -> Result<BTreeMap<KeyId, SecretBytes>> {
    let corrupt = |why: &str| Error::new(ErrorKind::Corrupt, "keys", format!("{}: {why}", path.display()));
    let document: Document =
        serde_json::from_slice(bytes).map_err(|_| corrupt("this is no file of sealed keys"))?;
    if document.format != FORMAT || document.version != 1 {
        return Err(corrupt("this is another format, or of a newer version"));
    }
    let mut keys = BTreeMap::new();
    for (id, text) in document.keys {
        let sealed = unhex(&text).ok_or_else(|| corrupt("a key is not hexadecimal"))?;
        let key = open(seal, &sealed, id.as_str().as_bytes())?.ok_or_else(|| {
            denied("keys", format!("{}: key {id} is sealed under another key, or damaged", path.display()))
        })?;
        keys.insert(id, key);
    }
    Ok(keys)
}

#[async_trait]
impl KeyProvider for SealedKeys {
    async fn generate_data_key(&self, key: &KeyId, context: &[u8]) -> Result<DataKey> {
        let plain = SecretBytes::new(random::<KEY>()?.to_vec());
        let keys = self.lock();
        let missing = || Error::not_found("generate_data_key", format!("there is no key {key}"));
        let wrapped = seal(keys.get(key).ok_or_else(missing)?, plain.expose(), context)?;
        Ok(DataKey::new(plain, Bytes::from(wrapped)))
    }

    async fn unwrap_data_key(&self, key: &KeyId, wrapped: &Bytes, context: &[u8]) -> Result<SecretBytes> {
        let keys = self.lock();
        let missing = || Error::not_found("unwrap_data_key", format!("there is no key {key}"));
        open(keys.get(key).ok_or_else(missing)?, wrapped, context)?.ok_or_else(|| {
            denied("unwrap_data_key", format!("this was not wrapped under key {key} for this context"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    fn secret(byte: u8) -> SecretBytes {
        SecretBytes::new(vec![byte; KEY])
    }

    fn id(name: &str) -> KeyId {
        name.parse().unwrap()
    }

    #[test]
    fn what_was_wrapped_is_read_again_by_another_process_and_by_nobody_else() {
        let own = tempfile::tempdir().unwrap();
        let path = own.path().join("keys");
        let first = SealedKeys::open(&path, secret(1)).unwrap();
        first.create(id("tenants")).unwrap();
        first.create(id("other")).unwrap();
        let made = block_on(first.generate_data_key(&id("tenants"), b"acme")).unwrap();
        drop(first);

        let again = SealedKeys::open(&path, secret(1)).unwrap();
        let unwrap =
            |key: &str, context: &[u8]| block_on(again.unwrap_data_key(&id(key), &made.wrapped, context));
        assert_eq!(unwrap("tenants", b"acme").unwrap(), made.plain);
        for (key, context) in [("tenants", &b"globex"[..]), ("other", b"acme")] {
            assert_eq!(unwrap(key, context).unwrap_err().kind(), ErrorKind::Denied);
        }
        assert_eq!(unwrap("none", b"acme").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(SealedKeys::open(&path, secret(2)).unwrap_err().kind(), ErrorKind::Denied);
        again.destroy(&id("tenants")).unwrap();
        let later = SealedKeys::open(&path, secret(1)).unwrap();
        let gone = block_on(later.unwrap_data_key(&id("tenants"), &made.wrapped, b"acme"));
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn the_file_tells_nothing_and_is_its_owners() {
        let own = tempfile::tempdir().unwrap();
        let path = own.path().join("keys");
        let mut keys = SealedKeys::open(&path, secret(7)).unwrap();
        keys.create(id("a")).unwrap();
        let plain = keys.lock().values().next().unwrap().clone();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&hex(plain.expose())) && !format!("{keys:?}").contains(&hex(plain.expose())));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        keys.reseal(secret(8)).unwrap();
        assert!(SealedKeys::open(&path, secret(7)).is_err());
        assert_eq!(*SealedKeys::open(&path, secret(8)).unwrap().lock().get(&id("a")).unwrap(), plain);
    }

    #[test]
    fn damage_is_told_and_nothing_is_written_over() {
        let own = tempfile::tempdir().unwrap();
        let path = own.path().join("keys");
        assert_eq!(
            SealedKeys::open(&path, SecretBytes::new(vec![1; 5])).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        SealedKeys::open(&path, secret(1)).unwrap().create(id("a")).unwrap();
        let sound = fs::read_to_string(&path).unwrap();
        for damaged in [String::new(), sound.replace("sealed", "other"), sound.replace("\"a\"", "\"b\"")] {
            fs::write(&path, &damaged).unwrap();
            assert!(SealedKeys::open(&path, secret(1)).is_err(), "{damaged}");
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
        assert!(unhex("0g").is_none() && unhex("abc").is_none());
    }
}
