//! Does it fit the quota?

use std::fmt;

use crate::resources::Resources;
use crate::store::{Snapshot, Txn};
use crate::{ReservationId, Result, TenantContext};

/// Charges resources against a tenant's quota, within the host's transaction.
///
/// # Contract
///
/// - Pure: reads `view` and what `txn` has staged, stages guards and writes into `txn`, and does nothing else. On an
///   error the caller drops `txn`.
/// - A reservation is charged once: the same id with the same amount again is a no-op, with another amount
///   [`AlreadyExists`](crate::ErrorKind::AlreadyExists).
/// - Too little quota is [`QuotaExceeded`](crate::ErrorKind::QuotaExceeded) and final for this decision.
/// - What is settled is there already: it is charged whether it fits or not, and usage may be above a limit by it. Nothing is
///   admitted then until usage is below again. Settling what is not reserved is [`NotFound`](crate::ErrorKind::NotFound).
/// - Release is exactly once: releasing what is not reserved is [`NotFound`](crate::ErrorKind::NotFound).
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait QuotaGate: fmt::Debug + Send + Sync + 'static {
    /// Stages the charge of `amount` to the tenant of `ctx` under `id`.
    fn reserve(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
    ) -> Result<()>;

    /// Stages that `amount` is charged under `id` from now on, in place of what is.
    fn settle(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        amount: &Resources,
    ) -> Result<()>;

    /// Stages the return of everything charged under `id`.
    fn release(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext, id: &ReservationId) -> Result<()>;
}
