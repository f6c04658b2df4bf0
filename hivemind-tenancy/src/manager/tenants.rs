//! Tenants: create, look up, change, move, suspend, delete.

mod authority;
mod create;
mod delete;
mod finalize;
mod list;
mod reparent;
mod suspend;
mod update;

use hivemind_core::store::{Guard, Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, Result, Retry, TenantContext, TenantRef, Timestamp};

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

/// How many tenants are directly below `tenant`. It must still be so when `txn` commits.
fn expect_children(view: &Snapshot, txn: &mut Txn, tenant: &TenantRef) -> Result<u64> {
    let found = children()?.get(view, txn, &children_key(tenant)?)?;
    match found {
        Some(found) => {
            children()?.expect(txn, &found)?;
            Ok(found.count)
        }
        None => {
            txn.guard(&children_key(tenant)?, Guard::Absent)?;
            Ok(0)
        }
    }
}

/// Stages that `parent` has one more tenant below it.
fn add_child(view: &Snapshot, txn: &mut Txn, parent: &Tenant) -> Result<()> {
    let key = children_key(&parent.tenant)?;
    let old = children()?.get(view, txn, &key)?;
    let count = old.as_ref().map_or(0, |old| old.count).saturating_add(1);
    if let Some(most) = parent.delegation.max_children.filter(|most| count > *most) {
        let message =
            format!("tenant {} may have {most} tenants below it, and has as many", parent.tenant.id);
        return Err(Error::new(ErrorKind::QuotaExceeded, "create tenant", message));
    }
    match old {
        Some(old) => children()?.update(txn, &old, &TenantChildren { count }),
        None => children()?.create(view, txn, key, &TenantChildren { count }),
    }
}

/// Stages that `parent` has one tenant less below it.
fn remove_child(view: &Snapshot, txn: &mut Txn, parent: &TenantRef) -> Result<()> {
    let old = children()?.get(view, txn, &children_key(parent)?)?;
    let less = old.as_ref().and_then(|old| old.count.checked_sub(1));
    let (Some(old), Some(count)) = (old, less) else {
        let message = format!("tenant {} is said to have no tenant below it, and has one", parent.id);
        return Err(Error::new(ErrorKind::Corrupt, "tenant", message));
    };
    children()?.update(txn, &old, &TenantChildren { count })
}
