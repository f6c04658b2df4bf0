//! Slices of a tenant's quota that nodes charge against while they are cut off. No I/O, no clock, no async.
//!
//! A slice is charged to the quota in the transaction that grants it, as everything else is. So all slices and charges
//! together never exceed a limit, whatever nodes do while nobody hears of them.

use std::time::Duration;

use hivemind_core::resources::Resources;
use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{
    Collection, Error, ErrorKind, NodeId, Result, Stamped, TenantContext, TenantRef, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::RequestAttributes;
use super::batch::Held;
use super::books::Books;
use super::gate::{Returned, TenantQuota};
use super::ledger::{Change, Reservation, ReservationState};
use crate::Tenant;

/// The most slices of one tenant.
pub const MAX_SLICES: usize = 256;

/// What a node may charge to a tenant without asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NodeSlice {
    /// Which node.
    pub node: NodeId,
    /// How much in all.
    pub amount: Resources,
    /// The first instant at which the node must not charge against it any more, by its own clock.
    pub until: Timestamp,
    /// Which grant it is: higher for each of the tenant. Messages of an earlier grant are known by it.
    pub grant: u64,
}

impl NodeSlice {
    /// Whether the node may charge `more` against it at `now`, by its own clock, beside what it has `charged`.
    pub fn admits(&self, charged: &Resources, more: &Resources, now: Timestamp) -> bool {
        now < self.until && charged.checked_add(more).is_ok_and(|all| all.fits_in(&self.amount))
    }
}

/// The lease of a slice, beside what is charged for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) until: Timestamp,
    /// How much longer it counts as spent.
    pub(crate) grace: Duration,
    pub(crate) grant: u64,
}

impl Lease {
    /// Whether no node charges against it any more at `now`.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.until.after(self.grace) <= now
    }
}

pub(super) fn slices() -> Result<Collection<Reservation>> {
    crate::collection("slices")
}

fn slice_key(tenant: &TenantRef, node: &NodeId) -> Result<Key> {
    slices()?.key([&tenant.to_string(), node.as_str()])
}

/// What is charged for the slices of one tenant. Their names are those of nodes, and no reservation's.
pub(super) fn slices_of(view: &Snapshot, txn: &Txn, tenant: &TenantRef) -> Result<Vec<Held>> {
    let all = slices()?.list(view, txn, &slices()?.below([tenant.to_string()])?)?;
    let held = |found: Stamped<Reservation>| {
        let node = String::from_utf8_lossy(found.stored_at.last()).into_owned();
        let id = node.parse().map_err(|e| Error::of(ErrorKind::Corrupt, "quota slice", e))?;
        Ok(Held::alone(id, found))
    };
    all.into_iter().map(held).collect()
}

/// The larger of both, of everything.
fn either(a: &Resources, b: &Resources) -> Resources {
    b.iter().fold(a.clone(), |all, (resource, amount)| {
        let most = amount.max(all.amount(&resource));
        all.with(resource, most)
    })
}

fn told(node: &NodeId, charged: &Reservation, lease: &Lease) -> NodeSlice {
    let Lease { until, grant, .. } = *lease;
    NodeSlice { node: node.clone(), amount: charged.amount.clone(), until, grant }
}

impl TenantQuota {
    /// Stages that `node` may charge `amount` to the tenant of `ctx` without asking, until just before `until`; and the
    /// slice, to be told to the node once this is committed.
    ///
    /// If the node has a slice, the new one takes its place and is no smaller and no shorter: the node may not have
    /// heard of it, and charge against the old one. A slice that runs out counts as spent for `grace` more, which must
    /// be longer than clocks differ; then [`stage_expire`](Self::stage_expire) gives it back. So what a lost node holds
    /// is never charged twice.
    ///
    /// # Errors
    /// [`ErrorKind::QuotaExceeded`] if it does not fit, as by [`stage_request`](Self::stage_request), and as there if the
    /// tenant admits no work; [`ErrorKind::Invalid`] if `ctx` has no time or the slice would be over at once;
    /// [`ErrorKind::Exhausted`] if the tenant has [`MAX_SLICES`].
    pub fn stage_grant_slice(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        node: &NodeId,
        amount: &Resources,
        (until, grace): (Timestamp, Duration),
    ) -> Result<NodeSlice> {
        const OPERATION: &str = "grant slice";
        let now =
            ctx.at().ok_or_else(|| Error::invalid(OPERATION, "a slice ends: say when this is decided"))?;
        if until <= now {
            let message = format!("a slice until {until} is over at {now}: give a later end");
            return Err(Error::invalid(OPERATION, message));
        }
        let key = slice_key(ctx.tenant(), node)?;
        let old = slices()?.get(view, txn, &key)?;
        if old.is_none() && slices_of(view, txn, ctx.tenant())?.len() >= MAX_SLICES {
            let message = format!("tenant {} has {MAX_SLICES} slices: return some", ctx.tenant().id);
            return Err(Error::new(ErrorKind::Exhausted, OPERATION, message));
        }
        let mut books = Books::at(Some(now));
        let levels = books.open(view, txn, &Tenant::chain(view, txn, ctx)?)?;
        books.admits(&levels, OPERATION)?;
        let had = old.as_ref().and_then(|old| Some((&old.amount, old.slice?)));
        let lease = Lease {
            until: had.map_or(until, |(_, had)| until.max(had.until)),
            grace: had.map_or(grace, |(_, had)| grace.max(had.grace)),
            grant: books.grant(&levels),
        };
        let new = Reservation {
            amount: had.map_or(amount.clone(), |(had, _)| either(had, amount)),
            state: ReservationState::Committed,
            owner: Some(ctx.principal().clone()),
            attributes: RequestAttributes::new("slice"),
            bounded: false,
            slice: Some(lease),
        };
        let change = old.as_ref().map_or(Change::default(), |old| Change::default().with(old, -1));
        books.add(&levels, &change.with(&new, 1), &new.attributes);
        if let Some(over) = books.over(&levels) {
            return Err(Error::of(ErrorKind::QuotaExceeded, OPERATION, over));
        }
        books.stage(view, txn)?;
        match &old {
            Some(old) => slices()?.update(txn, old, &new)?,
            None => slices()?.create(view, txn, key, &new)?,
        }
        Ok(told(node, &new, &lease))
    }

    /// Stages that `node` charges against no more than `keep` of its slice from now on, and that the rest is given back;
    /// returns how much. Of nothing to keep, the slice is over.
    ///
    /// The node stops first, and then says so. What runs on of what it charged is charged by its own reservations in
    /// the same transaction, after this.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the node has no slice of this grant: it was returned, ran out, or there is a newer
    /// one; then nothing changes. [`ErrorKind::Invalid`] if the slice is smaller than `keep`.
    pub fn stage_return_slice(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        (node, grant): (&NodeId, u64),
        keep: &Resources,
    ) -> Result<Returned> {
        const OPERATION: &str = "return slice";
        let found = slices()?.get(view, txn, &slice_key(ctx.tenant(), node)?)?;
        let found = found.filter(|found| found.slice.is_some_and(|lease| lease.grant == grant));
        let Some(old) = found else {
            return Err(Error::not_found(
                OPERATION,
                format!("node {node} has no slice of grant {grant}: ask for one"),
            ));
        };
        let Ok(back) = old.amount.checked_sub(keep) else {
            let message = format!(
                "the slice of node {node} is {}, less than {keep}: ask for a grant of more",
                old.amount
            );
            return Err(Error::invalid(OPERATION, message));
        };
        let mut books = Books::at(ctx.at());
        let levels = books.open(view, txn, &Tenant::chain(view, txn, ctx)?)?;
        let mut new = (*old.value).clone();
        new.amount = keep.clone();
        books.add(&levels, &Change::default().with(&old, -1).with(&new, 1), &new.attributes);
        books.touch(&levels);
        books.stage(view, txn)?;
        if new.amount == Resources::new() {
            slices()?.delete(txn, &old)?;
        } else {
            slices()?.update(txn, &old, &new)?;
        }
        Ok(Returned::Now(back))
    }

    /// Every slice of the tenant itself that counts, in the order of nodes.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn node_slices(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<NodeSlice>> {
        let told = |held: Held| {
            let node = held.id.as_str().parse();
            let node = node.map_err(|e| Error::of(ErrorKind::Corrupt, "quota slice", e))?;
            let lease =
                held.slice.ok_or_else(|| Error::new(ErrorKind::Corrupt, "quota slice", "it has no lease"))?;
            Ok(told(&node, &held, &lease))
        };
        slices_of(view, txn, ctx.tenant())?.into_iter().map(told).collect()
    }
}
