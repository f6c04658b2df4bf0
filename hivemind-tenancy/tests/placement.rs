//! Nodes are never overfull, and isolated tenants never share one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::common;

use std::collections::BTreeMap;

use common::{World, admin, ctx};
use hivemind_core::labels::Labels;
use hivemind_core::resources::{ByteSize, MilliCpu, Resources};
use hivemind_core::{ErrorKind, NodeId, TenantContext, WorkloadId, block_on};
use hivemind_tenancy::placement::{NodeState, Rejection, Unplaceable, WorkloadRequest};
use hivemind_tenancy::{IsolationLevel, Node, TenantSpec};
use proptest::prelude::*;

fn size(cpu: u64, mib: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_millis(cpu)).with_memory(ByteSize::from_mib(mib))
}

fn node(world: &World, name: &str, zone: &str) {
    let labels = Labels::new().with("zone", zone).unwrap();
    let node = Node::new(name.parse().unwrap(), size(1000, 1024)).with_labels(labels);
    block_on(world.tenants.add_node(&admin(&format!("add-{name}")), node)).unwrap();
}

fn workload(name: &str, cpu: u64) -> WorkloadRequest {
    WorkloadRequest::new(name.parse().unwrap(), size(cpu, 64)).spread_by("app")
}

fn tenant(world: &World, name: &str, level: IsolationLevel) -> TenantContext {
    ctx(&world.tenant(TenantSpec::new(name.parse().unwrap()).with_isolation(level)).tenant, "r")
}

#[test]
fn a_workload_runs_in_one_place() {
    let world = World::new();
    node(&world, "n1", "a");
    node(&world, "n2", "b");
    let (acme, other) =
        (tenant(&world, "acme", IsolationLevel::Soft), tenant(&world, "other", IsolationLevel::Soft));
    place(&world, &acme, &[workload("w", 600)]).unwrap();
    // There is room on the other node only.
    let again = place(&world, &acme, &[workload("w", 600)]).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert!(again.message().contains("workload w of tenant acme runs on n"), "{again}");
    // The same name in another tenant is another workload.
    place(&world, &other, &[workload("w", 600)]).unwrap();
}

fn place(
    world: &World,
    ctx: &TenantContext,
    workloads: &[WorkloadRequest],
) -> hivemind_core::Result<BTreeMap<WorkloadId, NodeId>> {
    world.commit(|view, txn| world.tenants.stage_place(view, txn, ctx, workloads))
}

#[test]
fn replicas_are_spread_and_selectors_kept() {
    let world = World::new();
    for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
        node(&world, name, zone);
    }
    let acme = tenant(&world, "acme", IsolationLevel::Soft);
    let placed =
        place(&world, &acme, &[workload("w1", 100), workload("w2", 100), workload("w3", 100)]).unwrap();
    let nodes: Vec<_> = placed.values().map(NodeId::as_str).collect();
    assert_eq!(nodes, ["n1", "n2", "n3"]);
    let in_b = workload("w4", 100).on("zone=b".parse().unwrap());
    assert_eq!(place(&world, &acme, &[in_b]).unwrap().values().next().unwrap().as_str(), "n3");
}

#[test]
fn all_or_none_and_the_reasons_are_counted() {
    let world = World::new();
    for (name, zone) in [("n1", "a"), ("n2", "b"), ("n3", "b")] {
        node(&world, name, zone);
    }
    block_on(world.tenants.set_node_state(&admin("c"), &"n3".parse().unwrap(), NodeState::Cordoned)).unwrap();
    let acme = tenant(&world, "acme", IsolationLevel::Soft);
    let in_b = |name, cpu| workload(name, cpu).on("zone=b".parse().unwrap());
    let error = place(&world, &acme, &[in_b("w1", 600), in_b("w2", 600)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let detail = error.detail::<Unplaceable>().unwrap();
    let expected = BTreeMap::from([(Rejection::NotReady, 1), (Rejection::Selector, 1), (Rejection::Full, 1)]);
    assert_eq!(detail.workloads[0].rejected, expected);
    assert_eq!(
        error.message(),
        "no node for w2 (cpu=600m memory=64Mi): 1 nodes not ready, 1 nodes other labels than selected, \
         1 nodes too little free"
    );
    assert!(
        world.tenants.nodes(&world.view(), &Default::default()).unwrap().iter().all(|n| n.1.used.is_zero())
    );
}

#[test]
fn an_isolated_tenant_has_its_nodes_to_itself_while_it_runs_there() {
    let world = World::new();
    for name in ["n1", "n2"] {
        node(&world, name, "a");
    }
    let (hard, soft) =
        (tenant(&world, "hard", IsolationLevel::Hard), tenant(&world, "soft", IsolationLevel::Soft));
    let own = place(&world, &hard, &[workload("w", 100)]).unwrap();
    let shared = place(&world, &soft, &[workload("w", 100), workload("v", 100)]).unwrap();
    let dedicated = own.values().next().unwrap();
    assert!(shared.values().all(|node| node != dedicated));
    let error = place(&world, &hard, &[workload("big", 950)]).unwrap_err();
    let rejected = &error.detail::<Unplaceable>().unwrap().workloads[0].rejected;
    assert_eq!(*rejected, BTreeMap::from([(Rejection::Shared, 1), (Rejection::Full, 1)]));

    world.commit(|view, txn| world.tenants.stage_unplace(view, txn, &hard, &own)).unwrap();
    let again = world.commit(|view, txn| world.tenants.stage_unplace(view, txn, &hard, &own));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(place(&world, &soft, &[workload("x", 900)]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Random batches of three tenants come and go; a cordoned node takes nothing new.
    #[test]
    fn never_overfull_never_shared(
        batches in prop::collection::vec((0usize..3, prop::collection::vec(50u64..700, 1..6), any::<bool>()), 1..14),
        cordoned in 0usize..4,
    ) {
        let world = World::new();
        for number in 0..4 {
            node(&world, &format!("n{number}"), "a");
        }
        let cordoned: NodeId = format!("n{cordoned}").parse().unwrap();
        block_on(world.tenants.set_node_state(&admin("c"), &cordoned, NodeState::Cordoned)).unwrap();
        let levels = [IsolationLevel::Hard, IsolationLevel::Soft, IsolationLevel::NetworkOnly];
        let tenants: Vec<_> = levels.iter().zip(["a", "b", "c"]).map(|(l, n)| tenant(&world, n, *l)).collect();
        let mut live: Vec<(usize, BTreeMap<WorkloadId, NodeId>, u64)> = Vec::new();
        for (number, (who, sizes, leave)) in batches.into_iter().enumerate() {
            let batch: Vec<_> = sizes.iter().enumerate()
                .map(|(index, cpu)| workload(&format!("w{number}-{index}"), *cpu)).collect();
            if let Ok(placed) = place(&world, &tenants[who], &batch) {
                prop_assert_eq!(placed.len(), batch.len());
                prop_assert!(placed.values().all(|node| *node != cordoned));
                live.push((who, placed, sizes.iter().sum()));
            }
            if leave && !live.is_empty() {
                let (who, placed, _) = live.remove(0);
                world.commit(|view, txn| world.tenants.stage_unplace(view, txn, &tenants[who], &placed)).unwrap();
            }
            let mut total = 0;
            for (node, running) in world.tenants.nodes(&world.view(), &Default::default()).unwrap() {
                prop_assert!(running.used.fits_in(&node.capacity));
                let isolated = running.workloads.contains_key(tenants[0].tenant());
                prop_assert_eq!(running.dedicated_to.is_some(), isolated);
                prop_assert!(!isolated || running.workloads.len() == 1);
                total += running.used.cpu().as_millis();
            }
            prop_assert_eq!(total, live.iter().map(|(_, _, cpu)| cpu).sum::<u64>());
        }
    }
}
