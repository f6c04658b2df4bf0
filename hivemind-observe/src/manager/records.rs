//! Records by name, of which those that change are written, as many at once as fit into a transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{Collection, Effect, Error, ErrorKind, Result, StateStore, StateStoreExt, Stored};

/// More in one transaction only makes it likelier that another is faster.
const AT_ONCE: usize = 50;

/// All records of one kind.
#[derive(Debug, Clone)]
pub(super) struct Records<T> {
    store: Arc<dyn StateStore>,
    collection: Collection<T>,
}

pub(super) type Named<T> = BTreeMap<String, T>;

impl<T: Stored + Clone + PartialEq> Records<T> {
    /// Those of `kind` in `store`.
    pub(super) fn of(store: &Arc<dyn StateStore>, kind: &str) -> Result<Self> {
        let prefix =
            Prefix::new(["observe", kind]).map_err(|e| Error::of(ErrorKind::Internal, "records", e))?;
        Ok(Self { store: store.clone(), collection: Collection::new(prefix) })
    }

    /// All of them, and the view in which they are so.
    pub(super) async fn read(&self) -> Result<(Snapshot, Named<T>)> {
        let view = self.store.snapshot(&[self.collection.prefix().clone()]).await?;
        let mut all = Named::new();
        for record in self.collection.list(&view, &Txn::new(), self.collection.prefix())? {
            let name = record.stored_at.segments().next_back().unwrap_or_default();
            all.insert(String::from_utf8_lossy(name).into_owned(), (*record.value).clone());
        }
        Ok((view, all))
    }

    /// Commits some of what has changed, at least one; tells which. None means that nothing has changed.
    ///
    /// # Errors
    /// Those of the store; [`ErrorKind::Conflict`]: others were faster.
    pub(super) async fn commit(
        &self,
        view: &Snapshot,
        before: &Named<T>,
        after: &Named<T>,
    ) -> Result<BTreeSet<String>> {
        let (txn, done) = self.stage_some(view, before, after)?;
        if done.is_empty() {
            return Ok(done);
        }
        match self.store.commit(&txn).await {
            // Did it happen? If they read as we left them, we or an equal decision did it.
            Err(e) if e.effect() == Effect::Unknown => {
                let (_, there) = self.read().await?;
                if done.iter().any(|name| there.get(name) != after.get(name)) {
                    return Err(
                        Error::new(ErrorKind::Conflict, "commit", "others were faster").with_source(e)
                    );
                }
            }
            other => drop(other?),
        }
        Ok(done)
    }

    /// As many of those that have changed as fit into one transaction.
    fn stage_some(
        &self,
        view: &Snapshot,
        before: &Named<T>,
        after: &Named<T>,
    ) -> Result<(Txn, BTreeSet<String>)> {
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
        let (mut txn, mut done) = (Txn::new(), BTreeSet::new());
        for name in changed.take(AT_ONCE) {
            let mut with = txn.clone();
            self.stage(view, &mut with, name, after.get(name))?;
            if !done.is_empty() && self.store.limits().check(&with).is_err() {
                break;
            }
            txn = with;
            done.insert(name.clone());
        }
        Ok((txn, done))
    }

    fn stage(&self, view: &Snapshot, txn: &mut Txn, name: &str, after: Option<&T>) -> Result<()> {
        let key = self.collection.key([name])?;
        match (self.collection.get(view, txn, &key)?, after) {
            (Some(old), Some(new)) => self.collection.update(txn, &old, new),
            (Some(old), None) => self.collection.delete(txn, &old),
            (None, Some(new)) => self.collection.create(view, txn, key, new),
            (None, None) => Ok(()),
        }
    }
}
