//! An address has one owner, both families come together, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    Error, ErrorKind, Generation, ManualClock, MemoryStore, NodeId, PoolName, Principal, Result, StateStore,
    StateStoreExt, TenantContext, TenantRef, WorkloadId, block_on,
};
use hivemind_net::addr::{IpFamily, address_number};
use hivemind_net::ipam::Refusal;
use hivemind_net::manager::{NoAddress, NotFrom};
use hivemind_net::{IpamManager, Lease, NetworkConfig};
use proptest::prelude::*;

fn default() -> PoolName {
    "default".parse().unwrap()
}

struct World {
    store: MemoryStore,
    ipam: IpamManager,
}

fn ctx(tenant: &str, request: &str) -> TenantContext {
    let tenant = TenantRef::new(tenant.parse().unwrap(), Generation::from_u64(1));
    TenantContext::new(tenant, Principal::System("test".parse().unwrap()), request.parse().unwrap())
}

fn workload(number: usize) -> WorkloadId {
    format!("w{number}").parse().unwrap()
}

fn node(number: usize) -> NodeId {
    format!("n{number}").parse().unwrap()
}

impl World {
    fn new() -> Self {
        let store = MemoryStore::new();
        let ipam = IpamManager::new(Arc::new(store.clone()), Arc::new(ManualClock::default()));
        Self { store, ipam }
    }

    fn with_pool(tenant: &str, config: NetworkConfig) -> Self {
        let world = Self::new();
        block_on(world.ipam.create_pool(&ctx(tenant, "pool"), config)).unwrap();
        world
    }

    fn view(&self) -> Snapshot {
        block_on(self.store.snapshot(&[Prefix::ROOT])).unwrap()
    }

    fn commit<T>(&self, decide: impl FnOnce(&Snapshot, &mut Txn) -> Result<T>) -> Result<T> {
        let (view, mut txn) = (self.view(), Txn::new());
        let decided = decide(&view, &mut txn)?;
        block_on(self.store.commit(&txn))?;
        Ok(decided)
    }

    fn sweep(&self, ctx: &TenantContext) {
        while self.commit(|view, txn| self.ipam.stage_sweep(view, txn, ctx)).unwrap().more {}
    }

    fn assign(
        &self,
        ctx: &TenantContext,
        workloads: &[(usize, usize)],
    ) -> Result<BTreeMap<WorkloadId, Lease>> {
        let workloads: Vec<_> = workloads.iter().map(|(w, n)| (workload(*w), node(*n))).collect();
        self.commit(|view, txn| self.ipam.stage_assign(view, txn, ctx, &workloads))
    }
}

fn dual(v4: &str, v6: &str) -> NetworkConfig {
    NetworkConfig::dual_stack(v4.parse().unwrap(), v6.parse().unwrap()).unwrap().with_cooldown(Duration::ZERO)
}

fn v4(pool: &str, node: u8) -> NetworkConfig {
    let config = NetworkConfig::v4_only(pool.parse().unwrap()).unwrap().with_cooldown(Duration::ZERO);
    config.node_prefix(IpFamily::V4, node).unwrap()
}

fn v6(pool: &str, node: u8) -> NetworkConfig {
    let config = NetworkConfig::v6_only(pool.parse().unwrap()).unwrap().with_cooldown(Duration::ZERO);
    config.node_prefix(IpFamily::V6, node).unwrap()
}

fn nodes_of(config: NetworkConfig, v4: u8) -> NetworkConfig {
    config.node_prefix(IpFamily::V4, v4).unwrap()
}

#[test]
fn tenants_may_have_the_same_addresses() {
    let world = World::new();
    for tenant in ["a", "b"] {
        block_on(world.ipam.create_pool(&ctx(tenant, tenant), dual("10.0.0.0/24", "fd00::/64"))).unwrap();
    }
    let a = world.assign(&ctx("a", "r"), &[(1, 1)]).unwrap();
    let b = world.assign(&ctx("b", "r"), &[(1, 1)]).unwrap();
    assert_eq!(a["w1"].v4, b["w1"].v4);
    let foreign = world.commit(|view, txn| world.ipam.stage_release(view, txn, &ctx("c", "r"), &a));
    assert_eq!(foreign.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(world.ipam.all_leases(&world.view(), &ctx("a", "r")).unwrap().len() == 1);
}

#[test]
fn a_workload_keeps_its_addresses_wherever_it_goes() {
    let world = World::with_pool("a", dual("10.0.0.0/24", "fd00::/64"));
    let first = world.assign(&ctx("a", "r"), &[(1, 1)]).unwrap();
    assert_eq!(world.assign(&ctx("a", "other"), &[(1, 1)]).unwrap(), first);
    assert_eq!(world.assign(&ctx("a", "r"), &[(1, 2)]).unwrap(), first);
    let state = world.ipam.node_state(&world.view(), &ctx("a", "r"), &node(2)).unwrap();
    assert!(state.v4.is_empty() && state.v6.is_empty());
    let routes = world.ipam.routes(&world.view(), &ctx("a", "r")).unwrap();
    let there: Vec<_> = routes.iter().filter(|route| route.node == node(2)).collect();
    assert!(there.len() == 2 && there.iter().all(|route| route.elsewhere));
}

#[test]
fn a_full_subnet_is_followed_by_another_and_the_pool_ends_with_reasons() {
    let config = nodes_of(dual("10.0.0.0/28", "fd00::/64"), 29);
    let world = World::with_pool("a", config);
    let many: Vec<_> = (0..10).map(|w| (w, 1)).collect();
    let leases = world.assign(&ctx("a", "r"), &many).unwrap();
    let state = world.ipam.node_state(&world.view(), &ctx("a", "r"), &node(1)).unwrap();
    assert_eq!((state.v4.len(), state.v6.len()), (2, 1));
    let before = world.view().revision();
    let error = world.assign(&ctx("a", "r"), &[(10, 1)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let detail = error.detail::<NoAddress>().unwrap();
    let refused = NotFrom::Refused(Refusal::Exhausted { family: IpFamily::V4, held: 10 });
    assert_eq!(detail.pools, [("default".parse().unwrap(), refused)]);
    assert!(error.to_string().contains("no IPv4 address is left, 10 are taken"), "{error}");
    assert_eq!(world.view().revision(), before);
    let usage = world.ipam.usage(&world.view(), &ctx("a", "r")).unwrap();
    assert_eq!((usage.v4.addresses, usage.v6.addresses, usage.v4.subnets, usage.v6.subnets), (10, 10, 2, 1));
    world.commit(|view, txn| world.ipam.stage_release(view, txn, &ctx("a", "r"), &leases)).unwrap();
    let usage = world.ipam.usage(&world.view(), &ctx("a", "r")).unwrap();
    assert_eq!((usage.v4.addresses, usage.v4.subnets, usage.v6.subnets), (0, 2, 1));
    world.sweep(&ctx("a", "r"));
    let usage = world.ipam.usage(&world.view(), &ctx("a", "r")).unwrap();
    assert_eq!((usage.v4.subnets, usage.v6.subnets), (0, 0));
}

#[test]
fn a_released_address_is_given_out_late() {
    let world = World::with_pool("a", dual("10.0.0.0/29", "fd00::/64"));
    let own = ctx("a", "r");
    let first = world.assign(&own, &[(0, 1), (1, 1)]).unwrap();
    let gone: BTreeMap<_, _> = first.iter().take(1).map(|(w, l)| (w.clone(), l.clone())).collect();
    world.commit(|view, txn| world.ipam.stage_release(view, txn, &own, &gone)).unwrap();
    let next = world.assign(&own, &[(2, 1), (3, 1), (4, 1)]).unwrap();
    let last_octets: Vec<_> = next.values().map(|lease| lease.v4.unwrap().octets()[3]).collect();
    assert_eq!(last_octets, [4, 5, 6]);
    let reused = world.assign(&own, &[(5, 1)]).unwrap();
    assert_eq!(reused["w5"].v4, first["w0"].v4);
}

#[test]
fn a_pool_with_leases_stays() {
    let world = World::with_pool("a", dual("10.0.0.0/24", "fd00::/64"));
    let own = ctx("a", "r");
    let leases = world.assign(&own, &[(1, 1)]).unwrap();
    let busy =
        world.commit(|view, txn| world.ipam.stage_delete_pool(view, txn, &own, &default())).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    let other = world
        .commit(|view, txn| world.ipam.stage_create_pool(view, txn, &own, &dual("10.1.0.0/24", "fd00::/64")));
    assert_eq!(other.unwrap_err().kind(), ErrorKind::AlreadyExists);
    world.commit(|view, txn| world.ipam.stage_release(view, txn, &own, &leases)).unwrap();
    world.commit(|view, txn| world.ipam.stage_delete_pool(view, txn, &own, &default())).unwrap();
    assert_eq!(world.assign(&own, &[(1, 1)]).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn single_stack_is_a_matter_of_configuration() {
    let v6 = World::with_pool("a", NetworkConfig::v6_only("fd00::/64".parse().unwrap()).unwrap());
    let lease = &v6.assign(&ctx("a", "r"), &[(1, 1)]).unwrap()["w1"];
    assert!(lease.v4.is_none() && lease.v6.is_some());
    let v4 = World::with_pool("a", NetworkConfig::v4_only("10.0.0.0/24".parse().unwrap()).unwrap());
    let lease = &v4.assign(&ctx("a", "r"), &[(1, 1)]).unwrap()["w1"];
    assert!(lease.v4.is_some() && lease.v6.is_none());
}

#[test]
fn the_audit_finds_what_leaked_and_what_is_missing() {
    let world = World::with_pool("a", dual("10.0.0.0/24", "fd00::/64"));
    world.assign(&ctx("a", "r"), &[(1, 1), (2, 1)]).unwrap();
    let running = BTreeSet::from([workload(2), workload(3)]);
    let report = world.ipam.audit(&world.view(), &ctx("a", "r"), &running).unwrap();
    assert_eq!((report.leaked, report.missing), ([workload(1)].into(), [workload(3)].into()));
    let running = BTreeSet::from([workload(1), workload(2)]);
    assert!(world.ipam.audit(&world.view(), &ctx("a", "r"), &running).unwrap().is_clean());
}

#[derive(Debug, Clone)]
enum Step {
    /// Workloads on nodes; staged one by one or together, committed or dropped.
    Assign {
        tenant: usize,
        workloads: Vec<(usize, usize)>,
        together: bool,
        commit: bool,
    },
    Release {
        tenant: usize,
        workloads: Vec<usize>,
    },
    /// Two managers decide on the same state.
    Race {
        tenant: usize,
        first: (usize, usize),
        second: (usize, usize),
    },
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0usize..12, 0usize..3);
    prop_oneof![
        4 => (0usize..2, prop::collection::vec(place(), 1..6), any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(tenant, workloads, together, commit)| Step::Assign { tenant, workloads, together, commit }),
        3 => (0usize..2, prop::collection::vec(0usize..12, 1..4))
            .prop_map(|(tenant, workloads)| Step::Release { tenant, workloads }),
        1 => (0usize..2, place(), place()).prop_map(|(tenant, first, second)| Step::Race { tenant, first, second }),
    ]
}

fn configs() -> impl Strategy<Value = NetworkConfig> {
    let strict = |config: NetworkConfig| {
        let mut options = config.options().clone();
        options.strict_affinity = true;
        config.with_options(options).unwrap()
    };
    prop::sample::select(vec![
        dual("10.0.0.0/24", "fd00::/64"),
        nodes_of(dual("10.0.0.0/28", "fd00::/64"), 30),
        strict(nodes_of(dual("10.0.0.0/28", "fd00::/64"), 30)),
        nodes_of(dual("10.0.0.0/29", "fd00::/120"), 31).node_prefix(IpFamily::V6, 127).unwrap(),
        dual("10.0.0.0/24", "fd00::/124").node_prefix(IpFamily::V6, 126).unwrap(),
        dual("10.0.0.0/30", "fd00::/127"),
        v6("fd00::/125", 126),
        dual("10.0.0.0/8", "fd00::/48").node_prefix(IpFamily::V4, 8).unwrap(),
    ])
}

/// Where the longest prefix says that an address is.
fn routed(routes: &[hivemind_net::manager::AddressRoute], address: IpAddr) -> Option<NodeId> {
    let fits = routes.iter().filter(|route| route.destination.contains(&address));
    fits.max_by_key(|route| route.destination.prefix_len()).map(|route| route.node.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The reference is a map of who has what, kept by hand.
    #[test]
    fn one_owner_both_families_nothing_lost(config in configs(), steps in prop::collection::vec(step(), 1..30)) {
        let world = World::new();
        let tenants = [ctx("a", "a"), ctx("b", "b")];
        for tenant in &tenants {
            block_on(world.ipam.create_pool(tenant, config.clone())).unwrap();
        }
        let mut model: [BTreeMap<WorkloadId, Lease>; 2] = Default::default();
        let mut places: BTreeMap<String, BTreeMap<WorkloadId, NodeId>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Assign { tenant, workloads, together, commit } => {
                    let own = &tenants[tenant];
                    let asked: Vec<_> = workloads.iter().map(|(w, n)| (workload(*w), node(*n))).collect();
                    let outcome = world.commit(|view, txn| {
                        let mut got = BTreeMap::new();
                        for part in asked.chunks(if together { asked.len() } else { 1 }) {
                            got.extend(world.ipam.stage_assign(view, txn, own, part)?);
                        }
                        if commit { Ok(got) } else { Err(Error::invalid("test", "dropped")) }
                    });
                    if let Ok(got) = outcome {
                        let mut first = BTreeSet::new();
                        for (workload, node) in asked {
                            // The last part that names it, and within a part the first mention, says where it is.
                            if !together || first.insert(workload.clone()) {
                                places.entry(own.tenant().to_string()).or_default().insert(workload, node);
                            }
                        }
                        for (workload, lease) in got {
                            let old = model[tenant].insert(workload.clone(), lease.clone());
                            prop_assert!(old.is_none_or(|old| old == lease), "{} has another address", workload);
                        }
                    }
                }
                Step::Release { tenant, workloads } => {
                    let gone: BTreeMap<_, _> = workloads.iter().map(|w| workload(*w))
                        .filter_map(|w| model[tenant].remove_entry(&w)).collect();
                    world.commit(|view, txn| world.ipam.stage_release(view, txn, &tenants[tenant], &gone)).unwrap();
                    if let Some((workload, lease)) = gone.first_key_value() {
                        let again = world.commit(|view, txn| {
                            world.ipam.stage_release(view, txn, &tenants[tenant], [(workload, lease)])
                        });
                        prop_assert_eq!(again.unwrap_err().kind(), ErrorKind::NotFound);
                    }
                }
                Step::Race { tenant, first, second } => {
                    let (view, own) = (world.view(), &tenants[tenant]);
                    for (w, n) in [first, second] {
                        let mut txn = Txn::new();
                        let staged = world.ipam.stage_assign(&view, &mut txn, own, &[(workload(w), node(n))]);
                        if let Ok(leases) = staged && block_on(world.store.commit(&txn)).is_ok() {
                            model[tenant].extend(leases);
                            places.entry(own.tenant().to_string()).or_default().insert(workload(w), node(n));
                        }
                    }
                }
            }
            let view = world.view();
            for (own, model) in tenants.iter().zip(&model) {
                places.entry(own.tenant().to_string()).or_default();
                let kept: BTreeMap<_, _> = world.ipam.all_leases(&view, own).unwrap().into_iter().collect();
                prop_assert_eq!(&kept, model);
                let addresses: Vec<IpAddr> = kept.values().flat_map(Lease::addresses).collect();
                prop_assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len(), "two owners");
                for lease in kept.values() {
                    prop_assert_eq!(lease.v4.is_some(), config.family(IpFamily::V4).is_some());
                    prop_assert_eq!(lease.v6.is_some(), config.family(IpFamily::V6).is_some());
                    for address in lease.addresses() {
                        let family = config.family(IpFamily::of(address)).unwrap();
                        prop_assert!(family.cidr_of(address_number(address)).is_some());
                    }
                }
                let usage = world.ipam.usage(&view, own).unwrap();
                prop_assert_eq!(usage.v4.addresses, if config.family(IpFamily::V4).is_some() { kept.len() as u64 } else { 0 });
                prop_assert!(usage.v4.subnets <= usage.v4.subnets_total && usage.v6.subnets <= usage.v6.subnets_total);
                let running = kept.keys().cloned().collect();
                prop_assert!(world.ipam.audit(&view, own, &running).unwrap().is_clean());
                // Every address is routed to where its workload is (pitfall 9).
                let routes = world.ipam.routes(&view, own).unwrap();
                for (workload, lease) in &kept {
                    for address in lease.addresses() {
                        let at = routed(&routes, address);
                        prop_assert!(at.is_some() && at.as_ref() == places[&own.tenant().to_string()].get(workload), "{} at {:?}", workload, at);
                    }
                }
            }
        }
        // When everything is given back, the pools are as new and can be deleted.
        for (own, model) in tenants.iter().zip(&model) {
            world.commit(|view, txn| world.ipam.stage_release(view, txn, own, model)).unwrap();
            world.sweep(own);
            prop_assert_eq!(world.ipam.usage(&world.view(), own).unwrap().v4.subnets, 0);
            world.commit(|view, txn| world.ipam.stage_delete_pool(view, txn, own, &default())).unwrap();
        }
    }

    /// Every usable address of a small pool is given out before it is exhausted, by however many nodes.
    #[test]
    fn a_pool_gives_out_all_it_has(prefix in 22u8..=32, node_prefix in 22u8..=32, nodes in 1usize..4) {
        prop_assume!(node_prefix >= prefix);
        let world = World::with_pool("a", v4(&format!("10.0.0.0/{prefix}"), node_prefix));
        let per_subnet = match 32 - node_prefix { 0 => 1, 1 => 2, bits => (1usize << bits) - 3 };
        let total = per_subnet << (node_prefix - prefix);
        let mut given = 0;
        while given < total {
            let batch: Vec<_> = (given..total.min(given + 50)).map(|w| (w, w % nodes)).collect();
            given += world.assign(&ctx("a", "r"), &batch).unwrap().len();
        }
        prop_assert_eq!(given, total);
        let error = world.assign(&ctx("a", "r"), &[(given, 0)]).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Exhausted);
    }
}
