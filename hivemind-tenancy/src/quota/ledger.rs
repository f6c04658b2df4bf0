//! The arithmetic of quotas. No I/O, no clock, no async.

use hivemind_core::resources::{ResourceName, Resources};
use hivemind_core::{Error, ErrorKind, Result, TenantId};
use serde::{Deserialize, Serialize};

use crate::ResourceQuotas;

/// The running totals of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) used: Resources,
    pub(crate) reserved: Resources,
}

/// One resource of which a quota leaves too little. Amounts are in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "{resource}: limit {}, used {}, reserved {}, asked {}, short by {}",
    .resource.print(*.limit), .resource.print(*.used), .resource.print(*.reserved), .resource.print(*.asked),
    .resource.print(*.short_by)
)]
#[non_exhaustive]
pub struct Shortage {
    /// Of what.
    pub resource: ResourceName,
    /// The limit.
    pub limit: u64,
    /// In use.
    pub used: u64,
    /// Held for requests that are not committed yet.
    pub reserved: u64,
    /// How much was asked for.
    pub asked: u64,
    /// How much too little there is.
    pub short_by: u64,
}

/// A request does not fit a quota: every resource that is short. Detail of a
/// [`QuotaExceeded`](ErrorKind::QuotaExceeded) error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("tenant {tenant}: {}", .short.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct OverQuota {
    /// Whose quota.
    pub tenant: TenantId,
    /// Everything that is short, in the order of names.
    pub short: Vec<Shortage>,
}

impl Ledger {
    /// Everything that would be over its limit if `ask` were charged; `None` if it fits.
    ///
    /// What is not asked for does not count: a tenant whose limit was lowered below its usage may still ask for
    /// other things.
    pub(crate) fn shortages(
        &self,
        tenant: &TenantId,
        quotas: &ResourceQuotas,
        ask: &Resources,
    ) -> Option<OverQuota> {
        let short: Vec<_> = ask
            .iter()
            .filter_map(|(resource, asked)| {
                let limit = quotas.limit(&resource)?;
                let (used, reserved) = (self.used.amount(&resource), self.reserved.amount(&resource));
                let wanted = u128::from(used) + u128::from(reserved) + u128::from(asked);
                let over = wanted.checked_sub(u128::from(limit)).filter(|over| *over > 0)?;
                let short_by = u64::try_from(over).unwrap_or(u64::MAX);
                Some(Shortage { resource, limit, used, reserved, asked, short_by })
            })
            .collect();
        (!short.is_empty()).then(|| OverQuota { tenant: tenant.clone(), short })
    }

    /// `amount` is held.
    pub(crate) fn reserve(&self, amount: &Resources) -> Result<Self> {
        let overflow = |e| Error::of(ErrorKind::Invalid, "reserve", e);
        let reserved = self.reserved.checked_add(amount).map_err(overflow)?;
        // What is held must be able to come into use later.
        self.used.checked_add(&reserved).map_err(overflow)?;
        Ok(Self { used: self.used.clone(), reserved })
    }

    /// `amount` was held and is in use now.
    pub(crate) fn commit(&self, amount: &Resources) -> Result<Self> {
        let reserved = self.reserved.checked_sub(amount).map_err(broken)?;
        let used = self.used.checked_add(amount).map_err(broken)?;
        Ok(Self { used, reserved })
    }

    /// `amount` was in use, or held, and is neither now.
    pub(crate) fn release(&self, amount: &Resources, committed: bool) -> Result<Self> {
        let Self { used, reserved } = self;
        if committed {
            return Ok(Self { used: used.checked_sub(amount).map_err(broken)?, reserved: reserved.clone() });
        }
        Ok(Self { used: used.clone(), reserved: reserved.checked_sub(amount).map_err(broken)? })
    }
}

/// The totals do not hold what a reservation says they hold.
fn broken(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::of(ErrorKind::Corrupt, "quota", e)
}
