//! Forgetting what nobody asks for any more. No I/O, no clock, no async.
//!
//! Every selector, rollout and set of labels that was ever seen has its numbers. A cluster that runs for years would
//! keep all of them, so that from time to time only those of what runs are kept; whatever is asked again is learnt again.

use super::ClusterIndex;
use super::counters::Counted;
use super::shapes::Shapes;

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
        self.classify();
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { continue };
            let (lost, mut running) = (slot.is_lost(), std::mem::take(&mut slot.running));
            for one in &mut running {
                if let Some(kind) = old.kind(one.group) {
                    one.group = self.counters.group(kind);
                }
                let terms: Vec<_> = one.apart.iter().filter_map(|rule| old.term(*rule)).collect();
                one.apart = terms
                    .iter()
                    .map(|(selectors, topology)| {
                        self.rule(one.tenant, Counted::Labelled(selectors), topology)
                    })
                    .collect();
                self.counters.change(at, one.group, &one.apart, true, lost);
            }
            if let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) {
                slot.running = running;
            }
        }
    }
}
