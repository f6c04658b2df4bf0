//! Snapshots, alone and in groups.

use hivemind_core::{Error, OpToken, Progress, Result};

use super::super::super::wire::{self, numbers::controller as rpc};
use super::super::super::{convert, names};
use super::super::failure::{broken, of_list, of_read, progress};
use super::look::{entries, next, token};
use super::{CsiProvider, about, handle};
use crate::{
    CreateGroupSnapshot, CreateSnapshot, Cursor, GroupHandle, GroupKey, GroupSnapshot, Page, SecretPurpose,
    SecretQuery, Secrets, SnapshotKey, SnapshotRef, VolumeSnapshot,
};

fn seen(operation: &'static str, snapshot: Option<wire::Snapshot>) -> Result<VolumeSnapshot> {
    let told = snapshot.ok_or_else(|| broken(operation, "it tells of a snapshot and not of which"))?;
    let (own, source) = (handle(operation, &told.snapshot_id)?, handle(operation, &told.source_volume_id)?);
    let created_at = convert::from_timestamp(told.creation_time);
    let size = convert::from_bytes(told.size_bytes);
    let group = Some(told.group_snapshot_id.as_str()).filter(|group| !group.is_empty());
    let group = group.map(|group| handle(operation, group)).transpose()?;
    Ok(VolumeSnapshot::new(own, source, size, created_at).with_ready(told.ready_to_use).in_group(group))
}

impl CsiProvider {
    pub(super) async fn snapshot(&self, request: &CreateSnapshot) -> Result<Progress<VolumeSnapshot>> {
        const OPERATION: &str = "create_snapshot";
        if request.key.volume != request.volume.key {
            let message = format!("snapshot {} is not one of volume {}", request.key, request.volume.key);
            return Err(Error::invalid(OPERATION, message));
        }
        let query =
            about(SecretPurpose::Snapshot, &request.volume).with_parameters(request.parameters.clone());
        let secrets = self.connection.secrets(query, &request.secrets).await?;
        let message = wire::CreateSnapshotRequest {
            source_volume_id: request.volume.handle.to_string(),
            name: names::foreign_name("snapshot", &request.key),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
            parameters: request.parameters.clone(),
        };
        let answer = self.connection.call_with("/csi.v1.Controller/CreateSnapshot", &secrets, message).await;
        let answer: wire::CreateSnapshotResponse = match progress(OPERATION, &request.token, answer)? {
            Progress::Ready(answer) => answer,
            Progress::Pending(pending) => return Ok(Progress::Pending(pending)),
        };
        let taken = seen(OPERATION, answer.snapshot)?;
        if taken.source != request.volume.handle {
            return Err(broken(OPERATION, "it took a snapshot of another volume"));
        }
        Ok(Progress::Ready(taken))
    }

    pub(super) async fn drop_snapshot(
        &self,
        token: &OpToken,
        snapshot: &SnapshotRef,
    ) -> Result<Progress<()>> {
        const OPERATION: &str = "delete_snapshot";
        let secrets = self.secrets_of(SecretPurpose::Snapshot, snapshot).await?;
        let message = wire::DeleteSnapshotRequest {
            snapshot_id: snapshot.handle.to_string(),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
        };
        let answer = self.connection.call_with("/csi.v1.Controller/DeleteSnapshot", &secrets, message).await;
        Ok(progress(OPERATION, token, answer)?.map(|_: wire::Empty| ()))
    }

    /// Asks for the one snapshot if the driver knows how, and else for the list of it.
    pub(super) async fn snapshot_status(&self, snapshot: &SnapshotRef) -> Result<VolumeSnapshot> {
        const OPERATION: &str = "get_snapshot_status";
        if self.has(rpc::GET_SNAPSHOT) {
            let secrets = self.secrets_of(SecretPurpose::ListSnapshots, snapshot).await?;
            let message = wire::GetSnapshotRequest {
                snapshot_id: snapshot.handle.to_string(),
                secrets: convert::to_secrets(OPERATION, &secrets)?,
            };
            let answer = self.connection.call_with("/csi.v1.Controller/GetSnapshot", &secrets, message).await;
            let found: wire::GetSnapshotResponse = answer.map_err(|status| of_read(OPERATION, status))?;
            return seen(OPERATION, found.snapshot);
        }
        self.require_rpc(rpc::LIST_SNAPSHOTS, OPERATION)?;
        let page = self.snapshots(None, 1, Some(snapshot)).await?;
        page.items.into_iter().find(|found| found.handle == snapshot.handle).ok_or_else(|| {
            let message = format!("there is no snapshot {}, called {}", snapshot.key, snapshot.handle);
            Error::not_found(OPERATION, message)
        })
    }

    /// The secrets for a call about a snapshot.
    async fn secrets_of(&self, purpose: SecretPurpose, snapshot: &SnapshotRef) -> Result<Secrets> {
        let query = SecretQuery::new(purpose).of_volume(snapshot.key.volume.clone());
        self.connection.secrets(query, &Secrets::none()).await
    }

    /// A page of all snapshots, or that of one.
    pub(super) async fn snapshots(
        &self,
        after: Option<&Cursor>,
        limit: usize,
        of: Option<&SnapshotRef>,
    ) -> Result<Page<VolumeSnapshot>> {
        const OPERATION: &str = "list_snapshots";
        let starting_token = token(OPERATION, after)?;
        let secrets = match of {
            Some(snapshot) => self.secrets_of(SecretPurpose::ListSnapshots, snapshot).await?,
            None => {
                let query = SecretQuery::new(SecretPurpose::ListSnapshots);
                self.connection.secrets(query, &Secrets::none()).await?
            }
        };
        let message = wire::ListSnapshotsRequest {
            max_entries: entries(limit),
            starting_token,
            snapshot_id: of.map(|of| of.handle.to_string()).unwrap_or_default(),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
            ..wire::ListSnapshotsRequest::default()
        };
        let answer = self.connection.call_with("/csi.v1.Controller/ListSnapshots", &secrets, message).await;
        let page: wire::ListSnapshotsResponse = answer.map_err(|status| of_list(OPERATION, status))?;
        let items = page.entries.into_iter().map(|entry| seen(OPERATION, entry.snapshot));
        Ok(Page::new(items.collect::<Result<_>>()?, next(page.next_token)))
    }

    pub(super) async fn group(&self, request: &CreateGroupSnapshot) -> Result<Progress<GroupSnapshot>> {
        const OPERATION: &str = "create_group_snapshot";
        if request.volumes.is_empty() {
            return Err(Error::invalid(OPERATION, "a group of no volumes: name at least one"));
        }
        if let Some(foreign) = request.volumes.iter().find(|volume| volume.key.tenant != request.key.tenant) {
            let message = format!("there is no volume {} of tenant {}", foreign.key, request.key.tenant);
            return Err(Error::not_found(OPERATION, message));
        }
        let query = SecretQuery::new(SecretPurpose::GroupSnapshot).of_tenant(request.key.tenant.clone());
        let query = query.with_parameters(request.parameters.clone());
        let secrets = self.connection.secrets(query, &request.secrets).await?;
        let message = wire::CreateVolumeGroupSnapshotRequest {
            name: names::foreign_name("group", &request.key),
            source_volume_ids: request.volumes.iter().map(|volume| volume.handle.to_string()).collect(),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
            parameters: request.parameters.clone(),
        };
        let path = "/csi.v1.GroupController/CreateVolumeGroupSnapshot";
        let answer = self.connection.call_with(path, &secrets, message).await;
        let answer: wire::CreateVolumeGroupSnapshotResponse =
            match progress(OPERATION, &request.token, answer)? {
                Progress::Ready(answer) => answer,
                Progress::Pending(pending) => return Ok(Progress::Pending(pending)),
            };
        let group = answer
            .group_snapshot
            .ok_or_else(|| broken(OPERATION, "it made a group and does not say which"))?;
        let mut snapshots = Vec::with_capacity(request.volumes.len());
        for told in group.snapshots {
            let taken = seen(OPERATION, Some(told))?;
            let volume = request.volumes.iter().find(|volume| volume.handle == taken.source);
            let volume = volume.ok_or_else(|| broken(OPERATION, "it took a snapshot of another volume"))?;
            snapshots.push(taken.of(SnapshotKey::new(volume.key.clone(), request.key.group.clone())));
        }
        let created_at = convert::from_timestamp(group.creation_time);
        let own = handle(OPERATION, &group.group_snapshot_id)?;
        Ok(Progress::Ready(GroupSnapshot::new(own, request.key.clone(), snapshots, created_at)))
    }

    pub(super) async fn drop_group(
        &self,
        token: &OpToken,
        key: &GroupKey,
        group: &GroupHandle,
        snapshots: &[SnapshotRef],
    ) -> Result<Progress<()>> {
        const OPERATION: &str = "delete_group_snapshot";
        let query = SecretQuery::new(SecretPurpose::GroupSnapshot).of_tenant(key.tenant.clone());
        let secrets = self.connection.secrets(query, &Secrets::none()).await?;
        let message = wire::DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id: group.to_string(),
            snapshot_ids: snapshots.iter().map(|snapshot| snapshot.handle.to_string()).collect(),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
        };
        let path = "/csi.v1.GroupController/DeleteVolumeGroupSnapshot";
        let answer = self.connection.call_with(path, &secrets, message).await;
        Ok(progress(OPERATION, token, answer)?.map(|_: wire::Empty| ()))
    }
}
