//! Which of several addresses is tried first. No I/O, no clock, no async.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};

/// The default policy table (RFC 6724, section 2.1): prefix, its length, precedence.
const TABLE: [(Ipv6Addr, u32, u8); 9] = [
    (Ipv6Addr::LOCALHOST, 128, 50),
    (Ipv6Addr::UNSPECIFIED, 0, 40),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, 35),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 30),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, 5),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, 3),
    (Ipv6Addr::UNSPECIFIED, 96, 1),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, 1),
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16, 1),
];

/// The precedence that a client gives a destination unless its administrator says otherwise (RFC 6724, section 2.1).
///
/// The higher one is tried first. IPv4 has 35, global IPv6 40, but unique local IPv6 has 3: a client that has both, and
/// is told both, uses IPv4. Where IPv6 shall be used, give globally routed addresses, or no IPv4.
///
/// ```
/// use hivemind_net::addr::precedence;
///
/// let of = |text: &str| text.parse().map(precedence);
/// assert!(of("2001:db8::1")? > of("10.0.0.1")? && of("10.0.0.1")? > of("fd00::1")?);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[must_use]
pub fn precedence(destination: IpAddr) -> u8 {
    let address = match destination {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let matches = |(prefix, length, _): &&(Ipv6Addr, u32, u8)| {
        let differ = (address.to_bits() ^ prefix.to_bits()).leading_zeros();
        differ >= *length
    };
    // The longest prefix counts; all addresses match the one of no length.
    TABLE
        .iter()
        .filter(matches)
        .max_by_key(|(_, length, _)| *length)
        .map_or(40, |(.., precedence)| *precedence)
}

/// The order in which a client tries addresses: by [precedence], the families in turn from the first one on, so that one
/// that is broken holds up nobody (RFC 8305, section 4). Of equal ones the order stays.
#[must_use]
pub fn connection_order(destinations: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut sorted: Vec<_> = destinations.into_iter().collect();
    sorted.sort_by_key(|address| Reverse(precedence(*address)));
    let v6_first = sorted.first().is_some_and(IpAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        sorted.into_iter().partition(|address| address.is_ipv6() == v6_first);
    let mut ordered = Vec::with_capacity(first.len().saturating_add(second.len()));
    while let Some(next) = first.pop_front().or_else(|| second.pop_front()) {
        ordered.push(next);
        ordered.extend(second.pop_front());
    }
    ordered
}
