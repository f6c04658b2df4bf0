//! VNIs in the store: staged into the host's transaction, or committed by itself.

mod nodes;

use std::collections::BTreeSet;
use std::sync::Arc;

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{
    Clock, Collection, Error, ErrorKind, Once, Result, Retry, Stamped, StateStore, TenantContext, Timestamp,
    transact,
};

use super::record::{VniRecord, VniState};
use super::{Vni, VniLease, VniPool, VniUsage, VnisExhausted};

/// Gives each tenant a VNI of its own.
///
/// Each operation exists twice: `stage_*` decides on a snapshot within the host's transaction, the `async` one
/// commits by itself, exactly once per request id. Clones share the ports.
#[derive(Debug, Clone)]
pub struct VniRegistry {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    pool: VniPool,
}

fn records() -> Result<Collection<VniRecord>> {
    crate::collection("vnis")
}

fn leases() -> Result<Collection<VniLease>> {
    crate::collection("tenant-vnis")
}

/// With as many digits as the largest has, so that keys sort like numbers.
fn record_key(vni: Vni) -> Result<Key> {
    records()?.key([format!("{:08}", vni.as_u32())])
}

fn lease_key(ctx: &TenantContext) -> Result<Key> {
    leases()?.key([ctx.tenant().to_string()])
}

impl VniRegistry {
    /// A registry of `pool` on these ports.
    pub fn new(store: Arc<dyn StateStore>, clock: Arc<dyn Clock>, pool: VniPool) -> Self {
        Self { store, clock, pool }
    }

    /// Stages a VNI for the tenant. A tenant that has one keeps it.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] with [`VnisExhausted`] as detail if none is free.
    pub fn stage_reserve(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<VniLease> {
        if let Some(lease) = leases()?.get(view, txn, &lease_key(ctx)?)? {
            leases()?.expect(txn, &lease)?;
            return Ok((*lease.value).clone());
        }
        let now = self.clock.now();
        let (vni, resting) = self.free(view, txn, &ctx.tenant().to_string(), now)?;
        let lease = VniLease::new(vni, view.revision().as_u64());
        let state = VniState::Held { tenant: ctx.tenant().clone(), granted: lease.granted };
        let record = VniRecord { vni, state };
        match resting {
            Some(resting) => records()?.update(txn, &resting, &record)?,
            None => records()?.create(view, txn, record_key(vni)?, &record)?,
        }
        leases()?.create(view, txn, lease_key(ctx)?, &lease)?;
        Ok(lease)
    }

    /// A VNI that is free at `now`, and the record that its last use left.
    fn free(
        &self,
        view: &Snapshot,
        txn: &Txn,
        who: &str,
        now: Timestamp,
    ) -> Result<(Vni, Option<Stamped<VniRecord>>)> {
        let mut failure = None;
        let mut found = None;
        let mut look = |vni: Vni| -> Result<bool> {
            let record = records()?.get(view, txn, &record_key(vni)?)?;
            let free = match &record {
                Some(record) => record.has_rested(now) && !nodes::is_on_a_node(view, txn, vni)?,
                None => true,
            };
            found = record;
            Ok(free)
        };
        let mut is_free = |vni: Vni| {
            look(vni).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                false
            })
        };
        if let Some(vni) = self.pool.propose(who, &mut is_free) {
            return Ok((vni, found));
        }
        if let Some(error) = failure {
            return Err(error);
        }
        self.crowded(view, txn, now)
    }

    /// As [`free`](Self::free), by looking at all of them: for a pool of which most is taken.
    fn crowded(
        &self,
        view: &Snapshot,
        txn: &Txn,
        now: Timestamp,
    ) -> Result<(Vni, Option<Stamped<VniRecord>>)> {
        let all = records()?.list(view, txn, records()?.prefix())?;
        let on_nodes = nodes::on_nodes(view, txn)?;
        let is_taken =
            |record: &&Stamped<VniRecord>| !record.has_rested(now) || on_nodes.contains(&record.vni);
        let taken = all.iter().filter(is_taken).map(|record| record.vni);
        if let Some(vni) = self.pool.lowest(taken) {
            return Ok((vni, all.into_iter().find(|record| record.vni == vni)));
        }
        let retry_after = self.usage_of(&all, &on_nodes, now).next_free_in;
        let retry = if retry_after.is_some() { Retry::Later } else { Retry::AfterChange };
        Err(Error::of(ErrorKind::Exhausted, "reserve VNI", VnisExhausted { retry_after }).with_retry(retry))
    }

    fn usage_of(&self, all: &[Stamped<VniRecord>], on_nodes: &BTreeSet<Vni>, now: Timestamp) -> VniUsage {
        let mut usage = VniUsage { capacity: self.pool.capacity(), ..VniUsage::default() };
        for record in all {
            match record.state {
                VniState::Held { .. } => usage.held += 1,
                VniState::Cooling { .. } if on_nodes.contains(&record.vni) => {
                    usage.unconfirmed += u32::from(self.pool.contains(record.vni));
                }
                VniState::Cooling { until } if until > now && self.pool.contains(record.vni) => {
                    usage.cooling += 1;
                    let wait = until.since(now);
                    usage.next_free_in = Some(usage.next_free_in.map_or(wait, |least| least.min(wait)));
                }
                VniState::Cooling { .. } => {}
            }
        }
        usage
    }

    /// How full the pool is. It counts the VNIs of all tenants: for whoever operates the cluster, not for one of them.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn usage(&self, view: &Snapshot) -> Result<VniUsage> {
        let all = records()?.list(view, &Txn::new(), records()?.prefix())?;
        Ok(self.usage_of(&all, &nodes::on_nodes(view, &Txn::new())?, self.clock.now()))
    }

    /// Stages that the tenant gives its VNI back. It rests before another tenant gets it, and waits for the nodes that may
    /// have a tunnel end with it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant does not hold `lease`, as after its first release.
    pub fn stage_release(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        lease: &VniLease,
    ) -> Result<()> {
        let held = leases()?.get(view, txn, &lease_key(ctx)?)?.filter(|held| *held.value == *lease);
        let missing = || {
            let message = format!("tenant {} does not hold VNI {} by this grant", ctx.tenant().id, lease.vni);
            Error::not_found("release VNI", message)
        };
        let held = held.ok_or_else(missing)?;
        let record = records()?.require(view, txn, &record_key(lease.vni)?)?;
        let until = self.clock.now().after(self.pool.cooling());
        let resting = VniRecord { vni: lease.vni, state: VniState::Cooling { until } };
        records()?.update(txn, &record, &resting)?;
        leases()?.delete(txn, &held)
    }

    /// The VNI of the tenant, if it has one.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn lease(&self, view: &Snapshot, txn: &Txn, ctx: &TenantContext) -> Result<Option<VniLease>> {
        Ok(leases()?.get(view, txn, &lease_key(ctx)?)?.map(|lease| (*lease.value).clone()))
    }

    /// Stages that up to `most` VNIs that have rested long enough, and that no node has, are forgotten; how many.
    ///
    /// Only tidiness depends on it: such a VNI is given again in any case.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a record cannot be read.
    pub fn stage_forget_rested(&self, view: &Snapshot, txn: &mut Txn, most: usize) -> Result<usize> {
        let now = self.clock.now();
        let all = records()?.list(view, txn, records()?.prefix())?;
        let on_nodes = nodes::on_nodes(view, txn)?;
        let is_free =
            |record: &&Stamped<VniRecord>| record.has_rested(now) && !on_nodes.contains(&record.vni);
        let rested = all.iter().filter(is_free).take(most);
        let mut forgotten = 0;
        for record in rested {
            records()?.delete(txn, record)?;
            forgotten += 1;
        }
        Ok(forgotten)
    }

    /// Gives the tenant a VNI.
    ///
    /// # Errors
    /// As [`stage_reserve`](Self::stage_reserve), and those of the store.
    pub async fn reserve(&self, ctx: &TenantContext) -> Result<VniLease> {
        let once = Once::new(ctx, "reserve-vni", self.clock.now())?;
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_reserve(view, txn, ctx);
        Ok(transact(&*self.store, &once, &[crate::prefix()?], decide).await?.value)
    }

    /// Takes the tenant's VNI back.
    ///
    /// # Errors
    /// As [`stage_release`](Self::stage_release), and those of the store.
    pub async fn release(&self, ctx: &TenantContext, lease: &VniLease) -> Result<()> {
        let once = Once::new(ctx, "release-vni", self.clock.now())?;
        let decide = |view: &Snapshot, txn: &mut Txn| self.stage_release(view, txn, ctx, lease);
        transact(&*self.store, &once, &[crate::prefix()?], decide).await.map(|_| ())
    }
}
