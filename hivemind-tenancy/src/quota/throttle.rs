//! How fast a tenant and those above it may do things. No I/O, no clock, no async.

use std::time::Duration;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, Retry, TenantContext, TenantId};
use serde::{Deserialize, Serialize};

use super::books::{expect, spec_key};
use super::gate::TenantQuota;
use super::rate::{RateExceeded, rates, rates_key};
use super::spec::{limited_chain, specs};
use crate::tenant::tenants;

/// A rate of one tenant that does not allow something now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}{reason}", if *.depth > 0 { "at a tenant above: " } else { "" })]
#[non_exhaustive]
pub struct SlowDown {
    /// How far above the tenant the rate is; 0 is its own. A tenant is not told who is above it.
    pub depth: usize,
    /// Why not.
    pub reason: RateExceeded,
}

/// Something would be done too fast: every rate that does not allow it. Detail of the error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("rate {name} of tenant {tenant}: {}", .exceeded.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct OverRate {
    /// Who would do it.
    pub tenant: TenantId,
    /// The name of the rate.
    pub name: String,
    /// Every rate that does not allow it: the tenant's own first, the root's last.
    pub exceeded: Vec<SlowDown>,
    /// When all of them will allow it, if nothing else is done; `None` if waiting does not help.
    pub retry_after: Option<Duration>,
}

impl OverRate {
    fn of(tenant: TenantId, name: &str, exceeded: Vec<SlowDown>) -> Self {
        let wait = |one: &SlowDown| match one.reason {
            RateExceeded::Later { retry_after } => Some(retry_after),
            RateExceeded::AboveBurst { .. } | RateExceeded::NoTime => None,
        };
        let waits: Option<Vec<_>> = exceeded.iter().map(wait).collect();
        let retry_after = waits.and_then(|waits| waits.into_iter().max());
        Self { tenant, name: name.to_owned(), exceeded, retry_after }
    }

    fn error(self) -> Error {
        const OPERATION: &str = "check rate";
        if self.exceeded.iter().any(|one| one.reason == RateExceeded::NoTime) {
            return Error::of(ErrorKind::Invalid, OPERATION, self);
        }
        let retry = if self.retry_after.is_some() { Retry::Later } else { Retry::AfterChange };
        Error::of(ErrorKind::QuotaExceeded, OPERATION, self).with_retry(retry)
    }
}

impl TenantQuota {
    /// Stages that the tenant of `ctx` does `n` more of what is called `name`, at the time of `ctx`. It counts for the
    /// tenant and for every tenant above it that has such a rate, or not at all. Where nobody has one, nothing is
    /// recorded.
    ///
    /// Each of those keeps one record that every such decision changes: decisions at the same time conflict, and the
    /// later one reads again.
    ///
    /// # Errors
    /// [`ErrorKind::QuotaExceeded`] lists every rate that does not allow it as [`OverRate`], with the time to wait;
    /// [`ErrorKind::Invalid`] if `ctx` has no time and there is such a rate; [`ErrorKind::NotFound`] if the tenant is
    /// gone.
    pub fn stage_rate(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        name: &str,
        n: u64,
    ) -> Result<()> {
        let chain = limited_chain(view, txn, ctx.tenant())?;
        let (mut allowed, mut exceeded) = (Vec::new(), Vec::new());
        for (depth, (tenant, spec)) in chain.iter().enumerate() {
            let Some(spec) = spec.as_ref() else { continue };
            let Some(limit) = spec.rates.get(name) else { continue };
            let key = rates_key(&tenant.tenant)?;
            let old = rates()?.get(view, txn, &key)?;
            let states = old.as_ref().map(|old| (*old.value).clone()).unwrap_or_default();
            match states.decide(name, limit, ctx.at(), n) {
                Ok(mut next) => {
                    // What has no rate any more needs no memory.
                    next.states.retain(|name, _| spec.rates.contains_key(name));
                    allowed.push((key, old, next));
                }
                Err(reason) => exceeded.push(SlowDown { depth, reason }),
            }
        }
        if !exceeded.is_empty() {
            return Err(OverRate::of(ctx.tenant().id.clone(), name, exceeded).error());
        }
        for (tenant, spec) in &chain {
            tenants()?.expect(txn, tenant)?;
            expect(txn, &specs()?, &spec_key(&tenant.tenant)?, spec.as_ref())?;
        }
        for (key, old, next) in allowed {
            match old {
                Some(old) => rates()?.update(txn, &old, &next)?,
                None => rates()?.create(view, txn, key, &next)?,
            }
        }
        Ok(())
    }
}
