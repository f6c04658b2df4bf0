//! Finds things by a hash of them, without a copy of each as a key. No I/O, no clock, no async.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

/// Some numbers, mostly few, in order. New ones are mostly the highest, so a list is faster than a tree.
#[derive(Debug, Clone, Default)]
pub(super) struct Few(SmallVec<[u32; 4]>);

impl Few {
    pub(super) fn insert(&mut self, number: u32) {
        if self.0.last().is_none_or(|last| *last < number) {
            self.0.push(number);
        } else if let Err(at) = self.0.binary_search(&number) {
            self.0.insert(at, number);
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        if let Ok(at) = self.0.binary_search(&number) {
            self.0.remove(at);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.0.binary_search(&number).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }
}

/// Things, mostly one.
pub(super) type OneOrMore<T> = SmallVec<[T; 1]>;

/// The numbers of things by their hashes. Others may have the same hash: whoever asks looks at the things themselves.
#[derive(Debug, Clone, Default)]
pub(super) struct Index(HashMap<u64, Few, FixedState>);

impl Index {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.0.reserve(more);
    }

    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        self.0.entry(hash).or_default().insert(number);
    }

    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        if let Some(found) = self.0.get_mut(&hash) {
            found.remove(number);
            if found.is_empty() {
                self.0.remove(&hash);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that may be meant.
    pub(super) fn all(&self, hash: u64) -> impl Iterator<Item = u32> {
        self.0.get(&hash).into_iter().flat_map(Few::iter)
    }

    /// The one that is meant.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.all(hash).find(|number| is(*number))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn few_numbers_are_a_set(steps in vec((any::<bool>(), 0u32..6), 0..40)) {
            let (mut few, mut model) = (Few::default(), BTreeSet::new());
            for (inside, number) in steps {
                if inside {
                    few.insert(number);
                    model.insert(number);
                } else {
                    few.remove(number);
                    model.remove(&number);
                }
                prop_assert_eq!(few.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(few.is_empty(), model.is_empty());
                prop_assert!((0..6).all(|number| few.has(number) == model.contains(&number)));
            }
        }

        #[test]
        fn things_with_equal_hashes_are_told_apart(steps in vec((any::<bool>(), 0u32..8), 0..40)) {
            // Two hashes for eight things.
            let (mut index, mut model) = (Index::default(), BTreeSet::new());
            for (inside, thing) in steps {
                let hash = u64::from(thing % 2);
                if inside {
                    index.insert(hash, thing);
                    model.insert(thing);
                } else {
                    index.remove(hash, thing);
                    model.remove(&thing);
                }
                for thing in 0..8 {
                    let found = index.find(u64::from(thing % 2), |number| number == thing);
                    prop_assert_eq!(found, model.get(&thing).copied());
                }
            }
        }
    }
}
