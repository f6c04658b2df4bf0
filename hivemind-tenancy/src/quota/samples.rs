//! How usage of a tenant goes, kept in the store. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hivemind_core::resources::ResourceName;
use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{Collection, Error, Result, Stored, TenantContext, TenantRef};
use serde::{Deserialize, Serialize};

use super::books::expect;
use super::gate::TenantQuota;
use super::{Trend, UsageEvent};
use crate::Tenant;
use crate::tenant::tenants;

/// Of how many resources a trend is kept at most, so that all of a tenant fit into one record: the first by name.
pub const MAX_SAMPLED: usize = 32;

/// The trends of one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Samples {
    trends: BTreeMap<ResourceName, Trend>,
}

impl Stored for Samples {
    const KIND: &'static str = "usage trends";
}

fn samples() -> Result<Collection<Samples>> {
    crate::collection("trends")
}

fn samples_key(tenant: &TenantRef) -> Result<Key> {
    samples()?.key([tenant.to_string()])
}

/// Stages that nothing is remembered of `tenant`.
pub(super) fn forget(view: &Snapshot, txn: &mut Txn, tenant: &TenantRef) -> Result<()> {
    let key = samples_key(tenant)?;
    match samples()?.get(view, txn, &key)? {
        Some(known) => samples()?.delete(txn, &known),
        None => expect(txn, &samples()?, &key, None),
    }
}

impl TenantQuota {
    /// Stages what the tenant of `ctx` and everything below it take at the time of `ctx`, into the trends of the last
    /// `keep` windows of this length. Trends of other windows begin anew; what was not taken in any window is forgotten.
    ///
    /// What comes and goes between two samples is not seen. To sample twice changes nothing more, so whoever conflicts
    /// may sample again, or leave it.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) if `ctx` has no time, or with
    /// [`InvalidWindows`](super::InvalidWindows) as detail; [`NotFound`](hivemind_core::ErrorKind::NotFound) if the
    /// tenant is gone.
    pub fn stage_sample(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        window: Duration,
        keep: u16,
    ) -> Result<()> {
        const OPERATION: &str = "sample usage";
        let at = ctx.at().ok_or_else(|| Error::invalid(OPERATION, "say when this is sampled"))?;
        let new = Trend::new(window, keep)
            .map_err(|e| Error::of(hivemind_core::ErrorKind::Invalid, OPERATION, e))?;
        let tenant = Tenant::of(view, txn, ctx)?;
        let usage = self.usage_in(view, txn, ctx)?;
        let (key, taken) = (samples_key(ctx.tenant())?, |of: &ResourceName| {
            usage.used.amount(of).saturating_add(usage.reserved.amount(of))
        });
        let old = samples()?.get(view, txn, &key)?;
        let known = old.as_ref().map(|old| old.trends.clone()).unwrap_or_default();
        let mut names: BTreeSet<_> =
            usage.used.iter().chain(usage.reserved.iter()).map(|(name, _)| name).collect();
        names.extend(known.keys().cloned());
        let sampled = names.into_iter().map(|name| {
            let trend = known.get(&name).filter(|trend| trend.windows() == new.windows()).unwrap_or(&new);
            let trend = trend.observe(UsageEvent::new(at, taken(&name)));
            (name, trend)
        });
        let trends = sampled.filter(|(_, trend)| trend.peak() > 0).take(MAX_SAMPLED).collect();
        let next = Samples { trends };
        tenants()?.expect(txn, &tenant)?;
        match &old {
            Some(old) if **old == next => samples()?.expect(txn, old),
            Some(old) => samples()?.update(txn, old, &next),
            None => samples()?.create(view, txn, key, &next),
        }
    }

    /// The trends of the tenant as they were sampled, by resource.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if the record cannot be read.
    pub fn trends(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
    ) -> Result<BTreeMap<ResourceName, Trend>> {
        let known = samples()?.get(view, txn, &samples_key(ctx.tenant())?)?;
        Ok(known.map(|known| known.trends.clone()).unwrap_or_default())
    }
}
