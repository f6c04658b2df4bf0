//! A tenant as it is kept. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::labels::Labels;
use hivemind_core::{Namespace, Stored, TenantRef, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Delegation, Finalizer, LabelPolicy, ResourceQuotas, TenantSpec, TenantState};
use crate::IsolationLevel;
use crate::rbac::Subject;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tenant {
    /// Which tenant, of which generation.
    pub tenant: TenantRef,
    /// The name for people. It may change; the id does not.
    pub name: String,
    /// How far it is kept apart.
    pub isolation_level: IsolationLevel,
    /// How much it may use.
    pub resource_quotas: ResourceQuotas,
    /// Its namespaces.
    pub namespaces: BTreeSet<Namespace>,
    /// Its labels.
    pub labels: Labels,
    /// The tenant it is part of; none for a root.
    #[serde(default)]
    pub parent: Option<TenantRef>,
    /// Who administers it.
    #[serde(default)]
    pub owners: BTreeSet<Subject>,
    /// Where it is in its life.
    #[serde(default)]
    pub state: TenantState,
    /// Whether deletion is refused.
    #[serde(default)]
    pub protected: bool,
    /// What its owners may do on their own.
    #[serde(default)]
    pub delegation: Delegation,
    /// What the labels in it, and below it, must look like.
    #[serde(default)]
    pub label_policy: LabelPolicy,
    /// What must be done before its record goes, by order and name.
    #[serde(default)]
    pub finalizers: Vec<Finalizer>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Stored for Tenant {
    const KIND: &'static str = "tenant";
}

impl Tenant {
    /// The tenant that `spec` asks for.
    pub(crate) fn from_spec(spec: TenantSpec, tenant: TenantRef, now: Timestamp) -> Self {
        Self {
            name: if spec.name.is_empty() { tenant.id.to_string() } else { spec.name },
            tenant,
            isolation_level: spec.isolation_level,
            resource_quotas: spec.resource_quotas,
            namespaces: spec.namespaces,
            labels: spec.labels,
            parent: spec.parent,
            owners: spec.owners,
            state: if spec.pending { TenantState::Pending } else { TenantState::Active },
            protected: spec.protected,
            delegation: spec.delegation,
            label_policy: spec.label_policy,
            finalizers: spec.finalizers,
            created_at: now,
            updated_at: now,
        }
    }
}

/// How many tenants are directly below one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TenantChildren {
    pub(crate) count: u64,
}

impl Stored for TenantChildren {
    const KIND: &'static str = "count of child tenants";
}
