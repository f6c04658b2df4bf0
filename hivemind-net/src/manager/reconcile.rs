//! The records beside what the host says is running: leaks, conflicts and what is missing, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{NodeId, Result, Stamped, TenantContext, Timestamp, WorkloadId};
use serde::{Deserialize, Serialize};

use super::nodes::BATCH;
use super::session::Session;
use super::watermark::Watermarks;
use super::{IpamManager, release};
use crate::addr::Cidr;
use crate::records::{Holder, Pools, holders};

/// What somebody saw running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Observation {
    /// When it was begun, by the clock that leases are given by: whatever was given later may be missing from it.
    pub at: Timestamp,
    /// On this node only; `None` if on all.
    pub node: Option<NodeId>,
    /// The workloads, and the addresses that they use.
    pub running: BTreeMap<WorkloadId, BTreeSet<IpAddr>>,
}

impl Observation {
    /// Nothing runs anywhere.
    pub fn new(at: Timestamp) -> Self {
        Self { at, node: None, running: BTreeMap::new() }
    }

    /// Of this node only.
    #[must_use]
    pub fn of_node(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    /// And this workload runs, with these addresses.
    #[must_use]
    pub fn with(mut self, workload: WorkloadId, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.running.entry(workload).or_default().extend(addresses);
        self
    }
}

/// An address that a workload uses, and the records give to another, or to nobody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Conflicting {
    /// The address.
    pub address: IpAddr,
    /// Who uses it.
    pub used_by: WorkloadId,
    /// Whose it is.
    pub owner: Option<WorkloadId>,
}

/// What an observation told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reconciled {
    /// Leases that a second observation missed too: they are given back with this transaction.
    pub leaked: BTreeSet<WorkloadId>,
    /// Leases that this observation missed first: a newer one decides.
    pub suspected: BTreeSet<WorkloadId>,
    /// Workloads that run without a lease.
    pub missing: BTreeSet<WorkloadId>,
    /// Addresses in use that belong to another.
    pub conflicts: BTreeSet<Conflicting>,
    /// Addresses with a lease that the pools no longer give out: excluded, or of a network being drained.
    pub misplaced: BTreeMap<IpAddr, WorkloadId>,
    /// A newer observation of the same nodes was told before: by this one nothing changes, and what it tells of what
    /// runs may be out of date.
    pub superseded_by: Option<Timestamp>,
    /// Leases that this observation missed, which change nothing, because a newer one was told of their node; and when
    /// that was begun.
    #[serde(default)]
    pub stale: BTreeMap<WorkloadId, Timestamp>,
    /// Whether there is more to change: commit, and call again with the same observation.
    pub more: bool,
}

impl IpamManager {
    /// Stages what an observation tells. A lease is given back only when two observations, both begun after it was
    /// given, the second after the first, missed its workload, and none that was begun after the first saw it.
    /// Observations may come late, twice and in any order: one that is older than another of the same node, told
    /// before, changes nothing. At most some leases change with each call.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](hivemind_core::ErrorKind::NotFound) if the tenant has no pools.
    pub fn stage_reconcile(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        seen: &Observation,
    ) -> Result<Reconciled> {
        self.stage(view, txn, ctx, |session| {
            let pools = session.pools_of(ctx)?;
            let all = holders()?.list(view, &session.txn, &session.keys.holders()?)?;
            let marks = Watermarks::read(session, seen.node.as_ref())?;
            let mut told = compare(&pools, &all, seen);
            told.superseded_by = marks.newest_of_scope().filter(|newest| *newest > seen.at);
            let mut budget = BATCH;
            for found in &all {
                let Some(verdict) = verdict(found, seen, marks.newest(found)) else { continue };
                match verdict {
                    Verdict::Stale(newest) => {
                        told.stale.insert(found.workload.clone(), newest);
                        continue;
                    }
                    Verdict::Suspect(true) => {
                        told.suspected.insert(found.workload.clone());
                        continue;
                    }
                    _ if budget == 0 => {
                        told.more = true;
                        break;
                    }
                    _ => budget -= 1,
                }
                marks.expect(session, found)?;
                apply(session, &pools, found, verdict, seen.at, &mut told)?;
            }
            marks.tell(session, &all, seen.at, budget)?;
            Ok(told)
        })
    }
}

/// What is to be done about a lease.
#[derive(Clone, Copy)]
enum Verdict {
    /// It was missed before and is there, or it is where no watermark will tell.
    Clear,
    /// It is missed, and an observation of its node that was begun then was told before.
    Stale(Timestamp),
    /// It is missed; whether that is on record already.
    Suspect(bool),
    /// It was missed twice.
    Free,
}

/// `newest` is the newest observation told of where the holder is.
fn verdict(holder: &Holder, seen: &Observation, newest: Option<Timestamp>) -> Option<Verdict> {
    let here = |node: &NodeId| holder.node == *node || holder.moving.as_ref() == Some(node);
    if seen.running.contains_key(&holder.workload) {
        // A late observation does not absolve from a newer one that missed it.
        let newer = holder.missed.is_some_and(|missed| seen.at > missed);
        // The watermark of another node than the lease's keeps no older observation from missing it.
        let elsewhere = seen.node.as_ref().is_some_and(|node| *node != holder.node) && seen.at > holder.at;
        return (newer || elsewhere).then_some(Verdict::Clear);
    }
    // A node that no longer or not yet runs a moving workload says nothing about it.
    let settled = holder.moving.is_none() || seen.node.is_none();
    let in_scope = settled && seen.node.as_ref().is_none_or(here);
    if !in_scope || holder.kept_until.is_some() || seen.at <= holder.at {
        return None;
    }
    if let Some(newest) = newest.filter(|newest| *newest > seen.at) {
        return Some(Verdict::Stale(newest));
    }
    Some(match holder.missed {
        Some(missed) if seen.at > missed => Verdict::Free,
        Some(_) => Verdict::Suspect(true),
        None => Verdict::Suspect(false),
    })
}

fn apply(
    session: &mut Session<'_>,
    pools: &Pools,
    found: &Stamped<Holder>,
    verdict: Verdict,
    at: Timestamp,
    told: &mut Reconciled,
) -> Result<()> {
    let mut holder = (*found.value).clone();
    match verdict {
        Verdict::Free => {
            told.leaked.insert(holder.workload.clone());
            return release::drop_lease(session, pools, found);
        }
        Verdict::Suspect(_) => {
            told.suspected.insert(holder.workload.clone());
            holder.missed = Some(at);
        }
        // It was there then, whatever older observations will say.
        Verdict::Clear => {
            holder.missed = holder.missed.filter(|missed| *missed >= at);
            holder.at = holder.at.max(at);
        }
        Verdict::Stale(_) => return Ok(()),
    }
    holders()?.update(&mut session.txn, found, &holder)
}

/// What can be told without changing anything.
fn compare(pools: &Pools, all: &[Stamped<Holder>], seen: &Observation) -> Reconciled {
    let mut told = Reconciled::default();
    let mut owners: BTreeMap<IpAddr, &WorkloadId> = BTreeMap::new();
    for holder in all {
        for address in holder.lease.addresses() {
            owners.insert(address, &holder.workload);
            if !gives_out(pools, address) {
                told.misplaced.insert(address, holder.workload.clone());
            }
        }
    }
    let held: BTreeSet<_> = all.iter().map(|holder| &holder.workload).collect();
    for (workload, addresses) in &seen.running {
        if !held.contains(workload) {
            told.missing.insert(workload.clone());
        }
        for address in addresses {
            let owner = owners.get(address).copied();
            // Addresses that are in no pool are none of ours.
            if owner != Some(workload) && pools.subnet_of(Cidr::host(*address)).is_some() {
                let owner = owner.cloned();
                told.conflicts.insert(Conflicting { address: *address, used_by: workload.clone(), owner });
            }
        }
    }
    told
}

/// Whether a pool would give this address out today.
pub(super) fn gives_out(pools: &Pools, address: IpAddr) -> bool {
    let host = Cidr::host(address);
    pools.subnet_of(host).is_some_and(|(config, subnet)| {
        let active = config.family(host.family()).is_some_and(|f| f.active().any(|cidr| cidr.covers(host)));
        active && config.layout(subnet).contains(host.first())
    })
}
