//! Addresses, routes and neighbours. No I/O, no clock, no async.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{LinkName, Mac};

/// The number of the routing table that is asked by default.
pub const MAIN_TABLE: u32 = 254;

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AddressKey {
    /// The link, which may be foreign.
    pub dev: LinkName,
    /// The address.
    pub address: IpAddr,
    /// How many leading bits are the same for everybody on the link.
    pub prefix_len: u8,
}

impl AddressKey {
    /// `address`/`prefix_len` on `dev`.
    pub fn new(dev: LinkName, address: IpAddr, prefix_len: u8) -> Self {
        Self { dev, address, prefix_len }
    }
}

/// How an address is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Address {
    /// Whether the kernel puts no route for the prefix (IPv6 and IPv4).
    pub no_prefix_route: bool,
}

impl Address {
    /// An address whose prefix is on the link. Duplicate address detection is always off: the allocator
    /// guarantees that it is unique, and detection would make it useless for more than a second.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, without a route for its prefix.
    #[must_use]
    pub fn without_prefix_route(mut self) -> Self {
        self.no_prefix_route = true;
        self
    }
}

/// Which packets a route is for: one route of ours for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RouteKey {
    /// The routing table; [`MAIN_TABLE`] unless there is a rule for another.
    pub table: u32,
    /// Destinations; its host bits are zero.
    pub destination: IpNet,
}

impl RouteKey {
    /// Packets to `destination`, in the main table.
    pub fn new(destination: IpNet) -> Self {
        Self { table: MAIN_TABLE, destination: destination.trunc() }
    }

    /// The same, in another table.
    #[must_use]
    pub fn with_table(mut self, table: u32) -> Self {
        self.table = table;
        self
    }
}

/// Where packets go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Route {
    /// Where to.
    pub target: RouteTarget,
    /// The source address that the machine itself prefers on this route.
    pub source: Option<IpAddr>,
    /// The largest packet on it in bytes, if smaller than the link's.
    pub mtu: Option<u32>,
}

impl Route {
    /// To neighbours on `dev` themselves.
    pub fn on_link(dev: LinkName) -> Self {
        Self { target: RouteTarget::Link { dev, gateway: None, onlink: false }, source: None, mtu: None }
    }

    /// To `gateway`, which is a neighbour on `dev`.
    ///
    /// With `onlink` the kernel takes that for granted, although no address of `dev` says so.
    pub fn via(dev: LinkName, gateway: IpAddr, onlink: bool) -> Self {
        Self { target: RouteTarget::Link { dev, gateway: Some(gateway), onlink }, source: None, mtu: None }
    }

    /// Nowhere: dropped in silence.
    pub fn blackhole() -> Self {
        Self { target: RouteTarget::Blackhole, source: None, mtu: None }
    }

    /// Nowhere: senders are told.
    pub fn unreachable() -> Self {
        Self { target: RouteTarget::Unreachable, source: None, mtu: None }
    }

    /// The same, with a preferred source address.
    #[must_use]
    pub fn with_source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// The same, with an MTU in bytes.
    #[must_use]
    pub fn with_mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// The link that it leaves by.
    pub fn dev(&self) -> Option<&LinkName> {
        match &self.target {
            RouteTarget::Link { dev, .. } => Some(dev),
            RouteTarget::Blackhole | RouteTarget::Unreachable => None,
        }
    }
}

/// What becomes of the packets of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RouteTarget {
    /// They leave by a link.
    Link {
        /// The link, which may be foreign.
        dev: LinkName,
        /// The next hop; without one the destination is a neighbour.
        gateway: Option<IpAddr>,
        /// Whether the next hop is taken for a neighbour without proof.
        onlink: bool,
    },
    /// They are dropped.
    Blackhole,
    /// They are dropped, and the sender gets an ICMP error.
    Unreachable,
}

/// A neighbour on a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NeighbourKey {
    /// The link, which may be foreign.
    pub dev: LinkName,
    /// The neighbour's address.
    pub address: IpAddr,
}

impl NeighbourKey {
    /// `address` on `dev`.
    pub fn new(dev: LinkName, address: IpAddr) -> Self {
        Self { dev, address }
    }
}

/// What is known about a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Neighbour {
    /// Its MAC, for good.
    Permanent(Mac),
    /// It is elsewhere: this machine answers for it (proxy ARP, NDP proxy).
    Proxy,
}
