//! Volumes and snapshots that are at a provider already become a tenant's.

use std::collections::BTreeMap;

use hivemind_core::resources::ByteSize;
use hivemind_core::store::{Guard, Snapshot, Txn};
use hivemind_core::{
    Error, ErrorKind, ProviderName, Result, SnapshotId, Stamped, StorageClassName, TenantContext, VolumeId,
};

use super::{StorageManager, token};
use crate::records::{
    AdoptedSnapshot, HandleOwner, adopted_snapshot_at, adopted_snapshots, handle_at, handles, reservation,
    snapshot_at, snapshots, volume_at, volumes,
};
use crate::{
    ReclaimPolicy, SnapshotHandle, SnapshotKey, SnapshotPhase, SnapshotRecord, Topology, Volume,
    VolumeHandle, VolumeKey, VolumeOptions, VolumePhase, VolumeSnapshot, VolumeStatus,
};

/// A volume that is at a provider already, and is to be a tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adoption {
    /// What it is to be called.
    pub volume: VolumeId,
    /// At which provider.
    pub provider: ProviderName,
    /// What the provider calls it.
    pub handle: VolumeHandle,
    /// What the provider wants to hear in later calls.
    pub context: BTreeMap<String, String>,
    /// Of which class; `None` for none.
    pub class: Option<StorageClassName>,
    /// What it is like.
    pub options: VolumeOptions,
    /// From where it can be reached; empty for everywhere.
    pub topology: Vec<Topology>,
}

impl Adoption {
    /// The volume that `provider` calls `handle`, as `volume`.
    pub fn new(volume: VolumeId, provider: ProviderName, handle: VolumeHandle) -> Self {
        let (context, topology) = (BTreeMap::new(), Vec::new());
        Self { volume, provider, handle, context, class: None, options: VolumeOptions::default(), topology }
    }

    /// Of this class.
    #[must_use]
    pub fn of_class(mut self, class: StorageClassName) -> Self {
        self.class = Some(class);
        self
    }

    /// Like this.
    #[must_use]
    pub fn with_options(mut self, options: VolumeOptions) -> Self {
        self.options = options;
        self
    }

    /// With what the provider wants to hear again.
    #[must_use]
    pub fn with_context(mut self, context: BTreeMap<String, String>) -> Self {
        self.context = context;
        self
    }

    /// Reachable from these places.
    #[must_use]
    pub fn with_topology(mut self, topology: Vec<Topology>) -> Self {
        self.topology = topology;
        self
    }
}

/// A snapshot that is at a provider already, and is to be a tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotAdoption {
    /// Of which volume it is to be, whether that is there still or not.
    pub volume: VolumeId,
    /// What it is to be called.
    pub snapshot: SnapshotId,
    /// At which provider.
    pub provider: ProviderName,
    /// What the provider calls it.
    pub handle: SnapshotHandle,
}

impl SnapshotAdoption {
    /// The snapshot that `provider` calls `handle`, as `snapshot` of `volume`.
    pub fn new(
        volume: VolumeId,
        snapshot: SnapshotId,
        provider: ProviderName,
        handle: SnapshotHandle,
    ) -> Self {
        Self { volume, snapshot, provider, handle }
    }
}

impl StorageManager {
    /// Stages that a volume which is at a provider already is the tenant's, kept and offered to its claims. `status` is
    /// what the provider says of it: ask it right before.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown provider or class, or if the provider knows the volume as another
    /// tenant's, or a record has the volume already; [`ErrorKind::AlreadyExists`] if the name is taken, by a volume or by
    /// snapshots of an earlier one that were kept;
    /// [`ErrorKind::Conflict`] if a node has it; [`ErrorKind::Invalid`] if the provider does not tell how large it is; those
    /// of the quota.
    pub fn stage_adoption(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        adoption: &Adoption,
        status: &VolumeStatus,
    ) -> Result<()> {
        const OPERATION: &str = "adopt";
        let provider = self.provider(Some(&adoption.provider))?;
        let key = VolumeKey::new(ctx.tenant().clone(), adoption.volume.clone());
        let foreign =
            status.key.as_ref().is_some_and(|known| *known != key) || status.handle != adoption.handle;
        let owned = handles()?.get(view, txn, &handle_at(&provider, &adoption.handle)?)?.is_some();
        if foreign || owned {
            let message = format!(
                "provider {provider} has no volume {} for tenant {}",
                adoption.handle,
                ctx.tenant().id
            );
            return Err(Error::not_found(OPERATION, message));
        }
        if let Some(node) = status.attached_to.first() {
            let message = format!("volume {} is on node {node}: detach it there first", adoption.handle);
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
        if status.size == ByteSize::ZERO {
            let message = format!("provider {provider} does not tell how large {} is", adoption.handle);
            return Err(Error::invalid(OPERATION, message));
        }
        // Snapshots outlive their volume and keep its name: these would be taken for the adopted one's.
        let kept = snapshots()?.below([ctx.tenant().to_string().as_str(), adoption.volume.as_str()])?;
        if !snapshots()?.list(view, txn, &kept)?.is_empty() {
            let message = format!(
                "snapshots of an earlier volume {} were kept: delete them, or choose another name",
                adoption.volume
            );
            return Err(Error::new(ErrorKind::AlreadyExists, OPERATION, message));
        }
        if let Some(class) = &adoption.class {
            self.class(view, txn, class)?;
        }
        let charged = reservation("adopted", &[adoption.volume.as_str()])?;
        let volume = Volume {
            class: adoption.class.clone(),
            size: status.size,
            options: adoption.options.clone(),
            reclaim: ReclaimPolicy::Retain,
            topology: adoption.topology.clone(),
            phase: VolumePhase::Ready,
            handle: Some(adoption.handle.clone()),
            context: adoption.context.clone(),
            reservations: self.charge(view, txn, ctx, charged, status.size)?,
            charged: status.size,
            ..Volume::new(key, provider)
        };
        let owner = HandleOwner { volume: volume.key.clone() };
        handles()?.create(view, txn, handle_at(&volume.provider, &adoption.handle)?, &owner)?;
        volumes()?.create(view, txn, volume_at(&volume.key)?, &volume)?;
        self.offer(view, txn, &volume)
    }

    /// Stages that a snapshot which is at a provider already, such as one that was received there, is the tenant's. `seen` is
    /// what the provider says of it: ask it right before. `view` must show all of [`prefix`](crate::prefix).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown provider, or if the provider knows the snapshot under another name, or as one of
    /// another volume, or a record has it already; [`ErrorKind::AlreadyExists`] if the name is taken; [`ErrorKind::Conflict`]
    /// if it is not ready, or may be one that is just being taken; [`ErrorKind::Invalid`] if it is part of a group, or nobody
    /// tells how large it is; those of the quota.
    pub fn stage_snapshot_adoption(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        adoption: &SnapshotAdoption,
        seen: &VolumeSnapshot,
    ) -> Result<()> {
        const OPERATION: &str = "adopt snapshot";
        let provider = self.provider(Some(&adoption.provider))?;
        let volume = VolumeKey::new(ctx.tenant().clone(), adoption.volume.clone());
        let key = SnapshotKey::new(volume, adoption.snapshot.clone());
        let known = seen.key.as_ref().is_none_or(|known| *known == key) && seen.handle == adoption.handle;
        let of = if known { source_of(view, txn, &provider, &key.volume, seen)? } else { Source::Foreign };
        let of = match of {
            Source::Recorded(of) => Some(of),
            Source::Gone => None,
            Source::Foreign => {
                let message = format!(
                    "provider {provider} has no snapshot {} of volume {}",
                    adoption.handle, key.volume
                );
                return Err(Error::not_found(OPERATION, message));
            }
        };
        check_adoptable(view, txn, &key, seen)?;
        let told = Some(seen.size).filter(|size| *size != ByteSize::ZERO);
        let size = told.or(of.as_ref().map(|of| of.size)).unwrap_or_default();
        if size == ByteSize::ZERO {
            let message = format!("provider {provider} does not tell how large {} is", adoption.handle);
            return Err(Error::invalid(OPERATION, message));
        }
        let charged = reservation("snapshot", &[key.volume.volume.as_str(), key.snapshot.as_str()])?;
        let record = SnapshotRecord {
            group: None,
            phase: SnapshotPhase::Ready,
            token: token(ctx, &key),
            handle: Some(adoption.handle.clone()),
            size,
            created_at: Some(seen.created_at),
            encrypted_with: of.and_then(|of| of.encrypted_with.clone()),
            reservations: self.charge(view, txn, ctx, charged, size)?,
            charged: size,
            provider,
            key,
        };
        let adopted = AdoptedSnapshot { snapshot: record.key.clone() };
        let at = adopted_snapshot_at(&record.provider, &adoption.handle)?;
        adopted_snapshots()?.create(view, txn, at, &adopted)?;
        snapshots()?.create(view, txn, snapshot_at(&record.key)?, &record)
    }
}

/// The volume that a snapshot was taken of.
enum Source {
    /// It is the one that is named.
    Recorded(Stamped<Volume>),
    /// There is no record of it any more.
    Gone,
    /// It is another one, or a record has the snapshot.
    Foreign,
}

/// What a snapshot was taken of, and whether that is `volume`. It must not come or go meanwhile.
fn source_of(
    view: &Snapshot,
    txn: &mut Txn,
    provider: &ProviderName,
    volume: &VolumeKey,
    seen: &VolumeSnapshot,
) -> Result<Source> {
    let (at, source_at) = (volume_at(volume)?, handle_at(provider, &seen.source)?);
    let (of, owner) = (volumes()?.get(view, txn, &at)?, handles()?.get(view, txn, &source_at)?);
    let same = |of: &Stamped<Volume>| of.provider == *provider && of.handle.as_ref() == Some(&seen.source);
    let own = owner.as_ref().is_none_or(|owner| owner.volume == *volume);
    // Snapshots outlive their volume, and then its record tells nothing of them.
    let all = snapshots()?.list(view, txn, snapshots()?.prefix())?;
    let has = |one: &Stamped<SnapshotRecord>| {
        one.provider == *provider && one.handle.as_ref() == Some(&seen.handle)
    };
    if !own || !of.as_ref().is_none_or(same) || all.iter().any(has) {
        return Ok(Source::Foreign);
    }
    match &owner {
        Some(owner) => handles()?.expect(txn, owner)?,
        None => txn.guard(&source_at, Guard::Absent)?,
    }
    let Some(of) = of else {
        txn.guard(&at, Guard::Absent)?;
        return Ok(Source::Gone);
    };
    volumes()?.expect(txn, &of)?;
    Ok(Source::Recorded(of))
}

/// Refuses a snapshot that cannot be used as it is, or may be another one than it seems.
fn check_adoptable(view: &Snapshot, txn: &Txn, key: &SnapshotKey, seen: &VolumeSnapshot) -> Result<()> {
    const OPERATION: &str = "adopt snapshot";
    let handle = &seen.handle;
    if let Some(group) = &seen.group {
        let message = format!("snapshot {handle} is part of group {group}, and goes only with that");
        return Err(Error::invalid(OPERATION, message));
    }
    if !seen.ready {
        let message = format!("snapshot {handle} is not ready: wait until it is");
        return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
    }
    let tenant = key.volume.tenant.to_string();
    let below = snapshots()?.below([tenant.as_str(), key.volume.volume.as_str()])?;
    for other in snapshots()?.list(view, txn, &below)? {
        if other.key == *key {
            let message = format!("snapshot {key} exists: choose another name");
            return Err(Error::new(ErrorKind::AlreadyExists, OPERATION, message));
        }
        // A provider that does not know our names may tell of one whose handle is not written down yet.
        if seen.key.is_none() && other.handle.is_none() {
            let message = format!("snapshot {} is just being taken: wait until it is there", other.key);
            return Err(Error::new(ErrorKind::Conflict, OPERATION, message));
        }
    }
    Ok(())
}
