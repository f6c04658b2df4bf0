//! What of a ledger depends on time. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::resources::ResourceName;

use super::{Level, UNLIMITED, line};
use crate::quota::{Budget, BudgetState, Shortage, SoftLimit, SoftState};

impl Level {
    /// Usage of one resource as it was before this decision, and as it is to be.
    fn usage_of(&self, resource: &ResourceName) -> (u64, u64) {
        let amount = |usage: i128| u64::try_from(usage.max(0)).unwrap_or(UNLIMITED);
        let before = self.settled.taken(resource).usage;
        (amount(before), amount(line(&self.now, resource).taken().usage))
    }

    fn soft_state(&self, resource: &ResourceName) -> SoftState {
        self.settled.soft.get(resource).copied().unwrap_or_default()
    }

    /// Every soft limit above which usage must not grow, or stay if all of it counts as asked for now.
    pub(super) fn soft_shortages(&self, depth: usize, short: &mut Vec<Shortage>) {
        for (resource, limit) in &self.spec.soft_limits {
            let ((before, after), state) = (self.usage_of(resource), self.soft_state(resource));
            let exceeded = if self.as_new {
                limit.exceeded(state, after, self.at)
            } else {
                limit.decide(state, before, after, self.at).err()
            };
            if exceeded.is_some() {
                let (before, now) = (line(&self.before, resource), line(&self.now, resource).taken());
                let by = (limit.limit, after.saturating_sub(limit.limit));
                let found = self.short(depth, resource, None, before, now, by);
                short.push(Shortage { soft: exceeded, ..found });
            }
        }
    }

    fn budget_state(&self, resource: &ResourceName) -> Option<BudgetState> {
        self.settled.budgets.get(resource).copied()
    }

    /// Every budget that is spent, of what grows; of all that was drawn on if all of it counts as asked for now.
    pub(super) fn budget_shortages(&self, depth: usize, short: &mut Vec<Shortage>) {
        for (resource, budget) in &self.spec.budgets {
            let (before, after) = self.usage_of(resource);
            let (before, exceeded) = if self.as_new {
                let state = self.next_budget(resource, budget);
                (0, state.and_then(|state| budget.spent(state, self.at)))
            } else if after > before {
                let state = self.budget_state(resource).unwrap_or_default();
                (before, budget.exceeded(state, self.at))
            } else {
                continue;
            };
            if exceeded.is_some() {
                let (line, now) = (line(&self.before, resource), line(&self.now, resource).taken());
                let by = (before, after.saturating_sub(before));
                let found = self.short(depth, resource, None, line, now, by);
                short.push(Shortage { budget: exceeded, ..found });
            }
        }
    }

    /// What will be spent of each budget. Without a time nothing grows, and what falls counts on as it was until the
    /// next decision that has one: more may be counted than was used, never less.
    pub(super) fn budget_states(&self) -> BTreeMap<ResourceName, BudgetState> {
        let of =
            |(resource, budget)| Some((ResourceName::clone(resource), self.next_budget(resource, budget)?));
        let mut states = self.removed_budgets();
        states.extend(self.spec.budgets.iter().filter_map(of));
        states
    }

    fn next_budget(&self, resource: &ResourceName, budget: &Budget) -> Option<BudgetState> {
        let (before, after) = self.usage_of(resource);
        match (self.budget_state(resource), self.at) {
            (Some(old), Some(now)) if old.in_use != after => Some(budget.record(old, now, after)),
            (Some(old), _) => Some(old),
            // Before it was set there was no budget to spend.
            (None, Some(now)) if before > 0 || after > 0 => {
                Some(BudgetState { in_use: after, counted_to: now, ..BudgetState::default() })
            }
            (None, _) => None,
        }
    }

    /// What was spent of budgets that are not set any more, so that a budget that is set again knows it. What is used
    /// meanwhile costs nothing.
    fn removed_budgets(&self) -> BTreeMap<ResourceName, BudgetState> {
        let known = self.stored.iter().flat_map(|stored| &stored.budgets);
        let next = |(resource, old): (&ResourceName, &BudgetState)| {
            let removed_now = self.stored_spec.as_ref().and_then(|spec| spec.budgets.get(resource));
            let next = match (removed_now, self.at) {
                (Some(budget), Some(now)) => budget.record(*old, now, 0),
                _ => *old,
            };
            (resource.clone(), next)
        };
        known.filter(|(resource, _)| !self.spec.budgets.contains_key(*resource)).map(next).collect()
    }

    /// Since when each soft limit will be exceeded; what is within its limit is left out.
    pub(super) fn soft_states(&self) -> BTreeMap<ResourceName, SoftState> {
        let next = |(resource, limit): (&ResourceName, &SoftLimit)| {
            let ((before, after), state) = (self.usage_of(resource), self.soft_state(resource));
            // What is refused is not staged, unless the host flags it: then the grace is over already.
            let next = limit.decide(state, before, after, self.at).map_or(state, |(next, _)| next);
            next.over_since.map(|_| (resource.clone(), next))
        };
        self.spec.soft_limits.iter().filter_map(next).collect()
    }
}
