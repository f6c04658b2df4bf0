//! Hashes by which labels and selectors are found, made once when they are read. Others may have the same hash: whoever
//! asks looks at the things themselves. No I/O, no clock, no async.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hivemind_core::labels::{LabelKey, LabelValue, Labels, Operator, Selector};
use smallvec::SmallVec;

use super::Profile;

/// The hash by which a thing is found.
pub(super) fn hash_of(thing: &(impl Hash + ?Sized)) -> u64 {
    FixedState::default().hash_one(thing)
}

/// Whose label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Axis {
    Workload,
    Namespace,
    Tenant,
}

/// The hash of a label.
fn label_hash(axis: Axis, key: &LabelKey, value: &LabelValue) -> u64 {
    hash_of(&(axis, key.as_str(), value.as_str()))
}

/// The hashes of labels.
pub(super) fn label_hashes(axis: Axis, labels: &Labels) -> impl Iterator<Item = u64> {
    labels.iter().map(move |(key, value)| label_hash(axis, key, value))
}

/// The labels that `selector` asks for, with just one value; by their hashes.
fn labels_of(axis: Axis, selector: &Selector) -> impl Iterator<Item = u64> {
    let all = selector.requirements().iter().filter(|one| one.operator() == Operator::In);
    all.filter_map(move |one| match one.values() {
        [only] => Some(label_hash(axis, one.key(), only)),
        _ => None,
    })
}

/// By what selectors are found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest {
    /// Of all they say.
    pub(super) hash: u64,
    /// Of labels that all whom they mean have.
    labels: SmallVec<[u64; 2]>,
}

impl Digest {
    /// Of selectors, each of which may be left out.
    pub(super) fn of<const N: usize>(selectors: [(Axis, Option<&Selector>); N]) -> Self {
        let given = selectors.iter().filter_map(|(axis, selector)| Some((*axis, (*selector)?)));
        let labels = given.flat_map(|(axis, selector)| labels_of(axis, selector)).collect();
        Self { hash: hash_of(&selectors), labels }
    }

    /// The hash of a label that all whom they mean have.
    pub(super) fn label(&self) -> Option<u64> {
        self.labels.first().copied()
    }

    /// Whether they may mean `profile`: most that they do not mean are told without a look at any text.
    pub(super) fn may_mean(&self, profile: &Profile) -> bool {
        self.labels.iter().all(|label| profile.marks().contains(label))
    }
}
