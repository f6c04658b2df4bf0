//! Making, growing and deleting volumes.

use std::fs;
use std::path::PathBuf;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Effect, Error, ErrorKind, Result, Retry};

use super::backing::{self, DATA};
use super::options::{self, Kind};
use super::pool::{Pool, SNAPSHOTS, VOLUMES};
use super::record::{self, RECORD, VolumeRecord};
use super::sys::Lock;
use super::uses::{self, USES};
use super::{During as _, LocalBackend, missing, sys};
use crate::{
    Capacity, CreateVolume, Expanded, ProvisionedVolume, SizeRange, Topology, VolumeCondition, VolumeHandle,
    VolumeRef, VolumeSource, VolumeStatus, topology,
};

impl Pool {
    pub(super) fn create(&self, request: &CreateVolume) -> Result<ProvisionedVolume> {
        const OPERATION: &str = "create_volume";
        let key = &request.key;
        {
            let index = self.index();
            if let Some(existing) = index.volumes.get(key) {
                index.stays(OPERATION, existing.handle.as_str())?;
                same(existing, request, &self.node().topology)?;
                return Ok(self.made(existing));
            }
        }
        let kind = options::kind(self.backend(), &request.options)?;
        let places = [self.node().topology.clone()];
        if topology::choose(&request.topology, &places, 1).is_none() {
            let message = format!("volume {key} may not be in {}, where this pool is", self.node().topology);
            return Err(Error::new(ErrorKind::Exhausted, OPERATION, message));
        }
        let begins = self.beginning(OPERATION, request, kind)?;
        let least = begins.as_ref().map_or(ByteSize::ZERO, |(size, _)| *size);
        let size = kind.size(request.size, least)?;
        self.room(OPERATION, size)?;
        let spare =
            if kind == Kind::Subvolume && begins.is_none() { self.index().spares.pop() } else { None };
        let text = spare.as_ref().map_or_else(|| Self::fresh("vol"), |spare| spare.handle.clone());
        let handle: VolumeHandle =
            text.parse().map_err(|_| Error::internal(OPERATION, format!("{text} is no handle")))?;
        let source = source_of(request).map(str::to_owned);
        let (key, options) = (key.clone(), request.options.clone());
        let volume = VolumeRecord { key, handle, size, options, source, kind };
        if let Some(spare) = spare {
            self.adopt(OPERATION, &volume, spare.number)?;
        } else {
            self.appear(OPERATION, VOLUMES, &text, &volume, |place| {
                let data = place.join(DATA);
                match &begins {
                    None => backing::make(OPERATION, kind, self.directory(), &data, size)?,
                    Some((_, from)) => {
                        let _lock = self.source_lock(OPERATION, request)?;
                        backing::copy(OPERATION, kind, from, &data)?;
                        backing::resize(OPERATION, kind, &data, size)?;
                    }
                }
                self.persist(OPERATION, VOLUMES)
            })?;
        }
        let made = self.made(&volume);
        self.index().volumes.insert(volume.key.clone(), volume);
        Ok(made)
    }

    /// Nobody stages, unstages or deletes a volume while it is copied.
    fn source_lock(&self, operation: &'static str, request: &CreateVolume) -> Result<Option<Lock>> {
        let Some(VolumeSource::Volume(of)) = &request.source else { return Ok(None) };
        uses::lock(operation, self.directory(), of.handle.as_str()).map(Some)
    }

    /// Makes a volume of an empty subvolume that is there and durable, the one of that number.
    fn adopt(&self, operation: &'static str, volume: &VolumeRecord, number: u64) -> Result<()> {
        let place = self.place(VOLUMES, volume.handle.as_str());
        let adopted = self
            .limit(number, volume.size)
            .during(operation, "limit", &place)
            .and_then(|()| record::write_first(operation, &place, volume));
        adopted.map_err(|e| match self.disappear(operation, VOLUMES, volume.handle.as_str()) {
            Ok(()) => e,
            Err(_) => e.with_effect(Effect::Unknown),
        })
    }

    /// The number of the subvolume that has no record and nothing in it, and can become a volume, if it is one; `None` if it
    /// has something in it.
    pub(super) fn spare(&self, handle: &str) -> Option<Option<u64>> {
        let place = self.place(VOLUMES, handle);
        let data = place.join(DATA);
        let bare = fs::read_dir(&place).ok()?.all(|entry| {
            entry.is_ok_and(|entry| [DATA, RECORD, USES].iter().any(|name| entry.file_name() == *name))
        });
        // Nobody uses it, and nothing was ever said of it: what had been used has lost its record, unless there is an
        // empty one, as it is made with room for uses.
        let uses = place.join(USES);
        let unused =
            !uses.exists() || (uses.read_dir().ok()?.next().is_none() && place.join(RECORD).exists());
        let empty = unused && fs::read_dir(&data).ok()?.next().is_none();
        let able = self.backend() == LocalBackend::Subvolumes && sys::btrfs::is_subvolume(&data);
        (bare && empty).then(|| sys::btrfs::id(&data).ok().filter(|_| able))
    }

    /// Sets every limit again: one that was set just before a loss of power may be lost.
    pub(super) fn limit_all(&self) -> Result<()> {
        for volume in self.index().volumes.values() {
            let data = self.place(VOLUMES, volume.handle.as_str()).join(DATA);
            // One without data has its own problem, and its status tells of it.
            if volume.kind != Kind::Subvolume || !data.exists() {
                continue;
            }
            match backing::resize("open pool", volume.kind, &data, volume.size) {
                // On a disk that is full nobody writes more than is there, with limits or without.
                Err(e) if e.kind() == ErrorKind::Exhausted => {}
                limited => limited?,
            }
        }
        Ok(())
    }

    /// The size and the data of the source, if there is one.
    fn beginning(
        &self,
        operation: &'static str,
        request: &CreateVolume,
        kind: Kind,
    ) -> Result<Option<(ByteSize, PathBuf)>> {
        let index = self.index();
        let (tenant, found, size, data) = match &request.source {
            None => return Ok(None),
            Some(VolumeSource::Snapshot(of)) => {
                let found = index.snapshot(operation, of)?;
                (&of.key.volume.tenant, found.kind, found.size, self.place(SNAPSHOTS, of.handle.as_str()))
            }
            Some(VolumeSource::Volume(of)) => {
                let found = index.volume(operation, of)?;
                (&of.key.tenant, found.kind, found.size, self.place(VOLUMES, of.handle.as_str()))
            }
        };
        if *tenant != request.key.tenant {
            return Err(missing(operation, "such source"));
        }
        if found != kind {
            let message = format!("the source is a {found}, and a {kind} is asked for: ask for the same");
            return Err(Error::invalid(operation, message));
        }
        Ok(Some((size, data.join(DATA))))
    }

    fn made(&self, volume: &VolumeRecord) -> ProvisionedVolume {
        let made = VolumeRef::new(volume.key.clone(), volume.handle.clone());
        ProvisionedVolume::new(made, volume.size).with_topology(vec![self.node().topology.clone()])
    }

    pub(super) fn delete(&self, of: &VolumeRef) -> Result<()> {
        const OPERATION: &str = "delete_volume";
        let handle = of.handle.as_str();
        let going = {
            let index = self.index();
            if !index.volumes.get(&of.key).is_some_and(|volume| volume.is(of)) {
                return Ok(());
            }
            index.is_going(handle)
        };
        // What was taken away already has no place any more that could be locked.
        let _idle = if going { None } else { Some(self.idle(OPERATION, handle)?) };
        self.end(OPERATION, VOLUMES, handle)?;
        self.index().volumes.remove(&of.key);
        Ok(())
    }

    pub(super) fn expand(&self, of: &VolumeRef, size: SizeRange) -> Result<Expanded> {
        const OPERATION: &str = "expand_volume";
        let volume = self.index().volume(OPERATION, of)?.clone();
        let old = volume.size;
        if size.limit().is_some_and(|limit| limit < old) {
            let message = format!("volume {} has {old} and does not shrink", volume.key);
            return Err(Error::invalid(OPERATION, message));
        }
        let node_step = volume.kind.is_image();
        if size.required() <= old {
            return Ok(Expanded::new(old, node_step));
        }
        let wanted = volume.kind.size(size, old)?;
        self.room(OPERATION, wanted.saturating_sub(old))?;
        let _lock = if volume.kind.grows_online(self.ext4_online()) {
            uses::lock(OPERATION, self.directory(), of.handle.as_str())?
        } else {
            self.idle(OPERATION, of.handle.as_str())?
        };
        let place = self.place(VOLUMES, of.handle.as_str());
        let grown = VolumeRecord { size: wanted, ..volume };
        // The record last: what is promised is there, and what fails half-way is done again by a repetition.
        backing::resize(OPERATION, grown.kind, &place.join(DATA), grown.size)?;
        record::write(OPERATION, &place, &grown)
            .map_err(|e| e.with_effect(Effect::Unknown).with_retry(Retry::Later))?;
        let expanded = Expanded::new(grown.size, node_step);
        self.index().volumes.insert(of.key.clone(), grown);
        Ok(expanded)
    }

    pub(super) fn status(&self, of: &VolumeRef) -> Result<VolumeStatus> {
        const OPERATION: &str = "get_volume_status";
        let found = self.index().volumes.get(&of.key).filter(|volume| volume.is(of)).cloned();
        let volume = found.ok_or_else(|| missing(OPERATION, format_args!("volume {}", of.key)))?;
        self.status_of(OPERATION, &volume)
    }

    pub(super) fn status_of(&self, operation: &'static str, volume: &VolumeRecord) -> Result<VolumeStatus> {
        let handle = volume.handle.as_str();
        let status = VolumeStatus::new(volume.handle.clone(), volume.size)
            .of(volume.key.clone())
            .with_options(volume.told_options());
        if let Err(going) = self.index().stays(operation, handle) {
            return Ok(status.with_condition(VolumeCondition::Abnormal(going.message().to_owned())));
        }
        let (lock, uses) = uses::locked(operation, self.directory(), handle)?;
        drop(lock);
        let used = self.used_at(operation, handle, &uses)?.map(|_| self.node().node.handle.clone());
        let data = self.place(VOLUMES, handle).join(DATA);
        let condition = match fs::symlink_metadata(&data) {
            Ok(_) => VolumeCondition::Normal,
            Err(e) => VolumeCondition::Abnormal(format!("its data cannot be found: {e}")),
        };
        Ok(status.attached_to(used).with_condition(condition))
    }

    /// What can still be promised: neither more than is free, nor more than is there together with what was promised, and
    /// nothing of what is reserved.
    pub(super) fn capacity(&self, operation: &'static str) -> Result<Capacity> {
        let bytes = sys::room(self.directory()).during(operation, "measure", self.directory())?.bytes;
        let unpromised = bytes.total.saturating_sub(self.index().provisioned().as_bytes());
        let left = unpromised.min(bytes.available).saturating_sub(self.reserved(bytes.total));
        Ok(Capacity::new(ByteSize::from_bytes(left)))
    }

    fn room(&self, operation: &'static str, more: ByteSize) -> Result<()> {
        let left = self.capacity(operation)?.available;
        if more <= left {
            return Ok(());
        }
        let message = format!("{more} is asked for, and pool {} has {left} left", self.directory().display());
        Err(Error::new(ErrorKind::Exhausted, operation, message))
    }
}

/// What a volume of this request has as source.
pub(super) fn source_of(request: &CreateVolume) -> Option<&str> {
    match &request.source {
        None => None,
        Some(VolumeSource::Snapshot(of)) => Some(of.handle.as_str()),
        Some(VolumeSource::Volume(of)) => Some(of.handle.as_str()),
    }
}

/// Refuses a creation that means another volume than the one that has its key, which is at `place`.
fn same(existing: &VolumeRecord, request: &CreateVolume, place: &Topology) -> Result<()> {
    let mut differs = Vec::new();
    if !request.size.admits(existing.size) {
        differs.push(format!("it has {}", existing.size));
    }
    if existing.options != request.options {
        differs.push("it has other options".to_owned());
    }
    if existing.source.as_deref() != source_of(request) {
        differs.push("it has another source".to_owned());
    }
    if topology::choose(&request.topology, std::slice::from_ref(place), 1).is_none() {
        differs.push(format!("it is in {place}"));
    }
    if differs.is_empty() {
        return Ok(());
    }
    let message = format!("volume {} exists, but {}: it is left alone", request.key, differs.join(", "));
    Err(Error::new(ErrorKind::AlreadyExists, "create_volume", message))
}
