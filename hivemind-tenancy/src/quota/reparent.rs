//! Usage of a tenant that moves to another parent. No I/O, no clock, no async.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Result, Stamped, TenantRef};

use super::ledgers;
use crate::Tenant;

/// Stages that what `moved` and the tenants below it use counts below `new_parent`.
///
/// A ledger holds what its own tenant uses and nothing of those below, so it stays as it is. It must be readable: a
/// damaged one is found before the tenant moves, not after.
pub(crate) fn stage_reparent(
    view: &Snapshot,
    txn: &mut Txn,
    moved: &Stamped<Tenant>,
    _new_parent: Option<&TenantRef>,
) -> Result<()> {
    let ledgers = ledgers()?;
    ledgers.get(view, txn, &ledgers.key([moved.tenant.to_string()])?).map(|_| ())
}
