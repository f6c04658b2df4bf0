//! Messages and attributes (RFC 3549).

use std::collections::BTreeMap;

/// Attributes, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Attrs(pub(in super::super) Vec<u8>);

const NESTED: u16 = 0x8000;

impl Attrs {
    pub(in super::super) fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute. One longer than 65,531 bytes cannot be said, and is cut.
    pub(in super::super) fn put(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let payload = payload.get(..payload.len().min(usize::from(u16::MAX) - 4)).unwrap_or_default();
        let length = u16::try_from(payload.len().saturating_add(4)).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(payload);
        self.pad();
        self
    }

    pub(in super::super) fn nest(&mut self, kind: u16, inner: &Self) -> &mut Self {
        self.put(kind | NESTED, &inner.0)
    }

    pub(in super::super) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    pub(in super::super) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    pub(in super::super) fn u32be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// A text with the zero byte that ends it.
    pub(in super::super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes)
    }

    fn pad(&mut self) {
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
    }
}

/// A message: its type, its flags, the fixed header of its family and its attributes.
#[derive(Debug, Clone)]
pub(in super::super) struct Message {
    pub(in super::super) kind: u16,
    pub(in super::super) flags: u16,
    pub(in super::super) body: Vec<u8>,
}

impl Message {
    pub(in super::super) fn new(kind: u16, flags: u16, header: &[u8], attrs: &Attrs) -> Self {
        let mut body = header.to_vec();
        while !body.len().is_multiple_of(4) {
            body.push(0);
        }
        body.extend_from_slice(&attrs.0);
        Self { kind, flags, body }
    }

    pub(super) fn write(&self, sequence: u32, out: &mut Vec<u8>) {
        let length = u32::try_from(self.body.len().saturating_add(16)).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&self.flags.to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&0_u32.to_ne_bytes());
        out.extend_from_slice(&self.body);
    }
}

/// Attributes by type; of several of one type the last counts.
pub(in super::super) type Parsed<'a> = BTreeMap<u16, &'a [u8]>;

/// All attributes in order, up to one whose length cannot be.
pub(super) fn each(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
        let [a, b, c, d] = *head;
        let kind = u16::from_ne_bytes([c, d]) & 0x3fff;
        let Some(length) = usize::from(u16::from_ne_bytes([a, b])).checked_sub(4) else { break };
        let Some(payload) = rest.get(..length) else { break };
        found.push((kind, payload));
        let padded = length.next_multiple_of(4).min(rest.len());
        bytes = rest.get(padded..).unwrap_or_default();
    }
    found
}

/// Attributes by type.
pub(in super::super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    each(bytes).into_iter().collect()
}

/// The elements of a list attribute, in order.
pub(in super::super) fn list(bytes: &[u8]) -> Vec<&[u8]> {
    each(bytes).into_iter().map(|(_, payload)| payload).collect()
}

pub(in super::super) fn u8_of(attrs: &Parsed<'_>, kind: u16) -> Option<u8> {
    exactly(attrs, kind).map(u8::from_ne_bytes)
}

/// A number has just its bytes: of another length it is another thing.
fn exactly<const N: usize>(attrs: &Parsed<'_>, kind: u16) -> Option<[u8; N]> {
    <[u8; N]>::try_from(*attrs.get(&kind)?).ok()
}

pub(in super::super) fn u32_of(attrs: &Parsed<'_>, kind: u16) -> Option<u32> {
    exactly(attrs, kind).map(u32::from_ne_bytes)
}

pub(in super::super) fn u32be_of(attrs: &Parsed<'_>, kind: u16) -> Option<u32> {
    exactly(attrs, kind).map(u32::from_be_bytes)
}

pub(in super::super) fn u16be_of(attrs: &Parsed<'_>, kind: u16) -> Option<u16> {
    exactly(attrs, kind).map(u16::from_be_bytes)
}

/// A text, without the zero byte that ends it.
pub(in super::super) fn text_of<'a>(attrs: &Parsed<'a>, kind: u16) -> Option<&'a str> {
    let bytes = attrs.get(&kind)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(bytes.get(..end)?).ok()
}

/// `N` bytes at `offset`.
pub(in super::super) fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}
