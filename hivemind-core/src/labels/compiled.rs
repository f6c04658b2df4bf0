//! A selector made ready for matching many times.

use super::selector::{Operator, Requirement, integer};
use super::{LabelKey, LabelValue, Labels};

/// A [`Selector`](super::Selector) with its values sorted, its integers read and its cheapest tests first. Matching
/// allocates nothing.
#[derive(Debug, Clone)]
pub struct CompiledSelector(Vec<Test>);

#[derive(Debug, Clone)]
struct Test {
    key: LabelKey,
    check: Check,
}

#[derive(Debug, Clone)]
enum Check {
    Exists,
    Absent,
    Is(LabelValue),
    IsNot(LabelValue),
    Above(i64),
    Below(i64),
    OneOf(Box<[LabelValue]>),
    NoneOf(Box<[LabelValue]>),
}

impl Check {
    fn of(requirement: &Requirement) -> Self {
        let values = requirement.values();
        let first = values.first();
        match (requirement.operator(), first) {
            (Operator::Exists, _) => Self::Exists,
            (Operator::In, Some(only)) if values.len() == 1 => Self::Is(only.clone()),
            (Operator::NotIn, Some(only)) if values.len() == 1 => Self::IsNot(only.clone()),
            (Operator::In, _) => Self::OneOf(values.iter().cloned().collect()),
            (Operator::NotIn, _) => Self::NoneOf(values.iter().cloned().collect()),
            (Operator::Gt, Some(value)) => integer(value).map_or(Self::OneOf(Box::default()), Self::Above),
            (Operator::Lt, Some(value)) => integer(value).map_or(Self::OneOf(Box::default()), Self::Below),
            (Operator::DoesNotExist | Operator::Gt | Operator::Lt, _) => Self::Absent,
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Exists | Self::Absent => 0,
            Self::Is(_) | Self::IsNot(_) => 1,
            Self::Above(_) | Self::Below(_) => 2,
            Self::OneOf(values) | Self::NoneOf(values) => 3 + values.len(),
        }
    }

    fn holds(&self, found: Option<&LabelValue>) -> bool {
        match self {
            Self::Exists => found.is_some(),
            Self::Absent => found.is_none(),
            Self::Is(value) => found == Some(value),
            Self::IsNot(value) => found != Some(value),
            Self::Above(bound) => found.and_then(integer).is_some_and(|found| found > *bound),
            Self::Below(bound) => found.and_then(integer).is_some_and(|found| found < *bound),
            Self::OneOf(values) => found.is_some_and(|found| values.binary_search(found).is_ok()),
            Self::NoneOf(values) => found.is_none_or(|found| values.binary_search(found).is_err()),
        }
    }
}

impl CompiledSelector {
    pub(super) fn new(requirements: &[Requirement]) -> Self {
        let mut tests: Vec<_> =
            requirements.iter().map(|one| Test { key: one.key().clone(), check: Check::of(one) }).collect();
        tests.sort_by_key(|test| test.check.cost());
        Self(tests)
    }

    /// Whether `labels` meet every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|test| test.check.holds(labels.get(test.key.as_str())))
    }
}
