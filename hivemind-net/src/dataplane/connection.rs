//! Connections that a kernel keeps track of. No I/O, no clock, no async.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A connection, by the first packet of it.
///
/// The packet rules that say `established` let its packets pass as long as the kernel remembers it, whatever other rules
/// say by now. Once it is forgotten, its next packet is judged as the first of a new one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Connection {
    /// Its zone; 0 unless rules put it into another.
    pub zone: u16,
    /// Who opened it.
    pub source: IpAddr,
    /// Who got it.
    pub destination: IpAddr,
    /// The protocol above IP.
    pub protocol: u8,
    /// The opener's port; the identifier of an ICMP echo.
    pub source_port: u16,
    /// The other's port; type and code of an ICMP message, the type in the upper byte.
    pub destination_port: u16,
    /// Who gets its packets really, if rules translated the destination: the address and the port.
    #[serde(default)]
    pub translated: Option<(IpAddr, u16)>,
}

impl Connection {
    /// A connection in zone 0, without ports.
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        Self { zone: 0, source, destination, protocol, source_port: 0, destination_port: 0, translated: None }
    }

    /// The same, with ports.
    #[must_use]
    pub fn with_ports(mut self, source: u16, destination: u16) -> Self {
        self.source_port = source;
        self.destination_port = destination;
        self
    }

    /// The same, whose packets rules send to another address and port.
    #[must_use]
    pub fn with_translated(mut self, address: IpAddr, port: u16) -> Self {
        self.translated = Some((address, port));
        self
    }

    /// The address and the port that its packets arrive at: what policies judge.
    pub fn arrives_at(&self) -> (IpAddr, u16) {
        self.translated.unwrap_or((self.destination, self.destination_port))
    }
}
