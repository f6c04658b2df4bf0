//! Volumes that are at a provider already become a tenant's.

use std::collections::BTreeMap;

use hivemind_core::resources::ByteSize;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, ProviderName, Result, StorageClassName, TenantContext, VolumeId};

use super::StorageManager;
use crate::records::{HandleOwner, handle_at, handles, reservation, snapshots, volume_at, volumes};
use crate::{
    ReclaimPolicy, Topology, Volume, VolumeHandle, VolumeKey, VolumeOptions, VolumePhase, VolumeStatus,
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
}
