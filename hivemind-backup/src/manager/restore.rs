//! Restores a backup into an empty store, and goes on after a crash.

use std::sync::Arc;

use futures_util::TryStreamExt;
use hivemind_core::store::{Conflict, Guard, Prefix, Revision, ScanRequest, Txn};
use hivemind_core::{
    BackupId, Effect, Error, ErrorKind, Result, StateStore, TenantContext, Timestamp, decode, encode,
};

use super::BackupManager;
use crate::engine::{Batch, Batcher, Position, marker_key};

/// How often a transaction is sent whose fate is unknown or that met a conflict.
const ATTEMPTS: usize = 32;

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The backups used, from the full one to the one asked for.
    pub chain: Vec<BackupId>,
    /// How many records this call wrote.
    pub records: u64,
    /// Whether it went on with a restore that was interrupted.
    pub resumed: bool,
}

impl BackupManager {
    /// Restores `id` into `target`, which must be empty, and which nobody else may use meanwhile.
    ///
    /// It first verifies everything it will use. An interrupted restore leaves a marker below `backup/restore`; call
    /// again with the same backup, and it goes on. At the end the target has the keys and values of the source, and
    /// no marker.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the target holds anything but this very restore: nothing is changed.
    /// [`ErrorKind::Corrupt`] if the backup is damaged: nothing is changed. Otherwise call again.
    pub async fn restore(
        &self,
        _ctx: &TenantContext,
        id: &BackupId,
        target: Arc<dyn StateStore>,
        now: Timestamp,
    ) -> Result<RestoreReport> {
        let chain = self.chain(id).await?;
        self.verify_chain(&chain).await?;
        let mut batcher = Batcher::new(target.limits())?;
        let (mut run, resumed) = Run::begin(target, id, now).await?;
        let mut records = self.merged(&chain).await?;
        while let Some((key, value)) = records.try_next().await? {
            if run.position.after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            if let Some(batch) = batcher.push(key, value)? {
                run.apply(&batch, false).await?;
            }
        }
        run.apply(&batcher.finish(), true).await?;
        let chain = chain.into_iter().map(|backup| backup.id).collect();
        Ok(RestoreReport { chain, records: run.written, resumed })
    }
}

/// A restore under way: where its marker is.
struct Run {
    target: Arc<dyn StateStore>,
    position: Position,
    marker_at: Revision,
    written: u64,
}

fn occupied() -> Error {
    let message = "the target is not empty: restore into an empty store, or go on with the restore it holds";
    Error::new(ErrorKind::AlreadyExists, "restore", message)
}

/// Whether to look at the marker and perhaps send again.
fn undecided(error: &Error) -> bool {
    error.effect() == Effect::Unknown || error.detail::<Conflict>().is_some()
}

async fn marker(target: &dyn StateStore, id: &BackupId) -> Result<Option<(Position, Revision)>> {
    let key = marker_key(id)?;
    let Some(record) = target.get(&key, None).await? else { return Ok(None) };
    let position: Position = decode(&key, &record.value)?;
    if position.backup != *id {
        let message = format!("the marker at {key} is of backup {}", position.backup);
        return Err(Error::new(ErrorKind::Corrupt, "restore", message));
    }
    Ok(Some((position, record.mod_revision)))
}

impl Run {
    /// Finds the marker, or sets it in an empty store.
    async fn begin(target: Arc<dyn StateStore>, id: &BackupId, now: Timestamp) -> Result<(Self, bool)> {
        if let Some((position, marker_at)) = marker(&*target, id).await? {
            return Ok((Self { target, position, marker_at, written: 0 }, true));
        }
        let page = target.scan(&ScanRequest::new(Prefix::ROOT).limit(1)).await?;
        if !page.records.is_empty() {
            return Err(occupied());
        }
        let position = Position { backup: id.clone(), started: now, after: None };
        let (key, mut txn) = (marker_key(id)?, Txn::new());
        txn.guard(&key, Guard::Absent)?;
        txn.put(key, encode(&position)?);
        let mut attempts = 0;
        loop {
            attempts += 1;
            match target.commit(&txn).await {
                Ok(marker_at) => return Ok((Self { target, position, marker_at, written: 0 }, false)),
                Err(e) if undecided(&e) && attempts < ATTEMPTS => {
                    if let Some((position, marker_at)) = marker(&*target, id).await? {
                        return Ok((Self { target, position, marker_at, written: 0 }, false));
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes a batch exactly once, whatever becomes of the replies.
    async fn apply(&mut self, batch: &Batch, last: bool) -> Result<()> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let txn = batch.txn(&self.position, self.marker_at, last)?;
            let outcome = self.target.commit(&txn).await;
            let written = u64::try_from(batch.len()).unwrap_or_default();
            match outcome {
                Ok(revision) => {
                    self.marker_at = revision;
                    self.position.after = batch.last().or(self.position.after.as_ref()).cloned();
                    self.written += written;
                    return Ok(());
                }
                Err(e) if undecided(&e) && attempts < ATTEMPTS => {
                    // The marker moves with the batch, so it tells whether the batch is there.
                    match marker(&*self.target, &self.position.backup).await? {
                        None if last => {
                            self.written += written;
                            return Ok(());
                        }
                        None => return Err(e),
                        Some((position, marker_at)) => {
                            (self.position, self.marker_at) = (position, marker_at);
                        }
                    }
                    if !last && self.position.after.as_ref() >= batch.last() {
                        self.written += written;
                        return Ok(());
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }
}
