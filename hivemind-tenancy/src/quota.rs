//! Quotas: what is charged never exceeds the limit, and is given back exactly once.

mod bounds;
mod budget;
mod lease;
mod ledger;
mod queue;
mod rate;
mod reparent;
mod scope;
mod slices;
mod soft;
pub(crate) mod tree;
mod trend;

use hivemind_core::resources::Resources;
use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{
    Collection, Error, ErrorKind, QuotaGate, ReservationId, Result, Stamped, Stored, TenantContext, Timestamp,
};
use serde::{Deserialize, Serialize};

pub use self::bounds::{Bounds, Demand, InvalidLimitRange, LimitRange, OutOfBounds, Problem};
pub use self::budget::{Budget, BudgetState, InvalidPeriod};
pub use self::lease::{TemporaryLimit, TemporaryLimits};
pub(crate) use self::ledger::Ledger;
pub use self::ledger::{OverQuota, Shortage};
pub use self::queue::{DominantShare, FairQueue, QueueFit, QueuePolicy, WaitingRequest};
pub use self::rate::{InvalidRate, RateExceeded, RateLimit, RateState, RateStates};
pub(crate) use self::reparent::stage_reparent;
pub use self::scope::{EmptyPriorityRange, PriorityRange, QuotaScope, RequestAttributes};
pub use self::slices::{Escrow, EscrowError, Slice};
pub use self::soft::{Crossing, SoftExceeded, SoftLimit, SoftState};
pub use self::trend::{HighWater, InvalidWindows, Trend, UsageEvent};
use crate::Tenant;

/// What a tenant has charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reservation {
    pub(crate) amount: Resources,
    pub(crate) state: ReservationState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReservationState {
    /// Held until it is committed, released, or the deadline passes.
    Reserved { deadline: Timestamp },
    /// In use until it is released.
    Committed,
}

impl Stored for Reservation {
    const KIND: &'static str = "reservation";
}

impl Stored for Ledger {
    const KIND: &'static str = "quota ledger";
}

/// How much a tenant has charged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// In use.
    pub used: Resources,
    /// Held for requests that are not committed yet.
    pub reserved: Resources,
}

/// The ledger beside the sum of the live reservations: they differ only if something is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drift {
    /// What the ledger says.
    pub ledger: Usage,
    /// What the reservations add up to.
    pub counted: Usage,
}

impl Drift {
    /// Whether both agree.
    pub fn is_none(&self) -> bool {
        self.ledger == self.counted
    }
}

/// Charges tenants: the [`QuotaGate`] of this crate, and the two-phase operations.
///
/// All operations are pure: they stage into the host's transaction.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "it has no state and never will: all of it is in the store")]
pub struct TenantQuota;

fn ledgers() -> Result<Collection<Ledger>> {
    crate::collection("ledgers")
}

fn reservations() -> Result<Collection<Reservation>> {
    crate::collection("reservations")
}

fn ledger_key(ctx: &TenantContext) -> Result<Key> {
    ledgers()?.key([ctx.tenant().to_string()])
}

fn reservation_key(ctx: &TenantContext, id: &ReservationId) -> Result<Key> {
    reservations()?.key([&ctx.tenant().to_string(), id.as_str()])
}

/// The tenant's ledger as it will be; a tenant without charges may have none yet.
fn load(view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<(Ledger, Option<Stamped<Ledger>>)> {
    let found = ledgers()?.get(view, txn, &ledger_key(ctx)?)?;
    Ok((found.as_ref().map(|ledger| (*ledger.value).clone()).unwrap_or_default(), found))
}

fn save(
    view: &Snapshot,
    txn: &mut Txn,
    ctx: &TenantContext,
    old: Option<&Stamped<Ledger>>,
    new: &Ledger,
) -> Result<()> {
    match old {
        Some(old) => ledgers()?.update(txn, old, new),
        None => ledgers()?.create(view, txn, ledger_key(ctx)?, new),
    }
}

impl TenantQuota {
    /// Stages a charge that is held until `deadline`, to be committed or released.
    ///
    /// # Errors
    /// As [`QuotaGate::reserve`].
    pub fn stage_reserve(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
        deadline: Timestamp,
    ) -> Result<()> {
        self.charge(view, txn, ctx, id, amount, ReservationState::Reserved { deadline })
    }

    /// Stages that a held charge is in use now. One that is in use already stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if nothing is held under `id`, such as after its deadline.
    pub fn stage_commit(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
    ) -> Result<()> {
        let held = self.require(view, txn, ctx, id)?;
        if held.state == ReservationState::Committed {
            return Ok(());
        }
        let (ledger, old) = load(view, txn, ctx)?;
        let ledger = ledger.commit(&held.amount)?;
        save(view, txn, ctx, old.as_ref(), &ledger)?;
        let committed = Reservation { amount: held.amount.clone(), state: ReservationState::Committed };
        reservations()?.update(txn, &held, &committed)
    }

    /// Stages the release of every held charge of the tenant whose deadline is not after `now`; returns how many.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn stage_expire(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        now: Timestamp,
    ) -> Result<usize> {
        let mut expired = 0;
        for held in self.all(view, txn, ctx)? {
            if matches!(held.state, ReservationState::Reserved { deadline } if deadline <= now) {
                self.give_back(view, txn, ctx, &held)?;
                expired += 1;
            }
        }
        Ok(expired)
    }

    /// What would be short if `amount` were charged now; nothing is staged.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant is gone.
    pub fn what_if(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        amount: &Resources,
    ) -> Result<Option<OverQuota>> {
        let tenant = Tenant::of(view, txn, ctx)?;
        let (ledger, _) = load(view, txn, ctx)?;
        Ok(ledger.shortages(&tenant.tenant.id, &tenant.resource_quotas, amount))
    }

    /// What the tenant has charged.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the ledger cannot be read.
    pub fn usage(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Usage> {
        let (ledger, _) = load(view, &Txn::new(), ctx)?;
        Ok(Usage { used: ledger.used, reserved: ledger.reserved })
    }

    /// Counts the live reservations and compares; nothing is changed.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn recount(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Drift> {
        let mut counted = Usage::default();
        for one in self.all(view, &Txn::new(), ctx)? {
            let sum = match one.state {
                ReservationState::Committed => &mut counted.used,
                ReservationState::Reserved { .. } => &mut counted.reserved,
            };
            *sum = sum.checked_add(&one.amount).map_err(|e| Error::of(ErrorKind::Corrupt, "recount", e))?;
        }
        Ok(Drift { ledger: self.usage(view, ctx)?, counted })
    }

    fn charge(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
        state: ReservationState,
    ) -> Result<()> {
        let tenant = Tenant::of(view, txn, ctx)?;
        let key = reservation_key(ctx, id)?;
        if let Some(existing) = reservations()?.get(view, txn, &key)? {
            if existing.amount == *amount {
                return reservations()?.expect(txn, &existing);
            }
            let message = format!("reservation {id} is charged with {}, not {amount}", existing.amount);
            return Err(Error::new(ErrorKind::AlreadyExists, "reserve", message));
        }
        let (ledger, old) = load(view, txn, ctx)?;
        if let Some(over) = ledger.shortages(&tenant.tenant.id, &tenant.resource_quotas, amount) {
            return Err(Error::of(ErrorKind::QuotaExceeded, "reserve", over));
        }
        let ledger = match state {
            ReservationState::Reserved { .. } => ledger.reserve(amount)?,
            ReservationState::Committed => ledger.reserve(amount)?.commit(amount)?,
        };
        // The limits that were read must be the limits when this commits.
        crate::tenant::tenants()?.expect(txn, &tenant)?;
        save(view, txn, ctx, old.as_ref(), &ledger)?;
        reservations()?.create(view, txn, key, &Reservation { amount: amount.clone(), state })
    }

    fn all(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<Stamped<Reservation>>> {
        let below = reservations()?.below([ctx.tenant().to_string()])?;
        reservations()?.list(view, txn, &below)
    }

    fn require(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        id: &ReservationId,
    ) -> Result<Stamped<Reservation>> {
        let missing =
            || Error::not_found("quota", format!("tenant {} has no reservation {id}", ctx.tenant().id));
        reservations()?.get(view, txn, &reservation_key(ctx, id)?)?.ok_or_else(missing)
    }

    fn give_back(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        held: &Stamped<Reservation>,
    ) -> Result<()> {
        let (ledger, old) = load(view, txn, ctx)?;
        let ledger = ledger.release(&held.amount, held.state == ReservationState::Committed)?;
        save(view, txn, ctx, old.as_ref(), &ledger)?;
        reservations()?.delete(txn, held)
    }

    /// Stages the removal of an empty ledger.
    pub(crate) fn stage_close(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<()> {
        let live = self.all(view, txn, ctx)?.len();
        if live > 0 {
            let message =
                format!("tenant {} still has {live} reservations: release them first", ctx.tenant().id);
            return Err(Error::new(ErrorKind::Conflict, "delete", message)
                .with_retry(hivemind_core::Retry::AfterChange));
        }
        match load(view, txn, ctx)? {
            (_, Some(ledger)) => ledgers()?.delete(txn, &ledger),
            // Guards against a first charge in between.
            (_, None) => txn.guard(&ledger_key(ctx)?, hivemind_core::store::Guard::Absent),
        }
    }
}

impl QuotaGate for TenantQuota {
    fn reserve(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
    ) -> Result<()> {
        self.charge(view, txn, ctx, id, amount, ReservationState::Committed)
    }

    fn release(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext, id: &ReservationId) -> Result<()> {
        let held = self.require(view, txn, ctx, id)?;
        self.give_back(view, txn, ctx, &held)
    }
}
