//! Named sets and maps. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{FieldType, Value, Verdict};
use crate::dataplane::state::pairs;

/// From one value to another of the same kind, both included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Interval {
    /// The first.
    pub from: Value,
    /// The last; the first again for a single value.
    pub to: Value,
}

impl Interval {
    /// From `from` to `to`, both included.
    pub fn new(from: Value, to: Value) -> Self {
        Self { from, to }
    }

    /// Whether it is a single value.
    pub fn is_single(&self) -> bool {
        self.from == self.to
    }

    /// Whether `value` is in it.
    pub fn contains(&self, value: &Value) -> bool {
        self.from.kind() == value.kind() && self.from <= *value && *value <= self.to
    }
}

impl From<Value> for Interval {
    fn from(value: Value) -> Self {
        Self { from: value.clone(), to: value }
    }
}

impl From<IpNet> for Interval {
    fn from(net: IpNet) -> Self {
        match net {
            IpNet::V4(net) => Self::new(Value::V4(net.network()), Value::V4(net.broadcast())),
            IpNet::V6(net) => Self::new(Value::V6(net.network()), Value::V6(net.broadcast())),
        }
    }
}

impl From<IpAddr> for Interval {
    fn from(address: IpAddr) -> Self {
        Value::from(address).into()
    }
}

impl From<Ipv4Addr> for Interval {
    fn from(address: Ipv4Addr) -> Self {
        Value::V4(address).into()
    }
}

impl From<Ipv6Addr> for Interval {
    fn from(address: Ipv6Addr) -> Self {
        Value::V6(address).into()
    }
}

/// What an element is found by: one interval for each field of the set's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SetKey(pub(crate) Vec<Interval>);

impl SetKey {
    /// A key of these parts.
    pub fn new(parts: impl IntoIterator<Item = Interval>) -> Self {
        Self(parts.into_iter().collect())
    }

    /// A key of single values.
    pub fn exact(values: impl IntoIterator<Item = Value>) -> Self {
        Self(values.into_iter().map(Interval::from).collect())
    }

    /// Its parts.
    pub fn parts(&self) -> &[Interval] {
        &self.0
    }

    /// Whether these values are all in it, in order.
    pub fn contains(&self, values: &[Value]) -> bool {
        self.0.len() == values.len() && self.0.iter().zip(values).all(|(part, value)| part.contains(value))
    }
}

/// What a map gives for an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DataType {
    /// Nothing: it is a set.
    Member,
    /// A verdict.
    Verdict,
    /// A mark.
    Mark,
    /// An IPv4 address and a port.
    V4Endpoint,
    /// An IPv6 address and a port.
    V6Endpoint,
}

/// What an element gives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Data {
    /// It is in the set.
    Member,
    /// What happens to the packet.
    Verdict(Verdict),
    /// A mark.
    Mark(u32),
    /// An address and a port, where packets are sent.
    Endpoint(IpAddr, u16),
}

impl Data {
    /// Its type.
    pub fn kind(&self) -> DataType {
        match self {
            Self::Member => DataType::Member,
            Self::Verdict(_) => DataType::Verdict,
            Self::Mark(_) => DataType::Mark,
            Self::Endpoint(IpAddr::V4(_), _) => DataType::V4Endpoint,
            Self::Endpoint(IpAddr::V6(_), _) => DataType::V6Endpoint,
        }
    }
}

/// A named set or map.
///
/// Without intervals a lookup costs the same for any number of elements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NamedSet {
    /// The kinds of the key's parts, 1 to 5 of them.
    pub key: Vec<FieldType>,
    /// Whether elements may be intervals. Two elements never overlap.
    pub intervals: bool,
    /// What elements give.
    pub data: DataType,
    /// The elements.
    #[serde(with = "pairs")]
    pub elements: BTreeMap<SetKey, Data>,
}

impl NamedSet {
    /// An empty set or map of single values.
    pub fn new(key: impl IntoIterator<Item = FieldType>, data: DataType) -> Self {
        Self { key: key.into_iter().collect(), intervals: false, data, elements: BTreeMap::new() }
    }

    /// The same, of intervals.
    #[must_use]
    pub fn with_intervals(mut self) -> Self {
        self.intervals = true;
        self
    }

    /// The same, with one element more.
    #[must_use]
    pub fn with(mut self, key: SetKey, data: Data) -> Self {
        self.elements.insert(key, data);
        self
    }

    /// What it gives for these values.
    pub fn get(&self, values: &[Value]) -> Option<&Data> {
        if self.intervals {
            return self.elements.iter().find(|(key, _)| key.contains(values)).map(|(_, data)| data);
        }
        self.elements.get(&SetKey::exact(values.iter().cloned()))
    }
}
