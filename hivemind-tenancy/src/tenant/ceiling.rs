//! What a tenant below others may be at most, and must be at least. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::resources::ResourceName;
use hivemind_core::{Error, ErrorKind, Result, Stamped, TenantId};
use serde::{Deserialize, Serialize};

use super::{ResourceQuotas, Tenant};
use crate::IsolationSettings;

/// What the owners of a tenant may do on their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Delegation {
    /// The most tenants directly below it, whoever creates them; `None` means no limit.
    pub max_children: Option<u64>,
    /// Whether owners may create tenants below it.
    pub sub_tenants: bool,
}

impl Default for Delegation {
    fn default() -> Self {
        Self { max_children: None, sub_tenants: true }
    }
}

impl Delegation {
    /// At most `children` tenants directly below.
    #[must_use]
    pub fn with_max_children(mut self, children: u64) -> Self {
        self.max_children = Some(children);
        self
    }

    /// Whether owners may create tenants below.
    #[must_use]
    pub fn with_sub_tenants(mut self, allowed: bool) -> Self {
        self.sub_tenants = allowed;
        self
    }
}

/// What a tenant below others may have at most, and how far it must be kept apart at least.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ceiling {
    /// The smallest limit above, in base units, and whose it is; what is not named is not limited.
    pub limits: BTreeMap<ResourceName, (u64, TenantId)>,
    /// In which dimensions it must be kept apart, since a tenant above is.
    pub isolation: IsolationSettings,
}

/// One way in which a tenant would be more than those above it allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Breach {
    /// A limit is larger than one above.
    #[error("{resource}: limit {} is above the limit {} of tenant {of}", .resource.print(*.asked), .resource.print(*.allowed))]
    Limit {
        /// Of what.
        resource: ResourceName,
        /// The limit that was asked for, in base units.
        asked: u64,
        /// The limit above, in base units.
        allowed: u64,
        /// Whose limit that is.
        of: TenantId,
    },
    /// It would be kept apart less than a tenant above.
    #[error("isolation: {dimension} isolation is demanded from above")]
    Isolation {
        /// The dimension, such as `network`.
        dimension: String,
    },
}

/// Every way in which a tenant would be more than those above it allow. Detail of an
/// [`Invalid`](ErrorKind::Invalid) error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("tenant {tenant}: {}", .breaches.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct OverCeiling {
    /// Which tenant.
    pub tenant: TenantId,
    /// Every breach: limits in the order of names, then isolation.
    pub breaches: Vec<Breach>,
}

impl Ceiling {
    /// What the tenants of `above` allow together.
    pub fn of(above: &[Stamped<Tenant>]) -> Self {
        let mut ceiling = Self::default();
        for one in above {
            ceiling.isolation = ceiling.isolation.and(&one.isolation_level.settings());
            for (resource, limit) in one.resource_quotas.limits() {
                let smallest =
                    ceiling.limits.entry(resource).or_insert_with(|| (limit, one.tenant.id.clone()));
                if limit < smallest.0 {
                    *smallest = (limit, one.tenant.id.clone());
                }
            }
        }
        ceiling
    }

    /// Every limit of `quotas` that is above this.
    pub fn over(&self, quotas: &ResourceQuotas) -> Vec<Breach> {
        let breach = |(resource, asked): (ResourceName, u64)| {
            let (allowed, of) = self.limits.get(&resource)?;
            (asked > *allowed).then(|| Breach::Limit { resource, asked, allowed: *allowed, of: of.clone() })
        };
        quotas.limits().into_iter().filter_map(breach).collect()
    }

    /// Every dimension in which `isolation` keeps apart less than this demands.
    pub fn weaker(&self, isolation: &IsolationSettings) -> Vec<Breach> {
        let missing = isolation.weaker_than(&self.isolation);
        missing.into_iter().map(|dimension| Breach::Isolation { dimension: dimension.to_owned() }).collect()
    }

    /// Succeeds if `tenant` is within this. `limits` says whether its limits count: who administers the cluster may
    /// promise more below than there is above, since a charge must fit every level anyway.
    pub(crate) fn check(&self, tenant: &Tenant, limits: bool) -> Result<()> {
        let mut breaches = if limits { self.over(&tenant.resource_quotas) } else { Vec::new() };
        breaches.extend(self.weaker(&tenant.isolation_level.settings()));
        if breaches.is_empty() {
            return Ok(());
        }
        let over = OverCeiling { tenant: tenant.tenant.id.clone(), breaches };
        Err(Error::of(ErrorKind::Invalid, "ceiling", over))
    }
}
