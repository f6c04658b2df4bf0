//! Links: bridges, veth pairs, VXLAN tunnels, dummies. No I/O, no clock, no async.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{LinkName, Mac, Netns};

/// One link, whole: nothing is left for the kernel to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Link {
    /// What it is. Another kind means another link: it is made anew.
    pub kind: LinkKind,
    /// Its own address.
    pub mac: Mac,
    /// The largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether it carries traffic.
    pub up: bool,
    /// The bridge that it is a port of.
    pub master: Option<LinkName>,
    /// How it behaves as a port; the default if it is none.
    pub port: PortSettings,
    /// Whether the kernel gives it a link-local IPv6 address by itself.
    ///
    /// False for ports of bridges, which need none.
    pub link_local: bool,
}

impl Link {
    /// A link that is down, no port, and has a link-local address as soon as it is up.
    pub fn new(kind: LinkKind, mac: Mac, mtu: u32) -> Self {
        Self { kind, mac, mtu, up: false, master: None, port: PortSettings::default(), link_local: true }
    }

    /// One end of a veth pair, for [`KernelState::add_veth`](super::KernelState::add_veth), which says where the other is.
    pub fn veth_end(mac: Mac, mtu: u32) -> Self {
        Self::new(LinkKind::Dummy, mac, mtu)
    }

    /// The same, up.
    #[must_use]
    pub fn with_up(mut self) -> Self {
        self.up = true;
        self
    }

    /// The same, as a port of `master`, without a link-local address of its own.
    #[must_use]
    pub fn with_master(mut self, master: LinkName, port: PortSettings) -> Self {
        self.master = Some(master);
        self.port = port;
        self.link_local = false;
        self
    }

    /// The same, with or without a link-local address that the kernel makes.
    #[must_use]
    pub fn with_link_local(mut self, link_local: bool) -> Self {
        self.link_local = link_local;
        self
    }
}

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LinkKind {
    /// A bridge without spanning tree, without VLANs and without multicast snooping.
    Bridge,
    /// One end of a pair; the other is a link as well, in `peer_netns`, and points back.
    Veth {
        /// The namespace of the other end.
        peer_netns: Netns,
        /// The name of the other end.
        peer: LinkName,
    },
    /// A VXLAN tunnel end.
    Vxlan(Vxlan),
    /// A link that goes nowhere, to hold addresses. Not every kernel has it.
    Dummy,
    /// Ours by its mark, and yet nothing that we make, as read back from a kernel: one end of a pair whose other end is
    /// in a namespace that is not known, for example. It is never wanted, so it goes, or gives way to what is.
    Unknown(String),
}

/// A VXLAN tunnel end (RFC 7348) that never learns: its remotes are [`remotes`](super::NetnsState::remotes) alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Vxlan {
    /// The network identifier, below 2^24.
    pub vni: u32,
    /// The address of this end; its family is the underlay's.
    pub local: IpAddr,
    /// The link below it, which may be foreign: the uplink. Without one the kernel knows no MTU to check against.
    pub dev: Option<LinkName>,
    /// The namespace whose network carries the tunnel, where its outer packets come and go: the link is made there and
    /// moved to where it belongs. The link's own namespace if none.
    #[serde(default)]
    pub underlay: Option<Netns>,
    /// The UDP port, usually 4789.
    pub port: u16,
    /// The hop limit of outer packets; 0 takes the kernel's.
    pub ttl: u8,
    /// Whether it looks at what it receives to learn where senders are.
    pub learning: bool,
    /// Whether UDP checksums are zero over IPv6 (RFC 6935), sent and accepted.
    pub zero_checksum6: bool,
    /// Whether it answers ARP and neighbour solicitations from its own neighbour table.
    pub proxy: bool,
}

impl Vxlan {
    /// A tunnel end on port 4789 that does not learn, with checksums.
    pub fn new(vni: u32, local: IpAddr) -> Self {
        Self {
            vni,
            local,
            dev: None,
            underlay: None,
            port: 4789,
            ttl: 0,
            learning: false,
            zero_checksum6: false,
            proxy: false,
        }
    }

    /// The same, over `dev`.
    #[must_use]
    pub fn with_dev(mut self, dev: LinkName) -> Self {
        self.dev = Some(dev);
        self
    }

    /// The same, carried by the network of `netns`, whatever namespace the link is in.
    #[must_use]
    pub fn with_underlay(mut self, netns: Netns) -> Self {
        self.underlay = Some(netns);
        self
    }

    /// The same, on another UDP port.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The same, with zero checksums over IPv6.
    #[must_use]
    pub fn with_zero_checksum6(mut self) -> Self {
        self.zero_checksum6 = true;
        self
    }

    /// The same, answering for its neighbours.
    #[must_use]
    pub fn with_proxy(mut self) -> Self {
        self.proxy = true;
        self
    }
}

/// How a link behaves as a port of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PortSettings {
    /// Whether the bridge learns MACs behind it.
    pub learning: bool,
    /// Whether frames for unknown unicast MACs are sent to it.
    pub flood: bool,
    /// Whether the bridge answers ARP and neighbour solicitations from its own neighbour table instead of sending
    /// them to this port.
    pub neigh_suppress: bool,
    /// Whether it reaches only ports that are not isolated.
    pub isolated: bool,
    /// Whether a frame may leave by the port that it came in by.
    pub hairpin: bool,
}

impl Default for PortSettings {
    fn default() -> Self {
        Self { learning: true, flood: true, neigh_suppress: false, isolated: false, hairpin: false }
    }
}

impl PortSettings {
    /// For the VXLAN port of a bridge whose neighbours are all known: learns nothing, floods nothing, answers itself.
    pub fn static_tunnel() -> Self {
        Self { learning: false, flood: false, neigh_suppress: true, ..Self::default() }
    }
}
