//! How large a packet may be inside the overlay. No I/O, no clock, no async.

use serde::{Deserialize, Serialize};

/// The smallest MTU that IPv6 works on, in bytes (RFC 8200, section 5).
pub const MIN_MTU_V6: u32 = 1280;
/// The smallest MTU that we put IPv4 on, in bytes: what every host must be able to reassemble (RFC 791).
pub const MIN_MTU_V4: u32 = 576;
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
    #[error("an underlay MTU of {mtu} is impossible: give {min} to {MAX_MTU}", min = MIN_MTU_V4)]
    Impossible {
        /// As given, in bytes.
        mtu: u32,
    },
    /// Too little is left for what runs inside.
    #[error(
        "{overhead} bytes of overhead leave {inner} of an underlay MTU of {underlay}, but {what} needs {needed}: \
         raise the underlay's MTU to {}", needed.saturating_add(*overhead)
    )]
    TooSmall {
        /// The underlay's MTU in bytes.
        underlay: u32,
        /// What the encapsulation takes, in bytes.
        overhead: u32,
        /// What would be left, in bytes.
        inner: u32,
        /// `IPv6` or `IPv4`.
        what: &'static str,
        /// What it needs, in bytes.
        needed: u32,
    },
}

/// The largest inner packet, in bytes: of an underlay of `underlay` bytes, less `overhead`.
///
/// # Errors
/// [`InvalidMtu`] if no link has such an MTU, or if IPv6 (`inner_v6`) or IPv4 cannot work on what is left.
pub fn inner_mtu(underlay: u32, overhead: u32, inner_v6: bool) -> Result<u32, InvalidMtu> {
    if !(MIN_MTU_V4..=MAX_MTU).contains(&underlay) {
        return Err(InvalidMtu::Impossible { mtu: underlay });
    }
    let inner = underlay.saturating_sub(overhead);
    let (what, needed) = if inner_v6 { ("IPv6", MIN_MTU_V6) } else { ("IPv4", MIN_MTU_V4) };
    if inner < needed {
        return Err(InvalidMtu::TooSmall { underlay, overhead, inner, what, needed });
    }
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overhead_is_that_of_the_headers() {
        use UnderlayFamily::{V4, V6};
        for (underlay, overhead, v6, inner) in [
            (1500, V4.vxlan_overhead(), true, Ok(1450)),
            (1500, V6.vxlan_overhead(), true, Ok(1430)),
            (9000, V6.vxlan_overhead(), true, Ok(8930)),
            (1500, V6.vxlan_overhead() + V6.wireguard_overhead(), true, Ok(1350)),
            (1500, V4.vxlan_overhead() + V4.wireguard_overhead(), true, Ok(1390)),
            (1350, V6.vxlan_overhead(), true, Ok(1280)),
            (1349, V6.vxlan_overhead(), false, Ok(1279)),
            (626, V4.vxlan_overhead(), false, Ok(576)),
            (500, 0, false, Err(InvalidMtu::Impossible { mtu: 500 })),
            (65_536, 0, false, Err(InvalidMtu::Impossible { mtu: 65_536 })),
        ] {
            assert_eq!(inner_mtu(underlay, overhead, v6), inner, "{underlay} - {overhead}");
        }
        assert_eq!(
            inner_mtu(1349, 70, true).unwrap_err().to_string(),
            "70 bytes of overhead leave 1279 of an underlay MTU of 1349, but IPv6 needs 1280: \
             raise the underlay's MTU to 1350"
        );
        assert!(inner_mtu(600, 50, false).is_err());
    }
}
