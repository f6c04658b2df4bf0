//! Single changes of a kernel. No I/O, no clock, no async.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::rules::{RuleTable, TableChange, TableKey};
use super::state::{
    Address, AddressKey, BridgeMac, Link, LinkName, Mac, Neighbour, NeighbourKey, Netns, PortSettings,
    RemoteMac, Route, RouteKey, RouteTarget, SysctlName,
};

/// One change in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Op {
    /// Where.
    pub netns: Netns,
    /// What.
    pub action: Action,
}

impl Op {
    /// `action` in `netns`.
    pub fn new(netns: Netns, action: Action) -> Self {
        Self { netns, action }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.netns, self.action)
    }
}

/// What a change does.
///
/// `Add` and `Create` refuse what is there already; `Set` and `Replace` overwrite what is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Action {
    /// Makes the namespace, with `lo` up.
    CreateNetns,
    /// The namespace is no longer ours, and stays.
    DisownNetns,
    /// Deletes the namespace and everything in it.
    DeleteNetns,
    /// Sets a kernel parameter, and remembers what it was before.
    SetSysctl(SysctlName, String),
    /// Gives a kernel parameter the value that it had before it was ours.
    ResetSysctl(SysctlName),
    /// Makes a link, down and in no bridge.
    CreateLink {
        /// Its name.
        name: LinkName,
        /// The link.
        link: Box<Link>,
        /// The other end, if it is a veth pair.
        peer: Option<Box<Link>>,
    },
    /// Deletes a link and all that hangs on it; with one end of a veth pair goes the other.
    DeleteLink(LinkName),
    /// Another MAC.
    SetMac(LinkName, Mac),
    /// Another MTU.
    SetMtu(LinkName, u32),
    /// Whether the kernel gives it a link-local address.
    SetLinkLocal(LinkName, bool),
    /// Makes it a port of a bridge with default settings, or of none.
    SetMaster(LinkName, Option<LinkName>),
    /// How it behaves as a port.
    SetPort(LinkName, PortSettings),
    /// Up, or down.
    SetUp(LinkName, bool),
    /// Gives a link an address.
    AddAddress(AddressKey, Address),
    /// Takes an address away.
    DeleteAddress(AddressKey),
    /// A new route.
    AddRoute(RouteKey, Route),
    /// Another route for the same destinations, without a gap.
    ReplaceRoute(RouteKey, Route),
    /// No route any more.
    DeleteRoute(RouteKey),
    /// A permanent neighbour, or an address that is answered for.
    SetNeighbour(NeighbourKey, Neighbour),
    /// The end of it.
    DeleteNeighbour(NeighbourKey, Neighbour),
    /// The one remote tunnel end for a MAC, instead of the one before.
    SetRemote(RemoteMac, IpAddr),
    /// One more remote tunnel end for unknown MACs.
    AddRemote(RemoteMac, IpAddr),
    /// One less.
    DeleteRemote(RemoteMac, IpAddr),
    /// The port behind which a MAC is, instead of the one before.
    SetBridgeMac(BridgeMac, LinkName),
    /// The bridge knows the MAC no longer.
    DeleteBridgeMac(BridgeMac, LinkName),
    /// A whole rule table, instead of the one before, at once.
    PutTable(TableKey, Box<RuleTable>),
    /// Parts of a rule table, at once.
    ChangeTable(TableKey, Box<TableChange>),
    /// No such table any more.
    DeleteTable(TableKey),
}

impl Action {
    /// The link of its namespace that it is about, if it is about one.
    pub fn link(&self) -> Option<LinkName> {
        match self {
            Self::CreateLink { name, .. }
            | Self::DeleteLink(name)
            | Self::SetMac(name, _)
            | Self::SetMtu(name, _)
            | Self::SetLinkLocal(name, _)
            | Self::SetMaster(name, _)
            | Self::SetPort(name, _)
            | Self::SetUp(name, _) => Some(name.clone()),
            Self::AddAddress(key, _) | Self::DeleteAddress(key) => Some(key.dev.clone()),
            Self::AddRoute(_, route) | Self::ReplaceRoute(_, route) => match &route.target {
                RouteTarget::Link { dev, .. } => Some(dev.clone()),
                _ => None,
            },
            Self::SetNeighbour(key, _) | Self::DeleteNeighbour(key, _) => Some(key.dev.clone()),
            Self::SetRemote(key, _) | Self::AddRemote(key, _) | Self::DeleteRemote(key, _) => {
                Some(key.dev.clone())
            }
            Self::SetBridgeMac(key, _) | Self::DeleteBridgeMac(key, _) => Some(key.bridge.clone()),
            Self::SetSysctl(name, _) | Self::ResetSysctl(name) => name.link(),
            Self::CreateNetns
            | Self::DisownNetns
            | Self::DeleteNetns
            | Self::DeleteRoute(_)
            | Self::PutTable(..)
            | Self::ChangeTable(..)
            | Self::DeleteTable(_) => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateNetns => f.write_str("create namespace"),
            Self::DisownNetns => f.write_str("leave namespace"),
            Self::DeleteNetns => f.write_str("delete namespace"),
            Self::SetSysctl(name, value) => write!(f, "set {name} = {value}"),
            Self::ResetSysctl(name) => write!(f, "reset {name}"),
            Self::CreateLink { name, .. } => write!(f, "create link {name}"),
            Self::DeleteLink(name) => write!(f, "delete link {name}"),
            Self::SetMac(name, mac) => write!(f, "set link {name} mac {mac}"),
            Self::SetMtu(name, mtu) => write!(f, "set link {name} mtu {mtu}"),
            Self::SetLinkLocal(name, on) => write!(f, "set link {name} link-local {on}"),
            Self::SetMaster(name, Some(master)) => write!(f, "set link {name} master {master}"),
            Self::SetMaster(name, None) => write!(f, "set link {name} nomaster"),
            Self::SetPort(name, _) => write!(f, "set port {name}"),
            Self::SetUp(name, up) => write!(f, "set link {name} {}", if *up { "up" } else { "down" }),
            Self::AddAddress(key, _) => {
                write!(f, "add address {}/{} dev {}", key.address, key.prefix_len, key.dev)
            }
            Self::DeleteAddress(key) => {
                write!(f, "delete address {}/{} dev {}", key.address, key.prefix_len, key.dev)
            }
            Self::AddRoute(key, _) => write!(f, "add route {} table {}", key.destination, key.table),
            Self::ReplaceRoute(key, _) => write!(f, "replace route {} table {}", key.destination, key.table),
            Self::DeleteRoute(key) => write!(f, "delete route {} table {}", key.destination, key.table),
            Self::SetNeighbour(key, _) => write!(f, "set neighbour {} dev {}", key.address, key.dev),
            Self::DeleteNeighbour(key, _) => write!(f, "delete neighbour {} dev {}", key.address, key.dev),
            Self::SetRemote(key, to) => write!(f, "set remote {} dev {} at {to}", key.mac, key.dev),
            Self::AddRemote(key, to) => write!(f, "add remote {} dev {} at {to}", key.mac, key.dev),
            Self::DeleteRemote(key, to) => write!(f, "delete remote {} dev {} at {to}", key.mac, key.dev),
            Self::SetBridgeMac(key, port) => write!(f, "set {} of {} behind {port}", key.mac, key.bridge),
            Self::DeleteBridgeMac(key, port) => {
                write!(f, "delete {} of {} behind {port}", key.mac, key.bridge)
            }
            Self::PutTable(key, _) => write!(f, "put table {}", key.name),
            Self::ChangeTable(key, _) => write!(f, "change table {}", key.name),
            Self::DeleteTable(key) => write!(f, "delete table {}", key.name),
        }
    }
}
