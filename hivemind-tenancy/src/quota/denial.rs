//! Why a request does not fit. No I/O, no clock, no async.

use std::fmt;

use hivemind_core::TenantId;
use hivemind_core::resources::ResourceName;
use serde::{Deserialize, Serialize};

use super::{BudgetExceeded, SoftExceeded};

/// One resource of which one quota leaves too little. Amounts are in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Shortage {
    /// Of what.
    pub resource: ResourceName,
    /// Whose quota: the tenant, or one above it.
    pub tenant: TenantId,
    /// How far above the tenant that is; 0 is the tenant itself.
    pub depth: usize,
    /// Which of its scoped quotas; `None` is the quota on everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<String>,
    /// Whether a limit is required and there is none. Then `limit` is 0.
    #[serde(default)]
    pub uncovered: bool,
    /// Why the soft limit is a limit now, if it is the soft limit that is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<SoftExceeded>,
    /// Why the budget is spent, if it is the budget. Then `limit` is what is used already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetExceeded>,
    /// The limit.
    pub limit: u64,
    /// In use.
    pub used: u64,
    /// Held for requests that are not committed yet.
    pub reserved: u64,
    /// Held back for the guarantees of tenants below that are idle.
    #[serde(default)]
    pub held: u64,
    /// How much was asked for.
    pub asked: u64,
    /// How much too little there is.
    pub short_by: u64,
}

impl fmt::Display for Shortage {
    /// One line for an operator: where it is short, by how much, and what would help.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let print = |amount| self.resource.print(amount);
        write!(f, "{}", self.resource)?;
        if let Some(quota) = &self.quota {
            write!(f, " in quota {quota}")?;
        }
        if self.depth > 0 {
            write!(f, " at tenant {}", self.tenant)?;
        }
        if self.uncovered {
            return write!(
                f,
                ": asked {}, but a limit is required and there is none: set one",
                print(self.asked)
            );
        }
        if let Some(budget) = &self.budget {
            return match self.asked {
                0 => write!(f, ": {budget}"),
                asked => write!(f, ": asked {}, but {budget}", print(asked)),
            };
        }
        let (limit, used, reserved) = (print(self.limit), print(self.used), print(self.reserved));
        let soft = if self.soft.is_some() { "soft " } else { "" };
        write!(f, ": {soft}limit {limit}, used {used}, reserved {reserved}")?;
        if self.held > 0 {
            write!(f, ", held for others {}", print(self.held))?;
        }
        write!(f, ", asked {}, short by {}", print(self.asked), print(self.short_by))?;
        match &self.soft {
            Some(SoftExceeded::GraceOver { hard_at, .. }) => write!(f, ", grace over since {hard_at}"),
            Some(SoftExceeded::NoTime { .. }) => write!(f, ", no grace without a time of the request"),
            None => Ok(()),
        }
    }
}

impl Shortage {
    /// What would help, in words: ask for less, release some, or raise the limit.
    pub fn help(&self) -> String {
        let (print, tenant) = (|amount| self.resource.print(amount), &self.tenant);
        let quota = self.quota.as_ref().map(|quota| format!(" in quota {quota}")).unwrap_or_default();
        if self.uncovered {
            return format!("set a limit on {} for tenant {tenant}", self.resource);
        }
        match &self.budget {
            Some(BudgetExceeded::Spent { period_end, .. }) => {
                return format!(
                    "wait until {period_end}, or raise the budget of {} of tenant {tenant}",
                    self.resource
                );
            }
            Some(BudgetExceeded::NoTime) => return "say when the request is decided".to_owned(),
            None => {}
        }
        let less = match self.asked.saturating_sub(self.short_by) {
            0 => String::new(),
            less => format!("ask for at most {} of {}, ", print(less), self.resource),
        };
        let more = print(self.limit.saturating_add(self.short_by));
        let soft = if self.soft.is_some() { "soft " } else { "" };
        format!(
            "{less}release {} below tenant {tenant}, or raise its {soft}limit{quota} to {more}",
            print(self.short_by)
        )
    }
}

/// A request does not fit: every resource of every quota that is short. Detail of a
/// [`QuotaExceeded`](hivemind_core::ErrorKind::QuotaExceeded) error, and final for the decision it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("tenant {tenant}: {}", .short.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct OverQuota {
    /// Whose request.
    pub tenant: TenantId,
    /// Everything that is short: the tenant's own quotas first, the root's last, each in the order of names.
    pub short: Vec<Shortage>,
}
