//! Which VNIs there are, and which to propose. No I/O, no clock, no async.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::overlay::hash::{mix, stable};

/// How many places the pool tries before it says that it is crowded.
const PROBES: u64 = 32;

/// A VXLAN network identifier: 1 to 16,777,215 (RFC 7348, section 5). 0 is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// A number that is no VNI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no VNI: give a number from 1 to {max}", max = Vni::MAX.0)]
pub struct InvalidVni(u32);

impl Vni {
    /// The smallest.
    pub const MIN: Self = Self(1);
    /// The largest: 24 bits.
    pub const MAX: Self = Self((1 << 24) - 1);

    /// The VNI of this number.
    ///
    /// # Errors
    /// [`InvalidVni`] for 0 and for more than 24 bits.
    pub fn new(number: u32) -> Result<Self, InvalidVni> {
        let valid = (Self::MIN.0..=Self::MAX.0).contains(&number);
        if valid { Ok(Self(number)) } else { Err(InvalidVni(number)) }
    }

    /// Its number.
    pub fn as_u32(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u32> for Vni {
    type Error = InvalidVni;
    fn try_from(number: u32) -> Result<Self, InvalidVni> {
        Self::new(number)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

/// The VNIs that a cluster may give to tenants, and how long one rests after its release.
///
/// ```
/// use hivemind_net::overlay::{Vni, VniPool};
///
/// let pool = VniPool::new(Vni::new(5000)?, Vni::new(5999)?)?.without(Vni::new(5500)?, Vni::new(5599)?);
/// assert_eq!(pool.capacity(), 900);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VniPool {
    first: Vni,
    last: Vni,
    /// Sorted, apart from each other, within the pool.
    without: Vec<(Vni, Vni)>,
    cooling: Duration,
}

/// The first VNI of a pool is after its last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a pool from VNI {first} to {last} is empty: give the smaller one first")]
#[non_exhaustive]
pub struct InvalidVniPool {
    /// As given.
    pub first: Vni,
    /// As given.
    pub last: Vni,
}

impl Default for VniPool {
    /// All VNIs from 4096: those below are often mapped one to one to VLANs by the fabric.
    fn default() -> Self {
        Self { first: Vni(4096), last: Vni::MAX, without: Vec::new(), cooling: Duration::from_secs(300) }
    }
}

impl VniPool {
    /// The VNIs from `first` to `last`, both included, resting five minutes after release.
    ///
    /// # Errors
    /// [`InvalidVniPool`] if `first` is after `last`.
    pub fn new(first: Vni, last: Vni) -> Result<Self, InvalidVniPool> {
        if first > last {
            return Err(InvalidVniPool { first, last });
        }
        Ok(Self { first, last, ..Self::default() })
    }

    /// Leaves the VNIs from `first` to `last` to others, such as the fabric's own. What is outside the pool is ignored.
    #[must_use]
    pub fn without(mut self, first: Vni, last: Vni) -> Self {
        let (first, last) = (first.max(self.first), last.min(self.last));
        if first > last {
            return self;
        }
        self.without.push((first, last));
        self.without.sort_unstable();
        let mut apart: Vec<(Vni, Vni)> = Vec::new();
        for (first, last) in self.without.drain(..) {
            match apart.last_mut() {
                Some((_, end)) if first.0 <= end.0.saturating_add(1) => *end = last.max(*end),
                _ => apart.push((first, last)),
            }
        }
        self.without = apart;
        self
    }

    /// How long a released VNI rests before another tenant gets it, so that no late frame reaches a stranger.
    #[must_use]
    pub fn with_cooling(mut self, cooling: Duration) -> Self {
        self.cooling = cooling;
        self
    }

    /// How long a released VNI rests.
    pub fn cooling(&self) -> Duration {
        self.cooling
    }

    /// How many VNIs there are.
    pub fn capacity(&self) -> u32 {
        let taken: u32 = self.without.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
        (self.last.0 - self.first.0 + 1).saturating_sub(taken)
    }

    /// Whether tenants may have `vni`.
    pub fn contains(&self, vni: Vni) -> bool {
        (self.first..=self.last).contains(&vni)
            && !self.without.iter().any(|(first, last)| (*first..=*last).contains(&vni))
    }

    /// The first of a fixed number of places that `free` says yes to. The places depend on `who` alone.
    ///
    /// `None` if none of them is free: then most of the pool is taken.
    pub(crate) fn propose(&self, who: &str, mut free: impl FnMut(Vni) -> bool) -> Option<Vni> {
        let size = u64::from(self.capacity());
        if size == 0 {
            return None;
        }
        let seed = stable([b"vni".as_slice(), who.as_bytes()]);
        (0..PROBES).map(|probe| self.nth(mix(seed.wrapping_add(probe)) % size)).find(|vni| free(*vni))
    }

    /// The `index`th VNI that tenants may have, from 0.
    fn nth(&self, index: u64) -> Vni {
        let mut number = u64::from(self.first.0).saturating_add(index);
        for (first, last) in &self.without {
            if number >= u64::from(first.0) {
                number = number.saturating_add(u64::from(last.0 - first.0 + 1));
            }
        }
        Vni(u32::try_from(number).unwrap_or(self.last.0).min(self.last.0))
    }

    /// The lowest VNI that is not in `taken`, which is in ascending order.
    pub(crate) fn lowest(&self, taken: impl IntoIterator<Item = Vni>) -> Option<Vni> {
        let mut next = 0;
        let size = u64::from(self.capacity());
        for taken in taken.into_iter().filter(|vni| self.contains(*vni)) {
            if next >= size || self.nth(next) != taken {
                break;
            }
            next += 1;
        }
        (next < size).then(|| self.nth(next))
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
