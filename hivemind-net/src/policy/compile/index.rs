//! Finds things by a hash of them, without a copy of each as a key. No I/O, no clock, no async.

use hashbrown::HashTable;
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
pub(super) struct Index(HashTable<(u64, u32)>);

impl Index {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.0.reserve(more, |(hash, _)| *hash);
    }

    /// Takes a thing that is not there yet.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        self.0.insert_unique(hash, (hash, number), |(hash, _)| *hash);
    }

    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        if let Ok(found) = self.0.find_entry(hash, |one| *one == (hash, number)) {
            found.remove();
        }
    }

    /// The one that is meant.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.0.find(hash, |(found, number)| *found == hash && is(*number)).map(|(_, number)| *number)
    }
}

/// The numbers of things by a hash that many of them have.
#[derive(Debug, Clone, Default)]
pub(super) struct Lists(HashTable<(u64, Few)>);

impl Lists {
    /// Makes room for so many more hashes.
    pub(super) fn reserve(&mut self, more: usize) {
        self.0.reserve(more, |(hash, _)| *hash);
    }

    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let found = self.0.entry(hash, |(found, _)| *found == hash, |(hash, _)| *hash);
        found.or_insert_with(|| (hash, Few::default())).get_mut().1.insert(number);
    }

    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let Ok(mut found) = self.0.find_entry(hash, |(found, _)| *found == hash) else { return };
        let (_, numbers) = found.get_mut();
        numbers.remove(number);
        if numbers.is_empty() {
            found.remove();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that have it.
    pub(super) fn all(&self, hash: u64) -> impl Iterator<Item = u32> {
        self.0.find(hash, |(found, _)| *found == hash).into_iter().flat_map(|(_, few)| few.iter())
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
            let (mut index, mut lists, mut model) = (Index::default(), Lists::default(), BTreeSet::new());
            for (inside, thing) in steps {
                let hash = u64::from(thing % 2);
                if !inside {
                    index.remove(hash, thing);
                    lists.remove(hash, thing);
                    model.remove(&thing);
                } else if model.insert(thing) {
                    index.insert(hash, thing);
                    lists.insert(hash, thing);
                }
                for thing in 0..8 {
                    let found = index.find(u64::from(thing % 2), |number| number == thing);
                    prop_assert_eq!(found, model.get(&thing).copied());
                }
                for hash in 0..2 {
                    let listed = lists.all(hash).collect::<Vec<_>>();
                    let expected = model.iter().copied().filter(|thing| u64::from(thing % 2) == hash);
                    prop_assert_eq!(listed, expected.collect::<Vec<_>>());
                }
                prop_assert_eq!(lists.is_empty(), model.is_empty());
            }
        }
    }
}
