//! Which labels are wanted.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CompiledSelector, LabelKey, LabelValue, Labels};

/// How the value of a key is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(clippy::exhaustive_enums, reason = "Kubernetes' operators, all of them")]
pub enum Operator {
    /// The key is there with one of the values. One value prints as `=`.
    In,
    /// The key is missing, or has none of the values. One value prints as `!=`.
    NotIn,
    /// The key is there.
    Exists,
    /// The key is missing.
    DoesNotExist,
    /// The key's value is an integer greater than the one given.
    Gt,
    /// The key's value is an integer less than the one given.
    Lt,
}

/// One condition on one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    key: LabelKey,
    operator: Operator,
    /// In order, each once.
    values: Box<[LabelValue]>,
}

/// An operator does not take these values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operator:?} on {key} takes {takes}, not {found} values")]
#[non_exhaustive]
pub struct InvalidRequirement {
    /// The key.
    pub key: LabelKey,
    /// The operator.
    pub operator: Operator,
    /// What the operator takes.
    pub takes: &'static str,
    /// How many values were given.
    pub found: usize,
}

/// The value as an integer, as Kubernetes reads it.
pub(super) fn integer(value: &LabelValue) -> Option<i64> {
    number(value.as_str())
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

impl Requirement {
    /// `key` compared by `operator` with `values`.
    ///
    /// # Errors
    /// [`InvalidRequirement`]: `In` and `NotIn` take one value or more, `Gt` and `Lt` one integer, the others none.
    pub fn new(
        key: LabelKey,
        operator: Operator,
        values: impl IntoIterator<Item = LabelValue>,
    ) -> Result<Self, InvalidRequirement> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_unstable();
        values.dedup();
        let (fine, takes) = match operator {
            Operator::In | Operator::NotIn => (!values.is_empty(), "one value or more"),
            Operator::Exists | Operator::DoesNotExist => (values.is_empty(), "no value"),
            Operator::Gt | Operator::Lt => {
                (values.len() == 1 && values.iter().all(|value| integer(value).is_some()), "one integer")
            }
        };
        if fine {
            return Ok(Self { key, operator, values: values.into() });
        }
        Err(InvalidRequirement { key, operator, takes, found: values.len() })
    }

    /// The key.
    pub fn key(&self) -> &LabelKey {
        &self.key
    }

    /// The operator.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values, in order, each once.
    pub fn values(&self) -> &[LabelValue] {
        &self.values
    }

    /// Whether `labels` meet it.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.holds(labels.get(self.key.as_str()).map(LabelValue::as_str))
    }

    /// Whether it holds for the value that its key has.
    fn holds(&self, found: Option<&str>) -> bool {
        let wanted = || self.values.first().and_then(integer);
        let among = |value: &str| self.values.binary_search_by(|one| one.as_str().cmp(value)).is_ok();
        match self.operator {
            Operator::In => found.is_some_and(among),
            Operator::NotIn => found.is_none_or(|value| !among(value)),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::Gt => {
                found.and_then(number).zip(wanted()).is_some_and(|(found, wanted)| found > wanted)
            }
            Operator::Lt => {
                found.and_then(number).zip(wanted()).is_some_and(|(found, wanted)| found < wanted)
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator, values } = self;
        let all = || values.iter().map(LabelValue::as_str).collect::<Vec<_>>().join(",");
        match (operator, values.len()) {
            (Operator::In, 1) => write!(f, "{key}={}", all()),
            (Operator::NotIn, 1) => write!(f, "{key}!={}", all()),
            (Operator::In, _) => write!(f, "{key} in ({})", all()),
            (Operator::NotIn, _) => write!(f, "{key} notin ({})", all()),
            (Operator::Exists, _) => write!(f, "{key}"),
            (Operator::DoesNotExist, _) => write!(f, "!{key}"),
            (Operator::Gt, _) => write!(f, "{key}>{}", all()),
            (Operator::Lt, _) => write!(f, "{key}<{}", all()),
        }
    }
}

/// All of several requirements; without any, everything matches.
///
/// Reads and prints Kubernetes' text form: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(Vec<Requirement>);

impl Selector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// And `requirement` too.
    #[must_use]
    pub fn and(mut self, requirement: Requirement) -> Self {
        self.0.push(requirement);
        self
    }

    /// The requirements, in the order they were given.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    /// Whether it matches everything for want of requirements.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `labels` meet every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether what has these values matches, whatever kind of labels they are: those of a metric may be any text.
    pub fn matches_values<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| requirement.holds(value_of(requirement.key.as_str())))
    }

    /// The same, for matching many times.
    pub fn compile(&self) -> CompiledSelector {
        CompiledSelector::new(&self.0)
    }
}

impl From<&Labels> for Selector {
    /// Every label, with just its value.
    fn from(labels: &Labels) -> Self {
        let equals = |(key, value): (&LabelKey, &LabelValue)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: Box::new([value.clone()]),
        };
        Self(labels.iter().map(equals).collect())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

/// Any of several selectors, as in Kubernetes' `nodeSelectorTerms`; without any, nothing matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AnySelector(Vec<Selector>);

impl AnySelector {
    /// Any of `selectors`.
    pub fn new(selectors: impl IntoIterator<Item = Selector>) -> Self {
        Self(selectors.into_iter().collect())
    }

    /// Whether `labels` meet one of them.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().any(|selector| selector.matches(labels))
    }
}

/// Kubernetes' structured form: `matchLabels` and `matchExpressions`. Convert it to a [`Selector`] to use it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct LabelSelector {
    /// Keys with the one value each must have.
    #[serde(default)]
    pub match_labels: BTreeMap<LabelKey, LabelValue>,
    /// Further requirements.
    #[serde(default)]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One of a [`LabelSelector`]'s expressions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LabelSelectorRequirement {
    /// The key.
    pub key: LabelKey,
    /// The operator.
    pub operator: Operator,
    /// The values.
    #[serde(default)]
    pub values: Vec<LabelValue>,
}

impl TryFrom<LabelSelector> for Selector {
    type Error = InvalidRequirement;
    fn try_from(form: LabelSelector) -> Result<Self, InvalidRequirement> {
        let labels: Labels = form.match_labels.into_iter().collect();
        form.match_expressions.into_iter().try_fold(Self::from(&labels), |selector, expression| {
            Ok(selector.and(Requirement::new(expression.key, expression.operator, expression.values)?))
        })
    }
}
