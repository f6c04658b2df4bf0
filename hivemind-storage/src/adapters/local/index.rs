//! Every record of a pool, by key: a pool has one provider, which knows all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result, Retry};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::missing;
use super::pool::{GROUPS, Pool, SNAPSHOTS, VOLUMES};
use super::record::{self, GroupRecord, SnapshotRecord, VolumeRecord};
use crate::{Cursor, GroupKey, Page, SnapshotKey, SnapshotRef, VolumeKey, VolumeRef};

/// An empty subvolume that can become a volume.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) handle: String,
    /// By which the file system knows it: so it need not be looked for when it is limited.
    pub(super) number: u64,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) volumes: BTreeMap<VolumeKey, VolumeRecord>,
    pub(super) snapshots: BTreeMap<SnapshotKey, SnapshotRecord>,
    pub(super) groups: BTreeMap<GroupKey, GroupRecord>,
    /// Empty subvolumes, durable, that are no volumes yet.
    pub(super) spares: Vec<Spare>,
    /// The handles of what was taken away, and may be back after a crash: that was not made durable.
    going: BTreeSet<String>,
}

impl Index {
    /// What is on the disk. What never came to be, or was going, is removed.
    pub(super) fn load(pool: &Pool) -> Result<Self> {
        let mut index = Self::default();
        let (groups, blank) = pool.records::<GroupRecord>(GROUPS)?;
        for handle in blank {
            pool.discard(GROUPS, &handle)?;
        }
        for group in groups {
            if pool.is_unfinished(&group) {
                pool.discard(GROUPS, group.handle.as_str())?;
                continue;
            }
            record::unmark_partial(&pool.place(GROUPS, group.handle.as_str()));
            let members = group.snapshots.iter().map(|snapshot| (snapshot.key.clone(), snapshot.clone()));
            index.snapshots.extend(members);
            index.groups.insert(group.key.clone(), group);
        }
        let (snapshots, blank) = pool.records::<SnapshotRecord>(SNAPSHOTS)?;
        for handle in blank {
            if !index.snapshots.values().any(|snapshot| snapshot.handle.as_str() == handle) {
                pool.discard(SNAPSHOTS, &handle)?;
            }
        }
        index.snapshots.extend(snapshots.into_iter().map(|snapshot| (snapshot.key.clone(), snapshot)));
        let (volumes, blank) = pool.records::<VolumeRecord>(VOLUMES)?;
        for volume in volumes {
            if let Some(twin) = index.volumes.insert(volume.key.clone(), volume) {
                let message = format!("there are two volumes {}, one is {}", twin.key, twin.handle);
                return Err(Error::new(ErrorKind::Corrupt, "open pool", message));
            }
        }
        for handle in blank {
            match pool.spare(&handle) {
                None => pool.discard(VOLUMES, &handle)?,
                // One that another backend left.
                Some(None) => pool.clear(VOLUMES, &handle),
                Some(Some(number)) => index.spares.push(Spare { handle, number }),
            }
        }
        Ok(index)
    }

    /// The volume of that key and handle.
    pub(super) fn volume(&self, operation: &'static str, of: &VolumeRef) -> Result<&VolumeRecord> {
        let found = self.volumes.get(&of.key).filter(|volume| volume.is(of));
        let found = found.ok_or_else(|| missing(operation, format_args!("volume {}", of.key)))?;
        self.stays(operation, found.handle.as_str()).map(|()| found)
    }

    /// The snapshot of that key and handle.
    pub(super) fn snapshot(&self, operation: &'static str, of: &SnapshotRef) -> Result<&SnapshotRecord> {
        let found = self.snapshots.get(&of.key).filter(|snapshot| snapshot.handle == of.handle);
        let found = found.ok_or_else(|| missing(operation, format_args!("snapshot {}", of.key)))?;
        self.stays(operation, found.handle.as_str()).map(|()| found)
    }

    /// Whether what has this handle was taken away, and may be back after a crash.
    pub(super) fn is_going(&self, handle: &str) -> bool {
        self.going.contains(handle)
    }

    pub(super) fn set_going(&mut self, handle: &str, going: bool) {
        if going {
            self.going.insert(handle.to_owned());
        } else {
            self.going.remove(handle);
        }
    }

    /// Refuses what is neither there nor gone for good.
    pub(super) fn stays(&self, operation: &'static str, handle: &str) -> Result<()> {
        if !self.is_going(handle) {
            return Ok(());
        }
        let message = format!("{handle} is being deleted, and that is not durable yet: delete it again");
        Err(Error::new(ErrorKind::Unavailable, operation, message).with_retry(Retry::Later))
    }

    /// What is promised to all volumes together.
    pub(super) fn provisioned(&self) -> ByteSize {
        let sum = self.volumes.values().fold(0u64, |sum, volume| sum.saturating_add(volume.size.as_bytes()));
        ByteSize::from_bytes(sum)
    }
}

/// One page of `all`, whose cursors are keys as text.
pub(super) fn page<'a, K, V, T>(
    all: &'a BTreeMap<K, V>,
    after: Option<&Cursor>,
    limit: usize,
    item: impl Fn(&'a V) -> Result<T>,
) -> Result<Page<T>>
where
    K: Ord + Serialize + DeserializeOwned,
{
    let from = match after {
        None => Bound::Unbounded,
        Some(cursor) => Bound::Excluded(serde_json::from_str::<K>(cursor.as_str()).map_err(|_| {
            Error::invalid("list", format!("{:?} is no cursor of this list", cursor.as_str()))
        })?),
    };
    let mut rest = all.range((from, Bound::Unbounded)).peekable();
    let (mut items, mut last) = (Vec::new(), None);
    for (key, value) in rest.by_ref().take(limit.max(1)) {
        items.push(item(value)?);
        last = Some(key);
    }
    let next = match last.filter(|_| rest.peek().is_some()) {
        None => None,
        Some(key) => {
            let text = serde_json::to_string(key).map_err(|e| Error::internal("list", e.to_string()))?;
            Some(Cursor::new(text))
        }
    };
    Ok(Page::new(items, next))
}
