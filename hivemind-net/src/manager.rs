//! The shell of address management: stages into the host's transaction, or commits by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::net::IpAddr;
use std::sync::Arc;

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{
    Clock, Error, ErrorKind, NodeId, Once, Result, Retry, Stamped, StateStore, TenantContext, WorkloadId,
    transact,
};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ipam::{Block, Holder, Pool, PoolUsage, blocks, holders, pools};
use crate::{BlockRef, Lease, NetworkConfig};

/// Gives addresses to workloads, from a pool of each family per tenant, cut into node subnets.
///
/// Each operation exists twice: `stage_*` decides on a snapshot within the host's transaction, the `async` one
/// commits by itself, exactly once per request id. Clones share the ports.
#[derive(Debug, Clone)]
pub struct IpamManager {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
}

/// The leases beside what the host says is running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeakReport {
    /// Workloads with a lease that do not run.
    pub leaked: BTreeSet<WorkloadId>,
    /// Workloads that run without a lease.
    pub missing: BTreeSet<WorkloadId>,
    /// Addresses that two workloads have: never, unless the store was tampered with.
    pub conflicting: BTreeSet<IpAddr>,
}

impl LeakReport {
    /// Whether leases and workloads agree.
    pub fn is_clean(&self) -> bool {
        self.leaked.is_empty() && self.missing.is_empty() && self.conflicting.is_empty()
    }
}

fn pool_key(ctx: &TenantContext) -> Result<Key> {
    pools()?.key([ctx.tenant().to_string()])
}

fn pool_of(view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Stamped<Pool>> {
    let missing = || {
        let message = format!("tenant {} has no address pool: create one first", ctx.tenant().id);
        Error::not_found("address pool", message)
    };
    pools()?.get(view, txn, &pool_key(ctx)?)?.ok_or_else(missing)
}

/// The index is printed with as many digits as the largest has, so that keys sort like numbers.
fn block_key(ctx: &TenantContext, at: &BlockRef) -> Result<Key> {
    blocks()?.key([&ctx.tenant().to_string(), at.node.as_str(), &format!("{:020}", at.index)])
}

fn holder_key(ctx: &TenantContext, workload: &WorkloadId) -> Result<Key> {
    holders()?.key([&ctx.tenant().to_string(), workload.as_str()])
}

/// Gives addresses of `block` to as many of `wanting` as it has room for; whether to any.
fn fill<'a>(
    block: &mut Block,
    wanting: &mut Peekable<impl Iterator<Item = &'a WorkloadId>>,
    leases: &mut BTreeMap<WorkloadId, Lease>,
) -> bool {
    let before = leases.len();
    while let Some(workload) = wanting.peek().copied() {
        let Some(lease) = block.assign(workload) else { break };
        leases.insert(workload.clone(), lease);
        wanting.next();
    }
    leases.len() > before
}

fn blocks_of(view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Vec<Stamped<Block>>> {
    blocks()?.list(view, txn, &blocks()?.below([ctx.tenant().to_string()])?)
}

fn blocks_on(view: &Snapshot, txn: &Txn, ctx: &TenantContext, node: &NodeId) -> Result<Vec<Stamped<Block>>> {
    blocks()?.list(view, txn, &blocks()?.below([&ctx.tenant().to_string(), node.as_str()])?)
}

impl IpamManager {
    /// A manager on these ports.
    pub fn new(store: Arc<dyn StateStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Stages the tenant's pools. The same configuration again is a no-op.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the tenant has pools of another configuration.
    pub fn stage_create_pool(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        config: &NetworkConfig,
    ) -> Result<()> {
        match pools()?.get(view, txn, &pool_key(ctx)?)? {
            Some(pool) if pool.config == *config => pools()?.expect(txn, &pool),
            _ => pools()?.create(view, txn, pool_key(ctx)?, &Pool::new(config.clone())),
        }
    }

    /// Stages the removal of the tenant's pools.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] while there are leases, [`ErrorKind::NotFound`] if there are no pools.
    pub fn stage_delete_pool(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<()> {
        let pool = pool_of(view, txn, ctx)?;
        let mut leases = 0;
        for block in blocks_of(view, txn, ctx)? {
            leases += block.leases().count();
            blocks()?.delete(txn, &block)?;
        }
        if leases > 0 {
            let message = format!("tenant {} still has {leases} leases: release them first", ctx.tenant().id);
            return Err(
                Error::new(ErrorKind::Conflict, "delete pool", message).with_retry(Retry::AfterChange)
            );
        }
        pools()?.delete(txn, &pool)
    }

    /// Stages addresses for workloads on their nodes: both families for all of them, or nothing.
    ///
    /// A workload that has a lease keeps it, whatever node it is on now.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] with [`PoolExhausted`](crate::PoolExhausted) as detail if a pool has no subnet left,
    /// [`ErrorKind::NotFound`] if the tenant has no pools.
    pub fn stage_assign(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        workloads: &[(WorkloadId, NodeId)],
    ) -> Result<BTreeMap<WorkloadId, Lease>> {
        let mut leases = self.leases(view, txn, ctx, workloads.iter().map(|(workload, _)| workload))?;
        let mut by_node: BTreeMap<&NodeId, BTreeSet<&WorkloadId>> = BTreeMap::new();
        let mut asked = BTreeSet::new();
        for (workload, node) in workloads {
            // A workload named twice is on the node named first.
            if asked.insert(workload) && !leases.contains_key(workload) {
                by_node.entry(node).or_default().insert(workload);
            }
        }
        let known: BTreeSet<_> = leases.keys().cloned().collect();
        for (node, workloads) in by_node {
            let mut wanting = workloads.into_iter().peekable();
            for stamped in blocks_on(view, txn, ctx, node)? {
                let mut block = (*stamped.value).clone();
                if fill(&mut block, &mut wanting, &mut leases) {
                    blocks()?.update(txn, &stamped, &block)?;
                }
            }
            while wanting.peek().is_some() {
                let mut block = self.stage_block(view, txn, ctx, node)?;
                if !fill(&mut block, &mut wanting, &mut leases) {
                    let message =
                        format!("a node subnet of tenant {} has no usable address", ctx.tenant().id);
                    return Err(Error::new(ErrorKind::Exhausted, "assign", message));
                }
                blocks()?.create(view, txn, block_key(ctx, &block.at)?, &block)?;
            }
        }
        for (workload, lease) in leases.iter().filter(|(workload, _)| !known.contains(*workload)) {
            let holder = Holder { block: lease.block.clone() };
            holders()?.create(view, txn, holder_key(ctx, workload)?, &holder)?;
        }
        Ok(leases)
    }

    /// Takes a subnet of each family from the pools for a new block of `node`; the caller stages the block.
    fn stage_block(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        node: &NodeId,
    ) -> Result<Block> {
        let pool = pool_of(view, txn, ctx)?;
        let mut changed = (*pool.value).clone();
        let subnets = changed
            .take(ctx.tenant().id.as_str())
            .map_err(|e| Error::of(ErrorKind::Exhausted, "assign", e))?;
        pools()?.update(txn, &pool, &changed)?;
        let last = blocks_on(view, txn, ctx, node)?.last().map(|block| block.at.index);
        let index = last.map_or(0, |last| last.saturating_add(1));
        Ok(Block::new(BlockRef { node: node.clone(), index }, subnets))
    }

    /// Stages that workloads give their addresses back; each exactly once. A block without leases goes back to the
    /// pool.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if one has no such lease.
    pub fn stage_release<'a>(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        leases: impl IntoIterator<Item = (&'a WorkloadId, &'a Lease)>,
    ) -> Result<()> {
        for (workload, lease) in leases {
            let missing = || {
                let message = format!("tenant {} has no such lease of workload {workload}", ctx.tenant().id);
                Error::not_found("release", message)
            };
            let stamped = blocks()?.get(view, txn, &block_key(ctx, &lease.block)?)?.ok_or_else(missing)?;
            let mut block = (*stamped.value).clone();
            if block.lease(workload).as_ref() != Some(lease) || !block.release(workload) {
                return Err(missing());
            }
            let holder = holders()?.require(view, txn, &holder_key(ctx, workload)?)?;
            holders()?.delete(txn, &holder)?;
            if !block.is_empty() {
                blocks()?.update(txn, &stamped, &block)?;
                continue;
            }
            let pool = pool_of(view, txn, ctx)?;
            let mut changed = (*pool.value).clone();
            let (v4, v6) = block.subnet_numbers();
            if !changed.give_back(v4, v6) {
                let message = format!("the pool of tenant {} holds a subnet of a block", ctx.tenant().id);
                return Err(Error::new(ErrorKind::Corrupt, "release", message));
            }
            pools()?.update(txn, &pool, &changed)?;
            blocks()?.delete(txn, &stamped)?;
        }
        Ok(())
    }

    /// The leases that those of `workloads` have that have one.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn leases<'a>(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        workloads: impl IntoIterator<Item = &'a WorkloadId>,
    ) -> Result<BTreeMap<WorkloadId, Lease>> {
        let mut found = BTreeMap::new();
        for workload in workloads {
            let Some(holder) = holders()?.get(view, txn, &holder_key(ctx, workload)?)? else { continue };
            let block = blocks()?.require(view, txn, &block_key(ctx, &holder.block)?)?;
            let lost =
                || Error::new(ErrorKind::Corrupt, "leases", format!("the lease of {workload} is lost"));
            found.insert(workload.clone(), block.lease(workload).ok_or_else(lost)?);
        }
        Ok(found)
    }

    /// Every lease of the tenant.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn all_leases(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Vec<(WorkloadId, Lease)>> {
        let mut all = Vec::new();
        for block in blocks_of(view, &Txn::new(), ctx)? {
            all.extend(block.leases().map(|(workload, lease)| (workload.clone(), lease)));
        }
        Ok(all)
    }

    /// The subnets that `node` has for the tenant.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn node_subnets(
        &self,
        view: &Snapshot,
        ctx: &TenantContext,
        node: &NodeId,
    ) -> Result<Vec<(Option<Ipv4Net>, Option<Ipv6Net>)>> {
        Ok(blocks_on(view, &Txn::new(), ctx, node)?.iter().map(|block| block.subnets()).collect())
    }

    /// How full the tenant's pools are.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it has none.
    pub fn usage(&self, view: &Snapshot, ctx: &TenantContext) -> Result<PoolUsage> {
        let mut usage = pool_of(view, &Txn::new(), ctx)?.usage();
        for (_, lease) in self.all_leases(view, ctx)? {
            usage.v4_addresses += u64::from(lease.v4.is_some());
            usage.v6_addresses += u64::from(lease.v6.is_some());
        }
        Ok(usage)
    }

    /// Compares the leases with the workloads that the host says are running; nothing is changed.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn audit(
        &self,
        view: &Snapshot,
        ctx: &TenantContext,
        running: &BTreeSet<WorkloadId>,
    ) -> Result<LeakReport> {
        let (mut report, mut holders) = (LeakReport::default(), BTreeSet::new());
        let mut addresses = BTreeSet::new();
        for (workload, lease) in self.all_leases(view, ctx)? {
            report.conflicting.extend(lease.addresses().filter(|address| !addresses.insert(*address)));
            if !running.contains(&workload) || !holders.insert(workload.clone()) {
                report.leaked.insert(workload);
            }
        }
        report.missing = running.difference(&holders).cloned().collect();
        Ok(report)
    }

    /// Creates the tenant's pools.
    ///
    /// # Errors
    /// As [`stage_create_pool`](Self::stage_create_pool), and those of the store.
    pub async fn create_pool(&self, ctx: &TenantContext, config: NetworkConfig) -> Result<()> {
        self.commit(ctx, "create-pool", |view, txn| self.stage_create_pool(view, txn, ctx, &config)).await
    }

    /// Gives workloads addresses.
    ///
    /// # Errors
    /// As [`stage_assign`](Self::stage_assign), and those of the store.
    pub async fn assign(
        &self,
        ctx: &TenantContext,
        workloads: &[(WorkloadId, NodeId)],
    ) -> Result<BTreeMap<WorkloadId, Lease>> {
        self.commit(ctx, "assign", |view, txn| self.stage_assign(view, txn, ctx, workloads)).await
    }

    /// Takes addresses back.
    ///
    /// # Errors
    /// As [`stage_release`](Self::stage_release), and those of the store.
    pub async fn release(&self, ctx: &TenantContext, leases: &BTreeMap<WorkloadId, Lease>) -> Result<()> {
        self.commit(ctx, "release", |view, txn| self.stage_release(view, txn, ctx, leases)).await
    }

    async fn commit<T>(
        &self,
        ctx: &TenantContext,
        operation: &str,
        decide: impl FnMut(&Snapshot, &mut Txn) -> Result<T> + Send,
    ) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send,
    {
        let once = Once::new(ctx, operation, self.clock.now())?;
        Ok(transact(&*self.store, &once, &[crate::prefix()?], decide).await?.value)
    }
}
