//! What the cases are written in.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::conformance::Failure;
use crate::store::{Conflict, Event, Guard, Key, Prefix, Record, Revision, Txn, WatchBatch};
use crate::{BoxFuture, Effect, Error, ErrorKind, Result, StateStore, StateStoreExt, WatchStream};

pub(super) type Store = Arc<dyn StateStore>;
pub(super) type Outcome = Result<(), Failure>;

/// The key of `name`, whose segments are separated by `/`.
pub(super) fn key(name: &str) -> Result<Key, Failure> {
    Ok(Key::new(name.split('/'))?)
}

/// The prefix of `name`; empty is the root.
pub(super) fn prefix(name: &str) -> Result<Prefix, Failure> {
    Ok(if name.is_empty() { Prefix::ROOT } else { Prefix::new(name.split('/'))? })
}

/// A transaction from words: `+key=value` puts, `-key` deletes.
pub(super) fn txn(words: &str) -> Result<Txn, Failure> {
    let mut txn = Txn::new();
    for word in words.split_whitespace() {
        if let Some((name, value)) = word.strip_prefix('+').and_then(|put| put.split_once('=')) {
            txn.put(key(name)?, value.to_owned());
        } else if let Some(name) = word.strip_prefix('-') {
            txn.delete(key(name)?);
        } else {
            return Err(Failure::new(format!("the case itself is wrong: {word:?}")));
        }
    }
    Ok(txn)
}

/// Commits a transaction from words; see [`txn`].
pub(super) async fn write(store: &Store, words: &str) -> Result<Revision, Failure> {
    Ok(store.commit(&txn(words)?).await?)
}

/// A transaction from words, with a guard.
pub(super) fn guarded(name: &str, guard: Guard, words: &str) -> Result<Txn, Failure> {
    let mut txn = txn(words)?;
    txn.guard(&key(name)?, guard)?;
    Ok(txn)
}

/// Fails unless `found` is `expected`.
pub(super) fn same<T: Debug + PartialEq>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{what}: found {}, expected {}", brief(&found), brief(&expected))))
}

/// Fails unless it `holds`.
pub(super) fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(Failure::new(what)) }
}

fn brief(value: &impl Debug) -> String {
    let mut text = format!("{value:?}");
    if let Some((end, _)) = text.char_indices().nth(300) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// The error of a call that must be refused with `kind`.
pub(super) fn refused<T>(what: &str, call: Result<T>, kind: ErrorKind) -> Result<Error, Failure> {
    match call {
        Ok(_) => Err(Failure::new(format!("{what}: was not refused"))),
        Err(error) => {
            same(what, error.kind(), kind)?;
            Ok(error)
        }
    }
}

/// Fails unless `call` is a conflict on `name`, last put at `found`.
pub(super) fn conflicts<T: Debug>(call: Result<T>, name: &str, found: Option<u64>) -> Outcome {
    let error = refused("the commit", call, ErrorKind::Conflict)?;
    same("the effect of a conflict", error.effect(), Effect::NotStarted)?;
    let Some(conflict) = error.detail::<Conflict>() else {
        return Err(Failure::new("a conflict without the detail Conflict"));
    };
    same("the key of the conflict", &conflict.key, &key(name)?)?;
    same("the revision found", conflict.found, found.map(Revision::new))
}

/// A record in words: `key=value@created,modified`.
pub(super) fn show(record: &Record) -> String {
    let value = record.value.escape_ascii();
    format!("{}={value}@{},{}", record.key, record.create_revision, record.mod_revision)
}

/// The record of `name` in words.
pub(super) async fn read(store: &Store, name: &str, at: Option<u64>) -> Result<Option<String>, Failure> {
    Ok(store.get(&key(name)?, at.map(Revision::new)).await?.as_ref().map(show))
}

/// The records below `below`, as `key=value`, joined by blanks.
pub(super) async fn list(store: &Store, below: &str, at: Option<u64>) -> Result<String, Failure> {
    let (_, records) = store.scan_all(&prefix(below)?, at.map(Revision::new)).await?;
    let words = records.iter().map(|record| format!("{}={}", record.key, record.value.escape_ascii()));
    Ok(words.collect::<Vec<_>>().join(" "))
}

/// A watch, with a check of the order of what it tells.
pub(super) struct Watch {
    stream: WatchStream,
    /// Everything up to here has been told.
    told: Revision,
}

impl Watch {
    pub(super) async fn open(store: &Store, below: &str, from: u64) -> Result<Self, Failure> {
        let stream = store.watch(&prefix(below)?, Revision::new(from)).await?;
        Ok(Self { stream, told: Revision::ZERO })
    }

    /// The next thing it tells, as it is.
    pub(super) async fn next(&mut self) -> Option<Result<WatchBatch>> {
        std::future::poll_fn(|context| self.stream.as_mut().poll_next(context)).await
    }

    /// Asks once, in the name of a waker.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<WatchBatch>>> {
        self.stream.as_mut().poll_next(context)
    }

    /// Asks once, and goes away. Whether there was something.
    pub(super) async fn glance(&mut self) -> Option<Option<Result<WatchBatch>>> {
        std::future::poll_fn(|context| match self.stream.as_mut().poll_next(context) {
            Poll::Ready(item) => Poll::Ready(Some(item)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Checks that `batch` is whole in itself and comes after what was told before.
    pub(super) fn check(&mut self, batch: &WatchBatch) -> Outcome {
        let at = batch.revision;
        let late = if batch.events.is_empty() { at < self.told } else { at <= self.told };
        ensure(!late, &format!("revision {at} was told after {}", self.told))?;
        self.told = at;
        ensure(
            batch.events.is_sorted_by(|a, b| a.key() < b.key()),
            &format!("the events of {at} are not in key order"),
        )?;
        for event in &batch.events {
            if let Event::Put(record) = event {
                same("the mod_revision of an event", record.mod_revision, at)?;
            }
        }
        Ok(())
    }

    /// What it tells until `end`, without bookmarks.
    pub(super) async fn batches(&mut self, end: Revision) -> Result<Vec<WatchBatch>, Failure> {
        let mut batches = Vec::new();
        while self.told < end {
            let Some(item) = self.next().await else {
                return Err(Failure::new(format!("the watch ended at {}, before {end}", self.told)));
            };
            let batch = item?;
            self.check(&batch)?;
            if !batch.events.is_empty() {
                batches.push(batch);
            }
        }
        Ok(batches)
    }

    /// What it tells until `end`, in words.
    pub(super) async fn told(&mut self, end: Revision) -> Result<Vec<String>, Failure> {
        Ok(self.batches(end).await?.iter().map(tell).collect())
    }
}

/// A batch in words: `7 +a=1 -b`.
pub(super) fn tell(batch: &WatchBatch) -> String {
    let mut words = vec![batch.revision.to_string()];
    words.extend(batch.events.iter().map(|event| match event {
        Event::Put(record) => format!("+{}={}", record.key, record.value.escape_ascii()),
        Event::Delete(key) => format!("-{key}"),
    }));
    words.join(" ")
}

/// Lets the others of [`together`] go first.
pub(super) async fn give_way() {
    let mut given = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Drives all of them side by side; the first failure, if there is one.
pub(super) async fn together(parts: Vec<BoxFuture<'_, Outcome>>) -> Outcome {
    let mut parts: Vec<Option<BoxFuture<'_, Outcome>>> = parts.into_iter().map(Some).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for slot in &mut parts {
            let Some(part) = slot else { continue };
            match Pin::as_mut(part).poll(context) {
                Poll::Ready(Ok(())) => *slot = None,
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(Ok(())) }
    })
    .await
}
