//! Numbers for things that are compared often. No I/O, no clock, no async.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;

/// Finds things by their hash. It does not keep them, so that nothing is cloned to be looked up. Never iterated, so
/// that the hash, which differs from one index to the next, decides nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Interner {
    state: RandomState,
    /// Of several things of one hash, the later ones are under the next ones that are free.
    found: HashMap<u64, usize, RandomState>,
}

impl Interner {
    /// The hash of a thing.
    pub(super) fn hash(&self, of: &impl Hash) -> u64 {
        self.state.hash_one(of)
    }

    /// The one of this hash that is the `same`.
    pub(super) fn find(&self, mut hash: u64, same: impl Fn(usize) -> bool) -> Option<usize> {
        loop {
            let at = *self.found.get(&hash)?;
            if same(at) {
                return Some(at);
            }
            hash = hash.wrapping_add(1);
        }
    }

    /// `at` has this hash. Nothing is ever taken away.
    pub(super) fn add(&mut self, mut hash: u64, at: usize) -> usize {
        while self.found.contains_key(&hash) {
            hash = hash.wrapping_add(1);
        }
        self.found.insert(hash, at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_of_one_hash_are_all_found() {
        let mut interner = Interner::default();
        for (hash, at) in [(u64::MAX, 0), (u64::MAX, 1), (0, 2), (u64::MAX, 3)] {
            assert_eq!(interner.find(hash, |one| one == at), None);
            assert_eq!(interner.add(hash, at), at);
        }
        for (hash, at) in [(u64::MAX, 0), (u64::MAX, 1), (0, 2), (u64::MAX, 3)] {
            assert_eq!(interner.find(hash, |one| one == at), Some(at));
        }
        assert_eq!(interner.find(u64::MAX, |one| one == 7), None);
    }
}
