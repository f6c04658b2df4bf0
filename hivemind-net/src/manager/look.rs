//! What there is: leases, how full the pools are, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{NodeId, PoolName, Result, TenantContext, WorkloadId};
use serde::Serialize;

use super::session::Session;
use super::{IpamManager, reconcile};
use crate::addr::IpFamily;
use crate::records::{Block, Pools, blocks, holders, regions};
use crate::{Lease, NetworkConfig};

/// The leases beside what the host says is running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeakReport {
    /// Workloads with a lease that do not run.
    pub leaked: BTreeSet<WorkloadId>,
    /// Workloads that run without a lease.
    pub missing: BTreeSet<WorkloadId>,
    /// Addresses that two workloads have, or that a block gives to another than their holder: never, unless the store
    /// was tampered with.
    pub conflicting: BTreeSet<IpAddr>,
}

impl LeakReport {
    /// Whether leases and workloads agree.
    pub fn is_clean(&self) -> bool {
        self.leaked.is_empty() && self.missing.is_empty() && self.conflicting.is_empty()
    }
}

/// How full one family is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FamilyUsage {
    /// Node subnets that are taken.
    pub subnets: u64,
    /// Node subnets there are, without those of networks being drained, and those that are excluded or reserved as a
    /// whole; at most `u64::MAX`.
    pub subnets_total: u64,
    /// Addresses that workloads have.
    pub addresses: u64,
    /// Addresses that rest.
    pub cooling: u64,
    /// When the first of those has rested.
    pub next_free_in: Option<Duration>,
    /// Addresses in networks that are being drained, or excluded, that workloads still have.
    pub draining: u64,
}

impl FamilyUsage {
    fn add(&mut self, other: &Self) {
        self.subnets = self.subnets.saturating_add(other.subnets);
        self.subnets_total = self.subnets_total.saturating_add(other.subnets_total);
        self.addresses = self.addresses.saturating_add(other.addresses);
        self.cooling = self.cooling.saturating_add(other.cooling);
        self.draining = self.draining.saturating_add(other.draining);
        self.next_free_in = match (self.next_free_in, other.next_free_in) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// How full a tenant's pools are, in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolUsage {
    /// IPv4.
    pub v4: FamilyUsage,
    /// IPv6.
    pub v6: FamilyUsage,
}

/// One pool, and who has what of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolExplanation {
    /// The pool.
    pub config: NetworkConfig,
    /// How full it is.
    pub usage: PoolUsage,
    /// How many leases the workloads of each node have.
    pub leases_by_node: BTreeMap<NodeId, u64>,
    /// How many subnets each node has; `None` counts those that are nobody's.
    pub subnets_by_node: Vec<(Option<NodeId>, u64)>,
}

/// Who holds what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The tenant's pools, in the order in which they are tried.
    pub pools: Vec<PoolExplanation>,
    /// Leases of workloads that are gone and may come back.
    pub kept: BTreeSet<WorkloadId>,
    /// Leases that an observation missed.
    pub suspected: BTreeSet<WorkloadId>,
}

impl IpamManager {
    /// The leases that those of `workloads` have that have one.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn leases<'a>(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        workloads: impl IntoIterator<Item = &'a WorkloadId>,
    ) -> Result<BTreeMap<WorkloadId, Lease>> {
        let session = Session::new(view, txn, ctx, self.now(ctx));
        let mut found = BTreeMap::new();
        for workload in workloads {
            if let Some(holder) = holders()?.get(view, txn, &session.keys.holder(workload)?)? {
                found.insert(workload.clone(), holder.lease.clone());
            }
        }
        Ok(found)
    }

    /// Every lease of the tenant, in the order of workloads.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn all_leases(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Vec<(WorkloadId, Lease)>> {
        let session = Session::new(view, &Txn::new(), ctx, self.now(ctx));
        let all = holders()?.list(view, &session.txn, &session.keys.holders()?)?;
        Ok(all.iter().map(|holder| (holder.workload.clone(), holder.lease.clone())).collect())
    }

    /// How full the tenant's pools are.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](hivemind_core::ErrorKind::NotFound) if it has none.
    pub fn usage(&self, view: &Snapshot, ctx: &TenantContext) -> Result<PoolUsage> {
        let mut usage = PoolUsage::default();
        for pool in self.explain(view, ctx)?.pools {
            usage.v4.add(&pool.usage.v4);
            usage.v6.add(&pool.usage.v6);
        }
        Ok(usage)
    }

    /// Who holds what, pool by pool; reads every record of the tenant.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](hivemind_core::ErrorKind::NotFound) if it has no pools.
    pub fn explain(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Explanation> {
        let session = Session::new(view, &Txn::new(), ctx, self.now(ctx));
        let pools = session.pools_of(ctx)?;
        let mut by_pool: BTreeMap<PoolName, PoolExplanation> = BTreeMap::new();
        for (name, config) in &pools.pools {
            by_pool.insert(name.clone(), explain_subnets(&session, config)?);
        }
        for block in blocks()?.list(view, &session.txn, &session.keys.blocks()?)? {
            let Some((config, _)) = pools.subnet_of(block.cidr) else { continue };
            if let Some(pool) = by_pool.get_mut(config.name()) {
                explain_block(&session, &pools, &block, pool);
            }
        }
        let mut explanation = Explanation::default();
        for holder in holders()?.list(view, &session.txn, &session.keys.holders()?)? {
            if let Some(pool) = by_pool.get_mut(&holder.lease.pool) {
                let count = pool.leases_by_node.entry(holder.node.clone()).or_default();
                *count = count.saturating_add(1);
            }
            if holder.kept_until.is_some() {
                explanation.kept.insert(holder.workload.clone());
            }
            if holder.missed.is_some() {
                explanation.suspected.insert(holder.workload.clone());
            }
        }
        explanation.pools = by_pool.into_values().collect();
        explanation.pools.sort_by_key(|pool| (pool.config.options().order, pool.config.name().clone()));
        Ok(explanation)
    }

    /// Compares the leases with the workloads that the host says are running, and blocks with holders; nothing is
    /// changed. [`stage_reconcile`](Self::stage_reconcile) gives back what leaked.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn audit(
        &self,
        view: &Snapshot,
        ctx: &TenantContext,
        running: &BTreeSet<WorkloadId>,
    ) -> Result<LeakReport> {
        let session = Session::new(view, &Txn::new(), ctx, self.now(ctx));
        let (mut report, mut held) = (LeakReport::default(), BTreeMap::new());
        for (workload, lease) in self.all_leases(view, ctx)? {
            for address in lease.addresses() {
                if held.insert(address, workload.clone()).is_some() {
                    report.conflicting.insert(address);
                }
            }
            if !running.contains(&workload) {
                report.leaked.insert(workload);
            }
        }
        let mut in_blocks = BTreeMap::new();
        for block in blocks()?.list(view, &session.txn, &session.keys.blocks()?)? {
            in_blocks.extend(block.leases().map(|(address, owner)| (address, owner.clone())));
        }
        let differs = |(address, owner): &(&IpAddr, &WorkloadId)| in_blocks.get(*address) != Some(*owner);
        report.conflicting.extend(held.iter().filter(differs).map(|(address, _)| *address));
        let unheld = in_blocks.keys().filter(|address| !held.contains_key(*address));
        report.conflicting.extend(unheld);
        let with_lease: BTreeSet<_> = held.into_values().collect();
        report.missing = running.difference(&with_lease).cloned().collect();
        Ok(report)
    }
}

fn explain_subnets(session: &Session<'_>, config: &NetworkConfig) -> Result<PoolExplanation> {
    let mut usage = PoolUsage::default();
    let mut by_node: BTreeMap<Option<NodeId>, u64> = BTreeMap::new();
    for family in config.families() {
        let of = family_of(&mut usage, family.family());
        of.subnets_total = u64::try_from(config.subnets_given_out(family)).unwrap_or(u64::MAX);
        let prefix = session.keys.regions(config.name(), family.family())?;
        for region in regions()?.list(session.view, &session.txn, &prefix)? {
            for (_, owner) in region.taken.iter() {
                of.subnets = of.subnets.saturating_add(1);
                let count = by_node.entry(owner.clone()).or_default();
                *count = count.saturating_add(1);
            }
        }
    }
    let subnets_by_node = by_node.into_iter().collect();
    Ok(PoolExplanation { config: config.clone(), usage, leases_by_node: BTreeMap::new(), subnets_by_node })
}

fn explain_block(session: &Session<'_>, pools: &Pools, block: &Block, pool: &mut PoolExplanation) {
    let of = family_of(&mut pool.usage, block.cidr.family());
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let resting = block.resting().filter(|until| *until > session.now);
    let mut one = FamilyUsage {
        addresses: count(block.held()),
        cooling: count(resting.clone().count()),
        next_free_in: resting.min().map(|until| until.since(session.now)),
        ..FamilyUsage::default()
    };
    let misplaced = block.leases().filter(|(address, _)| !reconcile::gives_out(pools, *address));
    one.draining = count(misplaced.count());
    of.add(&one);
}

fn family_of(usage: &mut PoolUsage, family: IpFamily) -> &mut FamilyUsage {
    match family {
        IpFamily::V4 => &mut usage.v4,
        IpFamily::V6 => &mut usage.v6,
    }
}
