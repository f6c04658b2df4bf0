//! Which traffic a rule is about. No I/O, no clock, no async.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::forms::PortForm;
use super::profile::NamedPorts;
use super::{PortName, Protocol, Traffic};

/// One of a rule's ports: any traffic, a protocol, ports of it, or an ICMP type.
///
/// ```
/// use hivemind_net::policy::{PortMatch, Protocol, Traffic};
///
/// let web = PortMatch::range(Protocol::TCP, 8000, 8099)?;
/// assert!(web.covers(Traffic::tcp(8080), &Default::default()));
/// assert!(!web.covers(Traffic::udp(8080), &Default::default()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "PortForm", into = "PortForm")]
pub struct PortMatch(pub(super) Kind);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Any,
    /// The first and the last [`Traffic::number`] of a protocol.
    Numbers(Protocol, u16, u16),
    Named(NamedPort),
}

/// A port that each workload numbers for itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct NamedPort {
    /// The protocol; a port of that name with another one is not meant.
    pub protocol: Protocol,
    /// The name.
    pub name: PortName,
}

/// Why there are no such ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPort {
    /// Ports of a protocol that has none.
    #[error("{0} has no ports: leave the port out, or give TCP, UDP or SCTP")]
    NoPorts(Protocol),
    /// A type for what is not ICMP.
    #[error("{0} has no types: give ICMP or ICMPv6 with a type")]
    NoTypes(Protocol),
    /// Port 0.
    #[error("port 0 is none: give 1 to 65535")]
    Zero,
    /// The last port comes before the first.
    #[error("port range {first} to {last}: endPort must not be less than port")]
    Backwards {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// A range without a number to begin with.
    #[error("endPort {0} needs a numeric port to begin the range")]
    EndWithoutStart(u16),
    /// An ICMP code without a type.
    #[error("ICMP code {0} needs a type")]
    CodeWithoutType(u8),
    /// Port and type at once.
    #[error("give a port or an ICMP type, not both")]
    PortAndType,
    /// Something beside `any`.
    #[error("protocol any takes neither port nor type")]
    AnyWithMore,
}

impl PortMatch {
    /// Any traffic of any protocol.
    pub fn any() -> Self {
        Self(Kind::Any)
    }

    /// All traffic of `protocol`.
    pub fn protocol(protocol: Protocol) -> Self {
        Self(Kind::Numbers(protocol, 0, u16::MAX))
    }

    /// One port.
    ///
    /// # Errors
    /// [`InvalidPort`]: a protocol without ports, or port 0.
    pub fn port(protocol: Protocol, port: u16) -> Result<Self, InvalidPort> {
        Self::range(protocol, port, port)
    }

    /// The ports from `first` to `last`, both included.
    ///
    /// # Errors
    /// [`InvalidPort`]: a protocol without ports, port 0, or `last` before `first`.
    pub fn range(protocol: Protocol, first: u16, last: u16) -> Result<Self, InvalidPort> {
        if !protocol.has_ports() {
            return Err(InvalidPort::NoPorts(protocol));
        }
        if first == 0 {
            return Err(InvalidPort::Zero);
        }
        if last < first {
            return Err(InvalidPort::Backwards { first, last });
        }
        Ok(Self(Kind::Numbers(protocol, first, last)))
    }

    /// The port that the receiving workload calls `name`; whoever has no such port is not meant.
    ///
    /// # Errors
    /// [`InvalidPort::NoPorts`]: the protocol has none.
    pub fn named(protocol: Protocol, name: PortName) -> Result<Self, InvalidPort> {
        if !protocol.has_ports() {
            return Err(InvalidPort::NoPorts(protocol));
        }
        Ok(Self(Kind::Named(NamedPort { protocol, name })))
    }

    /// ICMP or ICMPv6 messages of type `kind`, and of `code` or of any.
    ///
    /// # Errors
    /// [`InvalidPort::NoTypes`]: the protocol is neither.
    pub fn icmp(protocol: Protocol, kind: u8, code: Option<u8>) -> Result<Self, InvalidPort> {
        if !protocol.is_icmp() {
            return Err(InvalidPort::NoTypes(protocol));
        }
        let (first, last) = code.map_or((0, u8::MAX), |code| (code, code));
        let number = |code| u16::from_be_bytes([kind, code]);
        Ok(Self(Kind::Numbers(protocol, number(first), number(last))))
    }

    /// Whether it is about `traffic` to a workload with the ports `receiver`.
    pub fn covers(&self, traffic: Traffic, receiver: &NamedPorts) -> bool {
        match &self.0 {
            Kind::Any => true,
            Kind::Numbers(protocol, first, last) => {
                traffic.protocol() == *protocol && (*first..=*last).contains(&traffic.number())
            }
            Kind::Named(NamedPort { protocol, name }) => {
                traffic.protocol() == *protocol && receiver.number(*protocol, name) == Some(traffic.number())
            }
        }
    }

    /// The named port, if it is one.
    pub(crate) fn name(&self) -> Option<&NamedPort> {
        match &self.0 {
            Kind::Named(named) => Some(named),
            Kind::Any | Kind::Numbers(..) => None,
        }
    }

    /// The first and the last [`Traffic::key`], unless it is a named port.
    pub(crate) fn keys(&self) -> Option<(u32, u32)> {
        match self.0 {
            Kind::Any => Some((0, 0x00ff_ffff)),
            Kind::Numbers(protocol, first, last) => {
                let base = u32::from(protocol.number()) << 16;
                Some((base | u32::from(first), base | u32::from(last)))
            }
            Kind::Named(_) => None,
        }
    }
}

impl fmt::Display for PortMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Any => f.pad("any traffic"),
            Kind::Numbers(protocol, 0, u16::MAX) => write!(f, "{protocol}"),
            Kind::Numbers(protocol, first, last) if protocol.is_icmp() => {
                let ([kind, low], [_, high]) = (first.to_be_bytes(), last.to_be_bytes());
                write!(f, "{protocol} type {kind}")?;
                if low == high { write!(f, " code {low}") } else { Ok(()) }
            }
            Kind::Numbers(protocol, first, last) if first == last => write!(f, "{protocol} {first}"),
            Kind::Numbers(protocol, first, last) => write!(f, "{protocol} {first}-{last}"),
            Kind::Named(NamedPort { protocol, name }) => write!(f, "{protocol} {name}"),
        }
    }
}
