//! Numbers for things that are compared often. No I/O, no clock, no async.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;

/// Finds things by their hash. It does not keep them, so that nothing is cloned to be looked up. Never iterated, so
/// that the hash, which differs from one index to the next, decides nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Interner {
    state: RandomState,
    found: HashMap<u64, Vec<usize>, RandomState>,
}

impl Interner {
    /// The hash of a thing.
    pub(super) fn hash(&self, of: &impl Hash) -> u64 {
        self.state.hash_one(of)
    }

    /// The one of this hash that is the `same`.
    pub(super) fn find(&self, hash: u64, same: impl Fn(usize) -> bool) -> Option<usize> {
        self.found.get(&hash)?.iter().copied().find(|at| same(*at))
    }

    /// `at` has this hash.
    pub(super) fn add(&mut self, hash: u64, at: usize) -> usize {
        self.found.entry(hash).or_default().push(at);
        at
    }
}
