//! Where a tenant is in its life, and what that allows. No I/O, no clock, no async.

use std::fmt;

use hivemind_core::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a tenant is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TenantState {
    /// Being set up: its things may be prepared, nothing is admitted yet.
    Pending,
    /// In use.
    #[default]
    Active,
    /// Nothing new is admitted.
    Suspended {
        /// When what runs is to be gone; `None` lets it run.
        #[serde(default)]
        drain_by: Option<Timestamp>,
    },
    /// Being deleted: nothing new is admitted, and what is there goes away.
    Terminating {
        /// Since when.
        since: Timestamp,
    },
}

/// What can be done in a tenant, by what the tenant's state has to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum VerbClass {
    /// Look at things.
    Read,
    /// Prepare things that run nothing: roles, networks, volumes, tenants below.
    Configure,
    /// Admit new work: reserve quota, place workloads.
    Admit,
    /// Keep what runs running, and restart it where it fails.
    Keep,
    /// Stop and remove things, give quota back.
    Remove,
}

impl VerbClass {
    /// Every class, in order of declaration.
    pub const ALL: [Self; 5] = [Self::Read, Self::Configure, Self::Admit, Self::Keep, Self::Remove];
}

impl fmt::Display for VerbClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Configure => "configure",
            Self::Admit => "admit",
            Self::Keep => "keep",
            Self::Remove => "remove",
        })
    }
}

/// One row of [`TenantState::TABLE`]: a state by its name, and all that it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StateRow {
    /// The state, as it prints.
    pub state: &'static str,
    /// What it allows.
    pub allowed: &'static [VerbClass],
}

const PENDING: StateRow =
    StateRow { state: "pending", allowed: &[VerbClass::Read, VerbClass::Configure, VerbClass::Remove] };
const ACTIVE: StateRow = StateRow { state: "active", allowed: &VerbClass::ALL };
const SUSPENDED: StateRow = StateRow {
    state: "suspended",
    allowed: &[VerbClass::Read, VerbClass::Configure, VerbClass::Keep, VerbClass::Remove],
};
const DRAINING: StateRow = StateRow { state: "draining", allowed: &[VerbClass::Read, VerbClass::Remove] };
const TERMINATING: StateRow =
    StateRow { state: "terminating", allowed: &[VerbClass::Read, VerbClass::Remove] };

impl TenantState {
    /// What each state allows: decisions read this table and nothing else.
    pub const TABLE: [StateRow; 5] = [PENDING, ACTIVE, SUSPENDED, DRAINING, TERMINATING];

    /// Its row of the table.
    pub fn row(&self) -> StateRow {
        match self {
            Self::Pending => PENDING,
            Self::Active => ACTIVE,
            Self::Suspended { drain_by: None } => SUSPENDED,
            Self::Suspended { drain_by: Some(_) } => DRAINING,
            Self::Terminating { .. } => TERMINATING,
        }
    }

    /// Whether `class` may be done in a tenant of this state. The states of the tenants above count, too: see
    /// [`Tenant::allowing`](crate::Tenant::allowing).
    pub fn allows(&self, class: VerbClass) -> bool {
        self.row().allowed.contains(&class)
    }

    /// Whether new work is admitted.
    pub fn admits_work(&self) -> bool {
        self.allows(VerbClass::Admit)
    }

    /// Whether it is being deleted.
    pub fn is_terminating(&self) -> bool {
        matches!(self, Self::Terminating { .. })
    }
}

impl fmt::Display for TenantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().state)
    }
}
