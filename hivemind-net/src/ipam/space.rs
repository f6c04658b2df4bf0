//! The addresses of one family with their owners. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{Timestamp, WorkloadId};

use super::addresses::{Addresses, Found};
use super::holders::Holder;
use super::slab::Slab;
use super::{Fill, Layout, Refusal, Wish};
use crate::addr::IpFamily;

/// Addresses of one family, each free, owned by one workload, or cooling down; the pure state machine.
///
/// Costs nothing for addresses that are free together; each call takes a bounded number of look-ups at any fill,
/// fragmentation and size.
#[derive(Debug, Clone)]
pub struct Space {
    addresses: Addresses,
    owners: Slab<WorkloadId>,
}

impl Space {
    /// All addresses of `layout`, free.
    pub fn new(family: IpFamily, layout: Layout) -> Self {
        Self { addresses: Addresses::new(family, &layout), owners: Slab::default() }
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
        let owners = owners.into_iter();
        let mut slab = Slab::with_capacity(owners.size_hint().0);
        let owned = owners.filter_map(|(number, owner)| Some((number, Holder::owner(slab.insert(owner)?))));
        let owned = owned.collect();
        Self { addresses: Addresses::restore(family, &layout, owned, cooling, cursor), owners: slab }
    }

    /// Uses another layout from now on: what it adds is free, what it lacks is drained. Looks at every address held.
    pub fn set_layout(&mut self, layout: &Layout) {
        self.addresses.set_layout(layout);
    }

    /// Takes an address for `owner`.
    pub(crate) fn take(&mut self, owner: WorkloadId, wish: Wish, now: Timestamp) -> Result<Found, Refusal> {
        let aim = self.addresses.aim(owner.as_str(), &wish, now);
        let found = self.addresses.find(aim, &wish, now, |slot| self.owners.get(slot).cloned())?;
        let Some(slot) = self.owners.insert(owner) else { return Err(self.addresses.exhausted()) };
        self.addresses.take(found, slot);
        Ok(found)
    }

    /// Takes the address back, to cool until then; `false` if `owner` does not own it.
    pub(crate) fn give_back(&mut self, number: u128, owner: &WorkloadId, until: Option<Timestamp>) -> bool {
        let Some(slot) = self.addresses.owner(number) else { return false };
        let given_back =
            self.owners.get(slot) == Some(owner) && self.addresses.give_back(number, slot, until);
        if given_back {
            self.owners.remove(slot);
        }
        given_back
    }

    /// Frees every address whose quarantine is over; returns how many.
    pub fn thaw(&mut self, now: Timestamp) -> usize {
        self.addresses.thaw(now)
    }

    /// Its family.
    pub fn family(&self) -> IpFamily {
        self.addresses.family()
    }

    /// Who owns an address.
    pub fn owner(&self, number: u128) -> Option<&WorkloadId> {
        self.owners.get(self.addresses.owner(number)?)
    }

    /// Every owned address, in no order.
    fn owners(&self) -> impl Iterator<Item = (u128, &WorkloadId)> {
        self.addresses.owners().filter_map(|(number, slot)| Some((number, self.owners.get(slot)?)))
    }

    /// Every owned address, in order; sorts them.
    pub fn owned(&self) -> BTreeMap<u128, WorkloadId> {
        self.owners().map(|(number, owner)| (number, owner.clone())).collect()
    }

    /// What cools, by when it is over.
    pub fn cooling(&self) -> impl Iterator<Item = (Timestamp, u128)> {
        self.addresses.cooling()
    }

    /// The address proposed last, and after how many: to restore it.
    pub fn cursor(&self) -> (Option<u128>, u64) {
        self.addresses.cursor()
    }

    /// How full it is; looks at every free range, and sorts them.
    pub fn fill(&self, now: Timestamp) -> Fill {
        self.addresses.fill(now)
    }

    /// How many look-ups in what is free all operations took.
    pub fn probes(&self) -> u64 {
        self.addresses.probes()
    }
}
