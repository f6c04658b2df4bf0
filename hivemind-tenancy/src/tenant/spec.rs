//! What to create. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::labels::Labels;
use hivemind_core::{Namespace, TenantId, TenantRef};
use serde::{Deserialize, Serialize};

use super::{Delegation, Finalizer, LabelPolicy, ResourceQuotas};
use crate::IsolationLevel;
use crate::rbac::Subject;

/// What to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TenantSpec {
    /// The id, unique in the cluster.
    pub id: TenantId,
    /// The name for people; the id if empty.
    #[serde(default)]
    pub name: String,
    /// How far it is kept apart.
    #[serde(default)]
    pub isolation_level: IsolationLevel,
    /// How much it may use.
    #[serde(default)]
    pub resource_quotas: ResourceQuotas,
    /// Its namespaces.
    #[serde(default)]
    pub namespaces: BTreeSet<Namespace>,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// The tenant it is part of; none for a root.
    #[serde(default)]
    pub parent: Option<TenantRef>,
    /// Who administers it.
    #[serde(default)]
    pub owners: BTreeSet<Subject>,
    /// Whether it admits no work until it is activated.
    #[serde(default)]
    pub pending: bool,
    /// Whether deletion is refused.
    #[serde(default)]
    pub protected: bool,
    /// What its owners may do on their own.
    #[serde(default)]
    pub delegation: Delegation,
    /// What the labels in it, and below it, must look like.
    #[serde(default)]
    pub label_policy: LabelPolicy,
    /// What must be done before its record goes.
    #[serde(default)]
    pub finalizers: Vec<Finalizer>,
}

impl TenantSpec {
    /// A soft tenant without limits.
    pub fn new(id: TenantId) -> Self {
        Self {
            name: id.to_string(),
            id,
            isolation_level: IsolationLevel::default(),
            resource_quotas: ResourceQuotas::default(),
            namespaces: BTreeSet::new(),
            labels: Labels::new(),
            parent: None,
            owners: BTreeSet::new(),
            pending: false,
            protected: false,
            delegation: Delegation::default(),
            label_policy: LabelPolicy::default(),
            finalizers: Vec::new(),
        }
    }

    /// As a part of `parent`.
    #[must_use]
    pub fn below(mut self, parent: TenantRef) -> Self {
        self.parent = Some(parent);
        self
    }

    /// With an isolation level.
    #[must_use]
    pub fn with_isolation(mut self, level: IsolationLevel) -> Self {
        self.isolation_level = level;
        self
    }

    /// With quotas.
    #[must_use]
    pub fn with_quotas(mut self, quotas: ResourceQuotas) -> Self {
        self.resource_quotas = quotas;
        self
    }

    /// With a name for people.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// With labels.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// With one more owner.
    #[must_use]
    pub fn with_owner(mut self, owner: Subject) -> Self {
        self.owners.insert(owner);
        self
    }

    /// In state [`Pending`](crate::TenantState::Pending): resume it to activate it.
    #[must_use]
    pub fn pending(mut self) -> Self {
        self.pending = true;
        self
    }

    /// Deletion is refused until the protection is taken away by an update.
    #[must_use]
    pub fn protected(mut self) -> Self {
        self.protected = true;
        self
    }

    /// With what its owners may do on their own.
    #[must_use]
    pub fn with_delegation(mut self, delegation: Delegation) -> Self {
        self.delegation = delegation;
        self
    }

    /// With a policy for the labels in it, and below it.
    #[must_use]
    pub fn with_label_policy(mut self, policy: LabelPolicy) -> Self {
        self.label_policy = policy;
        self
    }

    /// With one more finalizer.
    #[must_use]
    pub fn with_finalizer(mut self, finalizer: Finalizer) -> Self {
        self.finalizers.push(finalizer);
        self
    }
}
