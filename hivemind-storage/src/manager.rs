//! Classes, claims, volumes and snapshots: stages intents into the host's transaction. No I/O.

mod adopt;
mod attach;
mod bind;
mod change;
mod claims;
mod classes;
mod holds;
mod look;
mod nodes;
mod populate;
mod snapshots;
mod tenants;

use std::sync::Arc;

use hivemind_core::resources::{ByteSize, Resources};
use hivemind_core::store::{Guard, Key, Snapshot, Txn};
use hivemind_core::{
    ClaimId, Error, NodeId, OpToken, ProviderName, QuotaGate, ReservationId, Result, Stamped, TenantContext,
    Timestamp, VolumeId,
};

pub use self::adopt::{Adoption, SnapshotAdoption};
pub use self::change::ParameterChanges;
pub use self::holds::{HoldDecision, Placement};
pub use self::look::{ClaimStatus, StorageUsage};
pub use self::tenants::TenantRemains;
use crate::records::{Todo, claim_at, claims, nodes, todo_at, todos, volume_at, volumes};
use crate::{Claim, HealthThresholds, Volume, VolumeKey, steps};

/// Decides on classes, claims, volumes and snapshots. All operations are pure; the
/// [`VolumeController`](crate::VolumeController) makes them so.
///
/// Each operation is for the tenant of its context and sees nothing of any other. On an error, drop the transaction: it
/// may hold part of what was to be staged.
#[derive(Debug, Clone)]
pub struct StorageManager {
    providers: Vec<ProviderName>,
    quota: Option<Arc<dyn QuotaGate>>,
    thresholds: HealthThresholds,
}

/// How many things one call changes, of those that are many: a transaction has 127 operations at most.
const BATCH: usize = 20;

/// The time of the request, for what depends on one.
fn now(ctx: &TenantContext, operation: &'static str) -> Result<Timestamp> {
    ctx.at().ok_or_else(|| Error::invalid(operation, "the request has no time: give its context one"))
}

/// Names an intent of the request: repeated, it has the same token; a later intent has another.
fn token(ctx: &TenantContext, of: impl std::fmt::Display) -> OpToken {
    OpToken::new(format!("{of}@{}", ctx.request()))
}

/// Names what is charged for `of` by a decision on `view`: once, since what an earlier decision charged may be there for
/// long after all else of it is gone.
fn new_reservation(kind: &str, of: &str, view: &Snapshot, ctx: &TenantContext) -> Result<ReservationId> {
    crate::records::reservation(kind, &[of, ctx.request().as_str(), &view.revision().to_string()])
}

impl StorageManager {
    /// Claims may name `providers`; the first one is the default.
    pub fn new(providers: impl IntoIterator<Item = ProviderName>) -> Self {
        Self {
            providers: providers.into_iter().collect(),
            quota: None,
            thresholds: HealthThresholds::default(),
        }
    }

    /// Believes a volume to be ill, or well, after so many answers of a node in a row.
    #[must_use]
    pub fn with_thresholds(mut self, thresholds: HealthThresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// Charges the storage of claims, growth and snapshots through `quota`, in the same transaction. The controller gives it
    /// back: it needs the quota, [too](crate::VolumeController::with_quota).
    #[must_use]
    pub fn with_quota(mut self, quota: Arc<dyn QuotaGate>) -> Self {
        self.quota = Some(quota);
        self
    }

    fn provider(&self, wanted: Option<&ProviderName>) -> Result<ProviderName> {
        let found = match wanted {
            None => self.providers.first(),
            Some(name) => self.providers.iter().find(|known| *known == name),
        };
        let missing = || {
            let known = self.providers.iter().map(ProviderName::as_str).collect::<Vec<_>>().join(", ");
            let wanted = wanted.map_or("any", ProviderName::as_str);
            Error::not_found("claim", format!("there is no provider {wanted}; there are: {known}"))
        };
        found.cloned().ok_or_else(missing)
    }

    fn charge(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: ReservationId,
        size: ByteSize,
    ) -> Result<Vec<ReservationId>> {
        let Some(quota) = &self.quota else { return Ok(Vec::new()) };
        quota.reserve(view, txn, ctx, &id, &Resources::new().with_storage(size))?;
        Ok(vec![id])
    }

    fn give_back(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        ids: &[ReservationId],
    ) -> Result<()> {
        let Some(quota) = &self.quota else { return Ok(()) };
        ids.iter().try_for_each(|id| quota.release(view, txn, ctx, id))
    }

    fn claim(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
    ) -> Result<Stamped<Claim>> {
        let missing =
            || Error::not_found("claim", format!("tenant {} has no claim {claim}", ctx.tenant().id));
        claims()?.get(view, txn, &claim_at(ctx, claim)?)?.ok_or_else(missing)
    }

    /// A volume of the tenant, claimed or not.
    fn owned(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        volume: &VolumeId,
    ) -> Result<Stamped<Volume>> {
        let missing =
            || Error::not_found("volume", format!("tenant {} has no volume {volume}", ctx.tenant().id));
        let key = VolumeKey::new(ctx.tenant().clone(), volume.clone());
        volumes()?.get(view, txn, &volume_at(&key)?)?.ok_or_else(missing)
    }

    /// Stages `new` in place of `old`, with what there is to do about it, and the slots of nodes that it takes.
    fn put(&self, view: &Snapshot, txn: &mut Txn, old: &Stamped<Volume>, new: &Volume) -> Result<()> {
        if *new == *old.value {
            return volumes()?.expect(txn, old);
        }
        volumes()?.update(txn, old, new)?;
        self.take_slots(view, txn, &old.value, new)?;
        work_on(view, txn, &old.stored_at, new.is_mischarged() || !steps::next(new, true).is_empty())
    }

    /// Nodes that come into `new` need room there.
    fn take_slots(&self, view: &Snapshot, txn: &mut Txn, old: &Volume, new: &Volume) -> Result<()> {
        let holds = |volume: &Volume, node: &NodeId| {
            volume.desired.contains_key(node) || volume.maybe_attached.contains_key(node)
        };
        for node in new.desired.keys().filter(|node| !holds(old, node)) {
            let at = crate::records::node_at(&new.provider, node)?;
            let Some(there) = nodes()?.get(view, txn, &at)? else {
                // Whoever makes it known meanwhile counts what it has.
                txn.guard(&at, Guard::Absent)?;
                continue;
            };
            let mut record = (*there.value).clone();
            record.volumes.insert(new.key.clone());
            record.check(node, new)?;
            nodes()?.update(txn, &there, &record)?;
        }
        Ok(())
    }
}

/// Stages that there is something to do about the record at `at`, or nothing any more.
///
/// A new intent forgets the failures of the one before.
pub(crate) fn work_on(view: &Snapshot, txn: &mut Txn, at: &Key, wanted: bool) -> Result<()> {
    let todo = todo_at(at)?;
    match (todos()?.get(view, txn, &todo)?, wanted) {
        (Some(there), false) => todos()?.delete(txn, &there),
        (None, false) => Ok(()),
        // Whatever it says about failures, it may be overwritten: the controller's own record of one loses nothing.
        (_, true) => {
            txn.put(todo, hivemind_core::encode(&Todo::default())?);
            Ok(())
        }
    }
}
