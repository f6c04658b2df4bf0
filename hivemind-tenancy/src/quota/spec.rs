//! What a tenant may take, beyond its plain limits. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::ResourceName;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Collection, Error, Result, Stamped, Stored, TenantRef, Timestamp};
use serde::{Deserialize, Serialize};

use super::books::spec_key;
use super::level::{LevelRules, UNLIMITED};
use super::{Budget, LimitRange, QuotaScope, RateLimit, SoftLimit, TemporaryLimits};
use crate::Tenant;
use crate::tenant::chain_of;

/// How much of one resource a tenant, with everything below it, may take. Amounts are in base units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct QuotaRule {
    /// The most; with a limit of the tenant itself, the smaller counts. `None` means no limit.
    pub max: Option<u64>,
    /// What it gets, whatever its siblings do.
    pub guaranteed: u64,
    /// How much beyond its guarantee it may take of what others leave; `None` means no limit.
    pub borrowing_limit: Option<u64>,
    /// How much of its guarantee others may take while it is idle; `None` means all of it.
    pub lending_limit: Option<u64>,
    /// How much of `max` may be asked for, in thousandths; `None` means 1000. Above 1000, a root admits more than
    /// its `max`, and a tenant below it may promise more to its parts than it may use itself.
    pub overcommit_per_mille: Option<u32>,
}

impl QuotaRule {
    /// At most so much.
    #[must_use]
    pub fn with_max(mut self, amount: u64) -> Self {
        self.max = Some(amount);
        self
    }

    /// At least so much, if it asks for it.
    #[must_use]
    pub fn with_guaranteed(mut self, amount: u64) -> Self {
        self.guaranteed = amount;
        self
    }

    /// At most so much beyond the guarantee.
    #[must_use]
    pub fn with_borrowing_limit(mut self, amount: u64) -> Self {
        self.borrowing_limit = Some(amount);
        self
    }

    /// At most so much of the guarantee is lent while idle.
    #[must_use]
    pub fn with_lending_limit(mut self, amount: u64) -> Self {
        self.lending_limit = Some(amount);
        self
    }

    /// So many thousandths of the most may be asked for.
    #[must_use]
    pub fn with_overcommit_per_mille(mut self, thousandths: u32) -> Self {
        self.overcommit_per_mille = Some(thousandths);
        self
    }
}

/// A quota on some requests only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ScopedQuota {
    /// Which requests it counts.
    pub scope: QuotaScope,
    /// The most they may take together, of each resource that is named.
    pub limits: BTreeMap<ResourceName, u64>,
}

impl ScopedQuota {
    /// A quota on the requests of `scope`, without limits yet.
    pub fn new(scope: QuotaScope) -> Self {
        Self { scope, limits: BTreeMap::new() }
    }

    /// With a limit of `amount` base units on `resource`.
    #[must_use]
    pub fn with_limit(mut self, resource: ResourceName, amount: u64) -> Self {
        self.limits.insert(resource, amount);
        self
    }
}

/// What a tenant, with everything below it, may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct QuotaSpec {
    /// By resource; what is not named has no rule.
    pub rules: BTreeMap<ResourceName, QuotaRule>,
    /// Resources that are denied unless some limit of this tenant covers them.
    pub required: BTreeSet<ResourceName>,
    /// Further quotas by name, each on some requests only.
    pub scoped: BTreeMap<String, ScopedQuota>,
    /// Limits that hold in place of the lasting ones for a while.
    pub temporary: TemporaryLimits,
    /// What one thing may ask for, at most one range for each kind of thing.
    pub limit_ranges: Vec<LimitRange>,
    /// How fast things may be done, by names of the host's choice, such as `api-calls` and `creates`.
    pub rates: BTreeMap<String, RateLimit>,
    /// Limits that may be exceeded for a while, by resource; what is in use and what is reserved count.
    pub soft_limits: BTreeMap<ResourceName, SoftLimit>,
    /// How much may be used over time, by resource; what is in use and what is reserved count.
    pub budgets: BTreeMap<ResourceName, Budget>,
}

impl Stored for QuotaSpec {
    const KIND: &'static str = "quota";
}

pub(crate) fn specs() -> Result<Collection<QuotaSpec>> {
    crate::collection("quotas")
}

/// A tenant, and its quota if it has one.
pub(crate) type Limited = (Stamped<Tenant>, Option<Stamped<QuotaSpec>>);

/// `tenant` and every tenant above it, the root last.
pub(crate) fn limited_chain(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<Vec<Limited>> {
    let with_spec = |tenant: Stamped<Tenant>| {
        let spec = specs()?.get(view, txn, &spec_key(&tenant.tenant)?)?;
        Ok((tenant, spec))
    };
    chain_of(view, txn, tenant)?.into_iter().map(with_spec).collect()
}

impl QuotaSpec {
    /// No rules at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a rule for `resource`.
    #[must_use]
    pub fn with_rule(mut self, resource: ResourceName, rule: QuotaRule) -> Self {
        self.rules.insert(resource, rule);
        self
    }

    /// With `resource` denied unless a limit covers it.
    #[must_use]
    pub fn with_required(mut self, resource: ResourceName) -> Self {
        self.required.insert(resource);
        self
    }

    /// With a further quota.
    #[must_use]
    pub fn with_scoped(mut self, name: impl Into<String>, quota: ScopedQuota) -> Self {
        self.scoped.insert(name.into(), quota);
        self
    }

    /// With limits that hold for a while.
    #[must_use]
    pub fn with_temporary(mut self, limits: TemporaryLimits) -> Self {
        self.temporary = limits;
        self
    }

    /// With bounds for things of one kind, in place of those that it had for that kind.
    #[must_use]
    pub fn with_limit_range(mut self, range: LimitRange) -> Self {
        self.limit_ranges.retain(|known| known.kind() != range.kind());
        self.limit_ranges.push(range);
        self
    }

    /// With what is called `name` done no faster than `limit`.
    #[must_use]
    pub fn with_rate(mut self, name: impl Into<String>, limit: RateLimit) -> Self {
        self.rates.insert(name.into(), limit);
        self
    }

    /// With a limit on `resource` that may be exceeded for a while.
    #[must_use]
    pub fn with_soft_limit(mut self, resource: ResourceName, limit: SoftLimit) -> Self {
        self.soft_limits.insert(resource, limit);
        self
    }

    /// With a budget of `resource` over time. It counts from the first decision that has a time.
    ///
    /// A budget that is removed and set again knows what was spent until it was removed, if that was in the same
    /// period. What is used in between costs nothing.
    #[must_use]
    pub fn with_budget(mut self, resource: ResourceName, budget: Budget) -> Self {
        self.budgets.insert(resource, budget);
        self
    }

    /// The bounds for things of `kind`.
    pub fn limit_range(&self, kind: &str) -> Option<&LimitRange> {
        self.limit_ranges.iter().find(|range| range.kind() == kind)
    }

    /// Whether it can be obeyed.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) names the rule that contradicts itself.
    pub fn check(&self) -> Result<()> {
        for (resource, rule) in &self.rules {
            let invalid = |what: String| Err(Error::invalid("set quota", format!("{resource}: {what}")));
            if let Some(max) = rule.max.filter(|max| *max < rule.guaranteed) {
                let (guaranteed, max) = (resource.print(rule.guaranteed), resource.print(max));
                return invalid(format!("{guaranteed} is guaranteed, above the max {max}: lower it"));
            }
            if let Some(lending) = rule.lending_limit.filter(|lending| *lending > rule.guaranteed) {
                let (guaranteed, lending) = (resource.print(rule.guaranteed), resource.print(lending));
                return invalid(format!("{lending} may be lent of {guaranteed} guaranteed: lower it"));
            }
            if rule.overcommit_per_mille == Some(0) {
                return invalid("an over-commit ratio of 0 admits nothing: say max 0 instead".to_owned());
            }
        }
        let mut kinds = BTreeSet::new();
        if let Some(twice) = self.limit_ranges.iter().find(|range| !kinds.insert(range.kind())) {
            let message = format!("there are two limit ranges for {:?}: join them", twice.kind());
            return Err(Error::invalid("set quota", message));
        }
        match self.scoped.keys().chain(self.rates.keys()).find(|name| name.is_empty() || name.len() > 253) {
            Some(name) => {
                Err(Error::invalid("set quota", format!("quota name {name:?} is not 1 to 253 bytes")))
            }
            None => Ok(()),
        }
    }

    /// The arithmetic rules of `resource` for `tenant`, whose plain limits count too, at `now`. What is held back does
    /// not depend on the time.
    pub(crate) fn level(
        &self,
        tenant: &Tenant,
        resource: &ResourceName,
        now: Option<Timestamp>,
    ) -> LevelRules {
        let none = QuotaRule::default();
        let rule = self.rules.get(resource).unwrap_or(&none);
        let plain = tenant.resource_quotas.limit(resource).unwrap_or(UNLIMITED);
        let rules = LevelRules::of(rule);
        let lasting = Some(plain.min(rules.max)).filter(|max| *max != UNLIMITED);
        LevelRules { max: self.temporary.effective(resource, lasting, now).unwrap_or(UNLIMITED), ..rules }
    }
}
