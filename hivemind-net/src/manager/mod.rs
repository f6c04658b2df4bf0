//! The shell of address management: stages into the host's transaction, or commits by itself.

mod assign;
mod look;
mod nodes;
mod plan;
mod pools;
mod reconcile;
mod release;
mod request;
mod routes;
mod session;
mod subnets;
mod sweep;
mod take;
mod transfer;
mod watermark;

use std::collections::BTreeMap;
use std::sync::Arc;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    Clock, NodeId, Once, Result, StateStore, TenantContext, Timestamp, WorkloadId, transact,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::look::{Explanation, FamilyUsage, LeakReport, PoolExplanation, PoolUsage};
pub use self::nodes::{NodeState, Reclaimed};
pub use self::reconcile::{Conflicting, Observation, Reconciled};
pub use self::request::{AddressRequest, Fenced, NoAddress, NodeLost, NotFrom};
pub use self::routes::AddressRoute;
use self::session::Session;
pub use self::sweep::Swept;
use crate::{Lease, NetworkConfig};

/// Gives addresses to workloads, from pools of each tenant, cut into node subnets.
///
/// Each operation exists twice: `stage_*` decides on a snapshot within the host's transaction, the `async` one
/// commits by itself, exactly once per request id. What is refused stages nothing. Clones share the ports.
///
/// The store decides that an address has one owner; the manager only proposes. So any number of replicas may have one,
/// and those that serve different nodes touch different records.
#[derive(Debug, Clone)]
pub struct IpamManager {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
}

impl IpamManager {
    /// A manager on these ports.
    pub fn new(store: Arc<dyn StateStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// The time of the request, or the clock's.
    fn now(&self, ctx: &TenantContext) -> Timestamp {
        ctx.at().unwrap_or_else(|| self.clock.now())
    }

    /// Decides with a session, and stages what it changed; nothing if it fails.
    fn stage<T>(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        decide: impl FnOnce(&mut Session<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut session = Session::new(view, txn, ctx, self.now(ctx));
        let decided = decide(&mut session)?;
        *txn = session.close()?;
        Ok(decided)
    }

    /// Stages addresses for workloads on their nodes: of each family of the pool, for all of them, or nothing.
    ///
    /// A workload that has a lease keeps it, whatever node it is on now. A pool without room in one family gives
    /// nothing, and the next pool is asked.
    ///
    /// # Errors
    /// [`NoAddress`] as detail says why each pool gave nothing: [`ErrorKind::Exhausted`] if one is full or only has
    /// addresses that still rest ([`NoAddress::retry_after`]), [`ErrorKind::AlreadyExists`] if an address asked for is
    /// taken or resting, [`ErrorKind::Invalid`] if it is outside. [`ErrorKind::Denied`] with [`NodeLost`] or [`Fenced`].
    /// [`ErrorKind::NotFound`] if the tenant has no pools.
    ///
    /// [`ErrorKind::Exhausted`]: hivemind_core::ErrorKind::Exhausted
    /// [`ErrorKind::AlreadyExists`]: hivemind_core::ErrorKind::AlreadyExists
    /// [`ErrorKind::Invalid`]: hivemind_core::ErrorKind::Invalid
    /// [`ErrorKind::Denied`]: hivemind_core::ErrorKind::Denied
    /// [`ErrorKind::NotFound`]: hivemind_core::ErrorKind::NotFound
    pub fn stage_assign<R: Clone + Into<AddressRequest>>(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        requests: &[R],
    ) -> Result<BTreeMap<WorkloadId, Lease>> {
        let requests = requests.iter().cloned().map(Into::into).collect();
        self.stage(view, txn, ctx, |session| assign::assign(session, ctx, requests))
    }

    /// Stages that workloads give their addresses back, to rest for the pool's cooldown; each lease exactly once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](hivemind_core::ErrorKind::NotFound) if one has no such lease.
    pub fn stage_release<'a>(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        leases: impl IntoIterator<Item = (&'a WorkloadId, &'a Lease)>,
    ) -> Result<()> {
        let mut leases = leases.into_iter().peekable();
        if leases.peek().is_none() {
            return Ok(());
        }
        self.stage(view, txn, ctx, |session| {
            let pools = session.pools_of(ctx)?;
            leases.try_for_each(|(workload, lease)| release::release(session, ctx, &pools, workload, lease))
        })
    }

    /// Stages that the addresses of a workload that ends are kept for it until then: if it comes back, it gets them.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](hivemind_core::ErrorKind::NotFound) if it has no such lease.
    pub fn stage_keep(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        (workload, lease): (&WorkloadId, &Lease),
        until: Timestamp,
    ) -> Result<()> {
        self.stage(view, txn, ctx, |session| release::keep(session, ctx, workload, lease, until))
    }

    /// Creates a pool.
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
