//! Tenants: create, look up, change, move, suspend, delete.

mod authority;
mod create;
mod delete;
mod finalize;
mod list;
mod reparent;
mod suspend;
mod update;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, Retry, Stamped, TenantContext, TenantRef, Timestamp};

pub(super) use self::list::subtree;
pub use self::suspend::{DrainPlan, Eviction};
pub use self::update::TenantUpdate;
use crate::Tenant;
use crate::tenant::{TenantChildren, children, children_key};

/// What cannot be done until somebody has changed something.
fn blocked(operation: &'static str, message: String) -> Error {
    Error::new(ErrorKind::Conflict, operation, message).with_retry(Retry::AfterChange)
}

/// When a change happens: as the request says, or by the clock of the manager.
fn moment(ctx: &TenantContext, now: Timestamp) -> Timestamp {
    ctx.at().unwrap_or(now)
}

/// The count of the tenants directly below `tenant`. Each tenant has one from its creation, so that a tenant whose count
/// is missing is seen to be incomplete, and is not taken for one without children.
fn count_below(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<Stamped<TenantChildren>> {
    let found = children()?.get(view, txn, &children_key(tenant)?)?;
    found.ok_or_else(|| {
        let what = "how many tenants are below it is missing: the store is incomplete, restore all of it";
        Error::new(ErrorKind::Corrupt, "tenant", format!("tenant {}: {what}", tenant.id))
    })
}

/// How many tenants are directly below `tenant`. It must still be so when `txn` commits.
fn expect_children(view: &Snapshot, txn: &mut Txn, tenant: &TenantRef) -> Result<u64> {
    let found = count_below(view, txn, tenant)?;
    children()?.expect(txn, &found)?;
    Ok(found.count)
}

/// Stages that `parent` has one more tenant below it.
fn add_child(view: &Snapshot, txn: &mut Txn, parent: &Tenant) -> Result<()> {
    let old = count_below(view, txn, &parent.tenant)?;
    let count = old.count.saturating_add(1);
    if let Some(most) = parent.delegation.max_children.filter(|most| count > *most) {
        let message =
            format!("tenant {} may have {most} tenants below it, and has as many", parent.tenant.id);
        return Err(Error::new(ErrorKind::QuotaExceeded, "create tenant", message));
    }
    children()?.update(txn, &old, &TenantChildren { count })
}

/// Stages that `parent` has one tenant less below it.
fn remove_child(view: &Snapshot, txn: &mut Txn, parent: &TenantRef) -> Result<()> {
    let old = count_below(view, txn, parent)?;
    let Some(count) = old.count.checked_sub(1) else {
        let message = format!("tenant {} is said to have no tenant below it, and has one", parent.id);
        return Err(Error::new(ErrorKind::Corrupt, "tenant", message));
    };
    children()?.update(txn, &old, &TenantChildren { count })
}
