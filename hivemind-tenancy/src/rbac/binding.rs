//! Bindings: who gets a role, where, how far down, under which conditions. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::fmt;

use hivemind_core::{RoleName, Stored, TenantRef, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Conditions, Scope, Subject};

/// How far a binding reaches below the tenant of its scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums, reason = "not at all, all the way, or part of it")]
pub enum Inherit {
    /// Not at all.
    #[default]
    None,
    /// All the way.
    Down,
    /// Down to a stop.
    DownUntil(Stop),
}

/// Where a binding stops on its way down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Stop {
    /// Above this tenant: it and all below it are left out. Once the tenant is gone, nobody knows any more where to
    /// stop: what is allowed is allowed in the scope alone, what is denied is denied all the way down.
    Tenant(TenantRef),
    /// After so many levels below the scope.
    Depth(u32),
}

/// Gives a role to subjects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RoleBinding {
    /// The name, unique in its scope.
    pub name: RoleName,
    /// The role that is given.
    pub role: RoleName,
    /// Whose own role it is; `None` for one that is there for every tenant.
    #[serde(default)]
    pub role_of: Option<TenantRef>,
    /// Where.
    pub scope: Scope,
    /// To whom.
    pub subjects: BTreeSet<Subject>,
    /// How far down. For the whole cluster, `None` and `Down` mean the same: every tenant.
    #[serde(default)]
    pub inherit: Inherit,
    /// Under which conditions.
    #[serde(default, skip_serializing_if = "Conditions::is_always")]
    pub conditions: Conditions,
    /// From when on it no longer applies.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// Whether it applies in an emergency only: to contexts that give a reason for one.
    #[serde(default)]
    pub emergency: bool,
}

impl Stored for RoleBinding {
    const KIND: &'static str = "role binding";
}

impl RoleBinding {
    /// Gives `role` to `subjects` in `scope`: there alone, always, until it is taken back.
    pub fn new(
        name: RoleName,
        role: RoleName,
        scope: Scope,
        subjects: impl IntoIterator<Item = Subject>,
    ) -> Self {
        Self {
            name,
            role,
            role_of: None,
            scope,
            subjects: subjects.into_iter().collect(),
            inherit: Inherit::None,
            conditions: Conditions::default(),
            expires: None,
            emergency: false,
        }
    }

    /// The role is `tenant`'s own.
    #[must_use]
    pub fn with_role_of(mut self, tenant: TenantRef) -> Self {
        self.role_of = Some(tenant);
        self
    }

    /// Reaches further down.
    #[must_use]
    pub fn with_inherit(mut self, inherit: Inherit) -> Self {
        self.inherit = inherit;
        self
    }

    /// Under these conditions only.
    #[must_use]
    pub fn with_conditions(mut self, conditions: Conditions) -> Self {
        self.conditions = conditions;
        self
    }

    /// No longer applies from `at` on.
    #[must_use]
    pub fn with_expiry(mut self, at: Timestamp) -> Self {
        self.expires = Some(at);
        self
    }

    /// In emergencies only.
    #[must_use]
    pub fn for_emergencies(mut self) -> Self {
        self.emergency = true;
        self
    }
}

impl fmt::Display for RoleBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "binding {} for {}", self.name, self.scope)
    }
}
