//! What rules can see of a packet. No I/O, no clock, no async.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Field, Value};
use crate::dataplane::state::{LinkName, Mac};

/// What the kernel knows of the connection that a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ConnectionState {
    /// It belongs to none that could be.
    Invalid,
    /// Packets went both ways already.
    Established,
    /// An error about one that is established, or its child.
    Related,
    /// The first of it.
    New,
    /// Rules exempted it.
    Untracked,
}

/// A packet as rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RulePacket {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The protocol above IP.
    pub protocol: u8,
    /// Source port; the identifier of an ICMP echo.
    pub source_port: u16,
    /// Destination port; meaningless for ICMP.
    pub destination_port: u16,
    /// The type of an ICMP or ICMPv6 message.
    pub icmp_type: u8,
    /// Its code.
    pub icmp_code: u8,
    /// The link that it came in by.
    pub in_link: Option<LinkName>,
    /// The link that it leaves by.
    pub out_link: Option<LinkName>,
    /// Its mark.
    pub mark: u32,
    /// Its Ethernet source and destination.
    pub macs: Option<(Mac, Mac)>,
    /// The state of its connection.
    pub connection: ConnectionState,
    /// Stands for the counter, the chance or the hash by which the kernel chooses: the choice is its remainder.
    pub draw: u32,
}

impl RulePacket {
    /// The first packet of a connection.
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        Self {
            source,
            destination,
            protocol,
            source_port: 0,
            destination_port: 0,
            icmp_type: 0,
            icmp_code: 0,
            in_link: None,
            out_link: None,
            mark: 0,
            macs: None,
            connection: ConnectionState::New,
            draw: 0,
        }
    }

    /// The same, for which the kernel draws this number where it chooses.
    #[must_use]
    pub fn with_draw(mut self, draw: u32) -> Self {
        self.draw = draw;
        self
    }

    /// The same, with ports.
    #[must_use]
    pub fn with_ports(mut self, source: u16, destination: u16) -> Self {
        self.source_port = source;
        self.destination_port = destination;
        self
    }

    /// The same, as an ICMP message of this type.
    #[must_use]
    pub fn with_icmp_type(mut self, icmp_type: u8) -> Self {
        self.icmp_type = icmp_type;
        self
    }

    /// The same, as an ICMP message with this code.
    #[must_use]
    pub fn with_icmp_code(mut self, icmp_code: u8) -> Self {
        self.icmp_code = icmp_code;
        self
    }

    /// The same, in this connection state.
    #[must_use]
    pub fn with_connection(mut self, connection: ConnectionState) -> Self {
        self.connection = connection;
        self
    }

    /// The value of a field; `None` if the packet has no such field.
    pub fn value(&self, field: Field) -> Option<Value> {
        Some(match field {
            Field::V4Source | Field::V6Source => address(field, self.source)?,
            Field::V4Destination | Field::V6Destination => address(field, self.destination)?,
            Field::IpVersion => Value::IpVersion(if self.source.is_ipv4() { 4 } else { 6 }),
            Field::Protocol => Value::Protocol(self.protocol),
            Field::SourcePort => Value::Port(self.source_port),
            Field::DestinationPort => Value::Port(self.destination_port),
            Field::IcmpType if self.protocol == 1 => Value::IcmpType(self.icmp_type),
            Field::Icmpv6Type if self.protocol == 58 => Value::Icmpv6Type(self.icmp_type),
            Field::IcmpCode if self.protocol == 1 => Value::IcmpCode(self.icmp_code),
            Field::Icmpv6Code if self.protocol == 58 => Value::Icmpv6Code(self.icmp_code),
            Field::InLink => Value::Link(self.in_link.clone()?),
            Field::OutLink => Value::Link(self.out_link.clone()?),
            Field::Mark => Value::Mark(self.mark),
            Field::MacSource => Value::Mac(self.macs?.0),
            Field::MacDestination => Value::Mac(self.macs?.1),
            Field::EtherType => Value::EtherType(if self.source.is_ipv4() { 0x0800 } else { 0x86dd }),
            Field::IcmpType | Field::Icmpv6Type | Field::IcmpCode | Field::Icmpv6Code | Field::ArpSender => {
                return None;
            }
        })
    }
}

fn address(field: Field, address: IpAddr) -> Option<Value> {
    let value = Value::from(address);
    (value.kind() == field.kind()).then_some(value)
}
