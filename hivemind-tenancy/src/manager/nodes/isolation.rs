//! Who has nodes to itself now, whatever it was when its workloads came.

use std::collections::BTreeMap;
use std::sync::Arc;

use hivemind_core::store::{Guard, Key, Snapshot, Txn};
use hivemind_core::{Collection, ErrorKind, Result, Stamped, Stored, TenantRef};
use serde::{Deserialize, Serialize};

use super::place::is_isolated;
use crate::placement::NodeAllocations;
use crate::tenant::chain_of;

/// Written by whatever changes which tenants have nodes to themselves, and expected by whatever places workloads: a
/// placement looks at the levels of all who run on a node, and not one of them is written by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IsolationFence {
    changes: u64,
}

impl Stored for IsolationFence {
    const KIND: &'static str = "fence of isolation levels";
}

/// Where it is.
pub(super) fn fence() -> Result<(Collection<IsolationFence>, Key)> {
    let all = crate::collection("isolation-fence")?;
    let key = all.key(["all"])?;
    Ok((all, key))
}

/// Stages that other tenants may have nodes to themselves than before.
pub(crate) fn stage_isolation_changed(view: &Snapshot, txn: &mut Txn) -> Result<()> {
    let (all, key) = fence()?;
    match all.get(view, txn, &key)? {
        Some(old) => all.update(txn, &old, &IsolationFence { changes: old.changes.wrapping_add(1) }),
        None => all.create(view, txn, key, &IsolationFence { changes: 1 }),
    }
}

/// The same tenants must have nodes to themselves when `txn` commits.
pub(super) fn expect_isolation(view: &Snapshot, txn: &mut Txn) -> Result<()> {
    let (all, key) = fence()?;
    match all.get(view, txn, &key)? {
        Some(old) => all.expect(txn, &old),
        None => txn.guard(&key, Guard::Absent),
    }
}

/// Which tenants have nodes to themselves, each looked up once.
#[derive(Debug, Default)]
pub(super) struct Levels(BTreeMap<TenantRef, Option<bool>>);

impl Levels {
    /// Whether it has; `None` if there is no such tenant any more.
    fn of(&mut self, view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<Option<bool>> {
        if let Some(known) = self.0.get(tenant) {
            return Ok(*known);
        }
        let found = match chain_of(view, txn, tenant) {
            Ok(chain) => Some(is_isolated(&chain)),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        self.0.insert(tenant.clone(), found);
        Ok(found)
    }

    /// What runs on a node, with who has it to itself by the levels of now: a level may have been raised, or a tenant
    /// moved below one that is kept apart, while it ran beside others. From then on nobody else comes there.
    pub(super) fn current(
        &mut self,
        view: &Snapshot,
        txn: &Txn,
        mut running: Stamped<NodeAllocations>,
    ) -> Result<Stamped<NodeAllocations>> {
        let mut owner = None;
        for tenant in running.workloads.keys() {
            let recorded = || running.dedicated_to.as_ref() == Some(tenant);
            if self.of(view, txn, tenant)?.unwrap_or_else(recorded) {
                owner = Some(tenant.clone());
                break;
            }
        }
        if running.dedicated_to != owner {
            let corrected = NodeAllocations { dedicated_to: owner, ..(*running.value).clone() };
            running.value = Arc::new(corrected);
        }
        Ok(running)
    }
}
