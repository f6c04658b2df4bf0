//! Numbers for things that are compared often. No I/O, no clock, no async.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The same number each time for the same thing.
pub(super) fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Finds things by their hash. It does not keep them, so that nothing is cloned to be looked up. Never iterated.
#[derive(Debug, Clone, Default)]
pub(super) struct Interner(HashMap<u64, Vec<usize>>);

impl Interner {
    /// The one of this hash that is the `same`.
    pub(super) fn find(&self, hash: u64, same: impl Fn(usize) -> bool) -> Option<usize> {
        self.0.get(&hash)?.iter().copied().find(|at| same(*at))
    }

    /// `at` has this hash.
    pub(super) fn add(&mut self, hash: u64, at: usize) -> usize {
        self.0.entry(hash).or_default().push(at);
        at
    }
}
