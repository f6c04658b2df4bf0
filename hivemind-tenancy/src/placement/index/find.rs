//! The best node for a workload, without a look at every node. No I/O, no clock, no async.

use std::ops::ControlFlow;

use super::ClusterIndex;
use super::query::Query;
use super::slot::{Equals, Slot};
use super::tree::{Key, Room, Tree};
use crate::placement::scores::rank;
use crate::placement::{Rejection, Unplaced};

/// The best node so far: what speaks against it, the tie, and the node.
type Best = Option<(u64, u64, usize)>;

impl ClusterIndex {
    fn slot(&self, at: usize) -> Option<&Slot> {
        self.slots.get(at)?.as_ref()
    }

    /// The best node for a workload.
    pub(super) fn best(&self, query: &Query<'_>) -> Option<usize> {
        let mut best = None;
        for class in self.classes_of.get(query.shape)? {
            let equals = self.classes.get(*class)?;
            if equals.could_take(&query.need) {
                self.best_of(query, equals, &mut best);
            }
        }
        // A node that is one tenant's and used by others is in no tree that is walked for its owner.
        self.mixed.iter().for_each(|at| self.consider(query, *at, &mut best));
        best.map(|(_, _, at)| at)
    }

    /// Takes the node for the best if it is possible and better.
    fn consider(&self, query: &Query<'_>, at: usize, best: &mut Best) {
        let Some(slot) = self.slot(at) else { return };
        let Some(equals) = self.classes.get(slot.class) else { return };
        if !query.ask.workload.resources.fits_in(&slot.free) || self.refuses(query, at, slot).is_some() {
            return;
        }
        let load = slot.rank.saturating_add(rank(self.packing, equals.adds(&query.ask.workload.resources)));
        let found = (load.saturating_add(self.cost(query, at)), slot.tie, at);
        if best.is_none_or(|best| found < best) {
            *best = Some(found);
        }
    }

    /// What the wishes of workloads have against a node of a class that is possible, if the node is.
    fn wished(&self, query: &Query<'_>, at: usize) -> Option<u64> {
        let slot = self.slot(at)?;
        let refused = !query.ask.workload.resources.fits_in(&slot.free)
            || self.excludes(&query.ask, query.tenant, slot).is_some()
            || self.refuses_company(query, at).is_some()
            || self.refuses_share(query, at, slot).is_some();
        (!refused).then(|| self.unmet(query, at))
    }

    fn best_of(&self, query: &Query<'_>, equals: &Equals, best: &mut Best) {
        let Some(cost) = equals.class.verdicts.get(query.shape).copied().flatten() else { return };
        let added = rank(self.packing, equals.adds(&query.ask.workload.resources)).saturating_add(cost);
        // Nothing but the load and the tie tells nodes of a class apart: the first possible one is its best.
        let plain = query.is_plain();
        let need = Room::of(&query.need);
        let mut walk = |tree: &Tree| {
            tree.walk(&need, &mut |key: Key| {
                let least = key.rank().saturating_add(added);
                // From here on, every node is at least as much disliked, and later by the tie.
                if best.is_some_and(|(cost, tie, _)| (least, key.tie()) > (cost, tie)) {
                    return ControlFlow::Break(());
                }
                let Some(more) = self.wished(query, key.slot()) else { return ControlFlow::Continue(()) };
                let found = (least.saturating_add(more), key.tie(), key.slot());
                if best.is_none_or(|best| found < best) {
                    *best = Some(found);
                }
                if plain { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        };
        walk(if query.ask.isolated { &equals.empty } else { &equals.open });
        // Its own nodes: dedicated to it, or without others by chance.
        if let Some(own) = equals.sole.get(&query.tenant) {
            walk(own);
        }
    }

    /// Why no node can take the workload: a look at every node.
    pub(super) fn why_not(&self, query: &Query<'_>) -> Unplaced {
        let workload = query.ask.workload;
        let mut unplaced = Unplaced::new(workload.id.clone(), workload.resources.clone());
        for (at, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let room = || (!workload.resources.fits_in(&slot.free)).then_some(Rejection::Full);
            if let Some(reason) = self.refuses(query, at, slot).or_else(room) {
                unplaced.count(reason, &slot.node.id);
            }
        }
        unplaced
    }
}
