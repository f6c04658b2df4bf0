//! Gangs follow the policy of the host, beside a search through every assignment.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::common;

use std::collections::{BTreeMap, BTreeSet};

use common::{World, admin, ctx};
use hivemind_core::labels::Labels;
use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::store::Txn;
use hivemind_core::{NodeId, TenantContext, Timestamp, WorkloadId, block_on};
use hivemind_tenancy::TenantSpec;
use hivemind_tenancy::placement::{
    AffinityTerm, BlastRadius, GangState, Node, Packing, Placement, PlacementPolicy, Topology,
    WorkloadAffinity, WorkloadRequest,
};
use proptest::prelude::*;

fn cores(n: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(n))
}

fn zone() -> Topology {
    Topology::Label("zone".parse().unwrap())
}

fn node(world: &World, name: &str, n: u64, zone: &str) {
    let labels = Labels::new().with("zone", zone).unwrap();
    let node = Node::new(name.parse().unwrap(), cores(n)).with_labels(labels);
    block_on(world.tenants.add_node(&admin(&format!("add-{name}")), node)).unwrap();
}

fn workload(name: &str, n: u64) -> WorkloadRequest {
    WorkloadRequest::new(name.parse().unwrap(), cores(n)).with_labels(Labels::new().with("is", name).unwrap())
}

fn acme(world: &World) -> TenantContext {
    ctx(&world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant, "r")
        .with_time(Timestamp::from_secs(1))
}

fn gang(world: &World, who: &TenantContext, asks: &[WorkloadRequest], policy: &PlacementPolicy) -> GangState {
    let (id, by) = ("g".parse().unwrap(), Timestamp::from_secs(60));
    world.commit(|view, txn| world.tenants.stage_gang_by(view, txn, who, &id, asks, by, policy)).unwrap()
}

fn on(placed: &Placement) -> usize {
    placed.values().collect::<BTreeSet<_>>().len()
}

#[test]
fn a_gang_follows_the_policy_whole_and_while_it_holds() {
    for (case, packing, whole, nodes) in [
        ("spread", Packing::Spread, true, 2),
        ("packed", Packing::BinPack, true, 1),
        ("spread, one too many", Packing::Spread, false, 2),
        ("packed, one too many", Packing::BinPack, false, 1),
    ] {
        let world = World::new();
        node(&world, "n1", 4, "z1");
        node(&world, "n2", 4, "z2");
        let who = acme(&world);
        let mut asks = vec![workload("a", 1), workload("b", 1)];
        if !whole {
            asks.push(workload("large", 9));
        }
        let placed = match gang(&world, &who, &asks, &PlacementPolicy::default().with_packing(packing)) {
            GangState::Placed(placed) => placed,
            GangState::Holding { gang, .. } => gang.held,
            other => panic!("{case}: {other:?}"),
        };
        assert_eq!((placed.len(), on(&placed)), (2, nodes), "{case}");
    }
}

#[test]
fn a_blast_radius_holds_for_a_gang() {
    let world = World::new();
    node(&world, "n1", 4, "z1");
    node(&world, "n2", 1, "z2");
    let who = acme(&world);
    let half = PlacementPolicy::default().with_blast_radius(BlastRadius::new(zone(), 50));
    let asks: Vec<_> = ["a", "b", "c", "d"].map(|name| workload(name, 1)).into();
    let GangState::Holding { gang: held, .. } = gang(&world, &who, &asks, &half) else {
        panic!("z2 has room for one: four would be three in z1");
    };
    assert_eq!(held.held.len(), 3);
}

/// Who comes later may be what one before it waits for.
#[test]
fn one_that_holds_room_lets_another_hold_some() {
    let world = World::new();
    node(&world, "n1", 4, "z1");
    let who = acme(&world);
    let mut beside = WorkloadAffinity::default();
    beside.required.push(AffinityTerm::new("is=b".parse().unwrap(), zone()));
    let asks = [workload("a", 1).with_affinity(beside), workload("b", 1), workload("large", 9)];
    let GangState::Holding { gang: held, .. } = gang(&world, &who, &asks, &PlacementPolicy::default()) else {
        panic!("the large one does not fit");
    };
    assert_eq!(held.missing, BTreeSet::from(["large".parse().unwrap()]));
}

/// What a search through every order and assignment says.
struct Search<'a> {
    nodes: &'a [(u64, u8)],
    asks: &'a BTreeMap<WorkloadId, u64>,
    percent: Option<u8>,
}

impl Search<'_> {
    /// Whether `ask` may come to node `at` beside what is `placed`.
    fn allows(&self, placed: &BTreeMap<WorkloadId, usize>, ask: u64, at: usize) -> bool {
        let used: u64 = placed.iter().filter(|(_, node)| **node == at).map(|(id, _)| self.asks[id]).sum();
        let zone = self.nodes[at].1;
        let there = placed.values().filter(|node| self.nodes[**node].1 == zone).count() as u64;
        let total = placed.len() as u64 + 1;
        let most = self.percent.map_or(u64::MAX, |percent| (total * u64::from(percent)).div_ceil(100).max(1));
        used + ask <= self.nodes[at].0 && there < most
    }

    /// Whether these can come to be there in some order.
    fn reachable(&self, placed: &BTreeMap<WorkloadId, usize>) -> bool {
        placed.is_empty()
            || placed.iter().any(|(last, at)| {
                let mut before = placed.clone();
                before.remove(last);
                self.allows(&before, self.asks[last], *at) && self.reachable(&before)
            })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A gang is where it may come to be, and those that wait fit nowhere.
    #[test]
    fn a_gang_is_where_a_search_allows_it_and_holds_all_it_can(
        nodes in prop::collection::vec((1u64..5, 0u8..3), 1..4),
        sizes in prop::collection::vec(1u64..4, 1..6),
        percent in prop::option::of(20u8..100),
        pack in any::<bool>(),
    ) {
        let world = World::new();
        for (number, (size, zone)) in nodes.iter().enumerate() {
            node(&world, &format!("n{number}"), *size, &format!("z{zone}"));
        }
        let who = acme(&world);
        let asks: Vec<_> = sizes.iter().enumerate().map(|(n, size)| workload(&format!("w{n}"), *size)).collect();
        let known: BTreeMap<_, _> = asks.iter().zip(&sizes).map(|(one, size)| (one.id.clone(), *size)).collect();
        let mut policy = PlacementPolicy::default()
            .with_packing(if pack { Packing::BinPack } else { Packing::Spread });
        policy.blast_radius = percent.map(|percent| BlastRadius::new(zone(), percent));
        let search = Search { nodes: &nodes, asks: &known, percent };
        let (placed, missing) = match gang(&world, &who, &asks, &policy) {
            GangState::Placed(placed) => (placed, BTreeSet::new()),
            GangState::Holding { gang, .. } => (gang.held, gang.missing),
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!(placed.len() + missing.len(), asks.len());
        let number = |node: &NodeId| node.as_str()[1..].parse::<usize>().unwrap();
        let at: BTreeMap<_, _> = placed.iter().map(|(id, node)| (id.clone(), number(node))).collect();
        prop_assert!(search.reachable(&at), "{at:?}");
        for one in &missing {
            let fits = (0..nodes.len()).any(|node| search.allows(&at, known[one], node));
            prop_assert!(!fits, "{one} waits and fits");
        }
        // It is true in the store, too.
        let found: usize = world.tenants.nodes(&world.view(), &Txn::new()).unwrap().iter()
            .map(|(_, here)| here.workloads.values().map(BTreeMap::len).sum::<usize>()).sum();
        prop_assert_eq!(found, placed.len());
    }
}
