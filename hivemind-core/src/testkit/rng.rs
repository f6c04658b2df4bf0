//! A small random number generator whose seed is the whole story.

/// The same numbers each time for the same seed: SplitMix64 (Steele, Lea, Flood 2014); never for anything secret.
///
/// ```
/// use hivemind_core::testkit::SimRng;
///
/// let (mut a, mut b) = (SimRng::new(7), SimRng::new(7));
/// assert_eq!(a.next_u64(), b.next_u64());
/// assert!(a.below(10) < 10);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimRng(u64);

impl SimRng {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        crate::adapters::split_mix(&mut self.0)
    }

    /// A number below `n`; zero if `n` is zero.
    pub fn below(&mut self, n: u64) -> u64 {
        // The high half of the product: no modulo, and a bias that no test can see.
        let product = u128::from(self.next_u64()) * u128::from(n);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    /// Yes, `ppm` times in a million.
    pub fn chance(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }

    /// A generator of its own, so that one consumer's draws do not shift another's.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.next_u64())
    }
}
