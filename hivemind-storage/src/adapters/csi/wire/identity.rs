//! Messages of the Identity service, with the numbers of `csi.proto`.

use std::collections::BTreeMap;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetPluginInfoResponse {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) vendor_version: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) manifest: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetPluginCapabilitiesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) capabilities: Vec<PluginCapability>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PluginService {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PluginExpansion {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PluginCapability {
    #[prost(message, optional, tag = "1")]
    pub(crate) service: Option<PluginService>,
    #[prost(message, optional, tag = "2")]
    pub(crate) volume_expansion: Option<PluginExpansion>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProbeResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) ready: Option<bool>,
}
