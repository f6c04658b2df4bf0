//! Domain names in policies. No I/O, no clock, no async.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::is_dns_label;

/// Why a text is no domain name, or no pattern of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("domain name {text:?}: {reason}")]
#[non_exhaustive]
pub struct InvalidDnsName {
    /// The text, cut to 80 characters.
    pub text: String,
    /// What is wrong.
    pub reason: &'static str,
}

/// A host's full domain name, in lower case and without the last dot. Reading it brings it into that form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(Arc<str>);

impl DnsName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = InvalidDnsName;
    fn from_str(text: &str) -> Result<Self, InvalidDnsName> {
        let wrong = |reason| InvalidDnsName { text: text.chars().take(80).collect(), reason };
        let plain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if plain.is_empty() || plain.len() > 253 {
            return Err(wrong("give 1 to 253 bytes"));
        }
        let fine = |label: &str| is_dns_label(&label.replace('_', "a"), 63);
        if !plain.split('.').all(fine) {
            return Err(wrong("give labels of a-z, 0-9, '-' and '_', 63 bytes at most, joined by dots"));
        }
        Ok(Self(plain.into()))
    }
}

/// Which domain names a rule is about: one, or with `*.` before it, all below it.
///
/// `*.example.com` is `a.example.com` and `b.a.example.com`, and not `example.com`, as in the network policy API.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern {
    below: bool,
    name: DnsName,
}

impl NamePattern {
    /// Whether `name` is meant.
    pub fn matches(&self, name: &DnsName) -> bool {
        if !self.below {
            return *name == self.name;
        }
        let rest = name.as_str().strip_suffix(self.name.as_str());
        rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

impl FromStr for NamePattern {
    type Err = InvalidDnsName;
    fn from_str(text: &str) -> Result<Self, InvalidDnsName> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let wrong = |mut error: InvalidDnsName| {
            error.text = text.chars().take(80).collect();
            if text.contains('*') {
                error.reason = "'*' may only be the whole first label";
            }
            error
        };
        Ok(Self { below, name: rest.parse().map_err(wrong)? })
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.below { "*." } else { "" };
        write!(f, "{star}{}", self.name)
    }
}

macro_rules! text {
    ($($T:ident),*) => {$(
        impl TryFrom<String> for $T {
            type Error = InvalidDnsName;
            fn try_from(text: String) -> Result<Self, InvalidDnsName> {
                text.parse()
            }
        }

        impl From<$T> for String {
            fn from(name: $T) -> Self {
                name.to_string()
            }
        }

        impl fmt::Debug for $T {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($T))
            }
        }
    )*};
}

text!(DnsName, NamePattern);
