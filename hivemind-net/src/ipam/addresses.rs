//! The addresses of one family: free, owned, cooling. No I/O, no clock, no async.

use std::net::IpAddr;
use std::time::Duration;

use hivemind_core::{Timestamp, WorkloadId};

use super::cooling::Cooling;
use super::holders::{Holder, Holders};
use super::layout::{Fixed, Use};
use super::{Layout, Refusal, Start, Strategy, holders};
use crate::addr::{IpFamily, address_number};

/// How many addresses whose quarantine is over are freed with each allocation: more than come in.
const THAW: usize = 4;

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

/// Where the search for an address begins.
#[derive(Debug)]
pub(super) enum Aim {
    /// At the one that was asked for.
    This(IpAddr),
    Any {
        start: Start,
        open: Option<holders::Aim>,
    },
}

/// An address that may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) number: u128,
    /// Until when it should cool, if that is later.
    pub(crate) early: Option<Timestamp>,
    /// Whether it was not asked for by name.
    any: bool,
}

/// Addresses of one family, each free, owned, or cooling down; the pure state machine. It knows owners by numbers, which
/// the caller chooses.
///
/// Costs nothing for addresses that are free together; each call takes a bounded number of look-ups at any fill,
/// fragmentation and size.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    family: IpFamily,
    holders: Holders,
    cooling: Cooling,
    last: Option<u128>,
    turn: u64,
}

impl Addresses {
    /// As it was: who owns what, what cools until when, and which address was proposed last, after how many.
    ///
    /// What `layout` no longer has stays owned and is not given out again.
    pub(super) fn restore(
        family: IpFamily,
        layout: &Layout,
        mut owned: Vec<(u128, Holder)>,
        cooling: impl IntoIterator<Item = (u128, Timestamp)>,
        (last, turn): (Option<u128>, u64),
    ) -> Self {
        // Stable: of two owners of one address, which nobody should restore, it is always the same who has it.
        owned.sort_by_key(|(number, _)| *number);
        let holders = Holders::new(Fixed::from(layout), &owned);
        let mut space = Self { family, holders, cooling: Cooling::default(), last, turn };
        for (number, until) in cooling {
            if space.holders.slot(number).is_none() {
                space.rest(number, until);
            }
        }
        space
    }

    /// Uses another layout from now on: what it adds is free, what it lacks is drained. Looks at every address held.
    pub(super) fn set_layout(&mut self, layout: &Layout) {
        let mut held: Vec<_> = self.holders.held().collect();
        held.sort_unstable_by_key(|(number, _)| *number);
        self.holders = Holders::new(Fixed::from(layout), &held);
        let Self { cooling, holders, .. } = self;
        cooling.sort(|number| is_for_anybody(holders, number));
    }

    /// Where the search for an address begins. To do this for both families before [`find`](Self::find) is asked makes one
    /// wait for the memory of two.
    pub(super) fn aim(&mut self, owner: &str, wish: &Wish, now: Timestamp) -> Aim {
        for _ in 0..THAW {
            let Some(number) = self.cooling.pop_due(now) else { break };
            self.holders.free(number);
        }
        match wish.address {
            Some(address) => Aim::This(address),
            None => {
                let start = wish.strategy.start(owner, self.turn, self.last);
                Aim::Any { start, open: self.holders.aim(Use::Open, start) }
            }
        }
    }

    /// Brings what is aimed at into the caches, and does not wait for it.
    pub(super) fn touch(&self, aim: &Aim) {
        match aim {
            Aim::This(address) => self.holders.touch(address_number(*address)),
            Aim::Any { open, .. } => open.iter().for_each(|aim| self.holders.touch(aim.number())),
        }
    }

    /// An address that may be taken, which is at once to be [taken](Self::take) or forgotten.
    pub(super) fn find(
        &mut self,
        aim: Aim,
        wish: &Wish,
        now: Timestamp,
        who: impl FnOnce(u32) -> Option<WorkloadId>,
    ) -> Result<Found, Refusal> {
        match aim {
            Aim::This(address) => self.find_this(address, wish.emergency, now, who),
            Aim::Any { start, open } => self.find_any(start, open, wish, now),
        }
    }

    fn find_this(
        &self,
        address: IpAddr,
        emergency: bool,
        now: Timestamp,
        who: impl FnOnce(u32) -> Option<WorkloadId>,
    ) -> Result<Found, Refusal> {
        let number = address_number(address);
        if IpFamily::of(address) != self.family {
            return Err(Refusal::Outside { address });
        }
        let holder = self.holders.get(number);
        if let Some(owner) = holder.slot().and_then(who) {
            return Err(Refusal::Taken { address, owner });
        }
        // What was drained rests on: it may be in use again before its time when it is taken back.
        if self.holders.layout().use_of(number).is_none() {
            return Err(Refusal::Outside { address });
        }
        match self.cooling_until(number, holder) {
            Some(until) if until > now && !emergency => {
                Err(Refusal::Cooling { address, until, retry_after: until.since(now) })
            }
            until => Ok(Found { number, early: until.filter(|until| *until > now), any: false }),
        }
    }

    fn cooling_until(&self, number: u128, holder: Holder) -> Option<Timestamp> {
        if holder == Holder::RESTS { self.cooling.until(number) } else { None }
    }

    fn find_any(
        &mut self,
        start: Start,
        open: Option<holders::Aim>,
        wish: &Wish,
        now: Timestamp,
    ) -> Result<Found, Refusal> {
        let mut found = open.and_then(|aim| self.holders.search(aim));
        if found.is_none() && !wish.open_only {
            found = self.holders.aim(Use::Band, start).and_then(|aim| self.holders.search(aim));
        }
        let (number, early) = match found {
            Some(number) => (number, None),
            None => self.find_cooling(wish.emergency, now)?,
        };
        Ok(Found { number, early, any: true })
    }

    /// Nothing is free: one whose time has come, or, in an emergency, the one whose time comes first. What was drained
    /// meanwhile, or is for those who ask, rests on.
    fn find_cooling(&self, emergency: bool, now: Timestamp) -> Result<(u128, Option<Timestamp>), Refusal> {
        let Some((until, number)) = self.cooling.first_for_anybody() else {
            return Err(self.exhausted());
        };
        if until > now && !emergency {
            return Err(Refusal::OnlyCooling {
                family: self.family,
                cooling: count(self.cooling.len_for_anybody()),
                retry_after: until.since(now),
            });
        }
        Ok((number, Some(until).filter(|until| *until > now)))
    }

    /// What there is to say when no other owner can have an address.
    pub(super) fn exhausted(&self) -> Refusal {
        Refusal::Exhausted { family: self.family, held: count(self.holders.owned()) }
    }

    /// Gives an owner what was just found.
    pub(super) fn take(&mut self, found: Found, owner: u32) {
        if self.holders.put(found.number, Holder::owner(owner)) == Holder::RESTS {
            self.cooling.remove(found.number);
        }
        if found.any {
            self.last = Some(found.number);
            self.turn = self.turn.wrapping_add(1);
        }
    }

    /// Takes the address back, to cool until then; `false` if `owner` does not own it.
    pub(super) fn give_back(&mut self, number: u128, owner: u32, until: Option<Timestamp>) -> bool {
        if self.holders.slot(number) != Some(owner) {
            return false;
        }
        if let Some(until) = until {
            self.rest(number, until);
        } else {
            self.holders.free(number);
        }
        true
    }

    fn rest(&mut self, number: u128, until: Timestamp) {
        self.holders.put(number, Holder::RESTS);
        self.cooling.insert(number, until, is_for_anybody(&self.holders, number));
    }

    /// Frees every address whose quarantine is over; returns how many.
    #[cfg(test)]
    pub(super) fn thaw(&mut self, now: Timestamp) -> usize {
        let mut thawed = 0;
        while let Some(number) = self.cooling.pop_due(now) {
            self.holders.free(number);
            thawed += 1;
        }
        thawed
    }

    pub(super) fn family(&self) -> IpFamily {
        self.family
    }

    /// Who owns an address.
    pub(super) fn owner(&self, number: u128) -> Option<u32> {
        self.holders.slot(number)
    }

    /// Every owned address, in no order.
    pub(super) fn owners(&self) -> impl Iterator<Item = (u128, u32)> {
        self.holders.held().filter_map(|(number, holder)| Some((number, holder.slot()?)))
    }

    /// What cools, by when it is over.
    pub(super) fn cooling(&self) -> impl Iterator<Item = (Timestamp, u128)> {
        self.cooling.iter()
    }

    /// The address proposed last, and after how many: to restore it.
    pub(super) fn cursor(&self) -> (Option<u128>, u64) {
        (self.last, self.turn)
    }

    /// How full it is; looks at every free range, and sorts them.
    pub(super) fn fill(&self, now: Timestamp) -> Fill {
        let of = |of| self.holders.free_ranges(of);
        let (open, band, reserved) = (of(Use::Open), of(Use::Band), of(Use::Reserved));
        Fill {
            usable: size(self.holders.layout().ranges()),
            owned: count(self.holders.owned()),
            cooling: count(self.cooling.len()),
            reserved: size(reserved),
            fragments: count(open.len() + band.len()),
            free: size(open.into_iter().chain(band)),
            next_free_in: self.cooling.first().map(|(until, _)| until.since(now)),
        }
    }

    /// How many look-ups all operations took that change something.
    pub(super) fn probes(&self) -> u64 {
        self.holders.probes()
    }
}

/// Whether those may have a number who ask for none by name.
fn is_for_anybody(holders: &Holders, number: u128) -> bool {
    holders.layout().use_of(number).is_some_and(Use::is_for_anybody)
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

fn size(ranges: impl IntoIterator<Item = (u128, u128)>) -> u128 {
    ranges.into_iter().fold(0, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
}
