//! An address has one owner, both families come together, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    Error, ErrorKind, Generation, ManualClock, MemoryStore, NodeId, Principal, Result, StateStore,
    StateStoreExt, TenantContext, TenantRef, WorkloadId, block_on,
};
use hivemind_net::{IpamManager, Lease, NetworkConfig, PoolExhausted};
use proptest::prelude::*;

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
    NetworkConfig::dual_stack(v4.parse().unwrap(), v6.parse().unwrap()).unwrap()
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
    assert_eq!(world.assign(&ctx("a", "r"), &[(1, 1)]).unwrap(), first);
    assert_eq!(world.assign(&ctx("a", "r"), &[(1, 2)]).unwrap(), first);
    assert!(world.ipam.node_subnets(&world.view(), &ctx("a", "r"), &node(2)).unwrap().is_empty());
}

#[test]
fn a_full_block_is_followed_by_another_and_the_pool_ends_with_reasons() {
    let config = dual("10.0.0.0/28", "fd00::/64").node_prefix_v4(29).unwrap();
    let world = World::with_pool("a", config);
    let many: Vec<_> = (0..10).map(|w| (w, 1)).collect();
    let leases = world.assign(&ctx("a", "r"), &many).unwrap();
    assert_eq!(
        leases.values().map(|lease| lease.block.index).collect::<BTreeSet<_>>(),
        BTreeSet::from([0, 1])
    );
    let before = world.view().revision();
    let error = world.assign(&ctx("a", "r"), &[(10, 1)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let detail = error.detail::<PoolExhausted>().unwrap();
    assert_eq!((detail.pool.as_str(), detail.subnets, detail.node_prefix), ("10.0.0.0/28", 2, 29));
    assert_eq!(world.view().revision(), before);
    let usage = world.ipam.usage(&world.view(), &ctx("a", "r")).unwrap();
    assert_eq!((usage.v4_addresses, usage.v6_addresses, usage.v4_subnets, usage.v6_subnets), (10, 10, 2, 2));
    world.commit(|view, txn| world.ipam.stage_release(view, txn, &ctx("a", "r"), &leases)).unwrap();
    let usage = world.ipam.usage(&world.view(), &ctx("a", "r")).unwrap();
    assert_eq!((usage.v4_addresses, usage.v4_subnets, usage.v6_subnets), (0, 0, 0));
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
    let busy = world.commit(|view, txn| world.ipam.stage_delete_pool(view, txn, &own)).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    let other = world
        .commit(|view, txn| world.ipam.stage_create_pool(view, txn, &own, &dual("10.1.0.0/24", "fd00::/64")));
    assert_eq!(other.unwrap_err().kind(), ErrorKind::AlreadyExists);
    world.commit(|view, txn| world.ipam.stage_release(view, txn, &own, &leases)).unwrap();
    world.commit(|view, txn| world.ipam.stage_delete_pool(view, txn, &own)).unwrap();
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

/// How many addresses of each family a pool can give to workloads, if all of its subnets go to one node.
fn configs() -> impl Strategy<Value = NetworkConfig> {
    prop::sample::select(vec![
        dual("10.0.0.0/24", "fd00::/64"),
        dual("10.0.0.0/28", "fd00::/64").node_prefix_v4(30).unwrap(),
        dual("10.0.0.0/29", "fd00::/120").node_prefix_v4(31).unwrap().node_prefix_v6(127).unwrap(),
        dual("10.0.0.0/24", "fd00::/124").node_prefix_v6(126).unwrap(),
        dual("10.0.0.0/30", "fd00::/127"),
        NetworkConfig::v6_only("fd00::/125".parse().unwrap()).unwrap().node_prefix_v6(126).unwrap(),
    ])
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
                        }
                    }
                }
            }
            let view = world.view();
            for (own, model) in tenants.iter().zip(&model) {
                let kept: BTreeMap<_, _> = world.ipam.all_leases(&view, own).unwrap().into_iter().collect();
                prop_assert_eq!(&kept, model);
                let addresses: Vec<IpAddr> = kept.values().flat_map(Lease::addresses).collect();
                prop_assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len(), "two owners");
                for lease in kept.values() {
                    prop_assert_eq!(lease.v4.is_some(), config.v4().is_some());
                    prop_assert_eq!(lease.v6.is_some(), config.v6().is_some());
                    prop_assert!(lease.v4.is_none_or(|a| config.v4().unwrap().0.contains(&a)));
                    prop_assert!(lease.v6.is_none_or(|a| config.v6().unwrap().0.contains(&a)));
                }
                // Pool = free + taken: what blocks hold is what the pool says is taken.
                let usage = world.ipam.usage(&view, own).unwrap();
                let blocks: BTreeSet<_> = kept.values().map(|lease| lease.block.clone()).collect();
                let (v4, v6) = (config.v4().is_some(), config.v6().is_some());
                prop_assert_eq!(usage.v4_subnets, if v4 { blocks.len() as u64 } else { 0 });
                prop_assert_eq!(usage.v6_subnets, if v6 { blocks.len() as u64 } else { 0 });
                prop_assert_eq!(usage.v4_addresses, if v4 { kept.len() as u64 } else { 0 });
            }
        }
        // When everything is given back, the pools are as new and can be deleted.
        for (own, model) in tenants.iter().zip(&model) {
            world.commit(|view, txn| world.ipam.stage_release(view, txn, own, model)).unwrap();
            world.commit(|view, txn| world.ipam.stage_delete_pool(view, txn, own)).unwrap();
        }
    }

    /// Every usable address of a small pool is given out before it is exhausted.
    #[test]
    fn a_pool_gives_out_all_it_has(prefix in 24u8..=32, node_prefix in 24u8..=32) {
        prop_assume!(node_prefix >= prefix);
        let pool = format!("10.0.0.0/{prefix}").parse().unwrap();
        let config = NetworkConfig::v4_only(pool).unwrap().node_prefix_v4(node_prefix).unwrap();
        let world = World::with_pool("a", config);
        let per_subnet = match 32 - node_prefix { 0 => 1, 1 => 2, bits => (1usize << bits) - 3 };
        let total = per_subnet << (node_prefix - prefix);
        let mut given = 0;
        while world.assign(&ctx("a", "r"), &[(given, 0)]).is_ok() {
            given += 1;
            prop_assert!(given <= total);
        }
        prop_assert_eq!(given, total);
    }
}
