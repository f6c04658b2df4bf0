//! Which resources go to which tenant. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::labels::Selector;
use hivemind_core::{ResourceKind, TenantRef};
use serde::{Deserialize, Serialize};

use super::AdoptableResource;

/// Gives the resources that meet all of its conditions to one tenant. Without conditions, all resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdoptionRule {
    /// To whom, of which generation.
    pub tenant: TenantRef,
    /// Of one of these kinds; empty for any.
    #[serde(default)]
    pub kinds: BTreeSet<ResourceKind>,
    /// With a name that begins so; empty for any.
    #[serde(default)]
    pub name_prefix: String,
    /// With labels that match.
    #[serde(default)]
    pub labels: Selector,
}

impl AdoptionRule {
    /// Gives every resource to `tenant`; narrow it down.
    pub fn to(tenant: TenantRef) -> Self {
        Self { tenant, kinds: BTreeSet::new(), name_prefix: String::new(), labels: Selector::everything() }
    }

    /// Only of this kind, and others named so.
    #[must_use]
    pub fn kind(mut self, kind: ResourceKind) -> Self {
        self.kinds.insert(kind);
        self
    }

    /// Only those whose name begins with `prefix`.
    #[must_use]
    pub fn named_like(mut self, prefix: impl Into<String>) -> Self {
        self.name_prefix = prefix.into();
        self
    }

    /// Only those whose labels match.
    #[must_use]
    pub fn labelled(mut self, labels: Selector) -> Self {
        self.labels = labels;
        self
    }

    /// Whether `resource` meets every condition.
    pub fn matches(&self, resource: &AdoptableResource) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&resource.kind))
            && resource.name.starts_with(&self.name_prefix)
            && self.labels.matches(&resource.labels)
    }
}
