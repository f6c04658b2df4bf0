//! Ids from the operating system's randomness, and from a seed.

use std::sync::{Mutex, PoisonError};

use crate::IdSource;

/// The operating system's randomness.
#[derive(Debug, Default, Clone, Copy)]
#[non_exhaustive]
pub struct SystemIds;

impl SystemIds {
    /// The operating system's randomness.
    pub fn new() -> Self {
        Self
    }
}

impl IdSource for SystemIds {
    fn next_u128(&self) -> u128 {
        let mut bytes = [0; 16];
        // The system call can fail only for an interruption before the pool is ready, at boot.
        while getrandom::fill(&mut bytes).is_err() {}
        u128::from_le_bytes(bytes)
    }
}

/// The same ids each time for the same seed: for tests and simulation, never for production.
#[derive(Debug)]
pub struct SeededIds(Mutex<u64>);

impl SeededIds {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl IdSource for SeededIds {
    fn next_u128(&self) -> u128 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (u128::from(split_mix(&mut state)) << 64) | u128::from(split_mix(&mut state))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::IdSourceExt;

    #[test]
    fn a_seed_replays_and_does_not_repeat() {
        let ids = |seed| {
            let source = SeededIds::new(seed);
            (0..1000).map(|_| source.next_u128()).collect::<Vec<_>>()
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
        assert_eq!(ids(1).into_iter().collect::<BTreeSet<_>>().len(), 1000);
    }

    #[test]
    fn system_ids_make_valid_names() {
        let ids = SystemIds::new();
        assert_ne!(ids.request(), ids.request());
        assert!(ids.reservation().as_str().starts_with("res-"));
        assert_ne!(ids.generation(), ids.generation());
    }
}
