//! Words of operators go to the audit log, before anything is done by them.

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, Retry, Stamped, StateStoreExt};

use super::{Did, VolumeController, read};
use crate::records::{Todo, words};
use crate::{Fenced, Leaving, VolumeKey};

impl VolumeController {
    pub(super) async fn word_step(&self, todo: &Stamped<Todo>, view: &Snapshot, at: &Key) -> Result<Did> {
        let Some(word) = read(&words()?, view, at)? else {
            self.done(Txn::new(), todo, false).await?;
            return Ok(Did::Nothing);
        };
        let Some(audit) = &self.audit else {
            let message = "an operator's word is to go on record: give the controller an audit log";
            return Err(Error::new(ErrorKind::Unavailable, "audit", message).with_retry(Retry::Later));
        };
        // It is there twice if the next line is never reached, and never not at all.
        audit.append(&word.event).await?;
        let mut txn = Txn::new();
        words()?.delete(&mut txn, &word)?;
        self.done(txn, todo, false).await?;
        Ok(Did::Recorded)
    }

    /// Refuses to take a volume from a node by a word that is not on record yet.
    pub(super) async fn require_record(&self, volume: &VolumeKey, leaving: &Leaving) -> Result<()> {
        let Some(Fenced::Operator { .. }) = leaving.proof else { return Ok(()) };
        let about = words()?.below([&volume.tenant.to_string(), volume.volume.as_str()])?;
        let view = self.store.snapshot(std::slice::from_ref(&about)).await?;
        if words()?.list(&view, &Txn::new(), &about)?.is_empty() {
            return Ok(());
        }
        let message = format!("volume {volume} is taken from nobody before an operator's word is on record");
        Err(Error::new(ErrorKind::Unavailable, "audit", message).with_retry(Retry::Later))
    }
}
