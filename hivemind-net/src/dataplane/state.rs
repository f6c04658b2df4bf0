//! What the kernel of one machine holds of ours, as a plain value. No I/O, no clock, no async.

mod l2;
mod l3;
mod link;
mod names;
pub(crate) mod pairs;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use l2::{BridgeMac, RemoteMac};
pub use l3::{Address, AddressKey, MAIN_TABLE, Neighbour, NeighbourKey, Route, RouteKey, RouteTarget};
pub use link::{Link, LinkKind, PortSettings, Vxlan};
pub use names::{InvalidKernelName, LinkName, Mac, Netns, SysctlName};

use super::rules::{RuleTable, TableKey};

/// Everything of ours on one machine: per network namespace.
///
/// Foreign things (the uplink, the routes of its administrator) are never part of it, even where ours refer to them by
/// name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KernelState {
    /// The namespaces, the machine's own ([`Netns::Host`]) among them if anything of ours is in it.
    pub namespaces: BTreeMap<Netns, NetnsState>,
}

impl KernelState {
    /// Nothing at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// The namespace, made empty if it is not there yet.
    pub fn namespace_mut(&mut self, netns: &Netns) -> &mut NetnsState {
        self.namespaces.entry(netns.clone()).or_default()
    }

    /// The link, if it is ours.
    pub fn link(&self, netns: &Netns, name: &LinkName) -> Option<&Link> {
        self.namespaces.get(netns)?.links.get(name)
    }

    /// Puts in both ends of a veth pair, each pointing at the other.
    ///
    /// `one` and `other` say where the end is, what it is called, and its MAC, MTU, master and the rest; their kinds
    /// are overwritten.
    pub fn add_veth(&mut self, one: (&Netns, &LinkName, Link), other: (&Netns, &LinkName, Link)) {
        let (one_at, one_name, mut one_end) = one;
        let (other_at, other_name, mut other_end) = other;
        one_end.kind = LinkKind::Veth { peer_netns: other_at.clone(), peer: other_name.clone() };
        other_end.kind = LinkKind::Veth { peer_netns: one_at.clone(), peer: one_name.clone() };
        self.namespace_mut(one_at).links.insert(one_name.clone(), one_end);
        self.namespace_mut(other_at).links.insert(other_name.clone(), other_end);
    }
}

/// Everything of ours in one network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetnsState {
    /// Whether the namespace itself is ours: made if it is missing, deleted when no longer wanted.
    ///
    /// False for the machine's own and for one that a container runtime made: it must be there.
    pub owned: bool,
    /// The links by name; `lo` is never among them: it is up in every namespace of ours.
    pub links: BTreeMap<LinkName, Link>,
    /// The addresses of links.
    #[serde(with = "pairs")]
    pub addresses: BTreeMap<AddressKey, Address>,
    /// The routes.
    #[serde(with = "pairs")]
    pub routes: BTreeMap<RouteKey, Route>,
    /// The permanent neighbours and the addresses that are answered for.
    #[serde(with = "pairs")]
    pub neighbours: BTreeMap<NeighbourKey, Neighbour>,
    /// Where a VXLAN link sends frames: its remote tunnel ends by destination MAC.
    ///
    /// The MAC of zeroes is where frames for unknown destinations go; only it may have several.
    #[serde(with = "pairs")]
    pub remotes: BTreeMap<RemoteMac, BTreeSet<std::net::IpAddr>>,
    /// Behind which port of a bridge a MAC is, as static entries.
    #[serde(with = "pairs")]
    pub bridge_macs: BTreeMap<BridgeMac, LinkName>,
    /// Kernel parameters of this namespace.
    pub sysctls: BTreeMap<SysctlName, String>,
    /// nftables' tables.
    #[serde(with = "pairs")]
    pub tables: BTreeMap<TableKey, RuleTable>,
}

impl NetnsState {
    /// An empty namespace that is ours.
    pub fn owned() -> Self {
        Self { owned: true, ..Self::default() }
    }

    /// Whether nothing of ours is in it.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
            && self.addresses.is_empty()
            && self.routes.is_empty()
            && self.neighbours.is_empty()
            && self.remotes.is_empty()
            && self.bridge_macs.is_empty()
            && self.sysctls.is_empty()
            && self.tables.is_empty()
    }
}
