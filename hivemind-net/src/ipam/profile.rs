//! Which addresses of a subnet a workload may have. No I/O, no clock, no async.

use serde::{Deserialize, Serialize};

use super::FreeRanges;
use crate::addr::{Cidr, IpFamily};

/// What a subnet is used for, which decides what stays out of use.
///
/// A subnet of one or two addresses is used whole in every profile (RFC 3021, RFC 6164). In IPv6 subnets of more than
/// 256 addresses the 128 reserved anycast addresses of RFC 2526 stay out too, except in [`Service`](Self::Service).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Profile {
    /// A link with a gateway. Out: the first address (IPv4's network; IPv6's anycast address of all routers, RFC 4291,
    /// section 2.6.1), the second (the gateway), and IPv4's last (broadcast).
    #[default]
    L2,
    /// Each address is routed by itself. Out: IPv6's anycast address of all routers.
    Routed,
    /// Virtual addresses of services. Out: the first, and IPv4's last.
    Service,
    /// Links of two ends: subnets of /31 or /127, or of one address.
    PointToPoint,
}

impl Profile {
    /// The addresses of `subnet` that a workload may have, as numbers.
    pub fn usable(self, subnet: Cidr) -> FreeRanges {
        let mut usable = FreeRanges::from_range(subnet.first(), subnet.last());
        if subnet.host_bits() < 2 || self == Self::PointToPoint {
            return usable;
        }
        let v4 = subnet.family() == IpFamily::V4;
        if !(v4 && self == Self::Routed) {
            usable.take(subnet.first());
        }
        if self == Self::L2 {
            usable.take(subnet.first() | 1);
        }
        if v4 && self != Self::Routed {
            usable.take(subnet.last());
        }
        if !v4 && self != Self::Service && subnet.host_bits() > 8 {
            let (first, last) = reserved_anycast(subnet);
            usable.remove(first, last);
        }
        usable
    }

    /// The gateway of `subnet`, if the profile has one.
    pub fn gateway(self, subnet: Cidr) -> Option<std::net::IpAddr> {
        let has = self == Self::L2 && subnet.host_bits() >= 2;
        has.then(|| subnet.family().address(subnet.first() | 1)).flatten()
    }
}

/// The reserved anycast addresses of an IPv6 subnet (RFC 2526, section 2): all ones but for the last 7 bits; in a /64,
/// whose interface identifiers are EUI-64, with the universal bit cleared.
fn reserved_anycast(subnet: Cidr) -> (u128, u128) {
    let last = if subnet.prefix_len() == 64 { subnet.last() ^ (1 << 57) } else { subnet.last() };
    (last & !0x7f, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_leaves_out_what_it_must() {
        let usable = |profile: Profile, subnet: &str| {
            let subnet: Cidr = subnet.parse().unwrap();
            let of = |n| subnet.family().address(n).unwrap().to_string();
            let ranges = profile.usable(subnet);
            ranges.ranges().map(|(a, b)| format!("{}-{}", of(a), of(b))).collect::<Vec<_>>().join(" ")
        };
        use Profile::{L2, PointToPoint, Routed, Service};
        assert_eq!(usable(L2, "10.0.0.0/24"), "10.0.0.2-10.0.0.254");
        assert_eq!(usable(Routed, "10.0.0.0/24"), "10.0.0.0-10.0.0.255");
        assert_eq!(usable(Service, "10.0.0.0/24"), "10.0.0.1-10.0.0.254");
        for profile in [L2, Routed, Service, PointToPoint] {
            assert_eq!(usable(profile, "10.0.0.2/31"), "10.0.0.2-10.0.0.3");
            assert_eq!(usable(profile, "10.0.0.3/32"), "10.0.0.3-10.0.0.3");
            assert_eq!(usable(profile, "fd00::2/127"), "fd00::2-fd00::3");
        }
        assert_eq!(usable(L2, "10.0.0.0/30"), "10.0.0.2-10.0.0.2");
        assert_eq!(usable(L2, "fd00::/120"), "fd00::2-fd00::ff");
        assert_eq!(usable(Routed, "fd00::/112"), "fd00::1-fd00::ff7f");
        assert_eq!(usable(Service, "fd00::/112"), "fd00::1-fd00::ffff");
        assert_eq!(
            usable(L2, "fd00::/64"),
            "fd00::2-fd00::fdff:ffff:ffff:ff7f fd00::fe00:0:0:0-fd00::ffff:ffff:ffff:ffff"
        );
        assert_eq!(usable(Service, "::/0"), "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(L2.gateway("fd00::/64".parse().unwrap()), Some("fd00::1".parse().unwrap()));
        assert_eq!(Routed.gateway("fd00::/64".parse().unwrap()), None);
    }
}
