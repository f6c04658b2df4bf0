//! What one thing may ask for: defaults, least, most, and how far a limit may be above a request.
//!
//! No I/O, no clock, no async.

mod problem;

use std::collections::BTreeMap;

use hivemind_core::resources::{ResourceName, Resources};
use serde::{Deserialize, Serialize};

pub use self::problem::{OutOfBounds, Problem};

/// What one thing asks for. An amount of zero is one that was not given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Demand {
    /// What it is guaranteed; quotas charge this.
    pub request: Resources,
    /// What it may use at most.
    pub limit: Resources,
}

impl Demand {
    /// Asks for `request`, and may use up to `limit`.
    pub fn new(request: Resources, limit: Resources) -> Self {
        Self { request, limit }
    }
}

/// The bounds of one resource, in its base units. What is `None` (or a default of zero) bounds nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Bounds {
    /// The request of what gives neither request nor limit; if unset, it is the limit.
    pub default_request: Option<u64>,
    /// The limit of what gives none; if unset, it is `max`.
    pub default_limit: Option<u64>,
    /// The least that may be requested.
    pub min: Option<u64>,
    /// The highest limit.
    pub max: Option<u64>,
    /// How many thousandths of the request the limit may be: 2000 allows a limit of twice the request.
    pub max_ratio_per_mille: Option<u64>,
}

impl Bounds {
    /// With this request for what gives neither request nor limit.
    #[must_use]
    pub fn with_default_request(mut self, amount: u64) -> Self {
        self.default_request = Some(amount);
        self
    }

    /// With this limit for what gives none.
    #[must_use]
    pub fn with_default_limit(mut self, amount: u64) -> Self {
        self.default_limit = Some(amount);
        self
    }

    /// With this least request.
    #[must_use]
    pub fn with_min(mut self, amount: u64) -> Self {
        self.min = Some(amount);
        self
    }

    /// With this highest limit.
    #[must_use]
    pub fn with_max(mut self, amount: u64) -> Self {
        self.max = Some(amount);
        self
    }

    /// With a limit of at most so many thousandths of the request.
    #[must_use]
    pub fn with_max_ratio_per_mille(mut self, thousandths: u64) -> Self {
        self.max_ratio_per_mille = Some(thousandths);
        self
    }

    /// Request and limit with the defaults filled in. Zero stands for none.
    fn fill(&self, request: u64, limit: u64) -> (u64, u64) {
        let given = |amount: Option<u64>| amount.filter(|amount| *amount > 0);
        let limit_or_default = match limit {
            0 => given(self.default_limit).or(given(self.max)).unwrap_or(0),
            own => own,
        };
        let request = match (request, limit) {
            (0, 0) => given(self.default_request).unwrap_or(limit_or_default),
            // Whoever gives a limit alone means it as the request, too: a default could lie above it.
            (0, own_limit) => own_limit,
            (own, _) => own,
        };
        (request, limit_or_default)
    }

    /// Everything that is wrong with `request` and `limit`, zero standing for none.
    fn problems(&self, request: u64, limit: u64) -> Vec<Problem> {
        let mut found = Vec::new();
        if limit > 0 && request > limit {
            found.push(Problem::RequestAboveLimit { request, limit });
        }
        if let Some(min) = self.min.filter(|min| request < *min) {
            found.push(Problem::BelowMin { request, min });
        }
        if let Some(max) = self.max {
            // Where none is allowed, a request without a limit is for too much, and no request is as it should be.
            let limit = if max == 0 { limit.max(request) } else { limit };
            if limit > max {
                found.push(Problem::AboveMax { limit, max });
            } else if max > 0 && limit == 0 {
                found.push(Problem::NoLimit { max });
            }
        }
        if let Some(max_per_mille) = self.max_ratio_per_mille {
            // Without a limit the ratio has no end.
            let too_high =
                u128::from(limit) * 1000 > u128::from(max_per_mille) * u128::from(request) || limit == 0;
            if too_high && request > 0 {
                found.push(Problem::RatioAbove { request, limit, max_per_mille });
            }
        }
        found
    }
}

/// What things of one kind may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct LimitRange(Written);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    kind: String,
    bounds: BTreeMap<ResourceName, Bounds>,
}

/// The bounds of a resource contradict each other: a thing that gives nothing would be refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bounds of {resource} for {kind} refuse their own defaults: {}", .problems.join("; "))]
#[non_exhaustive]
pub struct InvalidLimitRange {
    /// For things of which kind.
    pub kind: String,
    /// Of which resource.
    pub resource: ResourceName,
    /// Why the defaults are refused.
    pub problems: Vec<String>,
}

impl LimitRange {
    /// Bounds for things of `kind`.
    ///
    /// # Errors
    /// [`InvalidLimitRange`] if defaults lie outside their own bounds, or the least is above the highest.
    pub fn new(
        kind: impl Into<String>,
        bounds: BTreeMap<ResourceName, Bounds>,
    ) -> Result<Self, InvalidLimitRange> {
        Self::try_from(Written { kind: kind.into(), bounds })
    }

    /// For things of which kind.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The bounds of each resource.
    pub fn bounds(&self) -> &BTreeMap<ResourceName, Bounds> {
        &self.0.bounds
    }

    /// The demand with the defaults filled in. Applying it again changes nothing.
    ///
    /// # Errors
    /// Everything that is out of bounds once the defaults are filled in, in the order of resource names.
    pub fn apply(&self, demand: &Demand) -> Result<Demand, Vec<OutOfBounds>> {
        let filled = self.fill(demand);
        let wrong = self.check(&filled);
        if wrong.is_empty() { Ok(filled) } else { Err(wrong) }
    }

    /// The demand with the defaults filled in, whether or not it is in bounds.
    pub(super) fn fill(&self, demand: &Demand) -> Demand {
        let mut filled = demand.clone();
        for (resource, bounds) in &self.0.bounds {
            let (request, limit) =
                bounds.fill(demand.request.amount(resource), demand.limit.amount(resource));
            filled.request = filled.request.with(resource.clone(), request);
            filled.limit = filled.limit.with(resource.clone(), limit);
        }
        filled
    }

    /// Everything of the demand, as it is, that is out of bounds, in the order of resource names.
    pub(super) fn check(&self, demand: &Demand) -> Vec<OutOfBounds> {
        let mut wrong = Vec::new();
        for (resource, bounds) in &self.0.bounds {
            let (request, limit) = (demand.request.amount(resource), demand.limit.amount(resource));
            let problems = bounds.problems(request, limit).into_iter();
            wrong.extend(problems.map(|problem| OutOfBounds { resource: resource.clone(), problem }));
        }
        wrong
    }
}

impl TryFrom<Written> for LimitRange {
    type Error = InvalidLimitRange;
    fn try_from(written: Written) -> Result<Self, InvalidLimitRange> {
        for (resource, bounds) in &written.bounds {
            let invalid = |problems| InvalidLimitRange {
                kind: written.kind.clone(),
                resource: resource.clone(),
                problems,
            };
            if let (Some(min), Some(max)) = (bounds.min, bounds.max)
                && min > max
            {
                let (min, max) = (resource.print(min), resource.print(max));
                return Err(invalid(vec![format!("the least, {min}, is above the highest, {max}")]));
            }
            let (request, limit) = bounds.fill(0, 0);
            // Bounds without defaults may well demand that a request is given.
            if request > 0 {
                let problems = bounds.problems(request, limit);
                if !problems.is_empty() {
                    return Err(invalid(problems.iter().map(|one| one.explain(resource)).collect()));
                }
            }
        }
        Ok(Self(written))
    }
}

impl From<LimitRange> for Written {
    fn from(range: LimitRange) -> Self {
        range.0
    }
}

#[cfg(test)]
mod tests;
