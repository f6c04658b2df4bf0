//! How volumes and the driver are, without changing anything.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, Result};

use super::super::super::convert;
use super::super::super::wire::{self, numbers::controller as rpc};
use super::super::failure::{broken, of_list, of_read};
use super::volumes::any_options;
use super::{CsiProvider, about, handle};
use crate::{
    Capability, Capacity, CapacityQuery, Cursor, Page, SecretPurpose, Secrets, StorageMetrics, VolumeHandle,
    VolumeRef, VolumeStatus,
};

/// How many entries of a list are asked for at once.
const PAGE: usize = 1000;

pub(super) fn entries(limit: usize) -> i32 {
    i32::try_from(limit.max(1)).unwrap_or(i32::MAX)
}

/// Where a list goes on. An empty token would begin it anew, and no list of ours has one.
pub(super) fn token(operation: &'static str, after: Option<&Cursor>) -> Result<String> {
    match after.map(Cursor::as_str) {
        None => Ok(String::new()),
        Some("") => Err(Error::invalid(operation, "the cursor is empty: no list goes on there")),
        Some(text) => Ok(text.to_owned()),
    }
}

pub(super) fn next(token: String) -> Option<Cursor> {
    (!token.is_empty()).then(|| Cursor::new(token))
}

fn missing(operation: &'static str, volume: &VolumeRef) -> Error {
    Error::not_found(operation, format!("there is no volume {}, called {}", volume.key, volume.handle))
}

fn seen(
    operation: &'static str,
    volume: Option<wire::Volume>,
    status: Option<wire::VolumeStatus>,
) -> Result<VolumeStatus> {
    let volume = volume.ok_or_else(|| broken(operation, "it tells of a volume and not of which"))?;
    let status = status.unwrap_or_default();
    let nodes: Result<Vec<_>> = status.published_node_ids.iter().map(|id| handle(operation, id)).collect();
    let size = convert::from_bytes(volume.capacity_bytes);
    Ok(VolumeStatus::new(handle(operation, &volume.volume_id)?, size)
        .attached_to(nodes?)
        .with_condition(convert::from_condition(status.volume_condition)))
}

impl CsiProvider {
    /// Asks for the one volume if the driver knows how, and else looks through the list, and else asks whether it is there.
    pub(super) async fn status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        const OPERATION: &str = "get_volume_status";
        let volume_id = volume.handle.to_string();
        if self.has(rpc::GET_VOLUME) {
            let message = wire::ControllerGetVolumeRequest { volume_id };
            let path = "/csi.v1.Controller/ControllerGetVolume";
            let found: wire::ControllerGetVolumeResponse =
                self.connection.read(OPERATION, path, message).await?;
            return seen(OPERATION, found.volume, found.status);
        }
        if self.has(rpc::LIST_VOLUMES) {
            let mut after = None;
            loop {
                let page = self.volumes(after.as_ref(), PAGE).await?;
                if let Some(found) = page.items.into_iter().find(|found| found.handle == volume.handle) {
                    return Ok(found);
                }
                after = Some(page.next.ok_or_else(|| missing(OPERATION, volume))?);
            }
        }
        let query = about(SecretPurpose::Provision, volume);
        let secrets = self.connection.secrets(query, &Secrets::none()).await?;
        let message = wire::ValidateVolumeCapabilitiesRequest {
            volume_id,
            volume_context: volume.context.clone(),
            volume_capabilities: self.capabilities_of(&any_options(&self.able)),
            secrets: convert::to_secrets(OPERATION, &secrets)?,
            ..wire::ValidateVolumeCapabilitiesRequest::default()
        };
        let path = "/csi.v1.Controller/ValidateVolumeCapabilities";
        let answer = self.connection.call_with(path, &secrets, message).await;
        let _there: wire::ValidateVolumeCapabilitiesResponse =
            answer.map_err(|status| of_read(OPERATION, status))?;
        Ok(VolumeStatus::new(volume.handle.clone(), ByteSize::ZERO))
    }

    /// Looks through the list, where that tells as much; the driver is asked for what is not in it, if it knows how.
    pub(super) async fn statuses(&self, volumes: &[VolumeRef]) -> Result<Vec<Result<VolumeStatus>>> {
        let alone = self.has(rpc::GET_VOLUME);
        // Of the nodes that have a volume, a list need not tell.
        let tells = self.has(rpc::LIST_VOLUMES_PUBLISHED_NODES) || !self.has(rpc::PUBLISH_UNPUBLISH_VOLUME);
        let look = volumes.len() > 1 && self.has(rpc::LIST_VOLUMES) && (tells || !alone);
        let listed = if look { self.listed(volumes, alone).await? } else { BTreeMap::new() };
        let mut answers = Vec::with_capacity(volumes.len());
        for volume in volumes {
            answers.push(match listed.get(&volume.handle) {
                Some(status) => Ok(status.clone()),
                None if look && !alone => Err(missing("get_volume_statuses", volume)),
                None => self.status(volume).await,
            });
        }
        Ok(answers)
    }

    /// Those of `volumes` that are in the list; where it is so long that asking for the rest `alone` takes fewer calls, that
    /// is left to be done.
    async fn listed(
        &self,
        volumes: &[VolumeRef],
        alone: bool,
    ) -> Result<BTreeMap<VolumeHandle, VolumeStatus>> {
        let mut left: BTreeSet<&VolumeHandle> = volumes.iter().map(|volume| &volume.handle).collect();
        let (mut found, mut after, mut pages) = (BTreeMap::new(), None, 0);
        loop {
            let page = self.volumes(after.as_ref(), PAGE).await?;
            pages += 1;
            for status in page.items.into_iter().filter(|status| left.remove(&status.handle)) {
                found.insert(status.handle.clone(), status);
            }
            after = page.next;
            if left.is_empty() || after.is_none() || (alone && pages >= left.len()) {
                return Ok(found);
            }
        }
    }

    pub(super) async fn volumes(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<VolumeStatus>> {
        const OPERATION: &str = "list_volumes";
        let starting_token = token(OPERATION, after)?;
        let message = wire::ListVolumesRequest { max_entries: entries(limit), starting_token };
        let answer = self.connection.call("/csi.v1.Controller/ListVolumes", message).await;
        let page: wire::ListVolumesResponse = answer.map_err(|status| of_list(OPERATION, status))?;
        let items = page.entries.into_iter().map(|entry| seen(OPERATION, entry.volume, entry.status));
        Ok(Page::new(items.collect::<Result<_>>()?, next(page.next_token)))
    }

    pub(super) async fn capacity(&self, query: &CapacityQuery) -> Result<Capacity> {
        let place = (!query.topology.is_everywhere()).then(|| convert::to_topology(&query.topology));
        let message = wire::GetCapacityRequest {
            volume_capabilities: self.capabilities_of(&query.options),
            parameters: query.options.parameters.clone(),
            accessible_topology: place,
        };
        let path = "/csi.v1.Controller/GetCapacity";
        let told: wire::GetCapacityResponse = self.connection.read("get_capacity", path, message).await?;
        let mut capacity = Capacity::new(convert::from_bytes(told.available_capacity));
        capacity.largest = told.maximum_volume_size.map(convert::from_bytes);
        capacity.smallest = told.minimum_volume_size.map(convert::from_bytes);
        Ok(capacity)
    }

    /// Counts what is listed; of what the driver does not list there is none.
    pub(super) async fn metrics(&self) -> Result<StorageMetrics> {
        let (mut volumes, mut snapshots, mut bytes) = (0u64, 0u64, 0u64);
        let mut after = None;
        while self.able.has(Capability::ListVolumes) {
            let page = self.volumes(after.as_ref(), PAGE).await?;
            for volume in page.items {
                volumes += 1;
                bytes = bytes.saturating_add(volume.size.as_bytes());
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut after = None;
        while self.able.has(Capability::ListSnapshots) {
            let page = self.snapshots(after.as_ref(), PAGE, None).await?;
            snapshots += u64::try_from(page.items.len()).unwrap_or(u64::MAX);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let provisioned = ByteSize::from_bytes(bytes);
        let capacity = if self.able.has(Capability::Capacity) {
            let options = any_options(&self.able);
            let free = self.capacity(&CapacityQuery::new(options, crate::Topology::everywhere())).await?;
            free.available.checked_add(provisioned)
        } else {
            None
        };
        Ok(StorageMetrics::new(volumes, snapshots, provisioned, capacity))
    }
}
