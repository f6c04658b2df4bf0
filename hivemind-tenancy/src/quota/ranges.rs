//! What one thing may ask for, by the limit ranges of a tenant and of those above it. No I/O, no clock, no async.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, TenantContext, TenantId};
use serde::{Deserialize, Serialize};

use super::gate::TenantQuota;
use super::spec::limited_chain;
use super::{Demand, LimitRange, OutOfBounds};

/// One resource of which a thing asks for too little or too much, by the limit range of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}{wrong}", if *.depth > 0 { "at a tenant above: " } else { "" })]
#[non_exhaustive]
pub struct RangeViolation {
    /// How far above the tenant the limit range is; 0 is its own. A tenant is not told who is above it.
    pub depth: usize,
    /// What is wrong.
    pub wrong: OutOfBounds,
}

/// A thing asks for what limit ranges do not allow. Detail of an [`Invalid`](ErrorKind::Invalid) error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind} of tenant {tenant}: {}", .found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct RangeViolations {
    /// Whose thing.
    pub tenant: TenantId,
    /// Of which kind.
    pub kind: String,
    /// Everything that is wrong: by the tenant's own range first, by the root's last, each in the order of names.
    pub found: Vec<RangeViolation>,
}

impl TenantQuota {
    /// What a thing of `kind` that asks for `demand` is to have: with the defaults of the tenant's own limit range,
    /// then with those of the tenants above for what is still not given. All their ranges must allow the result.
    ///
    /// Nothing is staged: charging the result in the same transaction guards the ranges that were read, and
    /// [`QuotaRequest::with_demands`](super::QuotaRequest::with_demands) has the charge check them itself.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] lists everything out of bounds as [`RangeViolations`]; [`ErrorKind::NotFound`] if the
    /// tenant is gone.
    pub fn defaulted(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        kind: &str,
        demand: &Demand,
    ) -> Result<Demand> {
        let chain = limited_chain(view, txn, ctx.tenant())?;
        let of = chain
            .iter()
            .enumerate()
            .filter_map(|(depth, (_, spec))| Some((depth, spec.as_ref()?.limit_range(kind)?)));
        let ranges = Ranges { tenant: &ctx.tenant().id, kind, of: of.collect() };
        let filled = ranges.of.iter().fold(demand.clone(), |demand, (_, range)| range.fill(&demand));
        // Only the whole is checked: a limit that one range demands may be the default of another.
        within(&ranges, &filled).map(|()| filled)
    }
}

/// The limit ranges for things of one kind of a tenant and of those above it.
pub(super) struct Ranges<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) kind: &'a str,
    /// With how far above the tenant each is.
    pub(super) of: Vec<(usize, &'a LimitRange)>,
}

/// Fails with everything of `demand` that any of `ranges` does not allow.
pub(super) fn within(ranges: &Ranges<'_>, demand: &Demand) -> Result<()> {
    let mut found = Vec::new();
    for (depth, range) in &ranges.of {
        let at_level = |wrong| RangeViolation { depth: *depth, wrong };
        found.extend(range.check(demand).into_iter().map(at_level));
    }
    if found.is_empty() {
        return Ok(());
    }
    let (tenant, kind) = (ranges.tenant.clone(), ranges.kind.to_owned());
    Err(Error::of(ErrorKind::Invalid, "apply limit ranges", RangeViolations { tenant, kind, found }))
}
