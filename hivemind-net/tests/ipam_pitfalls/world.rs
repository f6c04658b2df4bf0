//! One tenant, its pools, and a clock to turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    Generation, ManualClock, MemoryStore, NodeId, PoolName, Principal, Result, StateStore, StateStoreExt,
    TenantContext, TenantRef, Timestamp, WorkloadId, block_on,
};
use hivemind_net::ipam::Refusal;
use hivemind_net::manager::{NoAddress, NotFrom, Observation};
use hivemind_net::{AddressRequest, IpamManager, Lease, NetworkConfig};

pub const COOLDOWN: Duration = Duration::from_secs(30);
pub const GRACE: Duration = Duration::from_secs(300);

pub fn workload(number: usize) -> WorkloadId {
    format!("w{number}").parse().unwrap()
}

pub fn node(number: usize) -> NodeId {
    format!("n{number}").parse().unwrap()
}

pub fn pool(name: &str) -> PoolName {
    name.parse().unwrap()
}

pub struct World {
    pub store: MemoryStore,
    pub ipam: IpamManager,
    pub clock: Arc<ManualClock>,
}

impl World {
    pub fn new(configs: impl IntoIterator<Item = NetworkConfig>) -> Self {
        let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::default()));
        clock.advance(Duration::from_secs(1_000_000));
        let world = Self { ipam: IpamManager::new(Arc::new(store.clone()), clock.clone()), store, clock };
        for config in configs {
            world
                .commit(|view, txn| world.ipam.stage_create_pool(view, txn, &world.ctx("pool"), &config))
                .unwrap();
        }
        world
    }

    pub fn ctx(&self, request: &str) -> TenantContext {
        let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
        TenantContext::new(tenant, Principal::System("test".parse().unwrap()), request.parse().unwrap())
    }

    pub fn view(&self) -> Snapshot {
        block_on(self.store.snapshot(&[Prefix::ROOT])).unwrap()
    }

    pub fn now(&self) -> Timestamp {
        use hivemind_core::Clock;
        self.clock.now()
    }

    pub fn wait(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    pub fn commit<T>(&self, decide: impl FnOnce(&Snapshot, &mut Txn) -> Result<T>) -> Result<T> {
        let (view, mut txn) = (self.view(), Txn::new());
        let before = txn.clone();
        let decided = decide(&view, &mut txn);
        if decided.is_err() {
            assert_eq!(txn, before, "what is refused stages nothing");
        }
        let decided = decided?;
        block_on(self.store.commit(&txn))?;
        Ok(decided)
    }

    pub fn ask(&self, request: impl Into<AddressRequest>) -> Result<Lease> {
        self.ask_as("r", request)
    }

    pub fn ask_as(&self, name: &str, request: impl Into<AddressRequest>) -> Result<Lease> {
        let request = request.into();
        let leases = self.commit(|view, txn| {
            self.ipam.stage_assign(view, txn, &self.ctx(name), std::slice::from_ref(&request))
        })?;
        Ok(leases[&request.workload].clone())
    }

    pub fn release(&self, number: usize, lease: &Lease) -> Result<()> {
        let workload = workload(number);
        self.commit(|view, txn| self.ipam.stage_release(view, txn, &self.ctx("r"), [(&workload, lease)]))
    }

    pub fn update(&self, config: &NetworkConfig) -> Result<()> {
        self.commit(|view, txn| self.ipam.stage_update_pool(view, txn, &self.ctx("u"), config))
    }

    pub fn sweep(&self) -> usize {
        let mut freed = 0;
        loop {
            let swept = self.commit(|view, txn| self.ipam.stage_sweep(view, txn, &self.ctx("s"))).unwrap();
            freed += swept.freed.len();
            if !swept.more {
                return freed;
            }
        }
    }

    pub fn see(&self, seen: &Observation) -> hivemind_net::manager::Reconciled {
        self.commit(|view, txn| self.ipam.stage_reconcile(view, txn, &self.ctx("gc"), seen)).unwrap()
    }

    pub fn leases(&self) -> BTreeMap<WorkloadId, Lease> {
        self.ipam.all_leases(&self.view(), &self.ctx("l")).unwrap().into_iter().collect()
    }

    pub fn clean(&self) {
        let leases = self.leases();
        let report =
            self.ipam.audit(&self.view(), &self.ctx("a"), &leases.keys().cloned().collect()).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

pub fn dual(v4: &str, v6: &str) -> NetworkConfig {
    NetworkConfig::dual_stack(v4.parse().unwrap(), v6.parse().unwrap()).unwrap().with_cooldown(COOLDOWN)
}

pub fn v4(net: &str) -> NetworkConfig {
    NetworkConfig::v4_only(net.parse().unwrap()).unwrap().with_cooldown(COOLDOWN)
}

pub fn with(
    config: NetworkConfig,
    change: impl FnOnce(&mut hivemind_net::config::PoolOptions),
) -> NetworkConfig {
    let mut options = config.options().clone();
    change(&mut options);
    config.with_options(options).unwrap()
}

pub fn refusal(error: &hivemind_core::Error) -> Refusal {
    match &error.detail::<NoAddress>().unwrap().pools[0].1 {
        NotFrom::Refused(refusal) => refusal.clone(),
        other => panic!("{other}"),
    }
}
