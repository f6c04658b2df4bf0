//! Names that only one tenant may have. No I/O, no clock, no async.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hivemind_core::{ResourceKind, TenantId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The longest text of a name, in bytes: that of a DNS name (RFC 1035, section 2.3.4).
const MAX_TEXT: usize = 253;

/// A name that only one tenant may have: its kind and a text, in one canonical spelling.
///
/// Prints and parses as `kind:text`. Two kinds have a meaning of their own:
///
/// - `hosts`: a DNS name. Case and a final dot do not matter. There are no wildcards.
/// - `ranges`: a block of addresses, such as `10.1.0.0/16` or `fd00:1::/48`. Blocks that overlap are never both
///   claimed. A block of IPv4 addresses within IPv6 (RFC 4291, section 2.5.5.2) is the IPv4 block.
///
/// Of any other kind, the text is 1 to 253 printable ASCII characters without space and `/`, compared as it is:
/// `ports:tcp-443`.
///
/// ```
/// use hivemind_tenancy::claims::UniqueName;
///
/// let host: UniqueName = "hosts:WWW.Example.org.".parse()?;
/// assert_eq!(host.to_string(), "hosts:www.example.org");
/// assert!("hosts:*.example.org".parse::<UniqueName>().is_err());
/// assert!("ranges:10.1.2.3/16".parse::<UniqueName>().is_err());
/// # Ok::<(), hivemind_tenancy::claims::InvalidUniqueName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UniqueName {
    kind: ResourceKind,
    text: String,
    range: Option<IpNet>,
}

/// A text is not a [`UniqueName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a name to claim: {problem}")]
#[non_exhaustive]
pub struct InvalidUniqueName {
    /// The text, cut to 300 characters.
    pub text: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

impl UniqueName {
    /// The name `text` of `kind`, in its canonical spelling.
    ///
    /// # Errors
    /// Says what is wrong with the text and what to do.
    pub fn new(kind: ResourceKind, text: &str) -> Result<Self, InvalidUniqueName> {
        let (canonical, range) = match kind.as_str() {
            "hosts" => host(text).map(|host| (host, None)),
            "ranges" => block(text).map(|range| (range.to_string(), Some(range))),
            _ => plain(text).map(|()| (text.to_owned(), None)),
        }
        .map_err(|problem| InvalidUniqueName { text: text.chars().take(300).collect(), problem })?;
        Ok(Self { kind, text: canonical, range })
    }

    /// Of what kind.
    pub fn kind(&self) -> &ResourceKind {
        &self.kind
    }

    /// The text without the kind.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The block of addresses, for the kind `ranges`.
    pub fn range(&self) -> Option<IpNet> {
        self.range
    }

    /// Whether both cannot be claimed: they are the same, or blocks with an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.range, other.range) {
            // Blocks are nested or apart, never overlapping in part.
            (Some(a), Some(b)) => a.contains(&b) || b.contains(&a),
            _ => self == other,
        }
    }

    /// The text as a segment of a key.
    pub(super) fn segment(&self) -> String {
        // Only blocks hold a slash, and no block holds a dash.
        self.text.replace('/', "-")
    }
}

impl fmt::Display for UniqueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.text)
    }
}

impl FromStr for UniqueName {
    type Err = InvalidUniqueName;
    fn from_str(whole: &str) -> Result<Self, InvalidUniqueName> {
        let invalid =
            |problem: String| InvalidUniqueName { text: whole.chars().take(300).collect(), problem };
        let Some((kind, text)) = whole.split_once(':') else {
            return Err(invalid("write kind:text, such as hosts:www.example.org".to_owned()));
        };
        Self::new(kind.parse().map_err(|e| invalid(format!("its kind is wrong: {e}")))?, text)
    }
}

impl TryFrom<String> for UniqueName {
    type Error = InvalidUniqueName;
    fn try_from(text: String) -> Result<Self, InvalidUniqueName> {
        text.parse()
    }
}

impl From<UniqueName> for String {
    fn from(name: UniqueName) -> Self {
        name.to_string()
    }
}

fn plain(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MAX_TEXT {
        return Err(format!("it has {} bytes, allowed are 1 to {MAX_TEXT}", text.len()));
    }
    match text.chars().find(|c| !c.is_ascii_graphic() || *c == '/') {
        Some(bad) => Err(format!("it has {bad:?}; allowed is printable ASCII without space and '/'")),
        None => Ok(()),
    }
}

fn host(text: &str) -> Result<String, String> {
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if text.is_empty() || text.len() > MAX_TEXT {
        return Err(format!("a host name of {} bytes; allowed are 1 to {MAX_TEXT}", text.len()));
    }
    if text.contains('*') {
        return Err("it has a wildcard: claim every host by its full name".to_owned());
    }
    for label in text.split('.') {
        // A label of a host name has the grammar of a name.
        TenantId::new(label).map_err(|_| {
            format!("{label:?} is no label of a host name: 1 to 63 of a-z, 0-9, and '-' between them")
        })?;
    }
    // An address would be another spelling of a block.
    if text.parse::<IpAddr>().is_ok() {
        return Err("it is an address: claim it as ranges".to_owned());
    }
    Ok(text)
}

fn block(text: &str) -> Result<IpNet, String> {
    let parsed = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().map_err(|_| "write a block as 10.1.0.0/16 or fd00:1::/48".to_owned())?,
    };
    if parsed != parsed.trunc() {
        return Err(format!("an address within a block: the block is {}", parsed.trunc()));
    }
    let IpNet::V6(v6) = parsed else { return Ok(parsed) };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    match mapped.map(|(address, len)| IpNet::new(address.into(), len)) {
        Some(Ok(v4)) => Ok(v4),
        _ => Ok(parsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> String {
        text.parse::<UniqueName>().unwrap().to_string()
    }

    #[test]
    fn one_thing_has_one_spelling() {
        assert_eq!(name("hosts:Www.Example.ORG."), "hosts:www.example.org");
        assert_eq!(name("ranges:FD00:0001::/48"), "ranges:fd00:1::/48");
        assert_eq!(name("ranges:10.0.0.1"), "ranges:10.0.0.1/32");
        assert_eq!(name("ranges:::ffff:10.0.0.0/104"), "ranges:10.0.0.0/8");
        assert_eq!(name("ports:tcp:443"), "ports:tcp:443");
        assert_ne!(name("buckets:A"), name("buckets:a"));
    }

    #[test]
    fn what_is_no_name_is_refused_with_what_to_do() {
        for (bad, told) in [
            ("www.example.org", "write kind:text"),
            ("Hosts:a.org", "its kind is wrong"),
            ("hosts:", "0 bytes"),
            ("hosts:a..b", "\"\" is no label"),
            ("hosts:*.a.org", "claim every host"),
            ("hosts:10.0.0.1", "claim it as ranges"),
            ("hosts:a/b", "is no label"),
            ("ranges:10.1.2.3/16", "the block is 10.1.0.0/16"),
            ("ranges:everything", "write a block as"),
            ("ports:tcp 443", "printable ASCII"),
            ("ports:a/b", "without space and '/'"),
        ] {
            let error = bad.parse::<UniqueName>().unwrap_err().to_string();
            assert!(error.contains(told), "{bad}: {error}");
        }
        assert!(serde_json::from_str::<UniqueName>("\"ranges:10.1.2.3/16\"").is_err());
    }

    #[test]
    fn blocks_overlap_when_they_share_an_address() {
        let overlap = |a: &str, b: &str| {
            let (a, b): (UniqueName, UniqueName) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.overlaps(&b), b.overlaps(&a));
            a.overlaps(&b)
        };
        assert!(overlap("ranges:10.0.0.0/8", "ranges:10.9.9.9"));
        assert!(overlap("ranges:0.0.0.0/0", "ranges:::ffff:1.2.3.4"));
        assert!(!overlap("ranges:10.0.0.0/9", "ranges:10.128.0.0/9"));
        assert!(!overlap("ranges:::/0", "ranges:10.0.0.0/8"));
        assert!(!overlap("hosts:a.org", "ports:a.org"));
    }
}
