//! What runs, each workload under a number that stays the same while it does. No I/O, no clock, no async.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use hivemind_core::WorkloadId;
use hivemind_core::resources::Resources;

use super::counters::Held;

/// A workload on a node.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) tenant: usize,
    pub(super) id: WorkloadId,
    /// Where.
    pub(super) slot: usize,
    pub(super) resources: Resources,
    pub(super) priority: i32,
    pub(super) group: usize,
    /// Which of its group it is.
    pub(super) member: usize,
    /// What it says about others.
    pub(super) held: Held,
}

/// All of them, found by tenant and name.
#[derive(Debug, Clone, Default)]
pub(super) struct Workloads {
    all: Vec<Option<Running>>,
    spare: Vec<usize>,
    /// By tenant. Never iterated.
    found: Vec<HashMap<WorkloadId, usize, RandomState>>,
}

impl Workloads {
    pub(super) fn get(&self, number: usize) -> Option<&Running> {
        self.all.get(number)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Running> {
        self.all.get_mut(number)?.as_mut()
    }

    /// The number of a workload, if it runs.
    pub(super) fn find(&self, tenant: usize, id: &WorkloadId) -> Option<usize> {
        self.found.get(tenant)?.get(id).copied()
    }

    /// It runs now; it did not before.
    pub(super) fn add(&mut self, running: Running) -> usize {
        let number = self.spare.pop().unwrap_or(self.all.len());
        if running.tenant >= self.found.len() {
            self.found.resize_with(running.tenant + 1, HashMap::default);
        }
        if let Some(found) = self.found.get_mut(running.tenant) {
            found.insert(running.id.clone(), number);
        }
        if number >= self.all.len() {
            self.all.resize_with(number + 1, || None);
        }
        if let Some(place) = self.all.get_mut(number) {
            *place = Some(running);
        }
        number
    }

    /// It runs no longer.
    pub(super) fn remove(&mut self, number: usize) -> Option<Running> {
        let gone = self.all.get_mut(number)?.take()?;
        self.found.get_mut(gone.tenant)?.remove(&gone.id);
        self.spare.push(number);
        Some(gone)
    }
}
