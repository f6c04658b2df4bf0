//! The addresses of one family: free, owned, cooling. No I/O, no clock, no async.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use foldhash::fast::RandomState;
use hivemind_core::{Timestamp, WorkloadId};

use super::cooling::Cooling;
use super::layout::{Fixed, within};
use super::strategy::Start;
use super::{FreeBits, Layout, Refusal, Strategy};
use crate::addr::{IpFamily, address_number};

/// How many addresses whose quarantine is over are freed with each allocation: more than come in.
const THAW: usize = 4;

/// Addresses of one family, each free, owned by one workload, or cooling down; the pure state machine.
///
/// Costs nothing for addresses that are free together; each call takes a bounded number of look-ups at any fill,
/// fragmentation and size.
#[derive(Debug, Clone)]
pub struct Space {
    family: IpFamily,
    layout: Fixed,
    open: FreeBits,
    band: FreeBits,
    reserved: FreeBits,
    owners: HashMap<u128, WorkloadId, RandomState>,
    cooling: Cooling,
    last: Option<u128>,
    turn: u64,
}

/// What one family of a request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wish {
    /// This address, and no other.
    pub address: Option<IpAddr>,
    /// Where the search begins otherwise.
    pub strategy: Strategy,
    /// Whether, when nothing else is left, the address that has cooled longest may be used again too early.
    pub emergency: bool,
    /// Whether what is given out last stays out of use.
    pub open_only: bool,
}

/// What was taken, with what is needed to undo it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) number: u128,
    /// Until when it should have cooled, if it was taken too early.
    pub(crate) early: Option<Timestamp>,
    before: (Option<u128>, u64),
}

impl Space {
    /// All addresses of `layout`, free.
    pub fn new(family: IpFamily, layout: Layout) -> Self {
        Self {
            family,
            open: FreeBits::new(layout.open()),
            band: FreeBits::new(layout.band()),
            reserved: FreeBits::new(layout.reserved()),
            layout: Fixed::from(&layout),
            owners: HashMap::default(),
            cooling: Cooling::default(),
            last: None,
            turn: 0,
        }
    }

    /// As it was: who owns what, what cools until when, and which address was proposed last, after how many.
    ///
    /// What `layout` no longer has stays owned and is not given out again.
    pub fn restore(
        family: IpFamily,
        layout: Layout,
        owners: impl IntoIterator<Item = (u128, WorkloadId)>,
        cooling: impl IntoIterator<Item = (u128, Timestamp)>,
        cursor: (Option<u128>, u64),
    ) -> Self {
        let mut space = Self::new(family, Layout::new());
        let owners = owners.into_iter();
        // A table that grows while it is filled is made several times.
        space.owners.reserve(owners.size_hint().1.unwrap_or_default());
        space.owners.extend(owners);
        for (number, until) in cooling {
            if !space.owners.contains_key(&number) {
                space.cooling.insert(number, until, true);
            }
        }
        (space.last, space.turn) = cursor;
        space.set_layout(&layout);
        space
    }

    /// Uses another layout from now on: what it adds is free, what it lacks is drained. Looks at every address held.
    pub fn set_layout(&mut self, layout: &Layout) {
        let [open, band, reserved] = [layout.open(), layout.band(), layout.reserved()];
        let mut free = [FreeBits::new(open), FreeBits::new(band), FreeBits::new(reserved)];
        for number in self.owners.keys().copied().chain(self.cooling.numbers()) {
            // In at most one of the three; and it may be in none any more.
            let _ = free.iter_mut().any(|set| set.take(number));
        }
        [self.open, self.band, self.reserved] = free;
        self.layout = Fixed::from(layout);
        let Self { cooling, layout, .. } = self;
        cooling.sort(|number| within(&layout.open, number) || within(&layout.band, number));
    }

    /// Whether a workload may have this address.
    fn has(&self, number: u128) -> bool {
        self.for_anybody(number) || within(&self.layout.reserved, number)
    }

    fn for_anybody(&self, number: u128) -> bool {
        within(&self.layout.open, number) || within(&self.layout.band, number)
    }

    /// Takes an address for `owner`.
    ///
    /// The owner is given away rather than cloned here: to count a clone is an atomic operation, which waits for every
    /// write before it, and the caller can do it before tables are written that are in no cache.
    pub(crate) fn take(&mut self, owner: WorkloadId, wish: Wish, now: Timestamp) -> Result<Taken, Refusal> {
        for _ in 0..THAW {
            let Some(number) = self.cooling.pop_due(now) else { break };
            self.free(number);
        }
        let taken = match wish.address {
            Some(address) => self.take_this(address, wish.emergency, now)?,
            None => self.take_any(&owner, wish, now)?,
        };
        self.owners.insert(taken.number, owner);
        Ok(taken)
    }

    fn take_this(&mut self, address: IpAddr, emergency: bool, now: Timestamp) -> Result<Taken, Refusal> {
        let number = address_number(address);
        let before = (self.last, self.turn);
        if IpFamily::of(address) != self.family {
            return Err(Refusal::Outside { address });
        }
        if let Some(owner) = self.owners.get(&number) {
            return Err(Refusal::Taken { address, owner: owner.clone() });
        }
        // What was drained rests on: it may be in use again before its time when it is taken back.
        if !self.has(number) {
            return Err(Refusal::Outside { address });
        }
        if let Some(until) = self.cooling.until(number) {
            if until > now && !emergency {
                return Err(Refusal::Cooling { address, until, retry_after: until.since(now) });
            }
            self.cooling.remove(number);
            return Ok(Taken { number, early: Some(until).filter(|until| *until > now), before });
        }
        if self.open.take(number) || self.band.take(number) || self.reserved.take(number) {
            return Ok(Taken { number, early: None, before });
        }
        Err(Refusal::Outside { address })
    }

    fn take_any(&mut self, owner: &WorkloadId, wish: Wish, now: Timestamp) -> Result<Taken, Refusal> {
        let before = (self.last, self.turn);
        let start = wish.strategy.start(owner.as_str(), self.turn, self.last);
        let found = search(&mut self.open, start)
            .or_else(|| if wish.open_only { None } else { search(&mut self.band, start) });
        let (number, early) = match found {
            Some(number) => (number, None),
            None => self.take_cooling(wish.emergency, now)?,
        };
        self.last = Some(number);
        self.turn = self.turn.wrapping_add(1);
        Ok(Taken { number, early, before })
    }

    /// Nothing is free: one whose time has come, or, in an emergency, the one whose time comes first. What was drained
    /// meanwhile, or is for those who ask, rests on.
    fn take_cooling(
        &mut self,
        emergency: bool,
        now: Timestamp,
    ) -> Result<(u128, Option<Timestamp>), Refusal> {
        let Some((until, number)) = self.cooling.first_for_anybody() else {
            return Err(Refusal::Exhausted { family: self.family, held: count(self.owners.len()) });
        };
        if until > now && !emergency {
            return Err(Refusal::OnlyCooling {
                family: self.family,
                cooling: count(self.cooling.len_for_anybody()),
                retry_after: until.since(now),
            });
        }
        self.cooling.remove(number);
        Ok((number, Some(until).filter(|until| *until > now)))
    }

    /// Undoes what was taken last, as if it had never been.
    pub(crate) fn undo(&mut self, taken: Taken) {
        self.owners.remove(&taken.number);
        match taken.early {
            Some(until) => self.rest(taken.number, until),
            None => self.free(taken.number),
        }
        (self.last, self.turn) = taken.before;
    }

    /// Takes the address back, to cool until then; `false` if `owner` does not own it.
    pub(crate) fn give_back(&mut self, number: u128, owner: &WorkloadId, until: Option<Timestamp>) -> bool {
        if self.owners.get(&number) != Some(owner) {
            return false;
        }
        self.owners.remove(&number);
        match until {
            Some(until) => self.rest(number, until),
            None => self.free(number),
        }
        true
    }

    fn rest(&mut self, number: u128, until: Timestamp) {
        self.cooling.insert(number, until, self.for_anybody(number));
    }

    fn free(&mut self, number: u128) {
        if within(&self.layout.open, number) {
            self.open.put(number);
        } else if within(&self.layout.band, number) {
            self.band.put(number);
        } else if within(&self.layout.reserved, number) {
            self.reserved.put(number);
        }
    }

    /// Frees every address whose quarantine is over; returns how many.
    pub fn thaw(&mut self, now: Timestamp) -> usize {
        let mut thawed = 0;
        while let Some(number) = self.cooling.pop_due(now) {
            self.free(number);
            thawed += 1;
        }
        thawed
    }

    /// Its family.
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// Who owns an address.
    pub fn owner(&self, number: u128) -> Option<&WorkloadId> {
        self.owners.get(&number)
    }

    /// Every owned address, in order; sorts them.
    pub fn owned(&self) -> BTreeMap<u128, WorkloadId> {
        self.owners.iter().map(|(number, owner)| (*number, owner.clone())).collect()
    }

    /// What cools, by when it is over.
    pub fn cooling(&self) -> impl Iterator<Item = (Timestamp, u128)> {
        self.cooling.iter()
    }

    /// The address proposed last, and after how many: to restore it.
    pub fn cursor(&self) -> (Option<u128>, u64) {
        (self.last, self.turn)
    }

    /// How full it is; looks at every free range, and sorts them.
    pub fn fill(&self, now: Timestamp) -> Fill {
        Fill {
            usable: size(&self.layout.open)
                .saturating_add(size(&self.layout.band))
                .saturating_add(size(&self.layout.reserved)),
            owned: count(self.owners.len()),
            cooling: count(self.cooling.len()),
            reserved: self.reserved.count(),
            free: self.open.count().saturating_add(self.band.count()),
            fragments: count(self.open.ranges().len() + self.band.ranges().len()),
            next_free_in: self.cooling.first().map(|(until, _)| until.since(now)),
        }
    }

    /// How many look-ups in what is free all operations took.
    pub fn probes(&self) -> u64 {
        self.open.probes() + self.band.probes() + self.reserved.probes()
    }
}

/// How full addresses of one family are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fill {
    /// How many may be given out in all.
    pub usable: u128,
    /// How many workloads have.
    pub owned: u64,
    /// How many were given back lately.
    pub cooling: u64,
    /// How many are free for those who ask for one by name.
    pub reserved: u128,
    /// How many are free for anybody.
    pub free: u128,
    /// Into how many ranges the free ones fall.
    pub fragments: u64,
    /// When the first of those that cool is free.
    pub next_free_in: Option<Duration>,
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn size(ranges: &[(u128, u128)]) -> u128 {
    ranges.iter().fold(0, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
}

/// A free number, beginning where `start` says within what there is in all, free or not.
fn search(free: &mut FreeBits, start: Start) -> Option<u128> {
    match start {
        Start::Lowest => free.take_from(0),
        Start::At(number) => free.take_from(number),
        Start::Anywhere(random) => {
            let (low, high) = free.span()?;
            let offset = (high - low).checked_add(1).map_or(random, |size| random % size);
            free.take_from(low.saturating_add(offset))
        }
    }
}
