//! An audit log in which nothing can be changed, left out or moved unseen: each record holds the hash of the one
//! before.

use std::sync::Arc;

use hivemind_core::labels::Labels;
use hivemind_core::store::{Guard, Key, Prefix, Snapshot, Txn};
use hivemind_core::{
    AuditEvent, AuditSink, Collection, Effect, Error, ErrorKind, Result, StateStore, StateStoreExt, Stored,
    async_trait,
};
use serde::{Deserialize, Serialize};

/// How often an append is tried when others append at the same time, or a reply is lost.
const ATTEMPTS: u32 = 16;
/// No text in a record is longer, in characters.
const LONGEST: usize = 512;
/// What stands in for something secret.
const HIDDEN: &str = "***";

/// The end of a chain: how many records there are, and the hash of the last.
///
/// Whoever can write the store can cut records off its end, or write it all anew. Keep a head elsewhere now and then,
/// and verify against it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChainHead {
    /// How many records there are.
    pub records: u64,
    /// The hash of the last, in hexadecimal; empty before the first.
    pub hash: String,
}

impl Stored for ChainHead {
    const KIND: &'static str = "audit head";
}

/// One record of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SealedEvent {
    /// Its number, from 1.
    pub number: u64,
    /// What happened. Without labels, and with long or secret-looking texts cut.
    pub event: AuditEvent,
    /// The hash of the record before, in hexadecimal; empty for the first.
    pub previous: String,
    /// The hash of all of this, in hexadecimal.
    pub hash: String,
}

impl Stored for SealedEvent {
    const KIND: &'static str = "audit record";
}

/// The first record at which a chain is broken. Detail of a [`Corrupt`](ErrorKind::Corrupt) error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "audit record {number} {what}: what comes before it is as it was written, from it on nothing is certain"
)]
#[non_exhaustive]
pub struct BrokenChain {
    /// Its number, from 1.
    pub number: u64,
    /// What is wrong.
    pub what: &'static str,
}

fn seal(head: &ChainHead, event: AuditEvent) -> Result<SealedEvent> {
    let number = head.records.saturating_add(1);
    let hash = digest(number, &head.hash, &event)?;
    Ok(SealedEvent { number, event, previous: head.hash.clone(), hash })
}

fn digest(number: u64, previous: &str, event: &AuditEvent) -> Result<String> {
    let body = serde_json::to_vec(event).map_err(|e| Error::internal("audit", e.to_string()))?;
    let mut hasher = blake3::Hasher::new_derive_key("hivemind-tenancy audit chain v1");
    hasher.update(&number.to_le_bytes());
    hasher.update(&(previous.len() as u64).to_le_bytes());
    hasher.update(previous.as_bytes());
    hasher.update(&body);
    Ok(hasher.finalize().to_hex().to_string())
}

/// Checks the records after `from`, in order, and returns the head they end in.
///
/// # Errors
/// [`ErrorKind::Corrupt`] with [`BrokenChain`] as detail: the first record that is missing, moved or changed.
pub fn verify_chain<'a>(
    from: &ChainHead,
    records: impl IntoIterator<Item = &'a SealedEvent>,
) -> Result<ChainHead> {
    let mut head = from.clone();
    for record in records {
        let expected = head.records.saturating_add(1);
        let broken =
            |what| Error::of(ErrorKind::Corrupt, "verify audit", BrokenChain { number: expected, what });
        if record.number != expected {
            return Err(broken("is missing, or out of order"));
        }
        if record.previous != head.hash {
            return Err(broken("does not follow from the one before"));
        }
        if digest(record.number, &record.previous, &record.event)? != record.hash {
            return Err(broken("was changed"));
        }
        head = ChainHead { records: record.number, hash: record.hash.clone() };
    }
    Ok(head)
}

/// An [`AuditSink`] that keeps a chain in a store. Several writers may share one chain.
#[derive(Debug, Clone)]
pub struct ChainedAudit {
    store: Arc<dyn StateStore>,
    records: Collection<SealedEvent>,
    heads: Collection<ChainHead>,
}

impl ChainedAudit {
    /// The chain below `tenancy/audit` in `store`.
    ///
    /// # Errors
    /// None in practice; the names are constant.
    pub fn new(store: Arc<dyn StateStore>) -> Result<Self> {
        Ok(Self { store, records: crate::collection("audit")?, heads: crate::collection("audit-head")? })
    }

    /// Where the records are.
    pub fn prefix(&self) -> &Prefix {
        self.records.prefix()
    }

    fn head_key(&self) -> Result<Key> {
        self.heads.key(["head"])
    }

    /// Numbers in keys sort as numbers do.
    fn record_key(&self, number: u64) -> Result<Key> {
        self.records.key([format!("{number:020}").as_str()])
    }

    /// Checks every record, and that the chain ends where its head says; returns the head.
    ///
    /// # Errors
    /// As [`verify_chain`], and those of the store.
    pub async fn verify(&self) -> Result<ChainHead> {
        let scopes = [self.records.prefix().clone(), self.heads.prefix().clone()];
        let (view, txn) = (self.store.snapshot(&scopes).await?, Txn::new());
        let records = self.records.list(&view, &txn, self.records.prefix())?;
        let found = verify_chain(&ChainHead::default(), records.iter().map(|record| &*record.value))?;
        let head = self.heads.get(&view, &txn, &self.head_key()?)?;
        let head = head.map(|head| (*head.value).clone()).unwrap_or_default();
        if head == found {
            return Ok(found);
        }
        let detail = BrokenChain { number: found.records.saturating_add(1), what: "is missing at the end" };
        Err(Error::of(ErrorKind::Corrupt, "verify audit", detail))
    }

    /// Stages `event` after `head`, which is read from `view`.
    fn stage(&self, view: &Snapshot, event: &AuditEvent) -> Result<(Txn, SealedEvent)> {
        let mut txn = Txn::new();
        let old = self.heads.get(view, &txn, &self.head_key()?)?;
        let head = old.as_ref().map(|head| (*head.value).clone()).unwrap_or_default();
        let sealed = seal(&head, event.clone())?;
        let next = ChainHead { records: sealed.number, hash: sealed.hash.clone() };
        match &old {
            Some(old) => self.heads.update(&mut txn, old, &next)?,
            None => self.heads.create(view, &mut txn, self.head_key()?, &next)?,
        }
        let key = self.record_key(sealed.number)?;
        txn.guard(&key, Guard::Absent)?;
        self.records.create(view, &mut txn, key, &sealed)?;
        Ok((txn, sealed))
    }

    async fn has(&self, sealed: &SealedEvent) -> Result<bool> {
        let key = self.record_key(sealed.number)?;
        let Some(record) = self.store.get(&key, None).await? else { return Ok(false) };
        let view = Snapshot::new(record.mod_revision, [record]);
        Ok(self.records.get(&view, &Txn::new(), &key)?.is_some_and(|found| *found.value == *sealed))
    }
}

#[async_trait]
impl AuditSink for ChainedAudit {
    async fn append(&self, event: &AuditEvent) -> Result<()> {
        let event = scrubbed(event);
        let mut doubtful: Option<SealedEvent> = None;
        let mut attempts = 0;
        loop {
            attempts += 1;
            // A reply that was lost may have been a yes: the same event is not kept twice.
            if let Some(sealed) = &doubtful
                && self.has(sealed).await?
            {
                return Ok(());
            }
            let view = self.store.snapshot(&[self.heads.prefix().clone()]).await?;
            let (txn, sealed) = self.stage(&view, &event)?;
            match self.store.commit(&txn).await {
                Ok(_) => return Ok(()),
                Err(error) if attempts >= ATTEMPTS => return Err(error),
                Err(error) if error.effect() == Effect::Unknown => doubtful = Some(sealed),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The event as it is kept: no labels, which may say anything, and no text that is long or looks secret.
fn scrubbed(event: &AuditEvent) -> AuditEvent {
    let mut event = event.clone();
    event.request.labels = Labels::new();
    event.request.name = event.request.name.map(|name| plain(&name));
    event.because = event.because.iter().map(|text| plain(text)).collect();
    if let Some(reason) = event.ctx.emergency().map(plain) {
        event.ctx = event.ctx.with_emergency(reason);
    }
    event
}

/// The text with what follows a word for secrets hidden. A net, not a promise: keep secrets out of reasons.
fn plain(text: &str) -> String {
    const TELLING: [&str; 8] =
        ["password", "passwd", "secret", "token", "api-key", "apikey", "bearer", "authorization"];
    let (mut words, mut hide) = (Vec::new(), false);
    for word in text.split_whitespace() {
        let lower = word.to_ascii_lowercase();
        let split = word.find(['=', ':']).filter(|_| TELLING.iter().any(|key| lower.contains(key)));
        let (kept, rest) = match split.and_then(|at| word.split_at_checked(at.saturating_add(1))) {
            _ if hide => ("", word),
            Some(parts) => parts,
            None => (word, ""),
        };
        hide = !hide && (lower == "bearer" || (split.is_some() && rest.is_empty()));
        words.push(format!("{kept}{}", if rest.is_empty() { "" } else { HIDDEN }));
    }
    words.join(" ").chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_secret_is_hidden() {
        let told = plain("login password=hunter2 then Authorization: x and Bearer abc.def for web");
        assert_eq!(told, "login password=*** then Authorization: *** and Bearer *** for web");
        assert_eq!(plain(&"x".repeat(9_999)).len(), LONGEST);
    }
}
