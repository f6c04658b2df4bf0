//! The Identity service, and what each of the others says that it can do.

use tonic::Status;

use super::super::wire::{self, numbers};
use super::CsiServer;
use super::refusal::{Call, answer};
use crate::{AccessMode, Capability, NodeCapability};

fn rpcs(kinds: impl IntoIterator<Item = i32>) -> wire::CapabilitiesResponse {
    let capability = |kind| wire::ServiceCapability { rpc: Some(wire::Rpc { kind }) };
    wire::CapabilitiesResponse { capabilities: kinds.into_iter().map(capability).collect() }
}

impl CsiServer {
    pub(super) async fn plugin_info(&self, _: wire::Empty) -> Result<wire::GetPluginInfoResponse, Status> {
        let (name, vendor_version) = (self.options.name.clone(), self.options.version.clone());
        Ok(wire::GetPluginInfoResponse { name, vendor_version, ..wire::GetPluginInfoResponse::default() })
    }

    pub(super) async fn plugin_capabilities(
        &self,
        _: wire::Empty,
    ) -> Result<wire::GetPluginCapabilitiesResponse, Status> {
        let mut services = Vec::new();
        let mut expansion = None;
        if let Some(provider) = &self.provider {
            let able = provider.capabilities();
            services.push(numbers::plugin::CONTROLLER);
            if able.has(Capability::Topology) {
                services.push(numbers::plugin::ACCESSIBILITY_CONSTRAINTS);
            }
            if able.has(Capability::GroupSnapshots) {
                services.push(numbers::plugin::GROUP_CONTROLLER);
            }
            if able.has(Capability::Expand) {
                let online = able.has(Capability::ExpandOnline);
                expansion =
                    Some(if online { numbers::expansion::ONLINE } else { numbers::expansion::OFFLINE });
            }
        }
        let service = |kind| wire::PluginCapability {
            service: Some(wire::PluginService { kind }),
            volume_expansion: None,
        };
        let grow = |kind| wire::PluginCapability {
            service: None,
            volume_expansion: Some(wire::PluginExpansion { kind }),
        };
        let capabilities = services.into_iter().map(service).chain(expansion.map(grow)).collect();
        Ok(wire::GetPluginCapabilitiesResponse { capabilities })
    }

    pub(super) async fn probe(&self, _: wire::Empty) -> Result<wire::ProbeResponse, Status> {
        if let Some(provider) = &self.provider {
            // Not healthy, whatever the reason: the one code that the specification has for it.
            let healthy = provider.probe().await;
            healthy.map_err(|error| Status::failed_precondition(error.message()))?;
        }
        Ok(wire::ProbeResponse { ready: Some(true) })
    }

    pub(super) async fn controller_capabilities(
        &self,
        _: wire::Empty,
    ) -> Result<wire::CapabilitiesResponse, Status> {
        use numbers::controller as rpc;
        let able = self.provider()?.capabilities();
        let mut kinds = vec![rpc::CREATE_DELETE_VOLUME, rpc::GET_VOLUME];
        let table: [(Capability, &[i32]); 10] = [
            (Capability::Attach, &[rpc::PUBLISH_UNPUBLISH_VOLUME, rpc::PUBLISH_READONLY]),
            (Capability::Expand, &[rpc::EXPAND_VOLUME]),
            (Capability::Snapshots, &[rpc::CREATE_DELETE_SNAPSHOT, rpc::GET_SNAPSHOT]),
            (Capability::Clone, &[rpc::CLONE_VOLUME]),
            (Capability::Modify, &[rpc::MODIFY_VOLUME]),
            (Capability::ListVolumes, &[rpc::LIST_VOLUMES]),
            (Capability::ListSnapshots, &[rpc::LIST_SNAPSHOTS]),
            (Capability::AttachedNodes, &[rpc::LIST_VOLUMES_PUBLISHED_NODES]),
            (Capability::Condition, &[rpc::VOLUME_CONDITION]),
            (Capability::Capacity, &[rpc::GET_CAPACITY]),
        ];
        for (_, more) in table.iter().filter(|(capability, _)| able.has(*capability)) {
            kinds.extend_from_slice(more);
        }
        if able.access_modes.contains(&AccessMode::ReadWriteOncePod) {
            kinds.push(rpc::SINGLE_NODE_MULTI_WRITER);
        }
        Ok(rpcs(kinds))
    }

    pub(super) async fn group_capabilities(
        &self,
        _: wire::Empty,
    ) -> Result<wire::CapabilitiesResponse, Status> {
        self.provider_with(Capability::GroupSnapshots)?;
        Ok(rpcs([numbers::group::CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT]))
    }

    pub(super) async fn node_capabilities(
        &self,
        _: wire::Empty,
    ) -> Result<wire::CapabilitiesResponse, Status> {
        use numbers::node as rpc;
        let able = self.node_side()?.node_capabilities();
        let table = [
            (NodeCapability::Stage, rpc::STAGE_UNSTAGE_VOLUME),
            (NodeCapability::Stats, rpc::GET_VOLUME_STATS),
            (NodeCapability::Expand, rpc::EXPAND_VOLUME),
            (NodeCapability::Condition, rpc::VOLUME_CONDITION),
        ];
        let kinds =
            table.into_iter().filter(|(capability, _)| able.contains(capability)).map(|(_, kind)| kind);
        // A node side must tell one workload from several; see its contract.
        Ok(rpcs(kinds.chain([rpc::SINGLE_NODE_MULTI_WRITER])))
    }

    pub(super) async fn node_info(&self, _: wire::Empty) -> Result<wire::NodeGetInfoResponse, Status> {
        let info = answer(Call::Other, self.node_side()?.node_info().await)?;
        let placed =
            (!info.topology.is_everywhere()).then(|| super::super::convert::to_topology(&info.topology));
        Ok(wire::NodeGetInfoResponse {
            node_id: info.node.handle.to_string(),
            max_volumes_per_node: info.max_volumes.map_or(0, |max| i64::try_from(max).unwrap_or(i64::MAX)),
            accessible_topology: placed,
        })
    }
}
