//! What a provider refuses to make may be there all the same: of an earlier try, whose answer was lost.
//!
//! So whatever ends without ever having been answered for is looked for by its name, where the provider can list, and knows
//! our names. Elsewhere a refusal has to be believed.

use hivemind_core::Result;

use super::VolumeController;
use crate::{
    Capability, GroupRecord, GroupSnapshot, ProvisionedVolume, SnapshotKey, StorageProvider, VolumeKey,
    VolumeRef, VolumeSnapshot,
};

impl VolumeController {
    /// The volume that the provider has under our name `key`.
    pub(super) async fn left_volume(
        &self,
        provider: &dyn StorageProvider,
        key: &VolumeKey,
    ) -> Result<Option<ProvisionedVolume>> {
        if !provider.capabilities().has(Capability::ListVolumes) {
            return Ok(None);
        }
        let all = self.list_volumes(provider).await?;
        let found = all.into_iter().find(|status| status.key.as_ref() == Some(key));
        Ok(found
            .map(|status| ProvisionedVolume::new(VolumeRef::new(key.clone(), status.handle), status.size)))
    }

    /// The snapshot that the provider has under our name `key`, alone.
    pub(super) async fn left_snapshot(
        &self,
        provider: &dyn StorageProvider,
        key: &SnapshotKey,
    ) -> Result<Option<VolumeSnapshot>> {
        let all = self.left_snapshots(provider).await?;
        Ok(all.into_iter().find(|one| one.key.as_ref() == Some(key) && one.group.is_none()))
    }

    /// The group that the provider has of the snapshots `of`, whole.
    pub(super) async fn left_group(
        &self,
        provider: &dyn StorageProvider,
        record: &GroupRecord,
        of: &[&SnapshotKey],
    ) -> Result<Option<GroupSnapshot>> {
        let mut all = self.left_snapshots(provider).await?;
        all.retain(|one| one.group.is_some() && one.key.as_ref().is_some_and(|key| of.contains(&key)));
        let Some(first) = all.first() else { return Ok(None) };
        let (Some(group), created_at) = (first.group.clone(), first.created_at) else { return Ok(None) };
        let whole = all.len() == of.len() && all.iter().all(|one| one.group.as_ref() == Some(&group));
        Ok(whole.then(|| GroupSnapshot::new(group, record.key.clone(), all, created_at)))
    }

    async fn left_snapshots(&self, provider: &dyn StorageProvider) -> Result<Vec<VolumeSnapshot>> {
        if !provider.capabilities().has(Capability::ListSnapshots) {
            return Ok(Vec::new());
        }
        self.list_snapshots(provider).await
    }
}
