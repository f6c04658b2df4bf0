//! Prefix arithmetic for both families, exact at every length. No I/O, no clock, no async.

/// A network of either family: its first address as a number, and how many bits the host part has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u128,
    /// 0 to 128.
    pub(super) host_bits: u8,
}

impl Span {
    /// How many subnets of `host_bits` bits each fit, at most `u64::MAX`; zero if one does not fit.
    pub(super) fn subnets(self, host_bits: u8) -> u64 {
        match self.host_bits.checked_sub(host_bits) {
            None => 0,
            Some(bits) => 1u64.checked_shl(u32::from(bits)).unwrap_or(u64::MAX),
        }
    }

    /// The subnet of that number; `None` if there are not so many.
    pub(super) fn subnet(self, number: u64, host_bits: u8) -> Option<Self> {
        if number >= self.subnets(host_bits) {
            return None;
        }
        // A shift by 128 can only be asked for number 0.
        let offset = u128::from(number).checked_shl(u32::from(host_bits)).unwrap_or_default();
        Some(Self { first: self.first.checked_add(offset)?, host_bits })
    }

    /// The last address of the span.
    pub(super) fn last(self) -> u128 {
        let mask = if self.host_bits >= 128 { u128::MAX } else { (1u128 << self.host_bits) - 1 };
        self.first | mask
    }

    /// The first and last address that a workload may have.
    ///
    /// In a subnet of four addresses or more the first is the network's (IPv4) or the routers' anycast address (RFC
    /// 4291, section 2.6.1), the second is the gateway's, and IPv4's last is the broadcast address. Point-to-point
    /// subnets (RFC 3021, RFC 6164) and single addresses have none of these.
    pub(super) fn usable(self, broadcast: bool) -> (u128, u128) {
        if self.host_bits < 2 {
            return (self.first, self.last());
        }
        (self.first.saturating_add(2), self.last() - u128::from(broadcast))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_exact_at_the_extremes() {
        let all = Span { first: 0, host_bits: 128 };
        assert_eq!((all.subnets(128), all.subnets(0), all.last()), (1, u64::MAX, u128::MAX));
        assert_eq!(all.subnet(0, 128), Some(all));
        assert_eq!(all.subnet(1, 128), None);
        assert_eq!(all.subnet(1, 127), Some(Span { first: 1 << 127, host_bits: 127 }));
        assert_eq!(all.usable(false), (2, u128::MAX));
        let one = Span { first: u128::MAX, host_bits: 0 };
        assert_eq!((one.subnets(0), one.subnets(1), one.last()), (1, 0, u128::MAX));
        assert_eq!((one.subnet(0, 0), one.usable(true)), (Some(one), (u128::MAX, u128::MAX)));
    }

    #[test]
    fn keeps_the_reserved_addresses() {
        let net = |first, host_bits| Span { first, host_bits };
        assert_eq!(net(0, 2).usable(true), (2, 2));
        assert_eq!(net(0, 2).usable(false), (2, 3));
        assert_eq!(net(4, 1).usable(true), (4, 5));
        assert_eq!(net(64, 6).usable(true), (66, 126));
        assert_eq!(net(0, 16).subnet(3, 6), Some(net(192, 6)));
        assert_eq!(net(0, 16).subnet(1024, 6), None);
    }
}
