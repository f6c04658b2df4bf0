//! Which addresses of one family may be given out, and how readily. No I/O, no clock, no async.

use super::{FreeRanges, Profile};
use crate::addr::{AddressRange, Cidr};

/// The addresses of some subnets, by how they may be used. An address is in at most one of the three sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    open: FreeRanges,
    band: FreeRanges,
    reserved: FreeRanges,
}

impl Layout {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what `profile` lets workloads of `subnet` use. With `band`, its lower addresses are given out last, so that
    /// they stay free for those who ask for one: of `n` addresses the first `n`/16, at least 16 and at most 256, as for
    /// Kubernetes' services (KEP-3070).
    #[must_use]
    pub fn with_subnet(mut self, subnet: Cidr, profile: Profile, band: bool) -> Self {
        let usable = profile.usable(subnet);
        let size = subnet.size().unwrap_or(u128::MAX);
        let width = (size / 16).clamp(16, 256);
        let split = if band && size > width { subnet.first().saturating_add(width) } else { subnet.first() };
        for (first, last) in usable.ranges() {
            if first < split {
                self.band.insert(first, last.min(split - 1));
            }
            if last >= split {
                self.open.insert(first.max(split), last);
            }
        }
        self
    }

    /// Never gives the range out.
    #[must_use]
    pub fn without(mut self, range: AddressRange) -> Self {
        for set in [&mut self.open, &mut self.band, &mut self.reserved] {
            set.remove(range.first(), range.last());
        }
        self
    }

    /// Gives what it has of the range only to those who ask for an address by name.
    #[must_use]
    pub fn reserving(mut self, range: AddressRange) -> Self {
        for set in [&mut self.open, &mut self.band] {
            for (first, last) in set.remove(range.first(), range.last()) {
                self.reserved.insert(first, last);
            }
        }
        self
    }

    /// Only what is within the range.
    #[must_use]
    pub fn within(mut self, range: AddressRange) -> Self {
        for set in [&mut self.open, &mut self.band, &mut self.reserved] {
            if let Some(before) = range.first().checked_sub(1) {
                set.remove(0, before);
            }
            if let Some(after) = range.last().checked_add(1) {
                set.remove(after, u128::MAX);
            }
        }
        self
    }

    /// What is given out first.
    pub fn open(&self) -> &FreeRanges {
        &self.open
    }

    /// What is given out when nothing of [`open`](Self::open) is left.
    pub fn band(&self) -> &FreeRanges {
        &self.band
    }

    /// What is given only to those who ask for it.
    pub fn reserved(&self) -> &FreeRanges {
        &self.reserved
    }

    /// How many addresses may be given out, at most `u128::MAX`.
    pub fn size(&self) -> u128 {
        [&self.open, &self.band, &self.reserved].iter().fold(0, |sum, set| sum.saturating_add(set.count()))
    }

    /// Whether a workload may have this address.
    pub fn contains(&self, number: u128) -> bool {
        self.open.contains(number) || self.band.contains(number) || self.reserved.contains(number)
    }
}

/// A layout that does not change: sorted ranges, a tenth of the memory of trees for the usual one or two.
#[derive(Debug, Clone)]
pub(super) struct Fixed {
    open: Box<[(u128, u128)]>,
    band: Box<[(u128, u128)]>,
    reserved: Box<[(u128, u128)]>,
}

impl From<&Layout> for Fixed {
    fn from(layout: &Layout) -> Self {
        let of = |set: &FreeRanges| set.ranges().collect();
        Self { open: of(&layout.open), band: of(&layout.band), reserved: of(&layout.reserved) }
    }
}

impl Fixed {
    /// What may be used so, in order.
    pub(super) fn of(&self, of: Use) -> &[(u128, u128)] {
        match of {
            Use::Open => &self.open,
            Use::Band => &self.band,
            Use::Reserved => &self.reserved,
        }
    }

    /// The lowest and the highest number that may be used so.
    pub(super) fn span(&self, of: Use) -> Option<(u128, u128)> {
        let ranges = self.of(of);
        ranges.first().zip(ranges.last()).map(|((low, _), (_, high))| (*low, *high))
    }

    /// For what an address may be used.
    pub(super) fn use_of(&self, number: u128) -> Option<Use> {
        Use::ALL.into_iter().find(|of| within(self.of(*of), number))
    }

    /// The ranges of every use, in no order.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u128, u128)> {
        Use::ALL.into_iter().flat_map(|of| self.of(of).iter().copied())
    }
}

/// How readily an address is given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Open,
    Band,
    Reserved,
}

impl Use {
    pub(super) const ALL: [Self; 3] = [Self::Open, Self::Band, Self::Reserved];

    /// Whether those may have it who ask for none by name.
    pub(super) fn is_for_anybody(self) -> bool {
        self != Self::Reserved
    }
}

/// Whether one of the sorted `ranges` has `number`.
fn within(ranges: &[(u128, u128)], number: u128) -> bool {
    let at = ranges.partition_point(|(_, last)| *last < number);
    ranges.get(at).is_some_and(|(first, _)| *first <= number)
}
