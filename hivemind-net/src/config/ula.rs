//! Unique local prefixes. No I/O, no clock, no async.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::ipam::mix;

/// A unique local /48 (RFC 4193, section 3.1): `fd`, and 40 bits that depend on all of `seed`.
///
/// The same seed, the same prefix. Take the seed from a random source, once for each network: two networks that ever
/// meet must not have the same prefix (section 3.2.2).
///
/// ```
/// let net = hivemind_net::config::unique_local(7);
/// assert_eq!(net.prefix_len(), 48);
/// assert_eq!(net.network().octets()[0], 0xfd);
/// assert_ne!(net, hivemind_net::config::unique_local(8));
/// ```
pub fn unique_local(seed: u64) -> Ipv6Net {
    let global_id = u128::from(mix(seed) >> 24);
    let network = Ipv6Addr::from((0xfd << 120) | (global_id << 80));
    // 48 is a length of IPv6, so the fallback is never taken.
    Ipv6Net::new(network, 48).unwrap_or_default()
}
