//! Why a request does not fit. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::fmt;

use hivemind_core::resources::ResourceName;
use hivemind_core::{TenantContext, TenantId, TenantRef};
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

/// A request does not fit. Detail of a [`QuotaExceeded`](hivemind_core::ErrorKind::QuotaExceeded) error, and final for
/// the decision it comes from.
///
/// A tenant must not learn what others use. From the numbers of a level above it could: what is used there, less its
/// own, is its siblings'. So of levels above it this says, prints and serializes only of what they have too little. The
/// numbers are there for those who may read that level: [`seen_by`](Self::seen_by) and [`in_full`](Self::in_full).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OverQuota {
    /// Whose request.
    pub tenant: TenantId,
    /// Everything that is short in what the reader may see: the tenant's own quotas first, each in the order of names.
    pub short: Vec<Shortage>,
    /// Of what a tenant above those has too little.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub above: BTreeSet<ResourceName>,
    #[serde(skip)]
    full: Vec<Shortage>,
    /// The tenant and those above it, as far as known.
    #[serde(skip)]
    chain: Vec<TenantRef>,
}

impl OverQuota {
    /// As `tenant` itself may see it.
    pub(crate) fn new(tenant: TenantId, chain: Vec<TenantRef>, full: Vec<Shortage>) -> Self {
        Self { tenant, short: Vec::new(), above: BTreeSet::new(), full, chain }.up_to(0)
    }

    /// Everything that is short on every level, the root's last: for audits and operators. Whoever shows it checks that
    /// the reader may read the tenants above. Empty if it was read from a copy, such as a log: numbers are not copied.
    pub fn in_full(&self) -> &[Shortage] {
        &self.full
    }

    /// As whoever acts in `reader` may see it: the system tenant sees all numbers, one above the tenant those up to its
    /// own, and everybody else those of the tenant alone. A copy, such as one from a log, stays as it was written.
    #[must_use]
    pub fn seen_by(&self, reader: &TenantContext) -> Self {
        if self.full.is_empty() {
            return self.clone();
        }
        let depth = self.chain.iter().position(|level| level == reader.tenant()).unwrap_or(0);
        let sees_all = *reader.tenant() == TenantRef::system();
        self.clone().up_to(if sees_all { usize::MAX } else { depth })
    }

    fn up_to(self, depth: usize) -> Self {
        let (short, above): (Vec<_>, Vec<_>) = self.full.iter().cloned().partition(|one| one.depth <= depth);
        Self { short, above: above.into_iter().map(|one| one.resource).collect(), ..self }
    }
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let above = |resource| format!("{resource}: a tenant above has too little left");
        let all = self.short.iter().map(ToString::to_string).chain(self.above.iter().map(above));
        write!(f, "tenant {}: {}", self.tenant, all.collect::<Vec<_>>().join("; "))
    }
}

impl fmt::Debug for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, short, above, .. } = self;
        let mut shown = f.debug_struct("OverQuota");
        shown.field("tenant", tenant).field("short", short).field("above", above).finish_non_exhaustive()
    }
}

impl std::error::Error for OverQuota {}
