//! What a decision changed that people want to be told. No I/O, no clock, no async.

use hivemind_core::resources::ResourceName;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Result, TenantContext};
use serde::{Deserialize, Serialize};

use super::Crossing;
use super::gate::TenantQuota;
use super::ledger::{ledger_key, ledgers};
use super::spec::limited_chain;

/// Usage of one resource has crossed the soft limit of a tenant, or of one above it: which does not say who that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SoftCrossing {
    /// How far above the tenant the soft limit is; 0 is its own.
    pub depth: usize,
    /// Of what.
    pub resource: ResourceName,
    /// Which way.
    pub crossing: Crossing,
}

impl TenantQuota {
    /// Which soft limits of the tenant of `ctx`, and of those above it, are crossed by all that is staged in `txn`:
    /// the tenant's own first, the root's last, each in the order of names. Ask after the charge, the resize or the
    /// release was staged on `view`, and tell once `txn` is committed. Nothing is staged.
    ///
    /// # Errors
    /// [`NotFound`](hivemind_core::ErrorKind::NotFound) if the tenant is gone;
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn crossings(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<SoftCrossing>> {
        let (mut found, untouched) = (Vec::new(), Txn::new());
        for (depth, (tenant, spec)) in limited_chain(view, txn, ctx.tenant())?.iter().enumerate() {
            let key = ledger_key(&tenant.tenant)?;
            let soft = |txn| -> Result<_> {
                let ledger = ledgers()?.get(view, txn, &key)?;
                Ok(ledger.map(|ledger| ledger.soft.clone()).unwrap_or_default())
            };
            let (was, now) = (soft(&untouched)?, soft(txn)?);
            let limits = spec.iter().flat_map(|spec| &spec.soft_limits);
            for (resource, limit) in limits {
                let crossing = match (was.get(resource), now.get(resource)) {
                    (was, now) if was == now => continue,
                    (_, Some(state)) => limit.hard_at(*state).map(|hard_at| Crossing::Over { hard_at }),
                    (_, None) => Some(Crossing::Within),
                };
                found.extend(crossing.map(|crossing| SoftCrossing {
                    depth,
                    resource: resource.clone(),
                    crossing,
                }));
            }
        }
        Ok(found)
    }
}
