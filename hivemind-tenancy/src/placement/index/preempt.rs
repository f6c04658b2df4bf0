//! Where a more important workload puts out the fewest. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::labels::Selector;
use hivemind_core::{Error, ErrorKind, Result};

use super::query::Query;
use super::rule::Counted;
use super::slot::Slot;
use super::tree::Amounts;
use super::workloads::Running;
use super::{ClusterIndex, exhausted};
use crate::placement::cluster::Ask;
use crate::placement::{DisruptionBudget, Preemption, Reach, Topology, choose_victims};

/// Of so many nodes where it is possible the best is taken, as in Kubernetes: of those with the least important
/// victims, in the order of the seed.
const ENOUGH: usize = 100;

/// The amounts that each priority uses on a node, the least important first.
#[derive(Debug, Clone, Default)]
pub(super) struct Bands(Vec<Band>);

#[derive(Debug, Clone)]
struct Band {
    priority: i32,
    count: u64,
    uses: Amounts,
}

impl Bands {
    /// A workload comes or goes.
    pub(super) fn change(&mut self, priority: i32, uses: &Amounts, comes: bool) {
        let at = self.0.partition_point(|band| band.priority < priority);
        if self.0.get(at).is_none_or(|band| band.priority != priority) {
            self.0.insert(at, Band { priority, count: 0, uses: [0; 4] });
        }
        let Some(band) = self.0.get_mut(at) else { return };
        if comes {
            band.count = band.count.saturating_add(1);
            add(&mut band.uses, uses);
            return;
        }
        band.count = band.count.saturating_sub(1);
        band.uses.iter_mut().zip(uses).for_each(|(sum, less)| *sum = sum.saturating_sub(*less));
        if band.count == 0 {
            self.0.remove(at);
        }
    }

    /// The lowest priority that must go, with all below it, for `need` to fit, at the best.
    fn lowest(&self, need: &Amounts, free: &Amounts, below: i32) -> Option<i32> {
        let mut room = *free;
        for band in self.0.iter().take_while(|band| band.priority < below) {
            add(&mut room, &band.uses);
            if need.iter().zip(&room).all(|(need, room)| need <= room) {
                return Some(band.priority);
            }
        }
        None
    }
}

fn add(sum: &mut Amounts, more: &Amounts) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
}

/// What limits the choice of victims.
struct Limits {
    reach: Reach,
    below: i32,
    tenant: usize,
    /// The rules of budgets, with how many may still go.
    budgets: BTreeMap<usize, u64>,
    /// The rules whose workloads the preemptor must run beside: they stay.
    keep: Vec<usize>,
}

impl ClusterIndex {
    /// Where the workload of `ask` can run if less important ones are put out, and who they are; nothing is changed.
    ///
    /// The most important victim is as unimportant as possible, then they are few, then the seed decides. Budgets are
    /// kept, always: what they allow goes to the least important of a node, so that room is not found where only the
    /// absence of another one under the same budget would make it. What else than room keeps the workload from a node, such as labels, tenants that share no node,
    /// affinity and spread, is not changed by putting out others.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] with [`Unplaceable`](crate::placement::Unplaceable) as
    /// detail if there is no such node.
    pub fn preempt(
        &mut self,
        ask: Ask<'_>,
        reach: Reach,
        budgets: &[DisruptionBudget],
    ) -> Result<Preemption> {
        let query = self.query(ask);
        let missing = || Error::internal("preempt", "a node without a slot");
        if let Some(at) = self.best(&query) {
            let slot = self.slots.get(at).and_then(Option::as_ref).ok_or_else(missing)?;
            return Ok(Preemption { node: slot.node.id.clone(), victims: Vec::new() });
        }
        let limits = self.limits(&query, reach, budgets);
        let found = self.cheapest(&query, &limits);
        let Some((at, victims)) = found else { return Err(exhausted(self.why_not(&query))) };
        let slot = self.slots.get(at).and_then(Option::as_ref).ok_or_else(missing)?;
        let named = |one: &&Running| Some((self.tenants.get(one.tenant)?.clone(), one.id.clone()));
        Ok(Preemption { node: slot.node.id.clone(), victims: victims.iter().filter_map(named).collect() })
    }

    /// Carries out what [`preempt`](Self::preempt) decided: the victims go, the workload comes.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the node has changed since, or a victim is no longer less important: decide again.
    /// [`ErrorKind::AlreadyExists`] if the workload runs by now, [`ErrorKind::NotFound`] if the node is gone. Nothing
    /// is done then.
    pub fn put_out(&mut self, ask: Ask<'_>, decided: &Preemption) -> Result<()> {
        let (query, at) = (self.query(ask), self.at(&decided.node)?);
        let stale = || {
            let message = format!("node {} has changed since the decision: decide again", decided.node);
            Error::new(ErrorKind::Conflict, "preempt", message)
        };
        if self.workloads.find(query.tenant, &ask.workload.id).is_some() {
            let message = format!("workload {} runs already: nobody has to go for it", ask.workload.id);
            return Err(Error::new(ErrorKind::AlreadyExists, "preempt", message));
        }
        let slot = self.slots.get(at).and_then(Option::as_ref).ok_or_else(stale)?;
        let (mut left, mut once) = (slot.used.clone(), BTreeSet::new());
        for victim @ (tenant, id) in &decided.victims {
            let known = self.tenant_index.get(tenant).and_then(|known| self.workloads.find(*known, id));
            let found = known.and_then(|number| self.workloads.get(number));
            let found = found.filter(|one| one.slot == at).ok_or_else(stale)?;
            if found.priority >= ask.workload.priority || !once.insert(victim) {
                return Err(stale());
            }
            left = left.saturating_sub(&found.resources);
        }
        let room = slot.node.capacity.saturating_sub(&left);
        if !ask.workload.resources.fits_in(&room) || self.refuses(&query, at, slot).is_some() {
            return Err(stale());
        }
        for (tenant, id) in &decided.victims {
            self.unassign(tenant, id)?;
        }
        self.put_query(at, query)
    }

    fn limits(&mut self, query: &Query<'_>, reach: Reach, budgets: &[DisruptionBudget]) -> Limits {
        let mut left = BTreeMap::new();
        for budget in budgets {
            let tenant = self.tenant(&budget.tenant);
            let counted: [&Selector; 1] = [&budget.workloads];
            let rule = self.rule(tenant, Counted::Available(&counted), &Topology::Node);
            let there = self.counters.rule(rule).map_or(0, |rule| rule.total());
            let may_go = there.saturating_sub(budget.min_available);
            // Two budgets for the same workloads: the stricter counts.
            left.entry(rule).and_modify(|left: &mut u64| *left = (*left).min(may_go)).or_insert(may_go);
        }
        let below = query.ask.workload.priority;
        Limits { reach, below, tenant: query.tenant, budgets: left, keep: query.beside.clone() }
    }

    /// The nodes where it may help, those with the least important victims first; of these the cheapest.
    fn cheapest(&self, query: &Query<'_>, limits: &Limits) -> Option<(usize, Vec<&Running>)> {
        let mut hopeful = Vec::new();
        for (at, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let lowest = slot.bands.lowest(&query.need, &slot.amounts, limits.below);
            if let Some(lowest) = lowest.filter(|_| self.refuses(query, at, slot).is_none()) {
                hopeful.push((lowest, slot.tie, at));
            }
        }
        hopeful.sort_unstable();
        let mut best: Option<((i32, usize), usize, Vec<&Running>)> = None;
        let mut seen = 0;
        for (lowest, _, at) in hopeful {
            // Nothing better comes: not with fewer than one victim, and not with less important ones.
            let done = best.as_ref().is_some_and(|((highest, count), _, _)| {
                lowest > *highest || (lowest == *highest && *count == 1)
            });
            if done || seen >= ENOUGH {
                break;
            }
            let Some(victims) = self
                .slots
                .get(at)
                .and_then(Option::as_ref)
                .and_then(|slot| self.victims(query, limits, slot))
            else {
                continue;
            };
            seen += 1;
            let cost = (victims.iter().map(|one| one.priority).max().unwrap_or(i32::MIN), victims.len());
            if best.as_ref().is_none_or(|(least, _, _)| cost < *least) {
                best = Some((cost, at, victims));
            }
        }
        best.map(|(_, at, victims)| (at, victims))
    }

    /// Who must go from this node, if that is allowed and helps.
    fn victims(&self, query: &Query<'_>, limits: &Limits, slot: &Slot) -> Option<Vec<&Running>> {
        let mut left = limits.budgets.clone();
        let mut may_go = Vec::new();
        let less = slot.running.iter().take_while(|one| one.priority < limits.below);
        for one in less.filter_map(|one| self.workloads.get(one.number)) {
            let rules = self.counters.rules_of(one.group);
            let within = limits.reach == Reach::AllTenants || one.tenant == limits.tenant;
            if !within || rules.iter().any(|rule| limits.keep.contains(rule) || left.get(rule) == Some(&0)) {
                continue;
            }
            for rule in rules {
                if let Some(left) = left.get_mut(rule) {
                    *left = left.saturating_sub(1);
                }
            }
            may_go.push(one);
        }
        let amounts: Vec<_> = may_go.iter().map(|one| (one.priority, &one.resources)).collect();
        let need = slot.need(&query.ask.workload.resources)?;
        let chosen = choose_victims(&need, &slot.free, &amounts)?;
        Some(chosen.into_iter().filter_map(|at| may_go.get(at).copied()).collect())
    }
}
