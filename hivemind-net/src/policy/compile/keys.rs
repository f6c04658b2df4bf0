//! Where ranges of keys begin, and which one a key is in. No I/O, no clock, no async.

/// With fewer, halving alone is as fast.
const FEW: usize = 16;

/// The first keys of ranges without gaps. Most rules are about single ports: ranges of one key are also found by a hash,
/// so a look-up costs the same for any number of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    starts: Vec<u32>,
    /// Twice as many places as ranges of one key: the key, and the number of the range.
    single: Vec<(u32, u32)>,
}

/// No key has more than 24 bits.
const NONE: u32 = u32::MAX;

impl Keys {
    /// The ranges that begin at `starts`, which are in order.
    pub(super) fn new(starts: Vec<u32>) -> Self {
        let mut keys = Self { starts, single: Vec::new() };
        keys.index();
        keys
    }

    /// Puts the ranges of one key into the table; to be called after [`Keys::starts_mut`].
    pub(super) fn index(&mut self) {
        self.single.clear();
        if self.starts.len() <= FEW {
            return;
        }
        let next = self.starts.iter().skip(1);
        let singles = self.starts.iter().zip(next).zip(0..).filter(|((key, next), _)| *key + 1 == **next);
        let singles: Vec<(u32, u32)> = singles.map(|((key, _), at)| (*key, at)).collect();
        self.single.resize((2 * singles.len()).next_power_of_two(), (NONE, 0));
        for (key, at) in singles {
            let mut place = self.place(key);
            while self.single.get(place).is_some_and(|(taken, _)| *taken != NONE) {
                place = (place + 1) & (self.single.len() - 1);
            }
            if let Some(free) = self.single.get_mut(place) {
                *free = (key, at);
            }
        }
    }

    fn place(&self, key: u32) -> usize {
        (key.wrapping_mul(0x9e37_79b1) >> 8) as usize & (self.single.len().wrapping_sub(1))
    }

    /// Which range `key` is in; `None` if there is none.
    pub(super) fn at(&self, key: u32) -> Option<usize> {
        let mut place = self.place(key);
        while let Some((found, at)) = self.single.get(place) {
            if *found == key {
                return Some(*at as usize);
            }
            if *found == NONE {
                break;
            }
            place = (place + 1) & (self.single.len() - 1);
        }
        self.starts.partition_point(|start| *start <= key).checked_sub(1)
    }

    pub(super) fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Where ranges begin, in order as before.
    pub(super) fn starts_mut(&mut self) -> &mut Vec<u32> {
        &mut self.starts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn starts() -> impl Strategy<Value = BTreeSet<u32>> {
        btree_set(0u32..150, 0..120)
    }

    proptest! {
        #[test]
        fn a_key_is_in_the_last_range_that_begins_before_it(starts in starts(), more in starts()) {
            let mut keys = Keys::new(starts.iter().copied().collect());
            let all = [starts.clone(), starts.union(&more).copied().collect()];
            for starts in all {
                for key in 0..160 {
                    let expected = starts.iter().filter(|start| **start <= key).count().checked_sub(1);
                    prop_assert_eq!(keys.at(key), expected);
                }
                *keys.starts_mut() = starts.union(&more).copied().collect();
                keys.index();
            }
        }
    }
}
