//! Marks: digests that stand for labels, selectors and names, made once when these are read. Tables compare marks where they
//! would have to compare texts all over memory. No I/O, no clock, no async.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;
use hivemind_core::labels::{LabelKey, LabelValue, Labels, Operator, Requirement, Selector};
use smallvec::SmallVec;

use super::Profile;

/// Half of a BLAKE3 digest. It takes 2^64 tries to find two things with one mark, and 2^128 to find one with a given mark:
/// so things with equal marks are equal.
pub(super) type Mark = u128;

/// What `Hash` tells of a thing, to be digested as a whole.
#[derive(Default)]
struct Told(SmallVec<[u8; 256]>);

impl Hasher for Told {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        short(self.mark())
    }
}

impl Told {
    fn mark(&self) -> Mark {
        let digest = blake3::hash(&self.0);
        digest.as_bytes().first_chunk().map_or(0, |half| Mark::from_le_bytes(*half))
    }
}

/// The mark of a thing.
pub(super) fn mark_of(thing: &(impl Hash + ?Sized)) -> Mark {
    let mut told = Told::default();
    thing.hash(&mut told);
    told.mark()
}

/// A hash by which what has the mark is found in a table.
#[expect(clippy::cast_possible_truncation, reason = "a part of it")]
pub(super) fn short(mark: Mark) -> u64 {
    mark as u64
}

/// The hash by which a thing is found that has no mark; others may have the same.
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

fn label_mark(axis: Axis, key: &LabelKey, value: &LabelValue) -> Mark {
    mark_of(&(axis, key.as_str(), value.as_str()))
}

/// The marks of labels.
pub(super) fn label_marks(axis: Axis, labels: &Labels) -> impl Iterator<Item = Mark> {
    labels.iter().map(move |(key, value)| label_mark(axis, key, value))
}

/// The label that a requirement asks for, if only one will do.
fn only_label(axis: Axis, requirement: &Requirement) -> Option<Mark> {
    match (requirement.operator(), requirement.values()) {
        (Operator::In, [only]) => Some(label_mark(axis, requirement.key(), only)),
        _ => None,
    }
}

/// Selectors, as tables know them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest {
    /// Of all they say.
    pub(super) id: Mark,
    /// Labels that all whom they mean have.
    pub(super) labels: SmallVec<[Mark; 2]>,
    /// Whether all who have the labels are meant.
    pub(super) exact: bool,
}

impl Digest {
    /// Of selectors, each of which may be left out.
    pub(super) fn of<const N: usize>(selectors: [(Axis, Option<&Selector>); N]) -> Self {
        let given = selectors.iter().filter_map(|(axis, selector)| Some((*axis, (*selector)?)));
        let all =
            given.flat_map(|(axis, selector)| selector.requirements().iter().map(move |one| (axis, one)));
        let labels = all.clone().filter_map(|(axis, one)| only_label(axis, one)).collect::<SmallVec<_>>();
        Self { id: mark_of(&selectors), exact: labels.len() == all.count(), labels }
    }

    /// A label that all whom they mean have.
    pub(super) fn label(&self) -> Option<Mark> {
        self.labels.first().copied()
    }

    /// Whether `profile` has the labels that all have whom they mean.
    pub(super) fn may_mean(&self, profile: &Profile) -> bool {
        self.labels.iter().all(|label| profile.marks().contains(label))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn selector(text: &str) -> Selector {
        text.parse().unwrap()
    }

    #[test]
    fn marks_tell_labels_apart_wherever_one_text_ends_and_whosever_they_are() {
        let labels = [("ab", "c"), ("a", "bc"), ("abc", ""), ("c", "ab")];
        let marks = labels.iter().flat_map(|(key, value)| {
            let labels = Labels::new().with(key, value).unwrap();
            [Axis::Workload, Axis::Namespace, Axis::Tenant].map(|axis| label_marks(axis, &labels).next())
        });
        assert_eq!(marks.collect::<BTreeSet<_>>().len(), 3 * labels.len());
    }

    #[test]
    fn selectors_of_single_values_are_decided_by_labels_alone() {
        let of = |text: &str| Digest::of([(Axis::Workload, Some(&selector(text)))]);
        for (text, labels, exact) in [
            ("", 0, true),
            ("a=b,c in (d)", 2, true),
            ("a=b,c in (d,e)", 1, false),
            ("a=b,c!=d", 1, false),
            ("a", 0, false),
            ("!a,b=c", 1, false),
        ] {
            assert_eq!((of(text).labels.len(), of(text).exact), (labels, exact), "{text}");
        }
        let ids = ["a=b,c=d", "c=d,a=b", "a=b", "", "a in (b)"].map(|text| of(text).id);
        // The last is the third in other words.
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 4);
    }

    #[test]
    fn what_is_left_out_and_what_matches_everything_differ() {
        let everything = Selector::everything();
        let both = [None, Some(&everything)].map(|given| Digest::of([(Axis::Tenant, given)]));
        assert_ne!(both[0].id, both[1].id);
        assert!(both.iter().all(|digest| digest.exact && digest.label().is_none()));
    }
}
