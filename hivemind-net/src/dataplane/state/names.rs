//! The kernel's names: namespaces, links, MAC addresses, sysctls. No I/O, no clock, no async.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name that the kernel would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {rule}")]
pub struct InvalidKernelName {
    what: &'static str,
    rule: &'static str,
    text: String,
}

impl InvalidKernelName {
    pub(crate) fn new(what: &'static str, rule: &'static str, text: &str) -> Self {
        Self { what, rule, text: text.chars().take(64).collect() }
    }
}

/// String conversions for a type with `FromStr` and `Display`.
macro_rules! as_text {
    ($T:ty, $E:ty) => {
        impl TryFrom<String> for $T {
            type Error = $E;
            fn try_from(text: String) -> Result<Self, $E> {
                text.parse()
            }
        }
        impl From<$T> for String {
            fn from(value: $T) -> Self {
                value.to_string()
            }
        }
    };
}

/// A network namespace of this machine.
///
/// As text: `@host`, a name below `/run/netns`, or an absolute path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Netns {
    /// The machine's own: that of the agent.
    Host,
    /// A name as `ip netns` knows it.
    Named(Arc<str>),
    /// Where a container runtime has put it, such as `/proc/42/ns/net`; parsed text never gives the path of a name.
    Path(Arc<str>),
}

impl FromStr for Netns {
    type Err = InvalidKernelName;

    fn from_str(text: &str) -> Result<Self, InvalidKernelName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        // One namespace has one name, or it would be two to whoever compares.
        let named = |text: &str| {
            ["/run/netns/", "/var/run/netns/"]
                .into_iter()
                .find_map(|at| Some(text.strip_prefix(at)?.to_owned()))
        };
        if let Some(name) = named(text).filter(|name| !name.contains('/')) {
            return name.parse();
        }
        if text == "@host" {
            Ok(Self::Host)
        } else if text.starts_with('/') && text.len() <= 1024 && text.chars().all(|c| plain(c) || c == '/') {
            Ok(Self::Path(text.into()))
        } else if (1..=128).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('.') {
            Ok(Self::Named(text.into()))
        } else {
            let rule = "@host, or 1 to 128 letters, digits, '-', '_' and '.', or an absolute path of those";
            Err(InvalidKernelName::new("network namespace", rule, text))
        }
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("@host"),
            Self::Named(text) | Self::Path(text) => f.write_str(text),
        }
    }
}

as_text!(Netns, InvalidKernelName);

/// The name of a link: 1 to 15 bytes, no whitespace, no `/` and no `:`, as the kernel wants it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(Arc<str>);

impl LinkName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkName {
    type Err = InvalidKernelName;

    fn from_str(text: &str) -> Result<Self, InvalidKernelName> {
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
        if (1..=15).contains(&text.len()) && !matches!(text, "." | ".." | "lo") && !text.chars().any(bad) {
            Ok(Self(text.into()))
        } else {
            let rule = "1 to 15 bytes without whitespace, '/', ':' and '%', and not 'lo'";
            Err(InvalidKernelName::new("name of a link", rule, text))
        }
    }
}

impl std::borrow::Borrow<str> for LinkName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(LinkName, InvalidKernelName);

/// A MAC address, such as `02:00:00:00:00:2a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// All zeroes: where a VXLAN link sends what it knows no better place for.
    pub const ZERO: Self = Self([0; 6]);

    /// From its bytes.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether a single station may have it: not a group's, not all zeroes.
    pub const fn is_unicast(self) -> bool {
        let [first, b, c, d, e, f] = self.0;
        first & 1 == 0 && (first | b | c | d | e | f) != 0
    }
}

impl FromStr for Mac {
    type Err = InvalidKernelName;

    fn from_str(text: &str) -> Result<Self, InvalidKernelName> {
        let invalid =
            || InvalidKernelName::new("MAC address", "six bytes of two hex digits with ':' between", text);
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(invalid)?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

as_text!(Mac, InvalidKernelName);

/// A kernel parameter below `/proc/sys`, such as `net/ipv6/conf/default/accept_dad`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SysctlName(Arc<str>);

impl SysctlName {
    /// The path below `/proc/sys`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The link that it belongs to, if it is a parameter of a link.
    pub fn link(&self) -> Option<LinkName> {
        let mut parts = self.0.split('/').skip(2);
        match (parts.next(), parts.next()) {
            (Some("conf" | "neigh"), Some(link)) if !matches!(link, "all" | "default") => link.parse().ok(),
            _ => None,
        }
    }
}

impl FromStr for SysctlName {
    type Err = InvalidKernelName;

    fn from_str(text: &str) -> Result<Self, InvalidKernelName> {
        let parts = text.split('/').all(|part| {
            !part.is_empty() && part != "." && part != ".." && part.chars().all(|c| c.is_ascii_graphic())
        });
        if text.starts_with("net/") && parts && text.len() <= 256 {
            Ok(Self(text.into()))
        } else {
            let rule = "a path below /proc/sys that begins with net/";
            Err(InvalidKernelName::new("kernel parameter", rule, text))
        }
    }
}

impl fmt::Display for SysctlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(SysctlName, InvalidKernelName);
