//! A range of addresses of one family. No I/O, no clock, no async.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Cidr, IpFamily, address_number};

/// The addresses from the first to the last, both included; never empty.
///
/// ```
/// use hivemind_net::addr::AddressRange;
///
/// let range = AddressRange::new("10.0.0.1".parse()?, "10.0.0.6".parse()?).unwrap();
/// let cover: Vec<_> = range.cidrs().map(|cidr| cidr.to_string()).collect();
/// assert_eq!(cover, ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"]);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(IpAddr, IpAddr)", into = "(IpAddr, IpAddr)")]
pub struct AddressRange {
    family: IpFamily,
    first: u128,
    last: u128,
}

impl AddressRange {
    /// From `first` to `last`; `None` if they are of two families, or in the wrong order.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        let family = IpFamily::of(first);
        let same = family == IpFamily::of(last);
        Self::from_numbers(family, address_number(first), address_number(last)).filter(|_| same)
    }

    /// From `first` to `last`, as numbers; `None` if in the wrong order, or beyond the family.
    pub fn from_numbers(family: IpFamily, first: u128, last: u128) -> Option<Self> {
        (first <= last && last <= family.max()).then_some(Self { family, first, last })
    }

    /// All addresses of a network.
    pub fn of(cidr: Cidr) -> Self {
        Self { family: cidr.family(), first: cidr.first(), last: cidr.last() }
    }

    /// Its family.
    pub const fn family(self) -> IpFamily {
        self.family
    }

    /// The first address, as a number.
    pub const fn first(self) -> u128 {
        self.first
    }

    /// The last address, as a number.
    pub const fn last(self) -> u128 {
        self.last
    }

    /// How many addresses there are, at most `u128::MAX`.
    pub const fn size(self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// Whether a number of its family is in it.
    pub fn contains(self, number: u128) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// Whether they have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.intersection(other).is_some()
    }

    /// What they have in common.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (self.family == other.family && first <= last).then_some(Self { family: self.family, first, last })
    }

    /// The fewest networks that hold exactly these addresses, in order.
    pub fn cidrs(self) -> impl Iterator<Item = Cidr> {
        let mut next = Some(self.first);
        std::iter::from_fn(move || {
            let first = next?;
            let mut len = self.family.bits();
            // Grows while the wider network begins here and ends within the range.
            while let Some(wider) =
                len.checked_sub(1).and_then(|len| Cidr::containing(self.family, first, len))
            {
                if wider.first() != first || wider.last() > self.last {
                    break;
                }
                len = wider.len();
            }
            let cidr = Cidr::containing(self.family, first, len)?;
            next = cidr.last().checked_add(1).filter(|next| *next <= self.last);
            Some(cidr)
        })
    }
}

impl TryFrom<(IpAddr, IpAddr)> for AddressRange {
    type Error = String;
    fn try_from((first, last): (IpAddr, IpAddr)) -> Result<Self, String> {
        Self::new(first, last).ok_or_else(|| {
            format!("{first} to {last} is no range: give two addresses of one family, the lower one first")
        })
    }
}

impl From<AddressRange> for (IpAddr, IpAddr) {
    fn from(range: AddressRange) -> Self {
        let address = |number| {
            let nowhere = std::net::Ipv4Addr::UNSPECIFIED.into();
            // A range is within its family by construction, so the fallback is never taken.
            range.family.address(number).unwrap_or(nowhere)
        };
        (address(range.first), address(range.last))
    }
}

/// `10.0.0.1-10.0.0.6`.
impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (*self).into();
        let (first, last): (IpAddr, IpAddr) = (first, last);
        write!(f, "{first}-{last}")
    }
}
