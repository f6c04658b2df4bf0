//! The addresses of one block: free, owned, cooling. No I/O, no clock, no async.

use hivemind_core::{Timestamp, WorkloadId};

use super::strategy::Start;
use super::{FreeRanges, Layout, Refusal, Wish};
use crate::addr::{Cidr, IpFamily, address_number};

/// How many addresses whose quarantine is over are freed with each one taken: more than come in.
const THAW: usize = 4;

/// At most 256 addresses, decided on as an [`Allocator`](super::Allocator) does.
///
/// A block is read, decided on and written with every request, so there is nothing to build: what may be given out is
/// three sets of bits, owners are a sorted list that becomes the record as it is.
#[derive(Debug, Clone)]
pub(crate) struct BlockSpace {
    cidr: Cidr,
    open: Places,
    band: Places,
    reserved: Places,
    /// Owned or cooling.
    busy: Places,
    /// By place.
    owners: Vec<(u8, WorkloadId)>,
    /// By when it is over.
    cooling: Vec<(Timestamp, u8)>,
    last: Option<u8>,
    turn: u64,
}

/// What is kept of a block: owners and what cools, each by place in the block; the place proposed last, after how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BlockState {
    pub(crate) owners: Vec<(u8, WorkloadId)>,
    pub(crate) cooling: Vec<(u8, Timestamp)>,
    pub(crate) last: Option<u8>,
    pub(crate) turn: u64,
}

impl BlockSpace {
    /// The addresses of `cidr`, of which `layout` may be given out; the rest is ignored. Owners are in order.
    pub(crate) fn restore(cidr: Cidr, layout: &Layout, state: BlockState) -> Self {
        let BlockState { owners, cooling, last, turn } = state;
        let mut busy = Places::default();
        owners.iter().for_each(|(place, _)| busy.insert(*place));
        let mut space = Self {
            cidr,
            open: Places::of(layout.open(), cidr),
            band: Places::of(layout.band(), cidr),
            reserved: Places::of(layout.reserved(), cidr),
            busy,
            owners,
            cooling: Vec::new(),
            last,
            turn,
        };
        for (place, until) in cooling {
            if !space.busy.contains(place) {
                space.rest(place, until);
            }
        }
        space
    }

    /// What is to be kept.
    pub(crate) fn into_state(self) -> BlockState {
        let mut cooling: Vec<_> = self.cooling.into_iter().map(|(until, place)| (place, until)).collect();
        cooling.sort_unstable();
        BlockState { owners: self.owners, cooling, last: self.last, turn: self.turn }
    }

    /// Which addresses they are.
    pub(crate) fn cidr(&self) -> Cidr {
        self.cidr
    }

    fn number(&self, place: u8) -> u128 {
        self.cidr.first().saturating_add(u128::from(place))
    }

    fn place(&self, number: u128) -> Option<u8> {
        u8::try_from(number.checked_sub(self.cidr.first())?).ok()
    }

    /// Takes an address for `owner`: its number, and whether it had not rested as long as it should.
    pub(crate) fn take(
        &mut self,
        owner: &WorkloadId,
        wish: Wish,
        now: Timestamp,
    ) -> Result<(u128, bool), Refusal> {
        for _ in 0..THAW {
            if !self.thaw_one(now) {
                break;
            }
        }
        let (place, early) = match wish.address {
            Some(address) => self.take_this(address, wish.emergency, now)?,
            None => self.take_any(owner, wish, now)?,
        };
        self.busy.insert(place);
        let owned = (place, owner.clone());
        // The next place of all is the usual one.
        if self.owners.last().is_none_or(|(last, _)| *last < place) {
            self.owners.push(owned);
        } else {
            let at = self.owners.partition_point(|(other, _)| *other < place);
            self.owners.insert(at, owned);
        }
        Ok((self.number(place), early))
    }

    fn take_this(
        &mut self,
        address: std::net::IpAddr,
        emergency: bool,
        now: Timestamp,
    ) -> Result<(u8, bool), Refusal> {
        let outside = || Refusal::Outside { address };
        let same_family = IpFamily::of(address) == self.cidr.family();
        let place = self.place(address_number(address)).filter(|_| same_family).ok_or_else(outside)?;
        if let Ok(at) = self.owner_at(place) {
            let owner = self.owners.get(at).map(|(_, owner)| owner.clone()).ok_or_else(outside)?;
            return Err(Refusal::Taken { address, owner });
        }
        // What was drained rests on: it may be in use again before its time when it is taken back.
        if !self.for_anybody(place) && !self.reserved.contains(place) {
            return Err(outside());
        }
        let Some(at) = self.cooling.iter().position(|(_, cooling)| *cooling == place) else {
            return Ok((place, false));
        };
        let until = self.cooling.get(at).map_or(now, |(until, _)| *until);
        if until > now && !emergency {
            return Err(Refusal::Cooling { address, until, retry_after: until.since(now) });
        }
        self.cooling.remove(at);
        Ok((place, until > now))
    }

    fn take_any(&mut self, owner: &WorkloadId, wish: Wish, now: Timestamp) -> Result<(u8, bool), Refusal> {
        let last = self.last.map(|last| self.number(last));
        let start = wish.strategy.start(owner.as_str(), self.turn, last);
        let band = || if wish.open_only { None } else { self.search(self.band, start) };
        let (place, early) = match self.search(self.open, start).or_else(band) {
            Some(place) => (place, false),
            None => self.take_cooling(wish.emergency, now)?,
        };
        self.last = Some(place);
        self.turn = self.turn.wrapping_add(1);
        Ok((place, early))
    }

    /// A free one of `set`, beginning where `start` says within all of it, free or not.
    fn search(&self, set: Places, start: Start) -> Option<u8> {
        let from = match start {
            Start::Lowest => 0,
            // Behind the last one it goes on with the first.
            Start::At(number) => self.place(number).unwrap_or_default(),
            Start::Anywhere(random) => {
                let (low, high) = (set.at_or_after(0)?, set.last()?);
                let size = u128::from(high.saturating_sub(low)).saturating_add(1);
                low.saturating_add(u8::try_from(random.checked_rem(size)?).ok()?)
            }
        };
        let free = set.without(self.busy);
        free.at_or_after(from).or_else(|| free.at_or_after(0))
    }

    /// Nothing is free: one whose time has come, or, in an emergency, the one whose time comes first. What was drained
    /// meanwhile, or is for those who ask, rests on.
    fn take_cooling(&mut self, emergency: bool, now: Timestamp) -> Result<(u8, bool), Refusal> {
        let family = self.cidr.family();
        let Some(at) = self.cooling.iter().position(|(_, place)| self.for_anybody(*place)) else {
            return Err(Refusal::Exhausted { family, held: count(self.owners.len()) });
        };
        let due = self.cooling.get(at).is_some_and(|(until, _)| *until <= now);
        if !due && !emergency {
            let for_anybody = self.cooling.iter().filter(|(_, place)| self.for_anybody(*place));
            let retry_after = self.cooling.get(at).map(|(until, _)| until.since(now)).unwrap_or_default();
            return Err(Refusal::OnlyCooling { family, cooling: count(for_anybody.count()), retry_after });
        }
        Ok((self.cooling.remove(at).1, !due))
    }

    fn for_anybody(&self, place: u8) -> bool {
        self.open.contains(place) || self.band.contains(place)
    }

    fn owner_at(&self, place: u8) -> Result<usize, usize> {
        self.owners.binary_search_by_key(&place, |(place, _)| *place)
    }

    /// Takes the address back, to cool until then; `false` if `owner` does not own it.
    pub(crate) fn give_back(&mut self, number: u128, owner: &WorkloadId, until: Option<Timestamp>) -> bool {
        let Some(place) = self.place(number) else { return false };
        let Ok(at) = self.owner_at(place) else { return false };
        if self.owners.get(at).is_none_or(|(_, has)| has != owner) {
            return false;
        }
        self.owners.remove(at);
        self.busy.remove(place);
        if let Some(until) = until {
            self.rest(place, until);
        }
        true
    }

    fn rest(&mut self, place: u8, until: Timestamp) {
        self.busy.insert(place);
        let at = self.cooling.partition_point(|other| *other < (until, place));
        self.cooling.insert(at, (until, place));
    }

    /// Frees the first whose quarantine is over, if there is one.
    fn thaw_one(&mut self, now: Timestamp) -> bool {
        let Some((_, place)) = self.cooling.first().copied().filter(|(until, _)| *until <= now) else {
            return false;
        };
        self.cooling.remove(0);
        self.busy.remove(place);
        true
    }

    /// Frees every address whose quarantine is over; returns how many.
    pub(crate) fn thaw(&mut self, now: Timestamp) -> usize {
        let mut thawed = 0;
        while self.thaw_one(now) {
            thawed += 1;
        }
        thawed
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// A set of places in a block, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Places([u64; 4]);

fn word_of(place: u8) -> usize {
    usize::from(place >> 6)
}

/// The first place of a word of the set.
fn first_of(word: usize) -> u32 {
    u32::try_from(word).unwrap_or_default().saturating_mul(64)
}

impl Places {
    /// What of `set` is in `cidr`.
    fn of(set: &FreeRanges, cidr: Cidr) -> Self {
        let mut places = Self::default();
        let place = |number: u128| u8::try_from(number.checked_sub(cidr.first())?).ok();
        for (first, last) in set.ranges() {
            let (first, last) = (first.max(cidr.first()), last.min(cidr.last()));
            if let (Some(first), Some(last)) = (place(first), place(last)) {
                places.insert_range(first, last);
            }
        }
        places
    }

    fn contains(self, place: u8) -> bool {
        self.0.get(word_of(place)).is_some_and(|word| word >> (place & 63) & 1 == 1)
    }

    fn insert(&mut self, place: u8) {
        self.0.get_mut(word_of(place)).into_iter().for_each(|word| *word |= 1 << (place & 63));
    }

    fn insert_range(&mut self, first: u8, last: u8) {
        for (at, word) in self.0.iter_mut().enumerate() {
            let start = first_of(at);
            let (low, high) = (u32::from(first).max(start), u32::from(last).min(start + 63));
            if low <= high {
                *word |= (u64::MAX << (low - start)) & (u64::MAX >> (63 - (high - start)));
            }
        }
    }

    fn remove(&mut self, place: u8) {
        self.0.get_mut(word_of(place)).into_iter().for_each(|word| *word &= !(1 << (place & 63)));
    }

    fn without(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
        self
    }

    fn at_or_after(self, from: u8) -> Option<u8> {
        let mut mask = u64::MAX << (from & 63);
        for (at, word) in self.0.iter().enumerate().skip(word_of(from)) {
            let found = word & std::mem::replace(&mut mask, u64::MAX);
            if found != 0 {
                return u8::try_from(first_of(at) + found.trailing_zeros()).ok();
            }
        }
        None
    }

    fn last(self) -> Option<u8> {
        let (at, word) = self.0.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        u8::try_from(first_of(at) + (63 - word.leading_zeros())).ok()
    }
}

#[cfg(test)]
mod tests;
