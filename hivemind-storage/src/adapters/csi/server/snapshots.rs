//! Snapshots of the Controller service.

use tonic::Status;

use super::super::convert::{self, Map};
use super::super::{names, wire};
use super::refusal::{Call, answer, finished};
use super::volumes::told;
use super::{CsiServer, fields};
use crate::{Capability, CreateSnapshot, GroupKey, SnapshotKey, VolumeSnapshot};

/// A snapshot, under the key that we have for it.
pub(super) fn told_snapshot(key: &SnapshotKey, snapshot: VolumeSnapshot) -> Result<wire::Snapshot, Status> {
    // Snapshots of a group have its name.
    let group = GroupKey::new(key.volume.tenant.clone(), key.snapshot.clone());
    let group_snapshot_id = snapshot.group.as_ref().map(|handle| told(names::group_id(&group, handle)));
    Ok(wire::Snapshot {
        size_bytes: convert::to_bytes(snapshot.size),
        snapshot_id: told(names::snapshot_id(key, &snapshot.handle))?,
        source_volume_id: told(names::volume_id(&key.volume, &snapshot.source))?,
        creation_time: Some(convert::to_timestamp(snapshot.created_at)),
        ready_to_use: snapshot.ready,
        group_snapshot_id: group_snapshot_id.transpose()?.unwrap_or_default(),
    })
}

impl CsiServer {
    pub(super) async fn create_snapshot(
        &self,
        request: wire::CreateSnapshotRequest,
    ) -> Result<wire::CreateSnapshotResponse, Status> {
        let provider = self.provider_with(Capability::Snapshots)?;
        fields::id("name", &request.name)?;
        fields::id("source_volume_id", &request.source_volume_id)?;
        fields::maps([("parameters", &request.parameters)])?;
        fields::secrets(&request.secrets)?;
        let volume = self.volume(&request.source_volume_id, Map::new())?;
        let name = names::snapshot_name(&request.name);
        let name = name.ok_or_else(|| Status::internal("the name has no name of ours"))?;
        let _busy = self.busy.begin("snapshot", name.as_str())?;
        let key = SnapshotKey::new(volume.key.clone(), name);
        // With us a snapshot has its name within its volume, with CSI within the driver.
        if provider.capabilities().has(Capability::ListSnapshots) {
            let others =
                |of: &crate::SnapshotRef| of.key.snapshot == key.snapshot && of.key.volume != key.volume;
            if let Some((other, _)) = self.all_snapshots(others).await?.first() {
                let message =
                    format!("snapshot {} exists, of volume {}", request.name, other.key.volume.volume);
                return Err(Status::already_exists(message));
            }
        }
        let token = names::token(&["snapshot", &request.source_volume_id, &request.name]);
        let mut create = CreateSnapshot::new(token, key.clone(), volume);
        create.parameters = request.parameters;
        create.secrets = convert::from_secrets(request.secrets);
        let taken = finished(Call::Create, provider.create_snapshot(&create).await)?;
        Ok(wire::CreateSnapshotResponse { snapshot: Some(told_snapshot(&key, taken)?) })
    }

    pub(super) async fn delete_snapshot(
        &self,
        request: wire::DeleteSnapshotRequest,
    ) -> Result<wire::Empty, Status> {
        let provider = self.provider_with(Capability::Snapshots)?;
        fields::id("snapshot_id", &request.snapshot_id)?;
        let Ok(snapshot) = self.snapshot(&request.snapshot_id) else { return Ok(wire::Empty {}) };
        let _busy = self.busy.begin("snapshot", snapshot.key.snapshot.as_str())?;
        let token = names::token(&["delete snapshot", &request.snapshot_id]);
        finished(Call::Other, provider.delete_snapshot(&token, &snapshot).await)?;
        Ok(wire::Empty {})
    }

    pub(super) async fn get_snapshot(
        &self,
        request: wire::GetSnapshotRequest,
    ) -> Result<wire::GetSnapshotResponse, Status> {
        let provider = self.provider_with(Capability::Snapshots)?;
        fields::id("snapshot_id", &request.snapshot_id)?;
        let snapshot = self.snapshot(&request.snapshot_id)?;
        let found = answer(Call::Other, provider.get_snapshot_status(&snapshot).await)?;
        Ok(wire::GetSnapshotResponse { snapshot: Some(told_snapshot(&snapshot.key, found)?) })
    }
}
