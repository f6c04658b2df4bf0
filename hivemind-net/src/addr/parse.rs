//! Text to address, one canonical form at the edge. No I/O, no clock, no async.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Cidr, HostBits};

/// The longest text looked at: no address or network is longer, and an error repeats it.
const LONGEST: usize = 64;

/// Why a text is no address or network. Two texts of one address would pass two rules or take two keys, so whatever
/// could be read in two ways is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAddress {
    /// The text is longer than any address.
    #[error("{len} bytes are no address: the longest has 39, a network 43")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
    /// An IPv6 address with a zone, such as `fe80::1%eth0`.
    #[error("{0:?} has a zone, which means something on one host only: leave out what follows the %")]
    Zone(String),
    /// An IPv4 address written as IPv6, such as `::ffff:10.0.0.1`.
    #[error("{given} is an IPv4 address in IPv6 form: write {v4}")]
    Mapped {
        /// As given.
        given: String,
        /// The IPv4 form.
        v4: Ipv4Addr,
    },
    /// A number with leading zeros, which some read as octal.
    #[error("{0:?} has a number with leading zeros, which some programs read as octal: leave them out")]
    LeadingZeros(String),
    /// A network without a length, or an address with one.
    #[error("{0:?} has no prefix length: write it as address/length, such as 10.0.0.0/8")]
    NoLength(String),
    /// A prefix length that is no number, or beyond the family.
    #[error("{text:?} has a prefix length that is no number from 0 to {most}")]
    Length {
        /// As given.
        text: String,
        /// The most: 32 or 128.
        most: u8,
    },
    /// The network's address has bits set after the prefix.
    #[error(transparent)]
    HostBits(#[from] HostBits),
    /// Nothing of the kind.
    #[error("{0:?} is no IPv4 or IPv6 address")]
    Malformed(String),
}

fn leading_zeros(text: &str) -> bool {
    let zeros =
        |part: &str| part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit());
    !text.contains(':') && text.split('.').any(zeros)
}

/// The one form of a typed address: an IPv4-mapped IPv6 address is refused.
///
/// # Errors
/// [`InvalidAddress::Mapped`].
pub fn canonical(address: IpAddr) -> Result<IpAddr, InvalidAddress> {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Err(InvalidAddress::Mapped { given: v6.to_string(), v4 }),
            None => Ok(address),
        },
        IpAddr::V4(_) => Ok(address),
    }
}

/// An address from text. IPv6 may be written in any of its forms (RFC 4291, section 2.2); what comes back is one value.
///
/// # Errors
/// [`InvalidAddress`] says what is wrong: a zone, an IPv4-mapped form, leading zeros, or no address at all.
///
/// ```
/// use hivemind_net::addr::parse_address;
///
/// assert_eq!(parse_address("FD00:0::1")?.to_string(), "fd00::1");
/// let error = parse_address("::ffff:10.0.0.1").unwrap_err();
/// assert_eq!(error.to_string(), "::ffff:10.0.0.1 is an IPv4 address in IPv6 form: write 10.0.0.1");
/// # Ok::<(), hivemind_net::addr::InvalidAddress>(())
/// ```
pub fn parse_address(text: &str) -> Result<IpAddr, InvalidAddress> {
    if text.len() > LONGEST {
        return Err(InvalidAddress::TooLong { len: text.len() });
    }
    if text.contains('%') {
        return Err(InvalidAddress::Zone(text.to_owned()));
    }
    if leading_zeros(text) {
        return Err(InvalidAddress::LeadingZeros(text.to_owned()));
    }
    let malformed = || InvalidAddress::Malformed(text.to_owned());
    if text.contains(':') {
        text.parse::<Ipv6Addr>().map_err(|_| malformed()).and_then(|v6| canonical(v6.into()))
    } else {
        text.parse::<Ipv4Addr>().map(IpAddr::from).map_err(|_| malformed())
    }
}

/// A network from text, such as `10.0.0.0/8` or `fd00::/48`.
///
/// # Errors
/// As [`parse_address`], and for a length that is missing, no plain number, or too long, and for host bits.
pub fn parse_network(text: &str) -> Result<Cidr, InvalidAddress> {
    if text.len() > LONGEST {
        return Err(InvalidAddress::TooLong { len: text.len() });
    }
    let Some((address, length)) = text.split_once('/') else {
        parse_address(text)?;
        return Err(InvalidAddress::NoLength(text.to_owned()));
    };
    let address = parse_address(address)?;
    let most = super::IpFamily::of(address).bits();
    let plain = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    if plain && length.len() > 1 && length.starts_with('0') {
        return Err(InvalidAddress::LeadingZeros(text.to_owned()));
    }
    let len = length.parse::<u8>().ok().filter(|len| plain && *len <= most);
    let wrong = || InvalidAddress::Length { text: text.to_owned(), most };
    let net = len.and_then(|len| IpNet::new(address, len).ok()).ok_or_else(wrong)?;
    Ok(Cidr::try_from(net)?)
}
