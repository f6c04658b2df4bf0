//! Values, keys and verdicts as bytes, and back.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::consts::*;
use crate::adapters::linux::netlink::{Attrs, bytes_at, parse, text_of, u32be_of};
use crate::dataplane::rules::{FieldType, Value, Verdict};
use crate::dataplane::state::Mac;

/// How many bytes a value of this kind has.
pub(super) fn length(kind: FieldType) -> usize {
    match kind {
        FieldType::V4 | FieldType::Mark => 4,
        FieldType::V6 | FieldType::Link => 16,
        FieldType::IpVersion
        | FieldType::Protocol
        | FieldType::IcmpType
        | FieldType::Icmpv6Type
        | FieldType::IcmpCode
        | FieldType::Icmpv6Code => 1,
        FieldType::Port | FieldType::EtherType => 2,
        FieldType::Mac => 6,
    }
}

/// The number that `nft` prints a value of this kind by.
pub(super) fn type_number(kind: FieldType) -> u32 {
    match kind {
        FieldType::IpVersion => 2,
        FieldType::V4 => 7,
        FieldType::V6 => 8,
        FieldType::Mac => 9,
        FieldType::EtherType => 10,
        FieldType::Protocol => 12,
        FieldType::Port => 13,
        FieldType::IcmpType => 14,
        FieldType::Mark => TYPE_MARK,
        FieldType::Icmpv6Type => 29,
        FieldType::IcmpCode => 32,
        FieldType::Icmpv6Code => 33,
        FieldType::Link => 41,
    }
}

const KINDS: [FieldType; 13] = [
    FieldType::IpVersion,
    FieldType::V4,
    FieldType::V6,
    FieldType::Mac,
    FieldType::EtherType,
    FieldType::Protocol,
    FieldType::Port,
    FieldType::IcmpType,
    FieldType::Mark,
    FieldType::Icmpv6Type,
    FieldType::IcmpCode,
    FieldType::Icmpv6Code,
    FieldType::Link,
];

/// The kinds of a key's parts, from the number of the whole.
pub(super) fn kinds_of(mut number: u32) -> Option<Vec<FieldType>> {
    let mut kinds = Vec::new();
    while number != 0 {
        let kind = KINDS.into_iter().find(|kind| type_number(*kind) == number & 0x3f)?;
        kinds.insert(0, kind);
        number >>= 6;
    }
    Some(kinds)
}

pub(super) fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::V4(address) => address.octets().to_vec(),
        Value::V6(address) => address.octets().to_vec(),
        Value::IpVersion(version) => vec![if *version == 4 { 2 } else { 10 }],
        Value::Protocol(number)
        | Value::IcmpType(number)
        | Value::Icmpv6Type(number)
        | Value::IcmpCode(number)
        | Value::Icmpv6Code(number) => vec![*number],
        Value::Port(number) | Value::EtherType(number) => number.to_be_bytes().to_vec(),
        Value::Mark(mark) => mark.to_ne_bytes().to_vec(),
        Value::Link(name) => {
            let mut bytes = name.as_str().as_bytes().to_vec();
            bytes.resize(16, 0);
            bytes
        }
        Value::Mac(mac) => mac.octets().to_vec(),
    }
}

pub(super) fn value(kind: FieldType, bytes: &[u8]) -> Option<Value> {
    let first = bytes.first().copied();
    Some(match kind {
        FieldType::V4 => Value::V4(Ipv4Addr::from(bytes_at::<4>(bytes, 0)?)),
        FieldType::V6 => Value::V6(Ipv6Addr::from(bytes_at::<16>(bytes, 0)?)),
        FieldType::IpVersion => match first? {
            2 => Value::IpVersion(4),
            10 => Value::IpVersion(6),
            _ => return None,
        },
        FieldType::Protocol => Value::Protocol(first?),
        FieldType::IcmpType => Value::IcmpType(first?),
        FieldType::Icmpv6Type => Value::Icmpv6Type(first?),
        FieldType::IcmpCode => Value::IcmpCode(first?),
        FieldType::Icmpv6Code => Value::Icmpv6Code(first?),
        FieldType::Port => Value::Port(u16::from_be_bytes(bytes_at(bytes, 0)?)),
        FieldType::EtherType => Value::EtherType(u16::from_be_bytes(bytes_at(bytes, 0)?)),
        FieldType::Mark => Value::Mark(u32::from_ne_bytes(bytes_at(bytes, 0)?)),
        FieldType::Link => {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            Value::Link(std::str::from_utf8(bytes.get(..end)?).ok()?.parse().ok()?)
        }
        FieldType::Mac => Value::Mac(Mac::new(bytes_at(bytes, 0)?)),
    })
}

/// Values one after the other; several are each filled up to four bytes.
pub(super) fn key<'a>(values: impl ExactSizeIterator<Item = &'a Value>) -> Vec<u8> {
    let several = values.len() > 1;
    let mut out = Vec::new();
    for value in values {
        out.extend_from_slice(&bytes(value));
        while several && !out.len().is_multiple_of(4) {
            out.push(0);
        }
    }
    out
}

/// The length of a key of these kinds.
pub(super) fn key_length(kinds: &[FieldType]) -> usize {
    match kinds {
        [one] => length(*one),
        several => several.iter().map(|kind| length(*kind).next_multiple_of(4)).sum(),
    }
}

/// The values in a key.
pub(super) fn values(kinds: &[FieldType], mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut found = Vec::new();
    for kind in kinds {
        found.push(value(*kind, bytes.get(..length(*kind))?)?);
        bytes = bytes.get(length(*kind).next_multiple_of(4).min(bytes.len())..)?;
    }
    Some(found)
}

/// The value after this one in the order of bytes; `None` after the last.
pub(super) fn after(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, carried) = byte.overflowing_add(1);
        *byte = sum;
        if !carried {
            return Some(next);
        }
    }
    None
}

/// The value before this one; `None` before the first.
pub(super) fn before(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        let (difference, borrowed) = byte.overflowing_sub(1);
        *byte = difference;
        if !borrowed {
            return Some(next);
        }
    }
    None
}

pub(super) fn data_value(bytes: &[u8]) -> Attrs {
    let mut data = Attrs::new();
    data.put(DATA_VALUE, bytes);
    data
}

pub(super) fn data_verdict(verdict: &Verdict) -> Attrs {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3_i32, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    let mut inner = Attrs::new();
    inner.put(VERDICT_CODE, &code.to_be_bytes());
    if let Some(chain) = chain {
        inner.text(VERDICT_CHAIN, chain.as_str());
    }
    let mut data = Attrs::new();
    data.nest(DATA_VERDICT, &inner);
    data
}

/// The verdict in a data attribute.
pub(super) fn verdict_of(data: &[u8]) -> Option<Verdict> {
    let data = parse(data);
    let inner = parse(data.get(&DATA_VERDICT)?);
    let chain = || text_of(&inner, VERDICT_CHAIN)?.parse().ok();
    match u32be_of(&inner, VERDICT_CODE)?.cast_signed() {
        0 => Some(Verdict::Drop),
        1 => Some(Verdict::Accept),
        -3 => chain().map(Verdict::Jump),
        -4 => chain().map(Verdict::Goto),
        -5 => Some(Verdict::Return),
        _ => None,
    }
}

/// The bytes in a data attribute.
pub(super) fn value_of(data: &[u8]) -> Option<Vec<u8>> {
    parse(data).get(&DATA_VALUE).map(|bytes| bytes.to_vec())
}
