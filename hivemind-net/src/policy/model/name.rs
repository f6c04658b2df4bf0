//! Names of policies and of ports. No I/O, no clock, no async.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?}: {allowed}")]
#[non_exhaustive]
pub struct InvalidPolicyName {
    /// What it was to name.
    pub what: &'static str,
    /// The text, cut to 80 characters.
    pub text: String,
    /// What is allowed.
    pub allowed: &'static str,
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// 1 to `longest` of `a-z0-9-`, with no `-` at either end.
pub(super) fn is_dns_label(text: &str, longest: usize) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(is_alphanumeric);
    text.len() <= longest
        && ends(text.bytes().next())
        && ends(text.bytes().next_back())
        && text.bytes().all(|byte| is_alphanumeric(byte) || byte == b'-')
}

fn is_policy_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| is_dns_label(label, 63))
}

/// RFC 6335, section 5.1, in lower case.
fn is_port_name(text: &str) -> bool {
    is_dns_label(text, 15) && text.bytes().any(|byte| byte.is_ascii_lowercase()) && !text.contains("--")
}

macro_rules! names {
    ($($(#[$doc:meta])* $T:ident, $what:literal, $check:path, $allowed:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $T(Arc<str>);

        impl $T {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $T {
            type Err = InvalidPolicyName;
            fn from_str(text: &str) -> Result<Self, InvalidPolicyName> {
                if $check(text) {
                    return Ok(Self(text.into()));
                }
                let text = text.chars().take(80).collect();
                Err(InvalidPolicyName { what: $what, text, allowed: $allowed })
            }
        }

        impl TryFrom<String> for $T {
            type Error = InvalidPolicyName;
            fn try_from(text: String) -> Result<Self, InvalidPolicyName> {
                text.parse()
            }
        }

        impl From<$T> for String {
            fn from(name: $T) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $T {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $T {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($T), self.0)
            }
        }
    )*};
}

names! {
    /// Names a policy or a grant: DNS labels joined by dots, 253 bytes at most (as Kubernetes names objects).
    PolicyName, "policy name", is_policy_name, "give 1 to 253 of a-z, 0-9, '-' and '.', in DNS labels";
    /// Names a port of a workload: 1 to 15 of `a-z`, `0-9` and `-`, with a letter (RFC 6335, section 5.1).
    PortName, "port name", is_port_name,
        "give 1 to 15 of a-z, 0-9 and single '-' between them, with a letter at least";
}
