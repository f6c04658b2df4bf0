//! What is kept of an adoption: how far it is, and what was where before. No I/O, no clock, no async.

use hivemind_core::store::{Key, Revision};
use hivemind_core::{Collection, Error, ErrorKind, RequestId, Result, Stored, TenantRef};
use serde::{Deserialize, Serialize};

use super::{AdoptionPhase, AdoptionRule, LeftBehind};

/// Bytes as text: as they are if they are text, else in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Raw {
    Text(String),
    Hex(String),
}

impl Raw {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    /// How many bytes its JSON has, at most.
    pub(super) fn cost(bytes: &[u8]) -> usize {
        let escaped = |byte: &u8| match byte {
            b'"' | b'\\' => 2,
            0..=0x1f | 0x7f => 6,
            _ => 1,
        };
        let text = std::str::from_utf8(bytes).is_ok();
        20 + if text { bytes.iter().map(escaped).sum() } else { 2 * bytes.len() }
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let corrupt =
            || Error::new(ErrorKind::Corrupt, "adoption", "the journal holds no hexadecimal digits");
        let hex = match self {
            Self::Text(text) => return Ok(text.clone().into_bytes()),
            Self::Hex(hex) => hex.as_bytes(),
        };
        let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        };
        hex.chunks(2).map(|pair| byte(pair).ok_or_else(corrupt)).collect()
    }

    pub(super) fn key(&self) -> Result<Key> {
        Key::from_bytes(&self.bytes()?).map_err(|e| Error::of(ErrorKind::Corrupt, "adoption", e))
    }
}

/// How far an adoption is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) rules: Vec<AdoptionRule>,
    /// What was put later is not touched.
    pub(super) planned: Revision,
    pub(super) planned_moves: u64,
    pub(super) phase: AdoptionPhase,
    /// The last key that was decided.
    pub(super) cursor: Option<Raw>,
    /// How many records the journal has; an undo takes them back one by one.
    pub(super) batches: u64,
    pub(super) moved: u64,
    pub(super) restored: u64,
}

impl Stored for State {
    const KIND: &'static str = "adoption";
}

/// One resource that was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    pub(super) from: Raw,
    pub(super) to: Raw,
    pub(super) tenant: TenantRef,
    /// What was at `from`.
    pub(super) original: Raw,
}

/// What one transaction did. It puts what it moves and this record together, so their revision is the same: as long as
/// that of what was moved is, it has not been touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) moved: Vec<Moved>,
    pub(super) left: Vec<LeftBehind>,
}

impl Stored for Batch {
    const KIND: &'static str = "journal of an adoption";
}

pub(super) fn states() -> Result<Collection<State>> {
    crate::collection("adoptions")
}

pub(super) fn journal() -> Result<Collection<Batch>> {
    crate::collection("adoption-journal")
}

/// What an undo could not put back, with what was there before.
pub(super) fn kept() -> Result<Collection<Batch>> {
    crate::collection("adoption-kept")
}

pub(super) fn state_key(id: &RequestId) -> Result<Key> {
    states()?.key([id.as_str()])
}

/// The key of batch `number` in the journal, or among what was kept: in the order of batches.
pub(super) fn batch_key(of: &Collection<Batch>, id: &RequestId, number: u64) -> Result<Key> {
    of.key([id.as_str(), &format!("{number:016x}")])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_back_and_take_no_more_than_said(bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "\\PC{0,20}[\"\\\\\u{0}\u{1f}\u{7f}]{0,5}".prop_map(String::into_bytes),
        ]) {
            let raw = Raw::of(&bytes);
            prop_assert_eq!(raw.bytes().unwrap(), bytes.clone());
            let json = serde_json::to_string(&raw).unwrap();
            prop_assert!(json.len() <= Raw::cost(&bytes), "{} {}", json, Raw::cost(&bytes));
            prop_assert_eq!(serde_json::from_str::<Raw>(&json).unwrap(), raw);
        }
    }

    #[test]
    fn a_damaged_journal_is_told_not_guessed() {
        for hex in ["0", "0g", "abc"] {
            assert_eq!(Raw::Hex(hex.to_owned()).bytes().unwrap_err().kind(), ErrorKind::Corrupt, "{hex}");
        }
    }
}
