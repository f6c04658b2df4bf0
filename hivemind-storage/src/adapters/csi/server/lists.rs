//! Lists of volumes and snapshots: only those of the tenant are there.

use hivemind_core::Result as PortResult;
use tonic::Status;

use super::super::wire;
use super::CsiServer;
use super::refusal::{Call, answer};
use super::snapshots::told_snapshot;
use super::volumes::seen;
use crate::{Capability, Cursor, Page, SnapshotRef, VolumeRef, VolumeSnapshot};

/// How many entries an answer has where the caller says nothing: more of them would not fit in gRPC's 4 MiB.
const MANY: usize = 5000;

fn limit(max_entries: i32) -> Result<usize, Status> {
    match usize::try_from(max_entries) {
        Ok(0) => Ok(MANY),
        Ok(limit) => Ok(limit.min(MANY)),
        Err(_) => Err(Status::invalid_argument(format!("max_entries is {max_entries}, which is negative"))),
    }
}

fn cursor(token: &str) -> Option<Cursor> {
    (!token.is_empty()).then(|| Cursor::new(token))
}

/// At most `limit` items that `keep` wants, and the token for what follows.
async fn filled<T, U, F: Future<Output = PortResult<Page<T>>>>(
    token: &str,
    limit: usize,
    page: impl Fn(Option<Cursor>, usize) -> F,
    keep: impl Fn(T) -> Result<Option<U>, Status>,
) -> Result<(Vec<U>, String), Status> {
    let (mut items, mut next) = (Vec::new(), cursor(token));
    loop {
        // Never more than there is room for, since a cursor lies behind all of its page.
        let found = answer(Call::List, page(next, limit - items.len()).await)?;
        for item in found.items {
            items.extend(keep(item)?);
        }
        next = found.next;
        if next.is_none() || items.len() >= limit {
            return Ok((items, next.map_or_else(String::new, |next| next.as_str().to_owned())));
        }
    }
}

impl CsiServer {
    pub(super) async fn list_volumes(
        &self,
        request: wire::ListVolumesRequest,
    ) -> Result<wire::ListVolumesResponse, Status> {
        let provider = self.provider_with(Capability::ListVolumes)?;
        let limit = limit(request.max_entries)?;
        let page =
            |after: Option<Cursor>, limit| async move { provider.list_volumes(after.as_ref(), limit).await };
        let (entries, next_token) = filled(&request.starting_token, limit, page, |mut status| {
            let Some(key) = status.key.take().filter(|key| key.tenant == self.options.tenant) else {
                return Ok(None);
            };
            let (volume, status) = seen(&key, status)?;
            Ok(Some(wire::VolumeEntry { volume: Some(volume), status: Some(status) }))
        })
        .await?;
        Ok(wire::ListVolumesResponse { entries, next_token })
    }

    pub(super) async fn list_snapshots(
        &self,
        request: wire::ListSnapshotsRequest,
    ) -> Result<wire::ListSnapshotsResponse, Status> {
        self.provider_with(Capability::ListSnapshots)?;
        let limit = limit(request.max_entries)?;
        let source = match request.source_volume_id.as_str() {
            "" => None,
            id => match self.volume(id, Default::default()) {
                Ok(volume) => Some(volume),
                Err(_) => return Ok(wire::ListSnapshotsResponse::default()),
            },
        };
        if !request.snapshot_id.is_empty() {
            return self.one_snapshot(&request.snapshot_id, source.as_ref()).await;
        }
        let wanted =
            |snapshot: &VolumeSnapshot| source.as_ref().is_none_or(|source| snapshot.source == source.handle);
        let (snapshots, next_token) = self.snapshots(&request.starting_token, limit, wanted).await?;
        let entry = |(of, snapshot): (SnapshotRef, VolumeSnapshot)| {
            Ok(wire::SnapshotEntry { snapshot: Some(told_snapshot(&of.key, snapshot)?) })
        };
        let entries = snapshots.into_iter().map(entry).collect::<Result<_, Status>>()?;
        Ok(wire::ListSnapshotsResponse { entries, next_token })
    }

    /// The list of one snapshot: empty if there is no such, or not of `source`.
    async fn one_snapshot(
        &self,
        id: &str,
        source: Option<&VolumeRef>,
    ) -> Result<wire::ListSnapshotsResponse, Status> {
        let found = match self.snapshot(id) {
            Ok(of) => match self.provider_with(Capability::Snapshots)?.get_snapshot_status(&of).await {
                Err(error) if error.kind() == hivemind_core::ErrorKind::NotFound => None,
                found => Some((of, answer(Call::Other, found)?)),
            },
            Err(_) => None,
        };
        let found = found.filter(|(_, found)| source.is_none_or(|source| found.source == source.handle));
        let entries = match found {
            Some((of, found)) => vec![wire::SnapshotEntry { snapshot: Some(told_snapshot(&of.key, found)?) }],
            None => Vec::new(),
        };
        Ok(wire::ListSnapshotsResponse { entries, next_token: String::new() })
    }

    /// At most `limit` snapshots of the tenant that are `wanted`, and the token for what follows.
    pub(super) async fn snapshots(
        &self,
        token: &str,
        limit: usize,
        wanted: impl Fn(&VolumeSnapshot) -> bool,
    ) -> Result<(Vec<(SnapshotRef, VolumeSnapshot)>, String), Status> {
        let provider = self.provider_with(Capability::ListSnapshots)?;
        let page = |after: Option<Cursor>, limit| async move {
            provider.list_snapshots(after.as_ref(), limit).await
        };
        filled(token, limit, page, |mut snapshot: VolumeSnapshot| {
            let key = snapshot.key.take().filter(|key| key.volume.tenant == self.options.tenant);
            let Some(key) = key.filter(|_| wanted(&snapshot)) else { return Ok(None) };
            Ok(Some((snapshot.reference(key), snapshot)))
        })
        .await
    }

    /// All snapshots of the tenant that are `wanted`.
    pub(super) async fn all_snapshots(
        &self,
        wanted: impl Fn(&SnapshotRef) -> bool,
    ) -> Result<Vec<(SnapshotRef, VolumeSnapshot)>, Status> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let (found, next) = self.snapshots(&token, MANY, |_| true).await?;
            all.extend(found.into_iter().filter(|(of, _)| wanted(of)));
            if next.is_empty() {
                return Ok(all);
            }
            token = next;
        }
    }
}
