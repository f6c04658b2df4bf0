//! What is still to be made of a volume comes before its end.

use hivemind_core::store::Txn;
use hivemind_core::{Result, StateStoreExt};

use super::VolumeController;
use super::volume::waits;
use crate::records::{snapshots, volumes};
use crate::{SnapshotPhase, SourceKey, Volume, VolumePhase};

impl VolumeController {
    /// Whatever is still to be made of the volume comes first: its snapshots and its clones.
    pub(super) async fn nobody_needs(&self, volume: &Volume) -> Result<()> {
        let tenant = volume.key.tenant.to_string();
        let its_snapshots = snapshots()?.below([tenant.as_str(), volume.key.volume.as_str()])?;
        let view = self.store.snapshot(std::slice::from_ref(&its_snapshots)).await?;
        for snapshot in snapshots()?.list(&view, &Txn::new(), &its_snapshots)? {
            let unfinished = match snapshot.phase {
                SnapshotPhase::Creating | SnapshotPhase::Cut => true,
                // It may have been taken, and has to be taken again to learn what it is called.
                SnapshotPhase::Deleting => snapshot.handle.is_none(),
                SnapshotPhase::Ready | SnapshotPhase::Failed(_) => false,
            };
            if unfinished {
                return Err(waits(format!("snapshot {} of the volume comes first", snapshot.key.snapshot)));
            }
        }
        if !volume.cloned {
            return Ok(());
        }
        let its_tenant = volumes()?.below([tenant.as_str()])?;
        let view = self.store.snapshot(std::slice::from_ref(&its_tenant)).await?;
        let source = Some(SourceKey::Volume(volume.key.clone()));
        for clone in volumes()?.list(&view, &Txn::new(), &its_tenant)? {
            if clone.source == source
                && clone.handle.is_none()
                && !matches!(clone.phase, VolumePhase::Failed(_))
            {
                return Err(waits(format!("volume {}, a clone of it, comes first", clone.key.volume)));
            }
        }
        Ok(())
    }
}
