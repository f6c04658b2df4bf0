//! Validated names: an invalid one cannot be constructed or deserialized.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text_type::text_type;

/// The longest name, in bytes: a DNS label (RFC 1035, section 2.3.4).
pub const MAX_NAME_LEN: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// The text is empty.
    #[error("{what} is empty; give 1 to 63 of a-z, 0-9 and '-'")]
    Empty {
        /// The type of the name, such as `TenantId`.
        what: &'static str,
    },
    /// The text has more than 63 bytes.
    #[error("{what} has {len} bytes, at most 63 are allowed")]
    TooLong {
        /// The type of the name.
        what: &'static str,
        /// The length in bytes.
        len: usize,
    },
    /// The text holds a character that no name may hold.
    #[error("{what} {text:?} has {found:?} at byte {position}; allowed are a-z, 0-9, and '-' between them")]
    BadCharacter {
        /// The type of the name.
        what: &'static str,
        /// The offending text.
        text: String,
        /// The character.
        found: char,
        /// Its byte offset.
        position: usize,
    },
}

/// Checks the grammar of a DNS label (RFC 1123): 1 to 63 of `a-z0-9-`, no `-` at either end.
fn check(what: &'static str, text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty { what });
    }
    if text.len() > MAX_NAME_LEN {
        return Err(InvalidName::TooLong { what, len: text.len() });
    }
    let last = text.len() - 1;
    let bad = text.char_indices().find(|&(at, c)| match c {
        'a'..='z' | '0'..='9' => false,
        '-' => at == 0 || at == last,
        _ => true,
    });
    match bad {
        None => Ok(()),
        Some((position, found)) => {
            Err(InvalidName::BadCharacter { what, text: text.to_owned(), found, position })
        }
    }
}

text_type! {
    /// Names a tenant.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    TenantId, InvalidName, check;
    /// Names a namespace within a tenant.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    Namespace, InvalidName, check;
    /// Names a node: one machine of the cluster.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    NodeId, InvalidName, check;
    /// Names an application: what is deployed in one request.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    AppId, InvalidName, check;
    /// Names a workload: one container, or one group of containers that shares a node and an address.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    WorkloadId, InvalidName, check;
    /// Names a volume of a tenant.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    VolumeId, InvalidName, check;
    /// Names a snapshot of a volume.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    SnapshotId, InvalidName, check;
    /// Names a claim: a tenant's wish for a volume.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    ClaimId, InvalidName, check;
    /// Names a storage class: a kind of volume that an administrator offers.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    StorageClassName, InvalidName, check;
    /// Names a storage provider.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    ProviderName, InvalidName, check;
    /// Names a pool of addresses of a tenant.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    PoolName, InvalidName, check;
    /// Names a service that others find by name.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    ServiceName, InvalidName, check;
    /// Names a role.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    RoleName, InvalidName, check;
    /// Names a person.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    UserId, InvalidName, check;
    /// Names a group of principals.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    GroupName, InvalidName, check;
    /// Names a service account of a tenant.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    ServiceAccountName, InvalidName, check;
    /// Names a component of Hivemind or of the host.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    ComponentName, InvalidName, check;
    /// Names an alert rule.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    AlertName, InvalidName, check;
    /// Names somebody who is told of alerts.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    ReceiverName, InvalidName, check;
    /// Names a backup.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    BackupId, InvalidName, check;
    /// Names a cluster.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    ClusterId, InvalidName, check;
    /// Names a key of a key provider.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    KeyId, InvalidName, check;
    /// Names one reservation of quota.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    ReservationId, InvalidName, check;
    /// Names one request; the same request, sent twice, has the same id.
    ///
    /// A DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end (RFC 1123).
    RequestId, InvalidName, check;
}

impl RequestId {
    /// `req-` and 32 hexadecimal digits: always a name.
    pub(crate) fn numbered(number: u128) -> Self {
        Self(format!("req-{number:032x}").into())
    }
}

impl ReservationId {
    /// `res-` and 32 hexadecimal digits: always a name.
    pub(crate) fn numbered(number: u128) -> Self {
        Self(format!("res-{number:032x}").into())
    }
}

/// Tells apart two tenants that had the same name, one after the other.
///
/// Unique per creation: whatever a tenant owned carries its generation, so a re-created tenant inherits nothing.
/// Prints as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Generation(u64);

impl Generation {
    /// A generation from an [`IdSource`](crate::IdSource)'s number.
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl FromStr for Generation {
    type Err = InvalidGeneration;
    fn from_str(text: &str) -> Result<Self, InvalidGeneration> {
        let canonical = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match u64::from_str_radix(text, 16) {
            Ok(number) if canonical => Ok(Self(number)),
            _ => Err(InvalidGeneration(text.chars().take(32).collect())),
        }
    }
}

impl TryFrom<String> for Generation {
    type Error = InvalidGeneration;
    fn try_from(text: String) -> Result<Self, InvalidGeneration> {
        text.parse()
    }
}

impl From<Generation> for String {
    fn from(generation: Generation) -> Self {
        generation.to_string()
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({self})")
    }
}

/// A text is not a [`Generation`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("generation {0:?} is not 16 of 0-9 and a-f")]
pub struct InvalidGeneration(String);

/// One tenant, for all time: its name and its generation.
///
/// Prints as `name.generation`, the form used in keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[allow(clippy::exhaustive_structs, reason = "a name and a generation are the whole identity")]
pub struct TenantRef {
    /// The name.
    pub id: TenantId,
    /// Which tenant of that name.
    pub generation: Generation,
}

impl TenantRef {
    /// The tenant `id` of `generation`.
    pub fn new(id: TenantId, generation: Generation) -> Self {
        Self { id, generation }
    }

    /// The tenant in whose context the cluster itself is administered: `system`, generation 0.
    pub fn system() -> Self {
        Self { id: TenantId("system".into()), generation: Generation(0) }
    }
}

impl fmt::Display for TenantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.generation)
    }
}

impl fmt::Debug for TenantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantRef({self})")
    }
}

impl FromStr for TenantRef {
    type Err = InvalidTenantRef;
    fn from_str(text: &str) -> Result<Self, InvalidTenantRef> {
        let wrong = || InvalidTenantRef(text.chars().take(96).collect());
        let (id, generation) = text.split_once('.').ok_or_else(wrong)?;
        Ok(Self {
            id: id.parse().map_err(|_| wrong())?,
            generation: generation.parse().map_err(|_| wrong())?,
        })
    }
}

impl TryFrom<String> for TenantRef {
    type Error = InvalidTenantRef;
    fn try_from(text: String) -> Result<Self, InvalidTenantRef> {
        text.parse()
    }
}

impl From<TenantRef> for String {
    fn from(tenant: TenantRef) -> Self {
        tenant.to_string()
    }
}

/// A text is not a [`TenantRef`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a tenant's name, a dot, and a generation of 16 hexadecimal digits")]
pub struct InvalidTenantRef(String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_not_a_dns_label() {
        let long = "a".repeat(64);
        for bad in ["", "A", "a_b", "-a", "a-", "a.b", "a b", "ä", "a/b", "a\0", &long] {
            assert!(TenantId::new(bad).is_err(), "{bad:?}");
            let json = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<TenantId>(&json).is_err(), "{bad:?} from JSON");
        }
        for good in ["a", "0", "a-b", "a--b", "1st", &long[..63]] {
            assert_eq!(TenantId::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn errors_say_what_is_allowed() {
        let error = NodeId::new("rack_1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "NodeId \"rack_1\" has '_' at byte 4; allowed are a-z, 0-9, and '-' between them"
        );
        assert_eq!(format!("{:?}", NodeId::new("n1").unwrap()), "NodeId(n1)");
    }

    #[test]
    fn names_made_without_a_check_would_pass_it() {
        assert!(TenantId::new(TenantRef::system().id).is_ok());
        assert!(RequestId::new(RequestId::numbered(u128::MAX)).is_ok());
        assert!(ReservationId::new(ReservationId::numbered(0)).is_ok());
    }

    #[test]
    fn tenant_refs_round_trip() {
        let text = "acme.00000000000000ff";
        let tenant: TenantRef = text.parse().unwrap();
        assert_eq!(tenant.to_string(), text);
        assert_eq!(tenant.generation.as_u64(), 255);
        for bad in [
            "acme",
            "acme.",
            "acme.ff",
            ".00000000000000ff",
            "acme.00000000000000FF",
            "acme.+0000000000000ff",
        ] {
            assert!(bad.parse::<TenantRef>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn accepted_names_are_exactly_the_grammar(text in "[a-zA-Z0-9_.-]{0,70}") {
            let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            let grammar = text.len() <= 63
                && edge(text.chars().next())
                && edge(text.chars().next_back())
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            prop_assert_eq!(TenantId::new(&text).is_ok(), grammar);
        }
    }
}
