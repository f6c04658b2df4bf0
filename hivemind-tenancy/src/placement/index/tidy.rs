//! Forgetting what nobody asks for any more. No I/O, no clock, no async.
//!
//! Every selector, rollout and set of labels that was ever seen has its numbers. A cluster that runs for years would
//! keep all of them, so that from time to time only those of what runs are kept; whatever is asked again is learnt again.

use super::ClusterIndex;
use super::rule::Counted;
use super::shapes::Shapes;
use super::shares::Shares;

/// So many groups and rules are kept without a look at who needs them.
const COUNTED: usize = 4096;
/// The most shapes; each costs a little for every node.
const SHAPES: usize = 1024;

/// How many groups and rules there may be until the next look.
#[derive(Debug, Clone)]
pub(super) struct Allowance(usize);

impl Default for Allowance {
    fn default() -> Self {
        Self(COUNTED)
    }
}

impl ClusterIndex {
    /// Forgets what is not needed if there is much. Numbers of groups, rules, topologies and shapes are others then: call
    /// it before any is looked up.
    pub(super) fn tidy(&mut self) {
        if self.counters.len() > self.allowance.0 || self.shapes.len() > SHAPES {
            self.forget();
            // As many again may come before the next look, so that its cost is spread over them.
            self.allowance = Allowance(COUNTED.max(self.counters.len().saturating_mul(2)));
        }
    }

    /// Keeps what runs, and nothing else.
    pub(super) fn forget(&mut self) {
        let old = std::mem::take(&mut self.counters);
        self.shapes = Shapes::default();
        // By the numbers of topologies, which are others now.
        self.shares = Shares::default();
        self.classify();
        let slots = 0..self.slots.len();
        let here = |at: usize| {
            self.slots.get(at).and_then(Option::as_ref).into_iter().flat_map(|slot| &slot.running)
        };
        let numbers: Vec<_> = slots.flat_map(here).map(|one| one.number).collect();
        for number in numbers {
            let Some((tenant, kind, held)) = self.workloads.get_mut(number).and_then(|one| {
                let (kind, held) = (old.kind(one.group)?, std::mem::take(&mut one.held));
                Some((one.tenant, kind, held))
            }) else {
                continue;
            };
            let group = self.counters.group(kind);
            let terms = held.iter().filter_map(|(rule, stance)| Some((old.term(*rule)?, *stance)));
            let held = terms.map(|((selectors, topology), stance)| {
                (self.rule(tenant, Counted::Labelled(&selectors), topology), stance)
            });
            let held = held.collect();
            if let Some(one) = self.workloads.get_mut(number) {
                (one.group, one.held) = (group, held);
            }
            self.join(number);
        }
    }
}
