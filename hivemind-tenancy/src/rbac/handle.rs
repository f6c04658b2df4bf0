//! The policy of now, for many readers at once. No I/O, no clock, no async.

use std::sync::{Arc, PoisonError, RwLock};

use hivemind_core::store::{Prefix, Revision, Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, Retry};

use super::AccessIndex;

/// Holds the newest [`AccessIndex`]. Clones share it.
///
/// A reader takes the index once for a request and decides everything of that request by it. A newer one is compiled
/// beside it and put in its place at once: no reader waits for a compilation.
#[derive(Debug, Clone)]
pub struct AccessHandle(Arc<RwLock<Held>>);

type Seen = (Revision, usize);

#[derive(Debug)]
struct Held {
    index: AccessIndex,
    /// Tells one state of the records from another.
    seen: Option<Seen>,
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
        Self(Arc::new(RwLock::new(Held { index, seen: None })))
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
        self.put(index, None)
    }

    /// Brings the handle to the state in `view`, if that is newer. Compiles only if roles, bindings or tenants have
    /// changed, and while it does, readers go on with the index before.
    ///
    /// # Errors
    /// As [`AccessIndex::of`]; the index before stays.
    pub fn refresh(&self, view: &Snapshot) -> Result<()> {
        let (index, seen) = {
            let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
            (held.index.clone(), held.seen)
        };
        if view.revision() <= index.revision() && seen.is_some() {
            return Ok(());
        }
        let now = fingerprint(view)?;
        let next = if seen == Some(now) {
            index.advanced(view.revision())
        } else {
            AccessIndex::of(view, &Txn::new())?
        };
        self.put(next, Some(now));
        Ok(())
    }

    fn put(&self, index: AccessIndex, seen: Option<Seen>) -> bool {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Of one revision, the one that knows what it was made of.
        let known = index.revision() == held.index.revision() && held.seen.is_none() && seen.is_some();
        let newer = index.revision() > held.index.revision() || known;
        if newer {
            *held = Held { index, seen };
        }
        newer
    }
}

/// The newest change of a record, and how many there are. Each change of the policy makes another pair: a put has a
/// newer revision than any before, and a deletion alone leaves fewer.
fn fingerprint(view: &Snapshot) -> Result<Seen> {
    let parts: [Prefix; 3] = [
        super::roles()?.prefix().clone(),
        super::bindings()?.prefix().clone(),
        crate::tenant::tenants()?.prefix().clone(),
    ];
    let records = || parts.iter().flat_map(|part| view.scan(part));
    let newest = records().map(|record| record.mod_revision).max();
    Ok((newest.unwrap_or_default(), records().count()))
}
