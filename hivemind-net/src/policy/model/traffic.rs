//! What a packet is, to a policy. No I/O, no clock, no async.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::addr::IpFamily;

/// An IP protocol, by its number (IANA, "Protocol Numbers"). Reads and prints `TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPv6`,
/// or the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Protocol(u8);

const NAMED: [(Protocol, &str); 5] = [
    (Protocol::TCP, "TCP"),
    (Protocol::UDP, "UDP"),
    (Protocol::SCTP, "SCTP"),
    (Protocol::ICMP, "ICMP"),
    (Protocol::ICMPV6, "ICMPv6"),
];

impl Protocol {
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// SCTP.
    pub const SCTP: Self = Self(132);
    /// ICMP, which is of IPv4 alone.
    pub const ICMP: Self = Self(1);
    /// ICMPv6, which is of IPv6 alone.
    pub const ICMPV6: Self = Self(58);

    /// The protocol of this number.
    pub const fn from_number(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether its packets have ports that policies look at: TCP, UDP and SCTP.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }

    /// Whether it is ICMP or ICMPv6.
    pub fn is_icmp(self) -> bool {
        matches!(self, Self::ICMP | Self::ICMPV6)
    }

    /// The one family that has it, if not both do.
    pub fn family(self) -> Option<IpFamily> {
        match self {
            Self::ICMP => Some(IpFamily::V4),
            Self::ICMPV6 => Some(IpFamily::V6),
            _ => None,
        }
    }
}

/// A text is no [`Protocol`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("protocol {0:?}: give TCP, UDP, SCTP, ICMP, ICMPv6, or a number of 0 to 255")]
pub struct InvalidProtocol(String);

impl FromStr for Protocol {
    type Err = InvalidProtocol;
    fn from_str(text: &str) -> Result<Self, InvalidProtocol> {
        let named = NAMED.iter().find(|(_, name)| *name == text).map(|(protocol, _)| *protocol);
        let number = || {
            let digits =
                text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
            text.parse().ok().filter(|_| digits).map(Self)
        };
        named.or_else(number).ok_or_else(|| InvalidProtocol(text.chars().take(32).collect()))
    }
}

impl TryFrom<String> for Protocol {
    type Error = InvalidProtocol;
    fn try_from(text: String) -> Result<Self, InvalidProtocol> {
        text.parse()
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        protocol.to_string()
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|(protocol, _)| protocol == self) {
            Some((_, name)) => f.pad(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol({self})")
    }
}

/// The first packet of a connection, without its addresses: a protocol, with the destination port or the ICMP type
/// and code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(Protocol, u16)", into = "(Protocol, u16)")]
pub struct Traffic {
    protocol: Protocol,
    /// The port; or the ICMP type in the upper and the code in the lower byte; or 0.
    number: u16,
}

impl Traffic {
    /// To a TCP port.
    pub const fn tcp(port: u16) -> Self {
        Self { protocol: Protocol::TCP, number: port }
    }

    /// To a UDP port.
    pub const fn udp(port: u16) -> Self {
        Self { protocol: Protocol::UDP, number: port }
    }

    /// To an SCTP port.
    pub const fn sctp(port: u16) -> Self {
        Self { protocol: Protocol::SCTP, number: port }
    }

    /// An ICMP message.
    pub const fn icmp(kind: u8, code: u8) -> Self {
        Self { protocol: Protocol::ICMP, number: u16::from_be_bytes([kind, code]) }
    }

    /// An ICMPv6 message.
    pub const fn icmp_v6(kind: u8, code: u8) -> Self {
        Self { protocol: Protocol::ICMPV6, number: u16::from_be_bytes([kind, code]) }
    }

    /// A packet of `protocol`; `number` is the port, or the ICMP type times 256 and the code, and is dropped if the
    /// protocol has neither.
    pub fn new(protocol: Protocol, number: u16) -> Self {
        let counts = protocol.has_ports() || protocol.is_icmp();
        Self { protocol, number: if counts { number } else { 0 } }
    }

    /// Its protocol.
    pub const fn protocol(self) -> Protocol {
        self.protocol
    }

    /// Its port, or its ICMP type times 256 and its code, or 0.
    pub const fn number(self) -> u16 {
        self.number
    }

    /// The whole of it as one number, ordered by protocol first.
    pub(crate) fn key(self) -> u32 {
        (u32::from(self.protocol.0) << 16) | u32::from(self.number)
    }

    /// Whether `family` has such packets.
    pub fn fits(self, family: IpFamily) -> bool {
        self.protocol.family().is_none_or(|only| only == family)
    }

    /// Whether it is what only routers send to hosts: an ICMPv6 router advertisement or a redirect.
    pub fn is_from_routers(self) -> bool {
        let [kind, _] = self.number.to_be_bytes();
        self.protocol == Protocol::ICMPV6 && matches!(kind, 134 | 137)
    }

    /// Whether IP itself needs it, so that no policy may drop it (RFC 4890, sections 4.3.1 and 4.4.1).
    ///
    /// ICMPv6: the errors 1 to 4, among them Packet Too Big; multicast listener discovery 130 to 132 and 143;
    /// neighbour and router discovery 133 to 137, 141 and 142; secure discovery 148 and 149; router discovery for
    /// multicast 151 to 153. ICMP: the errors 3, among them "fragmentation needed", 11 and 12 (RFC 1191, RFC 1812).
    /// Echo is not among them: policies decide.
    pub fn is_essential(self) -> bool {
        let [kind, _] = self.number.to_be_bytes();
        match self.protocol {
            Protocol::ICMPV6 => {
                matches!(kind, 1..=4 | 130..=137 | 141..=143 | 148 | 149 | 151..=153)
            }
            Protocol::ICMP => matches!(kind, 3 | 11 | 12),
            _ => false,
        }
    }
}

impl From<(Protocol, u16)> for Traffic {
    fn from((protocol, number): (Protocol, u16)) -> Self {
        Self::new(protocol, number)
    }
}

impl From<Traffic> for (Protocol, u16) {
    fn from(traffic: Traffic) -> Self {
        (traffic.protocol, traffic.number)
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, code] = self.number.to_be_bytes();
        match self.protocol {
            protocol if protocol.is_icmp() => write!(f, "{protocol} type {kind} code {code}"),
            protocol if protocol.has_ports() => write!(f, "{protocol} {}", self.number),
            protocol => write!(f, "protocol {protocol}"),
        }
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traffic({self})")
    }
}
