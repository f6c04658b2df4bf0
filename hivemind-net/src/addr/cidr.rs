//! A network of either family. No I/O, no clock, no async.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{AddressRange, InvalidAddress, IpFamily, address_number, parse_network};

/// A network: its first address and a prefix length, from /0 to one address. Host bits are never set.
///
/// ```
/// use hivemind_net::addr::Cidr;
///
/// let all: Cidr = "::/0".parse()?;
/// let half = all.subnet(1, 1).unwrap();
/// assert_eq!(half.to_string(), "8000::/1");
/// assert_eq!((all.size(), half.size()), (None, Some(1 << 127)));
/// assert!(all.covers(half) && !half.covers(all));
/// # Ok::<(), hivemind_net::addr::InvalidAddress>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
// As text, not as `IpNet`, whose own parser takes 010.0.0.0 and IPv4 in IPv6 form.
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    family: IpFamily,
    first: u128,
    len: u8,
}

/// A network's address has bits set after its prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given} has host bits set: its network is {network}")]
#[non_exhaustive]
pub struct HostBits {
    /// As given.
    pub given: IpNet,
    /// As it would be right.
    pub network: IpNet,
}

/// The bits of `family` that a prefix of `len` does not fix, all set.
fn host_mask(family: IpFamily, len: u8) -> u128 {
    let host = u32::from(family.bits().saturating_sub(len));
    1u128.checked_shl(host).map_or(u128::MAX, |size| size - 1)
}

impl Cidr {
    /// The network of `len` bits that `number` is in; `None` if the family has no such number or length.
    pub fn containing(family: IpFamily, number: u128, len: u8) -> Option<Self> {
        let valid = len <= family.bits() && number <= family.max();
        valid.then(|| Self { family, first: number & !host_mask(family, len), len })
    }

    /// The network of one address.
    pub fn host(address: IpAddr) -> Self {
        let family = IpFamily::of(address);
        Self { family, first: address_number(address), len: family.bits() }
    }

    /// Its family.
    pub const fn family(self) -> IpFamily {
        self.family
    }

    /// Its prefix length.
    pub const fn prefix_len(self) -> u8 {
        self.len
    }

    /// Its first address, as a number.
    pub const fn first(self) -> u128 {
        self.first
    }

    /// Its last address, as a number.
    pub fn last(self) -> u128 {
        self.first | host_mask(self.family, self.len)
    }

    /// How many bits the host part has.
    pub const fn host_bits(self) -> u8 {
        self.family.bits().saturating_sub(self.len)
    }

    /// How many addresses there are; `None` for `::/0`, whose 2^128 no number here can hold.
    pub fn size(self) -> Option<u128> {
        1u128.checked_shl(u32::from(self.host_bits()))
    }

    /// All of its addresses.
    pub fn range(self) -> AddressRange {
        AddressRange::of(self)
    }

    /// Whether a number of its family is in it.
    pub fn contains(self, number: u128) -> bool {
        (self.first..=self.last()).contains(&number)
    }

    /// Whether an address is in it.
    pub fn contains_address(self, address: IpAddr) -> bool {
        IpFamily::of(address) == self.family && self.contains(address_number(address))
    }

    /// Whether all of `other` is in it.
    pub fn covers(self, other: Self) -> bool {
        self.family == other.family && self.len <= other.len && self.contains(other.first)
    }

    /// Whether they have an address in common; then one covers the other.
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// How many subnets of `len` bits it has, at most `u128::MAX` (2^128 addresses of `::/0`); zero if none fits.
    pub fn subnets(self, len: u8) -> u128 {
        match len.checked_sub(self.len) {
            Some(bits) if len <= self.family.bits() => {
                1u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX)
            }
            _ => 0,
        }
    }

    /// Its subnet of `len` bits of that number, from zero; `None` if there are not so many.
    pub fn subnet(self, number: u128, len: u8) -> Option<Self> {
        // Of 2^128 subnets the last has a number that equals the saturated count.
        let all = self.len == 0 && len == 128 && self.family == IpFamily::V6;
        if !all && number >= self.subnets(len) {
            return None;
        }
        let host = u32::from(self.family.bits().checked_sub(len)?);
        // A shift by 128 can only be asked for number 0.
        let offset = number.checked_shl(host).unwrap_or_default();
        Some(Self { family: self.family, first: self.first.checked_add(offset)?, len })
    }

    /// The network of `len` bits around it; `None` if that is no wider.
    pub fn supernet(self, len: u8) -> Option<Self> {
        if len > self.len { None } else { Self::containing(self.family, self.first, len) }
    }

    /// As a typed IPv4 network.
    pub fn v4(self) -> Option<Ipv4Net> {
        match self.into() {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }

    /// As a typed IPv6 network.
    pub fn v6(self) -> Option<Ipv6Net> {
        match self.into() {
            IpNet::V6(net) => Some(net),
            IpNet::V4(_) => None,
        }
    }
}

impl TryFrom<IpNet> for Cidr {
    type Error = HostBits;
    fn try_from(net: IpNet) -> Result<Self, HostBits> {
        if net.trunc() != net {
            return Err(HostBits { given: net, network: net.trunc() });
        }
        let address = net.network();
        Ok(Self { family: IpFamily::of(address), first: address_number(address), len: net.prefix_len() })
    }
}

impl From<Cidr> for IpNet {
    fn from(cidr: Cidr) -> Self {
        let address = cidr.family.address(cidr.first);
        // A `Cidr` is valid by construction, so the fallback is never taken.
        address.and_then(|address| Self::new(address, cidr.len).ok()).unwrap_or_default()
    }
}

impl FromStr for Cidr {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        parse_network(text)
    }
}

impl TryFrom<String> for Cidr {
    type Error = InvalidAddress;
    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpNet::from(*self).fmt(f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cidr({self})")
    }
}
