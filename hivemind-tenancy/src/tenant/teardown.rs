//! How far the deletion of a tenant is. No I/O, no clock, no async.

use std::fmt;
use std::time::Duration;

use hivemind_core::{TenantRef, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Finalizer, FinalizerState, Tenant, TenantState};

/// How long a tenant that has nothing left to do but is not empty counts as on its way.
const EMPTY_WITHIN: Duration = Duration::from_secs(300);

/// Something that keeps a tenant from being removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Leftover {
    /// Tenants directly below it.
    Children(u64),
    /// Workloads on nodes.
    Workloads(u64),
    /// Quota that is still charged, in the words of the ledger.
    Charges(String),
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Children(count) => write!(f, "{count} tenants are below it: delete or move them first"),
            Self::Workloads(count) => write!(f, "{count} workloads run on nodes: remove them first"),
            Self::Charges(what) => f.write_str(what),
        }
    }
}

/// How a deletion stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DeletionOutcome {
    /// It goes on by itself.
    Running,
    /// Somebody has to do something; then it goes on.
    Stuck {
        /// Why, and what to do, one sentence each.
        reasons: Vec<String>,
    },
    /// The tenant is gone.
    Done,
}

/// How far the deletion of a tenant is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeletionProgress {
    /// Which tenant.
    pub tenant: TenantRef,
    /// Since when; `None` if the tenant is gone.
    pub since: Option<Timestamp>,
    /// What must be done before, by order and name.
    pub finalizers: Vec<Finalizer>,
    /// What is still there.
    pub left: Vec<Leftover>,
    /// How it stands.
    pub outcome: DeletionOutcome,
}

impl DeletionProgress {
    /// The tenant is gone.
    pub(crate) fn done(tenant: TenantRef) -> Self {
        Self { tenant, since: None, finalizers: Vec::new(), left: Vec::new(), outcome: DeletionOutcome::Done }
    }

    /// How the deletion of `tenant` stands at `now`; `None` if it is not being deleted.
    pub(crate) fn of(tenant: &Tenant, left: Vec<Leftover>, now: Timestamp) -> Option<Self> {
        let TenantState::Terminating { since } = tenant.state else { return None };
        let mut reasons: Vec<String> = Vec::new();
        let mut idle_since = since;
        for one in &tenant.finalizers {
            match &one.state {
                FinalizerState::Stuck { reason, .. } => {
                    reasons.push(format!("finalizer {}: {reason}", one.name))
                }
                FinalizerState::Done { at } => idle_since = idle_since.max(*at),
                FinalizerState::Pending | FinalizerState::Running { .. } => {}
            }
        }
        let finalized = tenant.finalizers.iter().all(Finalizer::is_done);
        if finalized && idle_since.after(EMPTY_WITHIN) <= now {
            reasons.extend(left.iter().map(|what| format!("tenant {}: {what}", tenant.tenant.id)));
        }
        let outcome = match reasons.is_empty() {
            true => DeletionOutcome::Running,
            false => DeletionOutcome::Stuck { reasons },
        };
        let finalizers = tenant.finalizers.clone();
        Some(Self { tenant: tenant.tenant.clone(), since: Some(since), finalizers, left, outcome })
    }

    /// Whether nothing keeps the record from going.
    pub(crate) fn may_go(&self) -> bool {
        self.left.is_empty() && self.finalizers.iter().all(Finalizer::is_done)
    }
}
