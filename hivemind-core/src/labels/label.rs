//! Keys and values that people attach to things.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text_type::text_type;

/// Why a text is not the key or the value of a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part} {text:?}: {allowed}")]
#[non_exhaustive]
pub struct InvalidLabel {
    /// Which part is wrong: the label's key, prefix, name or value.
    pub part: &'static str,
    /// The offending text, cut to 80 characters.
    pub text: String,
    /// What is allowed.
    pub allowed: &'static str,
}

fn invalid(part: &'static str, text: &str, allowed: &'static str) -> InvalidLabel {
    InvalidLabel { part, text: text.chars().take(80).collect(), allowed }
}

/// `[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?`
fn is_name(text: &str) -> bool {
    let ends = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends(text.bytes().next())
        && ends(text.bytes().next_back())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

/// A DNS subdomain (RFC 1123): labels of `a-z0-9-` by dots, 253 bytes at most.
fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let ends = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        label.len() <= 63
            && ends(label.bytes().next())
            && ends(label.bytes().next_back())
            && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn check_key(_: &str, text: &str) -> Result<(), InvalidLabel> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if let Some(prefix) = prefix.filter(|prefix| !is_subdomain(prefix)) {
        return Err(invalid(
            "label prefix",
            prefix,
            "give a DNS name of a-z, 0-9, '-' and '.', 253 bytes at most",
        ));
    }
    if name.len() > 63 || !is_name(name) {
        let allowed = "give 1 to 63 of A-Z, a-z, 0-9, '-', '_' and '.', a letter or digit at both ends";
        return Err(invalid("label key", name, allowed));
    }
    Ok(())
}

fn check_value(_: &str, text: &str) -> Result<(), InvalidLabel> {
    if text.is_empty() || (text.len() <= 63 && is_name(text)) {
        return Ok(());
    }
    let allowed =
        "give nothing, or up to 63 of A-Z, a-z, 0-9, '-', '_' and '.', a letter or digit at both ends";
    Err(invalid("label value", text, allowed))
}

text_type! {
    /// The key of a label: a name of up to 63 characters, after an optional DNS prefix and `/`.
    LabelKey, InvalidLabel, check_key;
    /// The value of a label: empty, or up to 63 of letters, digits, `-`, `_` and `.`.
    LabelValue, InvalidLabel, check_value;
}

/// A thing's labels, in the order of their keys.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<LabelKey, LabelValue>);

impl Labels {
    /// No labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the label `key=value`, in place of one of that key.
    ///
    /// # Errors
    /// [`InvalidLabel`] says what is allowed.
    pub fn with(mut self, key: &str, value: &str) -> Result<Self, InvalidLabel> {
        self.insert(key.parse()?, value.parse()?);
        Ok(self)
    }

    /// Adds a label; returns the value it replaces.
    pub fn insert(&mut self, key: LabelKey, value: LabelValue) -> Option<LabelValue> {
        self.0.insert(key, value)
    }

    /// Removes a label; returns its value.
    pub fn remove(&mut self, key: &str) -> Option<LabelValue> {
        self.0.remove(key)
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&LabelValue> {
        self.0.get(key)
    }

    /// The labels, in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&LabelKey, &LabelValue)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(LabelKey, LabelValue)> for Labels {
    fn from_iter<I: IntoIterator<Item = (LabelKey, LabelValue)>>(labels: I) -> Self {
        Self(labels.into_iter().collect())
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Labels({self})")
    }
}
