//! Taking, restoring and deleting snapshots, of one volume and of several at one moment.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use hivemind_core::{Effect, Error, ErrorKind, Result, Timestamp, sync_directory};

use super::backing::{self, Cut, DATA};
use super::index::Index;
use super::options::Kind;
use super::pool::{GROUPS, Pool, SNAPSHOTS, TMP, VOLUMES};
use super::record::{self, GroupRecord, SnapshotRecord, VolumeRecord};
use super::{During as _, missing, sys, uses};
use crate::{
    CreateGroupSnapshot, CreateSnapshot, GroupHandle, GroupKey, GroupSnapshot, SnapshotHandle, SnapshotKey,
    SnapshotRef, VolumeRef, VolumeSnapshot,
};

pub(super) fn seen(snapshot: &SnapshotRecord) -> VolumeSnapshot {
    let SnapshotRecord { handle, source, size, created_at, group, .. } = snapshot.clone();
    VolumeSnapshot::new(handle, source, size, created_at).of(snapshot.key.clone()).in_group(group)
}

/// Refuses a snapshot whose key names another volume.
pub(super) fn check_key(operation: &'static str, request: &CreateSnapshot) -> Result<()> {
    let (key, of) = (&request.key, &request.volume);
    if key.volume == of.key {
        return Ok(());
    }
    Err(Error::invalid(operation, format!("snapshot {key} cannot be of volume {}", of.key)))
}

pub(super) fn exists(operation: &'static str, what: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, operation, format!("{what}: it is left alone"))
}

fn handle<H: std::str::FromStr>(prefix: &str) -> Result<H> {
    let text = Pool::fresh(prefix);
    text.parse().map_err(|_| Error::internal("handle", format!("{text} is no handle")))
}

/// A snapshot that is being made.
struct Planned {
    record: SnapshotRecord,
    cut: Cut,
    place: PathBuf,
}

impl Pool {
    fn planned(
        &self,
        key: SnapshotKey,
        of: &VolumeRecord,
        at: Timestamp,
        group: Option<GroupHandle>,
    ) -> Result<Planned> {
        let handle: SnapshotHandle = handle("snap")?;
        let place = self.place(SNAPSHOTS, handle.as_str());
        let (source, size, kind) = (of.handle.clone(), of.size, of.kind);
        let from = self.place(VOLUMES, source.as_str()).join(DATA);
        let record = SnapshotRecord { key, handle, source, size, kind, created_at: at, group };
        let cut = Cut { kind, from, to: place.join(DATA) };
        Ok(Planned { record, cut, place })
    }

    /// Makes the data of all of `planned` at one moment; it is durable, and does not count until it has a record.
    fn take(&self, operation: &'static str, planned: &[Planned]) -> Result<()> {
        for Planned { place, .. } in planned {
            self.begin(operation, place)?;
        }
        // Nobody stages, unstages or deletes a volume while it is cut. In the order of handles, so that no two wait for
        // each other.
        let mut sources: Vec<_> = planned.iter().map(|planned| &planned.record.source).collect();
        sources.sort_unstable();
        let locks = sources.iter().map(|handle| uses::lock(operation, self.directory(), handle.as_str()));
        let _locks = locks.collect::<Result<Vec<_>>>()?;
        let cuts: Vec<&Cut> = planned.iter().map(|planned| &planned.cut).collect();
        backing::cut(operation, &cuts)?;
        // A snapshot of btrfs is a commit itself.
        let others = planned.iter().filter(|planned| planned.record.kind != Kind::Subvolume);
        for Planned { place, .. } in others {
            sync_directory(place).during(operation, "sync", place)?;
        }
        Ok(())
    }

    /// Takes all of `planned`, and writes what `record` says, or leaves nothing.
    fn take_whole(
        &self,
        operation: &'static str,
        planned: &[Planned],
        record: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.take(operation, planned).and_then(|()| record()).map_err(|e| {
            let left = planned.iter().filter(|planned| self.throw_away(&planned.place).is_err()).count();
            // What has no record does not count, whether it is there or not.
            if left == 0 { e } else { e.with_effect(Effect::Unknown) }
        })
    }

    pub(super) fn snapshot(&self, request: &CreateSnapshot) -> Result<VolumeSnapshot> {
        const OPERATION: &str = "create_snapshot";
        let (key, of) = (&request.key, &request.volume);
        check_key(OPERATION, request)?;
        let volume = {
            let index = self.index();
            if let Some(existing) = index.snapshots.get(key) {
                index.stays(OPERATION, existing.handle.as_str())?;
                if existing.source == of.handle && existing.group.is_none() {
                    return Ok(seen(existing));
                }
                return Err(exists(
                    OPERATION,
                    &format!("snapshot {key} exists, of another volume or a group"),
                ));
            }
            index.volume(OPERATION, of)?.clone()
        };
        self.take_one(OPERATION, key, &volume, None)
    }

    /// Takes a snapshot of `volume`, or of what is at `from` instead.
    pub(super) fn take_one(
        &self,
        operation: &'static str,
        key: &SnapshotKey,
        volume: &VolumeRecord,
        from: Option<PathBuf>,
    ) -> Result<VolumeSnapshot> {
        let mut planned = self.planned(key.clone(), volume, self.clock().now(), None)?;
        if let Some(from) = from {
            planned.cut.from = from;
        }
        self.take_whole(operation, std::slice::from_ref(&planned), || {
            self.record(operation, &planned.place, &planned.record)
        })?;
        let taken = seen(&planned.record);
        self.index().snapshots.insert(key.clone(), planned.record);
        Ok(taken)
    }

    pub(super) fn delete_snapshot(&self, of: &SnapshotRef) -> Result<()> {
        const OPERATION: &str = "delete_snapshot";
        match self.index().snapshots.get(&of.key).filter(|snapshot| snapshot.handle == of.handle) {
            None => return Ok(()),
            Some(found) if found.group.is_some() => {
                let message = format!("snapshot {} is part of a group: delete the group", of.key);
                return Err(Error::invalid(OPERATION, message));
            }
            Some(_) => {}
        }
        self.end(OPERATION, SNAPSHOTS, of.handle.as_str())?;
        self.index().snapshots.remove(&of.key);
        Ok(())
    }

    pub(super) fn restore(&self, of: &SnapshotRef, to: &VolumeRef) -> Result<()> {
        const OPERATION: &str = "restore_snapshot";
        let (snapshot, volume) = {
            let index = self.index();
            let snapshot = index.snapshot(OPERATION, of)?.clone();
            (snapshot, index.volume(OPERATION, to)?.clone())
        };
        if snapshot.source != volume.handle {
            return Err(missing(OPERATION, format_args!("snapshot {} of volume {}", of.key, to.key)));
        }
        let _idle = self.idle(OPERATION, volume.handle.as_str())?;
        let made = self.place(TMP, &Self::fresh("restore"));
        let (fresh, data) = (made.join(DATA), self.place(VOLUMES, volume.handle.as_str()).join(DATA));
        let from = self.place(SNAPSHOTS, snapshot.handle.as_str()).join(DATA);
        let exchanged = (|| {
            DirBuilder::new().mode(0o700).create(&made).during(OPERATION, "make", &made)?;
            backing::copy(OPERATION, snapshot.kind, &from, &fresh)?;
            backing::resize(OPERATION, snapshot.kind, &fresh, volume.size)?;
            // Both have a name at any moment, so a crash leaves the old content or the new one.
            sys::exchange(&fresh, &data).during(OPERATION, "exchange", &data)
        })();
        // The name that was exchanged is in the volume's own directory.
        let own = self.place(VOLUMES, volume.handle.as_str());
        let written = exchanged.and_then(|()| sync_directory(&own).during(OPERATION, "write out", &own));
        let persisted = written.and_then(|()| self.persist(OPERATION, VOLUMES));
        let _ = backing::remove(&made);
        persisted
    }

    pub(super) fn group(&self, request: &CreateGroupSnapshot) -> Result<GroupSnapshot> {
        const OPERATION: &str = "create_group_snapshot";
        let key = &request.key;
        let volumes = {
            let index = self.index();
            if let Some(existing) = index.groups.get(key) {
                index.stays(OPERATION, existing.handle.as_str())?;
                return existing_group(&index, existing, request);
            }
            members(OPERATION, &index, request)?
        };
        let (group, now) = (handle::<GroupHandle>("group")?, self.clock().now());
        let planned = volumes.iter().map(|volume| {
            let key = SnapshotKey::new(volume.key.clone(), key.group.clone());
            self.planned(key, volume, now, Some(group.clone()))
        });
        let planned = planned.collect::<Result<Vec<_>>>()?;
        let record = GroupRecord {
            key: key.clone(),
            handle: group.clone(),
            snapshots: planned.iter().map(|planned| planned.record.clone()).collect(),
            created_at: now,
        };
        self.take_group(OPERATION, &planned, &record)?;
        let taken = planned.iter().map(|planned| seen(&planned.record)).collect();
        let mut index = self.index();
        index.groups.insert(key.clone(), record);
        let records = planned.into_iter().map(|planned| (planned.record.key.clone(), planned.record));
        index.snapshots.extend(records);
        Ok(GroupSnapshot::new(group, key.clone(), taken, now))
    }

    /// Takes all of `planned`, the snapshots of the group of this record, or leaves nothing.
    fn take_group(&self, operation: &'static str, planned: &[Planned], group: &GroupRecord) -> Result<()> {
        // A subvolume is there when all of it is; an image may be there in part.
        if planned.iter().any(|planned| planned.record.kind != Kind::Subvolume) {
            return self.take_whole(operation, planned, || {
                self.appear(operation, GROUPS, group.handle.as_str(), group, |place| {
                    sync_directory(place).during(operation, "sync", place)
                })
            });
        }
        // The record goes out in the commits that cut the snapshots, and is mostly durable with them: a flush less. Until all
        // of them are there it has its mark, and means nothing.
        let place = self.place(GROUPS, group.handle.as_str());
        let taken = self.begin(operation, &place).and_then(|()| {
            let record = record::begin_first(operation, &place, group)?;
            self.take_whole(operation, planned, || record.sync_all().during(operation, "write", &place))
        });
        taken.map_err(|e| self.gone(e, &place))?;
        record::unmark_partial(&place);
        Ok(())
    }

    /// Whether a crash left this group before all of its snapshots were there: nobody was told of it.
    pub(super) fn is_unfinished(&self, group: &GroupRecord) -> bool {
        let mut members = group.snapshots.iter().map(|snapshot| snapshot.handle.as_str());
        record::is_partial(&self.place(GROUPS, group.handle.as_str()))
            && members.any(|member| !self.place(SNAPSHOTS, member).join(DATA).exists())
    }

    /// The snapshots of a group that is there are not removed even if it loses its record.
    pub(super) fn settle(&self, group: &GroupSnapshot) {
        for snapshot in &group.snapshots {
            record::unmark_partial(&self.place(SNAPSHOTS, snapshot.handle.as_str()));
        }
    }

    pub(super) fn delete_group(
        &self,
        key: &GroupKey,
        handle: &GroupHandle,
        snapshots: &[SnapshotRef],
    ) -> Result<()> {
        const OPERATION: &str = "delete_group_snapshot";
        let Some(group) = self.index().groups.get(key).filter(|group| group.handle == *handle).cloned()
        else {
            return Ok(());
        };
        let named: BTreeSet<_> = snapshots.iter().map(|snapshot| &snapshot.handle).collect();
        if named != group.snapshots.iter().map(|snapshot| &snapshot.handle).collect() {
            let message =
                format!("group {key} has other snapshots than those that are named: name all of them");
            return Err(Error::invalid(OPERATION, message));
        }
        for snapshot in &group.snapshots {
            record::mark_partial(OPERATION, &self.place(SNAPSHOTS, snapshot.handle.as_str()))?;
        }
        self.end(OPERATION, GROUPS, handle.as_str())?;
        let mut index = self.index();
        index.groups.remove(key);
        index.snapshots.retain(|_, snapshot| snapshot.group.as_ref() != Some(handle));
        drop(index);
        for snapshot in &group.snapshots {
            // Without its group it does not count any more; what stays is removed when the pool is opened next.
            let _ = self.disappear(OPERATION, SNAPSHOTS, snapshot.handle.as_str());
        }
        Ok(())
    }
}

/// The group that is there already, if it is of the same volumes.
fn existing_group(
    index: &Index,
    existing: &GroupRecord,
    request: &CreateGroupSnapshot,
) -> Result<GroupSnapshot> {
    let taken: Vec<_> =
        index.snapshots.values().filter(|s| s.group.as_ref() == Some(&existing.handle)).collect();
    let of: BTreeSet<_> = taken.iter().map(|snapshot| &snapshot.source).collect();
    let wanted: BTreeSet<_> = request.volumes.iter().map(|volume| &volume.handle).collect();
    if of != wanted {
        let what = format!("group {} exists, of other volumes", request.key);
        return Err(exists("create_group_snapshot", &what));
    }
    let taken = taken.into_iter().map(seen).collect();
    let GroupRecord { key, handle, created_at, .. } = existing.clone();
    Ok(GroupSnapshot::new(handle, key, taken, created_at))
}

/// The volumes of a group that can be taken.
fn members(
    operation: &'static str,
    index: &Index,
    request: &CreateGroupSnapshot,
) -> Result<Vec<VolumeRecord>> {
    if request.volumes.is_empty() {
        return Err(Error::invalid(operation, "a group of no volumes: name at least one"));
    }
    let (mut volumes, mut names) = (Vec::new(), BTreeSet::new());
    for of in &request.volumes {
        if of.key.tenant != request.key.tenant {
            return Err(missing(operation, format_args!("volume {}", of.key)));
        }
        if !names.insert(&of.key) {
            return Err(Error::invalid(operation, format!("volume {} is named twice", of.key)));
        }
        let snapshot = SnapshotKey::new(of.key.clone(), request.key.group.clone());
        if index.snapshots.contains_key(&snapshot) {
            return Err(exists(operation, &format!("snapshot {snapshot} exists, of its own")));
        }
        volumes.push(index.volume(operation, of)?.clone());
    }
    Ok(volumes)
}
