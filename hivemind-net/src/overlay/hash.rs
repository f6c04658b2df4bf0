//! A hash that every node and every version agrees on. No I/O, no clock, no async.

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a over `parts`, each led by its length so that `["ab", "c"]` and `["a", "bc"]` differ, finished with
/// MurmurHash3's 64-bit mix so that every output bit depends on every input bit.
///
/// Names in the kernel derive from it, so its output never changes: a test pins it.
pub(crate) fn stable<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = OFFSET;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    for part in parts {
        u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes().into_iter().for_each(&mut eat);
        part.iter().copied().for_each(&mut eat);
    }
    mix(hash)
}

/// MurmurHash3's finalizer: a bijection in which every bit of `hash` flips half of the output.
pub(crate) fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_for_ever() {
        assert_eq!(stable([&b"node-1"[..], &b"web"[..]]), 4_065_553_067_093_493_238);
        assert_ne!(stable([&b"ab"[..], &b"c"[..]]), stable([&b"a"[..], &b"bc"[..]]));
        assert_ne!(stable([&b""[..]]), stable([&b""[..], &b""[..]]));
    }
}
