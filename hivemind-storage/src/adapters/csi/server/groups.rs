//! The GroupController service: snapshots of several volumes at one moment.

use hivemind_core::Timestamp;
use tonic::Status;

use super::super::convert::{self, Map};
use super::super::{names, wire};
use super::refusal::{Call, answer, finished};
use super::snapshots::told_snapshot;
use super::volumes::told;
use super::{CsiServer, fields, missing};
use crate::{
    Capability, CreateGroupSnapshot, GroupHandle, GroupKey, SnapshotKey, SnapshotRef, VolumeRef,
    VolumeSnapshot,
};

fn told_group(
    key: &GroupKey,
    handle: &GroupHandle,
    snapshots: Vec<(SnapshotKey, VolumeSnapshot)>,
    created_at: Timestamp,
) -> Result<wire::VolumeGroupSnapshot, Status> {
    let group_snapshot_id = told(names::group_id(key, handle))?;
    let ready_to_use = snapshots.iter().all(|(_, snapshot)| snapshot.ready);
    let member = |(key, snapshot): (SnapshotKey, VolumeSnapshot)| {
        let snapshot = told_snapshot(&key, snapshot)?;
        Ok(wire::Snapshot { group_snapshot_id: group_snapshot_id.clone(), ..snapshot })
    };
    let snapshots = snapshots.into_iter().map(member).collect::<Result<_, Status>>()?;
    let creation_time = Some(convert::to_timestamp(created_at));
    Ok(wire::VolumeGroupSnapshot { group_snapshot_id, snapshots, creation_time, ready_to_use })
}

impl CsiServer {
    /// The snapshots of a group by their ids; another group's is a mismatch.
    fn members(&self, group: &GroupKey, ids: &[String]) -> Result<Vec<SnapshotRef>, Status> {
        let member = |id: &String| {
            fields::id("snapshot_ids", id)?;
            let of = self.snapshot(id)?;
            if of.key.snapshot == group.group {
                return Ok(of);
            }
            Err(Status::invalid_argument(format!("snapshot {id} is not of group {}", group.group)))
        };
        ids.iter().map(member).collect()
    }

    pub(super) async fn create_group(
        &self,
        request: wire::CreateVolumeGroupSnapshotRequest,
    ) -> Result<wire::CreateVolumeGroupSnapshotResponse, Status> {
        let provider = self.provider_with(Capability::GroupSnapshots)?;
        fields::id("name", &request.name)?;
        if request.source_volume_ids.is_empty() {
            return Err(Status::invalid_argument("source_volume_ids are missing"));
        }
        fields::maps([("parameters", &request.parameters)])?;
        fields::secrets(&request.secrets)?;
        let mut volumes: Vec<VolumeRef> = Vec::new();
        for id in &request.source_volume_ids {
            fields::id("source_volume_ids", id)?;
            volumes.push(self.volume(id, Map::new())?);
        }
        volumes.sort();
        volumes.dedup();
        let name = names::snapshot_name(&request.name);
        let name = name.ok_or_else(|| Status::internal("the name has no name of ours"))?;
        let _busy = self.busy.begin("group", name.as_str())?;
        let key = GroupKey::new(self.options.tenant.clone(), name);
        let mut create =
            CreateGroupSnapshot::new(names::token(&["group", &request.name]), key.clone(), volumes);
        create.parameters = request.parameters;
        create.secrets = convert::from_secrets(request.secrets);
        let group = finished(Call::Create, provider.create_group_snapshot(&create).await)?;
        let mut snapshots = Vec::new();
        for snapshot in group.snapshots {
            let volume = create.volumes.iter().find(|volume| volume.handle == snapshot.source);
            let volume =
                volume.ok_or_else(|| Status::internal("the provider took a snapshot of another volume"))?;
            snapshots.push((SnapshotKey::new(volume.key.clone(), key.group.clone()), snapshot));
        }
        let group = told_group(&key, &group.handle, snapshots, group.created_at)?;
        Ok(wire::CreateVolumeGroupSnapshotResponse { group_snapshot: Some(group) })
    }

    pub(super) async fn delete_group(
        &self,
        request: wire::DeleteVolumeGroupSnapshotRequest,
    ) -> Result<wire::Empty, Status> {
        let provider = self.provider_with(Capability::GroupSnapshots)?;
        fields::id("group_snapshot_id", &request.group_snapshot_id)?;
        let found = names::parse_group_id(&self.options.tenant, &request.group_snapshot_id);
        let Some((key, handle)) = found else { return Ok(wire::Empty {}) };
        let members = self.members(&key, &request.snapshot_ids)?;
        let _busy = self.busy.begin("group", key.group.as_str())?;
        let token = names::token(&["delete group", &request.group_snapshot_id]);
        finished(Call::Other, provider.delete_group_snapshot(&token, &key, &handle, &members).await)?;
        Ok(wire::Empty {})
    }

    pub(super) async fn get_group(
        &self,
        request: wire::GetVolumeGroupSnapshotRequest,
    ) -> Result<wire::GetVolumeGroupSnapshotResponse, Status> {
        let provider = self.provider_with(Capability::GroupSnapshots)?;
        fields::id("group_snapshot_id", &request.group_snapshot_id)?;
        let gone = || missing("group of snapshots", &request.group_snapshot_id);
        let found = names::parse_group_id(&self.options.tenant, &request.group_snapshot_id);
        let (key, handle) = found.ok_or_else(gone)?;
        let mut snapshots = Vec::new();
        if request.snapshot_ids.is_empty() {
            let all = self.all_snapshots(|of| of.key.snapshot == key.group).await?;
            // One that was taken alone may have the name of the group.
            let its = all.into_iter().filter(|(_, snapshot)| snapshot.group.as_ref() == Some(&handle));
            snapshots.extend(its.map(|(of, snapshot)| (of.key, snapshot)));
        }
        for (member, id) in self.members(&key, &request.snapshot_ids)?.into_iter().zip(&request.snapshot_ids)
        {
            let snapshot = answer(Call::Other, provider.get_snapshot_status(&member).await)?;
            if snapshot.group.as_ref() != Some(&handle) {
                let message = format!("snapshot {id} is not of group {}", request.group_snapshot_id);
                return Err(Status::invalid_argument(message));
            }
            snapshots.push((member.key, snapshot));
        }
        let created_at = snapshots.iter().map(|(_, snapshot)| snapshot.created_at).min().ok_or_else(gone)?;
        let group = told_group(&key, &handle, snapshots, created_at)?;
        Ok(wire::GetVolumeGroupSnapshotResponse { group_snapshot: Some(group) })
    }
}
