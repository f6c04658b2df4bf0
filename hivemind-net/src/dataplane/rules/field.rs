//! What a rule can look at, and the values that it can have. No I/O, no clock, no async.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::dataplane::state::{LinkName, Mac};

/// Something about a packet.
///
/// A rule that looks at a field of one IP version does not match packets of the other; one that looks at the type
/// or the code of an ICMP message does not match other protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Field {
    /// IPv4 source address.
    V4Source,
    /// IPv4 destination address.
    V4Destination,
    /// IPv6 source address.
    V6Source,
    /// IPv6 destination address.
    V6Destination,
    /// The IP version.
    IpVersion,
    /// The protocol above IP, extension headers skipped.
    Protocol,
    /// Source port (TCP, UDP, SCTP). The rule must make sure of the protocol, in the same key or before.
    SourcePort,
    /// Destination port, likewise.
    DestinationPort,
    /// Type of an ICMP message.
    IcmpType,
    /// Type of an ICMPv6 message.
    Icmpv6Type,
    /// Code of an ICMP message.
    IcmpCode,
    /// Code of an ICMPv6 message.
    Icmpv6Code,
    /// Name of the link that it came in by.
    InLink,
    /// Name of the link that it leaves by.
    OutLink,
    /// The mark that earlier rules gave it.
    Mark,
    /// Ethernet source.
    MacSource,
    /// Ethernet destination.
    MacDestination,
    /// Ethernet type, such as 0x0806 for ARP.
    EtherType,
    /// The sender's address in an ARP packet.
    ArpSender,
}

impl Field {
    /// What kind of value it has.
    pub fn kind(self) -> FieldType {
        match self {
            Self::V4Source | Self::V4Destination | Self::ArpSender => FieldType::V4,
            Self::V6Source | Self::V6Destination => FieldType::V6,
            Self::IpVersion => FieldType::IpVersion,
            Self::Protocol => FieldType::Protocol,
            Self::SourcePort | Self::DestinationPort => FieldType::Port,
            Self::IcmpType => FieldType::IcmpType,
            Self::Icmpv6Type => FieldType::Icmpv6Type,
            Self::IcmpCode => FieldType::IcmpCode,
            Self::Icmpv6Code => FieldType::Icmpv6Code,
            Self::InLink | Self::OutLink => FieldType::Link,
            Self::Mark => FieldType::Mark,
            Self::MacSource | Self::MacDestination => FieldType::Mac,
            Self::EtherType => FieldType::EtherType,
        }
    }
}

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FieldType {
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// An IP version.
    IpVersion,
    /// An IP protocol number.
    Protocol,
    /// A port.
    Port,
    /// A type of ICMP message.
    IcmpType,
    /// A type of ICMPv6 message.
    Icmpv6Type,
    /// A code of ICMP message.
    IcmpCode,
    /// A code of ICMPv6 message.
    Icmpv6Code,
    /// A packet mark.
    Mark,
    /// The name of a link.
    Link,
    /// A MAC address.
    Mac,
    /// An Ethernet type.
    EtherType,
}

impl FieldType {
    /// Whether there are intervals of it: the kernel keeps marks and names of links in an order of its own.
    pub fn is_ordered(self) -> bool {
        !matches!(self, Self::Mark | Self::Link | Self::IpVersion)
    }
}

/// A value that a field can have.
///
/// The order within one kind is the order of the bytes on the wire; marks are ordered as numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Value {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
    /// 4 or 6.
    IpVersion(u8),
    /// An IP protocol number: 6 is TCP, 17 UDP, 132 SCTP, 1 ICMP, 58 ICMPv6.
    Protocol(u8),
    /// A port.
    Port(u16),
    /// A type of ICMP message.
    IcmpType(u8),
    /// A type of ICMPv6 message.
    Icmpv6Type(u8),
    /// A code of ICMP message.
    IcmpCode(u8),
    /// A code of ICMPv6 message.
    Icmpv6Code(u8),
    /// A packet mark, such as the identity of the sender.
    Mark(u32),
    /// The name of a link.
    Link(LinkName),
    /// A MAC address.
    Mac(Mac),
    /// An Ethernet type.
    EtherType(u16),
}

impl Value {
    /// Its kind.
    pub fn kind(&self) -> FieldType {
        match self {
            Self::V4(_) => FieldType::V4,
            Self::V6(_) => FieldType::V6,
            Self::IpVersion(_) => FieldType::IpVersion,
            Self::Protocol(_) => FieldType::Protocol,
            Self::Port(_) => FieldType::Port,
            Self::IcmpType(_) => FieldType::IcmpType,
            Self::Icmpv6Type(_) => FieldType::Icmpv6Type,
            Self::IcmpCode(_) => FieldType::IcmpCode,
            Self::Icmpv6Code(_) => FieldType::Icmpv6Code,
            Self::Mark(_) => FieldType::Mark,
            Self::Link(_) => FieldType::Link,
            Self::Mac(_) => FieldType::Mac,
            Self::EtherType(_) => FieldType::EtherType,
        }
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}
