//! Ids from the operating system's randomness, and from a seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{IdSource, IdSourceExt};

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

/// Fast ids for what is made millions of times a second, such as spans: a sequence from a place that another source chose.
/// Anybody who has seen one can tell the others, so they are no secrets.
#[derive(Debug)]
pub struct SequenceIds {
    seeds: (u64, u64),
    next: AtomicU64,
}

impl SequenceIds {
    /// The sequence that begins where `source` says. It repeats after 2^64 ids.
    pub fn new(source: &dyn IdSource) -> Self {
        let seeds = (IdSourceExt::next_u64(source), IdSourceExt::next_u64(source));
        Self { seeds, next: AtomicU64::new(0) }
    }
}

impl IdSource for SequenceIds {
    fn next_u128(&self) -> u128 {
        let at = self.next.fetch_add(1, Ordering::Relaxed).wrapping_mul(GAMMA);
        let half = |seed: u64| u128::from(split_mix(&mut seed.wrapping_add(at)));
        (half(self.seeds.0) << 64) | half(self.seeds.1)
    }
}

/// The step of [`split_mix`].
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(GAMMA);
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
    fn a_sequence_does_not_repeat_in_either_half_and_begins_elsewhere_each_time() {
        let ids = |seed| {
            let source = SequenceIds::new(&SeededIds::new(seed));
            (0..1000).map(|_| source.next_u128()).collect::<BTreeSet<_>>()
        };
        let (one, other) = (ids(1), ids(2));
        assert!(one.is_disjoint(&other) && one == ids(1));
        let high: BTreeSet<_> = one.iter().map(|id| id >> 64).collect();
        let low: BTreeSet<_> = one.iter().map(|id| id << 64).collect();
        assert_eq!((one.len(), high.len(), low.len()), (1000, 1000, 1000));
        // About half of all bits are set, in each place of the random part.
        for bit in 0..128 {
            let set = one.iter().filter(|id| **id & (1 << bit) != 0).count();
            assert!((400..600).contains(&set), "bit {bit}: {set}");
        }
    }

    #[test]
    fn system_ids_make_valid_names() {
        let ids = SystemIds::new();
        assert_ne!(ids.request(), ids.request());
        assert!(ids.reservation().as_str().starts_with("res-"));
        assert_ne!(ids.generation(), ids.generation());
    }
}
