//! How much of each place each tenant has, where somebody asks for it. No I/O, no clock, no async.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use hivemind_core::resources::Resources;

use super::counters::Counters;
use super::slot::Slot;
use super::{ClusterIndex, Query};
use crate::placement::cluster::shared_by;
use crate::placement::{DomainShare, Rejection};

/// Thousandths of cores, and bytes of memory.
type Amounts = [u64; 2];

/// The places of one topology.
#[derive(Debug, Clone)]
struct Kept {
    topology: usize,
    /// What a tenant has of a place. Never iterated.
    used: HashMap<(usize, usize), Amounts, RandomState>,
    /// What each place has; nothing is known after a node has changed.
    capacity: Option<Vec<Amounts>>,
}

impl Kept {
    fn count(&mut self, place: usize, tenant: usize, amounts: Amounts, more: bool) {
        let used = self.used.entry((tenant, place)).or_default();
        for (used, amount) in used.iter_mut().zip(amounts) {
            *used = if more { used.saturating_add(amount) } else { used.saturating_sub(amount) };
        }
        if *used == [0, 0] {
            self.used.remove(&(tenant, place));
        }
    }
}

/// All topologies that a share was asked of.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares(Vec<Kept>);

impl Shares {
    /// A workload that is on no lost node comes to `slot`, or goes.
    pub(super) fn count(
        &mut self,
        counters: &Counters,
        slot: usize,
        tenant: usize,
        resources: &Resources,
        more: bool,
    ) {
        for kept in &mut self.0 {
            if let Some(place) = counters.place(kept.topology, slot) {
                kept.count(place, tenant, shared_by(resources), more);
            }
        }
    }

    /// A node came, went, or is another.
    pub(super) fn nodes_changed(&mut self) {
        self.0.iter_mut().for_each(|kept| kept.capacity = None);
    }
}

impl ClusterIndex {
    /// Where what a share is asked of is kept.
    pub(super) fn share(&mut self, share: &DomainShare) -> usize {
        let topology = self.topology(&share.topology);
        let known = self.shares.0.iter().position(|kept| kept.topology == topology);
        let at = known.unwrap_or_else(|| {
            let mut kept = Kept { topology, used: HashMap::default(), capacity: None };
            let up = self.slots.iter().enumerate().filter_map(|(at, slot)| Some((at, slot.as_ref()?)));
            for (at, slot) in up.filter(|(_, slot)| !slot.is_lost()) {
                let Some(place) = self.counters.place(topology, at) else { continue };
                for one in slot.running.iter().filter_map(|one| self.workloads.get(one.number)) {
                    kept.count(place, one.tenant, shared_by(&one.resources), true);
                }
            }
            self.shares.0.push(kept);
            self.shares.0.len() - 1
        });
        let Self { slots, counters, shares, .. } = self;
        if let Some(kept) = shares.0.get_mut(at).filter(|kept| kept.capacity.is_none()) {
            let mut capacity: Vec<Amounts> = Vec::new();
            let up = slots.iter().enumerate().filter_map(|(at, slot)| Some((at, slot.as_ref()?)));
            for (at, slot) in up.filter(|(_, slot)| !slot.is_lost()) {
                let Some(place) = counters.place(topology, at) else { continue };
                if place >= capacity.len() {
                    capacity.resize(place + 1, [0, 0]);
                }
                for (sum, more) in
                    capacity.get_mut(place).into_iter().flatten().zip(shared_by(&slot.node.capacity))
                {
                    *sum = sum.saturating_add(more);
                }
            }
            kept.capacity = Some(capacity);
        }
        at
    }

    /// Whether the tenant would have too much of the place where `at` is, or the host has something against the node.
    pub(super) fn refuses_share(&self, query: &Query<'_>, at: usize, slot: &Slot) -> Option<Rejection> {
        let too_much = || {
            let (share, kept) = query.ask.domain_share.zip(query.share)?;
            let kept = self.shares.0.get(kept)?;
            let place = self.counters.place(kept.topology, at)?;
            let capacity = kept.capacity.as_ref()?.get(place).copied().unwrap_or_default();
            let used = kept.used.get(&(query.tenant, place)).copied().unwrap_or_default();
            (!share.allows(used, query.ask.wants(), capacity)).then_some(Rejection::DomainShare)
        };
        let unwelcome = || {
            let refused = query.ask.opinion.is_some_and(|opinion| opinion.of(&slot.node).is_none());
            refused.then_some(Rejection::Custom)
        };
        too_much().or_else(unwelcome)
    }
}
