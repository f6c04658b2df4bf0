//! Typed records: values of one type below one prefix, with a schema version each.

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::store::{Entry, Guard, Key, Prefix, Revision, Snapshot, Staged, Txn, Write};
use crate::{Error, ErrorKind, Result};

/// A type that is kept in the store.
///
/// Its stored form is JSON in an envelope with [`VERSION`](Self::VERSION). When the form changes, the version goes
/// up by one and [`upgrade`](Self::upgrade) learns to read the version before.
pub trait Stored: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it is, in the singular, for messages: `tenant`.
    const KIND: &'static str;
    /// The version of the stored form, from 1.
    const VERSION: u32 = 1;

    /// Turns a body of version `from` into one of version `from + 1`; `None` if that version is unknown.
    fn upgrade(from: u32, body: serde_json::Value) -> Option<serde_json::Value> {
        let _ = (from, body);
        None
    }

    /// Writes the body behind what is in `to`. A type that is written very often may do it by hand; it must be the JSON
    /// that its [`Serialize`] gives, byte for byte.
    ///
    /// # Errors
    /// If the type cannot be written as JSON.
    fn write(&self, to: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(to, self)
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    schema: u32,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// How every stored form begins: this, the version, and that.
const OPEN: &[u8] = br#"{"schema":"#;
const BODY: &[u8] = br#","body":"#;

/// The stored form of `value`.
///
/// # Errors
/// [`ErrorKind::Internal`] if the type cannot be written as JSON.
pub fn encode<T: Stored>(value: &T) -> Result<Bytes> {
    // Most records fit; a buffer that grows is made several times.
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(OPEN);
    bytes.extend_from_slice(decimal(T::VERSION, &mut [0; 10]));
    bytes.extend_from_slice(BODY);
    value
        .write(&mut bytes)
        .map_err(|e| Error::internal("encode", format!("{} cannot be written: {e}", T::KIND)))?;
    bytes.push(b'}');
    Ok(bytes.into())
}

/// The value of a stored form, of this version or an older one.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if it is damaged or of an unknown version; a newer one is refused, never cut down.
pub fn decode<T: Stored>(key: &Key, bytes: &[u8]) -> Result<T> {
    // Nearly all are as `encode` wrote them: then the body is read at once, not looked through for its end before.
    // Where that fails, the whole is read with care.
    if let Some(value) = plain_body::<T>(bytes).and_then(|body| serde_json::from_slice(body).ok()) {
        return Ok(value);
    }
    let corrupt =
        |what: String| Error::new(ErrorKind::Corrupt, "decode", format!("{} at {key}: {what}", T::KIND));
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
    let mut schema = envelope.schema;
    if schema > T::VERSION {
        return Err(corrupt(format!(
            "it was written by a newer version (schema {schema}, this one reads up to {}): upgrade this program",
            T::VERSION
        )));
    }
    if schema == T::VERSION {
        return serde_json::from_str(envelope.body.get()).map_err(|e| corrupt(e.to_string()));
    }
    let mut body = serde_json::from_str(envelope.body.get()).map_err(|e| corrupt(e.to_string()))?;
    while schema < T::VERSION {
        body = T::upgrade(schema, body).ok_or_else(|| corrupt(format!("schema {schema} is unknown")))?;
        schema += 1;
    }
    serde_json::from_value(body).map_err(|e| corrupt(e.to_string()))
}

/// The body of a stored form of this version, if it is what [`encode`] writes around one.
fn plain_body<T: Stored>(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(OPEN)?.strip_prefix(decimal(T::VERSION, &mut [0; 10]))?;
    rest.strip_prefix(BODY)?.strip_suffix(b"}")
}

/// A number in decimal, without a string of its own for each record.
fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut first = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        first = at;
        if number == 0 {
            break;
        }
    }
    digits.get(first..).unwrap_or_default()
}

/// A value as it was read, with what is needed to change it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stamped<T> {
    /// Where it is.
    pub stored_at: Key,
    /// What it is.
    pub value: Arc<T>,
    /// The transaction that last put it; `None` if the transaction being staged does.
    pub revision: Option<Revision>,
}

impl<T> Clone for Stamped<T> {
    fn clone(&self) -> Self {
        Self { stored_at: self.stored_at.clone(), value: Arc::clone(&self.value), revision: self.revision }
    }
}

impl<T> std::ops::Deref for Stamped<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// The values of type `T` below a prefix.
///
/// Reads see what the transaction has staged before what the snapshot shows, so decisions staged one after the other
/// into the same transaction see each other. Writes stage the guard that makes the read true at commit.
///
/// ```
/// use hivemind_core::store::{Prefix, Snapshot, Txn};
/// use hivemind_core::{Collection, Stored};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// struct Lamp { on: bool }
/// impl Stored for Lamp {
///     const KIND: &'static str = "lamp";
/// }
///
/// let lamps = Collection::<Lamp>::new(Prefix::new(["lamps"])?);
/// let (view, mut txn) = (Snapshot::default(), Txn::new());
/// let key = lamps.key(["hall"])?;
/// lamps.create(&view, &mut txn, key.clone(), &Lamp { on: false })?;
///
/// let hall = lamps.get(&view, &txn, &key)?.expect("staged above");
/// lamps.update(&mut txn, &hall, &Lamp { on: true })?;
/// assert!(lamps.get(&view, &txn, &key)?.expect("staged above").on);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Collection<T> {
    prefix: Prefix,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Collection<T> {
    fn clone(&self) -> Self {
        Self { prefix: self.prefix.clone(), of: PhantomData }
    }
}

impl<T: Stored> Collection<T> {
    /// The values below `prefix`.
    pub fn new(prefix: Prefix) -> Self {
        Self { prefix, of: PhantomData }
    }

    /// Where the values are.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// The key of `segments` in this collection.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a segment cannot be part of a key.
    pub fn key<S: AsRef<[u8]>>(&self, segments: impl IntoIterator<Item = S>) -> Result<Key> {
        self.prefix.key(segments).map_err(|e| Error::of(ErrorKind::Invalid, "key", e))
    }

    /// The prefix of `segments` in this collection, for [`list`](Self::list).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a segment cannot be part of a key.
    pub fn below<S: AsRef<[u8]>>(&self, segments: impl IntoIterator<Item = S>) -> Result<Prefix> {
        let key = self.key(segments)?;
        Prefix::new(key.segments()).map_err(|e| Error::of(ErrorKind::Invalid, "below", e))
    }

    /// The value at `key`, as `txn` will have made it.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it cannot be decoded.
    pub fn get(&self, view: &Snapshot, txn: &Txn, key: &Key) -> Result<Option<Stamped<T>>> {
        match txn.staged(key) {
            Staged::Put(bytes) => match known::<T>(view, bytes) {
                Some(value) => Ok(Some(Stamped { stored_at: key.clone(), value, revision: None })),
                None => staged(key, bytes).map(Some),
            },
            Staged::Deleted => Ok(None),
            Staged::Untouched => view.entry(key).map(decoded).transpose(),
        }
    }

    /// The value at `key`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::Corrupt`] if it cannot be decoded.
    pub fn require(&self, view: &Snapshot, txn: &Txn, key: &Key) -> Result<Stamped<T>> {
        let missing = || Error::not_found("get", format!("there is no {} at {key}", T::KIND));
        self.get(view, txn, key)?.ok_or_else(missing)
    }

    /// The values below `prefix`, in key order, as `txn` will have made them.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if one cannot be decoded.
    pub fn list(&self, view: &Snapshot, txn: &Txn, prefix: &Prefix) -> Result<Vec<Stamped<T>>> {
        let mut found = Vec::new();
        let mut pending = txn.writes_in(prefix).peekable();
        for (key, entry) in view.entries(prefix) {
            while let Some((at, write)) = pending.next_if(|(at, _)| *at < key) {
                found.extend(put_by(at, write)?);
            }
            match pending.next_if(|(at, _)| *at == key) {
                Some((at, write)) => found.extend(put_by(at, write)?),
                None => found.push(decoded(entry)?),
            }
        }
        for (at, write) in pending {
            found.extend(put_by(at, write)?);
        }
        Ok(found)
    }

    /// Stages a new value.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is one at `key`.
    pub fn create(&self, view: &Snapshot, txn: &mut Txn, key: Key, value: &T) -> Result<()> {
        create::<T>(view, txn, key, encode(value)?)
    }

    /// As [`create`](Self::create), and what was encoded here is not decoded again by those who read it next: for
    /// records that are large, and read and written in turn.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn create_known(&self, view: &Snapshot, txn: &mut Txn, key: Key, value: T) -> Result<()> {
        let bytes = encode(&value)?;
        create::<T>(view, txn, key, bytes.clone())?;
        view.remember(bytes, Arc::new(value));
        Ok(())
    }

    /// Stages a new value in place of `old`, which must not have changed when the transaction commits.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the transaction has staged a decision on another state of it.
    pub fn update(&self, txn: &mut Txn, old: &Stamped<T>, new: &T) -> Result<()> {
        txn.replace(&old.stored_at, old.revision.map(Guard::Unchanged), encode(new)?)
    }

    /// As [`update`](Self::update), and what was encoded here is not decoded again by those who read it next: for
    /// records that are large, and read and written in turn.
    ///
    /// # Errors
    /// As for [`update`](Self::update).
    pub fn update_known(&self, view: &Snapshot, txn: &mut Txn, old: &Stamped<T>, new: T) -> Result<()> {
        let bytes = encode(&new)?;
        txn.replace(&old.stored_at, old.revision.map(Guard::Unchanged), bytes.clone())?;
        view.remember(bytes, Arc::new(new));
        Ok(())
    }

    /// Stages the value at `key` again as it is, unread: whoever decided on it must decide anew.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::Conflict`] as for [`update`](Self::update).
    pub fn touch(&self, view: &Snapshot, txn: &mut Txn, key: &Key) -> Result<()> {
        let missing = || Error::not_found("touch", format!("there is no {} at {key}", T::KIND));
        match txn.staged(key) {
            Staged::Put(_) => Ok(()),
            Staged::Deleted => Err(missing()),
            Staged::Untouched => {
                let found = view.get(key).ok_or_else(missing)?;
                txn.replace(key, Some(Guard::Unchanged(found.mod_revision)), found.value.clone())
            }
        }
    }

    /// Stages the removal of `old`, which must not have changed when the transaction commits.
    ///
    /// # Errors
    /// As for [`update`](Self::update).
    pub fn delete(&self, txn: &mut Txn, old: &Stamped<T>) -> Result<()> {
        self.expect(txn, old)?;
        txn.delete(old.stored_at.clone());
        Ok(())
    }

    /// Stages the demand that `old` has not changed when the transaction commits.
    ///
    /// # Errors
    /// As for [`update`](Self::update).
    pub fn expect(&self, txn: &mut Txn, old: &Stamped<T>) -> Result<()> {
        match old.revision {
            Some(revision) => txn.guard(&old.stored_at, Guard::Unchanged(revision)),
            None => Ok(()),
        }
    }
}

fn create<T: Stored>(view: &Snapshot, txn: &mut Txn, key: Key, bytes: Bytes) -> Result<()> {
    let exists = |key: &Key| {
        let message = format!("there is a {} at {key} already", T::KIND);
        Err(Error::new(ErrorKind::AlreadyExists, "create", message))
    };
    // What the snapshot shows is gone if the transaction deletes it.
    if view.get(&key).is_some() && txn.staged(&key) == Staged::Untouched {
        return exists(&key);
    }
    match txn.create(&key, bytes)? {
        true => Ok(()),
        false => exists(&key),
    }
}

/// The value of bytes that were encoded lately.
fn known<T: Stored>(view: &Snapshot, bytes: &Bytes) -> Option<Arc<T>> {
    view.meaning(bytes)?.downcast().ok()
}

fn staged<T: Stored>(key: &Key, bytes: &Bytes) -> Result<Stamped<T>> {
    Ok(Stamped { stored_at: key.clone(), value: Arc::new(decode(key, bytes)?), revision: None })
}

fn put_by<T: Stored>(key: &Key, write: &Write) -> Result<Option<Stamped<T>>> {
    match write {
        Write::Put(bytes) => staged(key, bytes).map(Some),
        Write::Delete => Ok(None),
    }
}

/// Decodes a record once; a later read of the same record, as the same type, is a pointer copy.
fn decoded<T: Stored>(entry: &Entry) -> Result<Stamped<T>> {
    let record = &entry.record;
    let cached = entry.decoded.get().cloned().and_then(|any| any.downcast::<T>().ok());
    let value = match cached {
        Some(value) => value,
        None => {
            let value = Arc::new(decode::<T>(&record.key, &record.value)?);
            remember(&entry.decoded, &value);
            value
        }
    };
    Ok(Stamped { stored_at: record.key.clone(), value, revision: Some(record.mod_revision) })
}

fn remember<T: Send + Sync + 'static>(slot: &OnceLock<Arc<dyn std::any::Any + Send + Sync>>, value: &Arc<T>) {
    // Losing the race to another reader, or to another type, only costs decoding again.
    let _ = slot.set(Arc::<T>::clone(value));
}

#[cfg(test)]
mod tests;
