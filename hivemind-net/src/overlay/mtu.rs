//! How large a packet may be inside the overlay. No I/O, no clock, no async.

use serde::{Deserialize, Serialize};

/// The smallest MTU that IPv6 works on, in bytes (RFC 8200, section 5).
///
/// It holds for networks with IPv4 alone too: their next hops are IPv6 link-local addresses, and Linux takes IPv6 off
/// a link with a smaller one.
pub const MIN_MTU: u32 = 1280;
/// The largest MTU of a link, in bytes: an IPv4 packet knows no larger.
pub const MAX_MTU: u32 = 65_535;

/// The IP version of the packets between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::exhaustive_enums, reason = "there are two versions of IP")]
pub enum UnderlayFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl UnderlayFamily {
    /// The bytes that VXLAN adds: the outer IP header (20 or 40), UDP (8), VXLAN (8), the inner Ethernet header (14).
    pub fn vxlan_overhead(self) -> u32 {
        match self {
            Self::V4 => 50,
            Self::V6 => 70,
        }
    }

    /// The bytes that WireGuard adds: the outer IP header (20 or 40), UDP (8), the data message's header and tag (32).
    pub fn wireguard_overhead(self) -> u32 {
        match self {
            Self::V4 => 60,
            Self::V6 => 80,
        }
    }
}

/// Why packets would be lost in silence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMtu {
    /// No link has such an MTU.
    #[error("an underlay MTU of {mtu} is impossible: give at most {MAX_MTU}")]
    TooLarge {
        /// As given, in bytes.
        mtu: u32,
    },
    /// Too little is left for IPv6.
    #[error(
        "{overhead} bytes of overhead leave {inner} of an underlay MTU of {underlay}, but IPv6 needs {MIN_MTU}: \
         raise the underlay's MTU to {}", MIN_MTU.saturating_add(*overhead)
    )]
    TooSmall {
        /// The underlay's MTU in bytes.
        underlay: u32,
        /// What the encapsulation takes, in bytes.
        overhead: u32,
        /// What would be left, in bytes.
        inner: u32,
    },
}

/// The largest inner packet, in bytes: of an underlay of `underlay` bytes, less `overhead`.
///
/// # Errors
/// [`InvalidMtu`] if no link has such an MTU, or if less than [`MIN_MTU`] is left.
pub fn inner_mtu(underlay: u32, overhead: u32) -> Result<u32, InvalidMtu> {
    if underlay > MAX_MTU {
        return Err(InvalidMtu::TooLarge { mtu: underlay });
    }
    let inner = underlay.saturating_sub(overhead);
    if inner < MIN_MTU {
        return Err(InvalidMtu::TooSmall { underlay, overhead, inner });
    }
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overhead_is_that_of_the_headers() {
        use UnderlayFamily::{V4, V6};
        for (underlay, overhead, inner) in [
            (1500, V4.vxlan_overhead(), Ok(1450)),
            (1500, V6.vxlan_overhead(), Ok(1430)),
            (9000, V6.vxlan_overhead(), Ok(8930)),
            (1500, V6.vxlan_overhead() + V6.wireguard_overhead(), Ok(1350)),
            (1500, V4.vxlan_overhead() + V4.wireguard_overhead(), Ok(1390)),
            (1350, V6.vxlan_overhead(), Ok(1280)),
            (65_536, 0, Err(InvalidMtu::TooLarge { mtu: 65_536 })),
        ] {
            assert_eq!(inner_mtu(underlay, overhead), inner, "{underlay} - {overhead}");
        }
        assert_eq!(
            inner_mtu(1349, 70).unwrap_err().to_string(),
            "70 bytes of overhead leave 1279 of an underlay MTU of 1349, but IPv6 needs 1280: \
             raise the underlay's MTU to 1350"
        );
        assert!(inner_mtu(0, u32::MAX).is_err());
    }
}
