//! A stable hash. No I/O, no clock, no async.
//!
//! Nodes and versions must agree on it, so it is neither the standard library's nor another crate's.

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection whose output bits all depend on all input bits.
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// 128 bits that depend on `seed` and every byte of `text`; spreads, and hides nothing.
pub(crate) fn hash(seed: u64, text: &[u8]) -> u128 {
    let (mut low, mut high) = (mix(seed), mix(!seed));
    for chunk in text.chunks(8) {
        let mut word = [0u8; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        let word = u64::from_le_bytes(word);
        low = mix(low ^ word);
        high = mix(high.rotate_left(23) ^ word);
    }
    // The length tells texts apart that differ in trailing zeros.
    let len = u64::try_from(text.len()).unwrap_or(u64::MAX);
    (u128::from(mix(high ^ len)) << 64) | u128::from(mix(low ^ len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf, "the first output of SplitMix64 seeded with 0");
        let (a, b) = (hash(1, b"web-1"), hash(1, b"web-2"));
        assert!((a ^ b).count_ones() > 30 && hash(2, b"web-1") != a);
        assert_ne!(hash(1, b"a"), hash(1, b"a\0"));
        assert_eq!(hash(7, b"web-1"), GOLDEN);
    }

    const GOLDEN: u128 = 132_270_786_690_235_570_027_540_279_866_737_916_237;
}
