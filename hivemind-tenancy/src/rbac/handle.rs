//! The policy of now, for many readers at once. No I/O, no clock, no async.

use std::sync::{Arc, PoisonError, RwLock};

use hivemind_core::store::{Revision, Snapshot, Txn, WatchBatch};
use hivemind_core::{Error, ErrorKind, MirrorChange, Result, Retry};

use super::AccessIndex;

/// Holds the newest [`AccessIndex`]. Clones share it.
///
/// A reader takes the index once for a request and decides everything of that request by it. A newer one is made
/// beside it and put in its place at once: no reader waits for it.
#[derive(Debug, Clone)]
pub struct AccessHandle(Arc<RwLock<Held>>);

#[derive(Debug)]
struct Held {
    index: AccessIndex,
    /// Whether it is all that was in the store at its revision.
    whole: bool,
    /// Whether a batch that came could not be followed: those after it cannot, either.
    missed: bool,
}

/// The policy at hand is older than what was asked for. Detail of an [`Unavailable`](ErrorKind::Unavailable) error:
/// refresh the handle, or ask again once somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the policy at hand is of revision {found}, asked for is {asked} or later: refresh it and ask again")]
#[non_exhaustive]
pub struct StalePolicy {
    /// The oldest revision that would do.
    pub asked: Revision,
    /// The revision at hand.
    pub found: Revision,
}

impl AccessHandle {
    /// Holds `index`.
    pub fn new(index: AccessIndex) -> Self {
        Self(Arc::new(RwLock::new(Held { index, whole: false, missed: false })))
    }

    /// Holds the policy in `view`.
    ///
    /// # Errors
    /// As [`AccessIndex::of`].
    pub fn of(view: &Snapshot) -> Result<Self> {
        let handle = Self::new(AccessIndex::new(
            Revision::ZERO,
            [],
            Vec::<super::Role>::new(),
            Vec::<super::RoleBinding>::new(),
        ));
        handle.refresh(view)?;
        Ok(handle)
    }

    /// The newest index.
    pub fn current(&self) -> AccessIndex {
        self.0.read().unwrap_or_else(PoisonError::into_inner).index.clone()
    }

    /// The newest index, if it knows every change up to `revision`: that of a revocation, say.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] with [`StalePolicy`] as detail if it does not.
    pub fn at_least(&self, revision: Revision) -> Result<AccessIndex> {
        let index = self.current();
        if index.revision() >= revision {
            return Ok(index);
        }
        let detail = StalePolicy { asked: revision, found: index.revision() };
        Err(Error::of(ErrorKind::Unavailable, "authorize", detail).with_retry(Retry::Later))
    }

    /// Puts `index` in place of an older one; returns whether it was newer.
    pub fn install(&self, index: AccessIndex) -> bool {
        self.put(index, false)
    }

    /// Brings the handle to the state in `view`, if that is newer: by what changed since, and while that is looked for,
    /// readers go on with the index before.
    ///
    /// It costs a look at the revision of every record, and as [`AccessIndex::changed`]; if something is gone, also a look
    /// for every record. [`follow`](Self::follow) costs no look at what did not change. Only a handle whose index was
    /// put there by the host compiles anew.
    ///
    /// # Errors
    /// As [`AccessIndex::of`]; the index before stays.
    pub fn refresh(&self, view: &Snapshot) -> Result<()> {
        let (index, whole) = self.held();
        if whole && view.revision() <= index.revision() {
            return Ok(());
        }
        let next = if whole { index.brought_to(view)? } else { AccessIndex::of(view, &Txn::new())? };
        self.put(next, true);
        Ok(())
    }

    /// Brings the handle to the state after `batch`, which a watch of the policy tells; returns whether it was news.
    /// Batches are to come in order and without a gap, the first one from the revision after that of the index.
    ///
    /// # Errors
    /// As [`AccessIndex::after`]; the index before stays, and [`refresh`](Self::refresh) brings it on. Until then no batch
    /// can be followed: there is a gap.
    pub fn follow(&self, batch: &WatchBatch) -> Result<bool> {
        loop {
            let (index, _) = self.held();
            if batch.revision <= index.revision() {
                return Ok(false);
            }
            let next = index.after(batch);
            let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
            held.missed |= next.is_err();
            let next = next?;
            // Somebody else may have put another one there meanwhile: then it is made of that.
            if held.index.is_same(&index) {
                held.index = next;
                return Ok(true);
            }
        }
    }

    /// Brings the handle to what a mirror of the policy shows in `view` after `change`, which its feed tells: no watch of
    /// the policy's own is needed. Returns whether it may be news.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use hivemind_core::{MemoryStore, Mirror, StateStore, block_on};
    /// use hivemind_tenancy::rbac::AccessHandle;
    ///
    /// # block_on(async {
    /// # use hivemind_core::store::{Key, Txn};
    /// let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    /// let (mirror, mut feed) = Mirror::open(Arc::clone(&store), hivemind_tenancy::prefix()?).await?;
    /// let handle = AccessHandle::of(&mirror.view())?;
    /// # let mut txn = Txn::new();
    /// # txn.put(Key::new(["tenancy", "other"])?, "1");
    /// # let newest = store.commit(&txn).await?;
    /// // Again and again, beside whatever else the host does:
    /// let change = feed.advance().await?;
    /// handle.advance(&change, &mirror.view())?;
    /// # assert!(handle.at_least(newest).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`AccessIndex::after`] and [`AccessIndex::of`]: the index before stays, and the next change brings all that was
    /// missed, if it can be read then.
    pub fn advance(&self, change: &MirrorChange, view: &Snapshot) -> Result<bool> {
        let missed = self.0.read().unwrap_or_else(PoisonError::into_inner).missed;
        match change {
            MirrorChange::Nothing => Ok(false),
            MirrorChange::Applied(batch) if !missed => self.follow(batch),
            _ => self.refresh(view).map(|()| true),
        }
    }

    fn held(&self) -> (AccessIndex, bool) {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (held.index.clone(), held.whole)
    }

    fn put(&self, index: AccessIndex, whole: bool) -> bool {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Of one revision, the one that is known to be whole.
        let known = index.revision() == held.index.revision() && !held.whole && whole;
        let newer = index.revision() > held.index.revision() || known;
        if newer {
            *held = Held { index, whole, missed: false };
        }
        newer
    }
}
