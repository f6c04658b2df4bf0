//! Sets of peers, as bits. No I/O, no clock, no async.

/// Some numbers. There is no zero word at the end, so that equal sets are equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::policy) struct Bits(Vec<u64>);

fn place(number: u32) -> (usize, u64) {
    ((number >> 6) as usize, 1 << (number & 63))
}

impl Bits {
    pub(super) const NONE: Self = Self(Vec::new());

    pub(super) fn has(&self, number: u32) -> bool {
        let (word, bit) = place(number);
        self.0.get(word).is_some_and(|found| found & bit != 0)
    }

    pub(super) fn put(&mut self, number: u32, on: bool) {
        let (word, bit) = place(number);
        if on && self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(found) = self.0.get_mut(word) {
            *found = if on { *found | bit } else { *found & !bit };
        }
        if !on {
            self.trim();
        }
    }

    /// Without any, and with room for the numbers up to `most`.
    pub(super) fn with_room(most: u32) -> Self {
        Self(Vec::with_capacity(place(most).0 + 1))
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn or(&mut self, other: &Self) {
        if self.0.is_empty() {
            return self.clone_from(other);
        }
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    fn and(&mut self, other: &Self) {
        self.0.truncate(other.0.len());
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine &= theirs);
        self.trim();
    }

    fn without(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine &= !theirs);
        self.trim();
    }

    pub(in crate::policy) fn iter(&self) -> impl Iterator<Item = u32> {
        let words = (0_u32..).step_by(64).zip(&self.0);
        words.flat_map(|(first, word)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| first + bit)
        })
    }

    pub(in crate::policy) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a decision is made with: for all peers at once, or for one.
pub(super) trait Set: Clone {
    fn none() -> Self;
    fn all() -> Self;
    fn is_all(&self) -> bool;
    fn join(&mut self, other: &Self);
    fn meet(&mut self, other: &Self);
    fn remove(&mut self, other: &Self);
}

impl Set for bool {
    fn none() -> Self {
        false
    }
    fn all() -> Self {
        true
    }
    fn is_all(&self) -> bool {
        *self
    }
    fn join(&mut self, other: &Self) {
        *self |= other;
    }
    fn meet(&mut self, other: &Self) {
        *self &= other;
    }
    fn remove(&mut self, other: &Self) {
        *self &= !other;
    }
}

/// Some peers, or all but some: a peer that comes later is in it, or not, without anybody's doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::policy) struct Peers {
    pub(in crate::policy) all_but: bool,
    pub(in crate::policy) bits: Bits,
}

impl Peers {
    pub(super) fn has(&self, number: u32) -> bool {
        self.all_but ^ self.bits.has(number)
    }

    pub(super) fn put(&mut self, number: u32, inside: bool) {
        self.bits.put(number, inside != self.all_but);
    }

    /// The peers that are in just one of the two.
    pub(in crate::policy) fn differing(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.clone(), other.clone());
        left.remove(other);
        right.remove(self);
        left.join(&right);
        left
    }
}

impl Set for Peers {
    fn none() -> Self {
        Self::default()
    }

    fn all() -> Self {
        Self { all_but: true, bits: Bits::default() }
    }

    fn is_all(&self) -> bool {
        self.all_but && self.bits.is_empty()
    }

    fn join(&mut self, other: &Self) {
        match (self.all_but, other.all_but) {
            (false, false) => self.bits.or(&other.bits),
            (true, false) => self.bits.without(&other.bits),
            (true, true) => self.bits.and(&other.bits),
            (false, true) => {
                let mine = std::mem::replace(self, other.clone());
                self.bits.without(&mine.bits);
            }
        }
    }

    fn meet(&mut self, other: &Self) {
        match (self.all_but, other.all_but) {
            (false, false) => self.bits.and(&other.bits),
            (false, true) => self.bits.without(&other.bits),
            (true, true) => self.bits.or(&other.bits),
            (true, false) => {
                let mine = std::mem::replace(self, other.clone());
                self.bits.without(&mine.bits);
            }
        }
    }

    fn remove(&mut self, other: &Self) {
        match (self.all_but, other.all_but) {
            (false, false) => self.bits.without(&other.bits),
            (true, false) => self.bits.or(&other.bits),
            (false, true) => self.bits.and(&other.bits),
            (true, true) => {
                let mine = std::mem::replace(self, Self { all_but: false, bits: other.bits.clone() });
                self.bits.without(&mine.bits);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn peers() -> impl Strategy<Value = Peers> {
        (any::<bool>(), btree_set(0u32..200, 0..20)).prop_map(|(all_but, numbers)| {
            let mut peers = Peers { all_but, bits: Bits::default() };
            numbers.into_iter().for_each(|number| peers.bits.put(number, true));
            peers
        })
    }

    proptest! {
        #[test]
        fn sets_are_what_their_members_say(a in peers(), b in peers()) {
            let (mut joined, mut met, mut left) = (a.clone(), a.clone(), a.clone());
            joined.join(&b);
            met.meet(&b);
            left.remove(&b);
            for number in 0..260 {
                let (in_a, in_b) = (a.has(number), b.has(number));
                prop_assert_eq!(joined.has(number), in_a || in_b);
                prop_assert_eq!(met.has(number), in_a && in_b);
                prop_assert_eq!(left.has(number), in_a && !in_b);
                prop_assert_eq!(a.differing(&b).has(number), in_a != in_b);
            }
            let listed: Vec<_> = a.bits.iter().collect();
            prop_assert_eq!(listed, (0..260).filter(|n| a.bits.has(*n)).collect::<Vec<_>>());
        }
    }
}
