//! Nodes that go, are labelled anew or tainted, with work on them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::common;

use common::{World, admin, ctx};
use hivemind_core::labels::Labels;
use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::store::Txn;
use hivemind_core::{ErrorKind, Result, StateStore, TenantContext, Timestamp, block_on};
use hivemind_tenancy::TenantSpec;
use hivemind_tenancy::placement::{
    DisplacedBy, DisruptionBudget, Node, NodeAllocations, NodeRemoval, NodeState, PlacedWorkload, Removal,
    Taint, TaintEffect, Tolerated, Toleration, WorkloadRequest, evictions,
};
use proptest::prelude::*;

fn cores(n: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(n))
}

fn node(world: &World, name: &str, n: u64) {
    let node = Node::new(name.parse().unwrap(), cores(n));
    block_on(world.tenants.add_node(&admin(&format!("add-{name}")), node)).unwrap();
}

fn tenant(world: &World, name: &str) -> TenantContext {
    ctx(&world.tenant(TenantSpec::new(name.parse().unwrap())).tenant, "r")
}

fn workload(name: &str) -> WorkloadRequest {
    let app = name.split('-').next().unwrap();
    WorkloadRequest::new(name.parse().unwrap(), cores(1)).with_labels(Labels::new().with("app", app).unwrap())
}

fn put(world: &World, who: &TenantContext, at: &str, asks: WorkloadRequest) {
    let decided = [(asks, at.parse().unwrap())];
    world.commit(|view, txn| world.tenants.stage_assign(view, txn, who, &decided)).unwrap();
}

fn remove(world: &World, who: &TenantContext, name: &str, how: Removal) -> Result<NodeRemoval> {
    let id = name.parse().unwrap();
    world.commit(|view, txn| world.tenants.stage_remove_node(view, txn, who, &id, how))
}

fn nodes(world: &World) -> Vec<(String, NodeState, usize)> {
    let all = world.tenants.nodes(&world.view(), &Txn::new()).unwrap();
    let told = |(node, running): &(hivemind_core::Stamped<Node>, hivemind_core::Stamped<NodeAllocations>)| {
        let there = running.workloads.values().map(std::collections::BTreeMap::len).sum();
        (node.id.to_string(), node.state, there)
    };
    all.iter().map(told).collect()
}

#[test]
fn a_node_that_runs_something_is_not_removed_by_mistake() {
    let world = World::new();
    node(&world, "n1", 2);
    let acme = tenant(&world, "acme");
    put(&world, &acme, "n1", workload("a"));
    let refused = |who: &TenantContext, name: &str, how| remove(&world, who, name, how).unwrap_err().kind();
    assert_eq!(refused(&admin("r"), "n1", Removal::IfEmpty), ErrorKind::Conflict);
    assert_eq!(refused(&acme, "n1", Removal::Force), ErrorKind::Denied);
    assert_eq!(refused(&admin("r"), "n9", Removal::Force), ErrorKind::NotFound);
    assert_eq!(nodes(&world), [("n1".to_owned(), NodeState::Ready, 1)]);
    // What comes meanwhile is not lost with the node.
    node(&world, "n2", 1);
    let (view, mut txn) = (world.view(), Txn::new());
    let id = "n2".parse().unwrap();
    world.tenants.stage_remove_node(&view, &mut txn, &admin("r"), &id, Removal::IfEmpty).unwrap();
    put(&world, &acme, "n2", workload("b"));
    assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
    let gone = remove(&world, &admin("r"), "n1", Removal::Force).unwrap();
    assert_eq!((gone.displaced.len(), gone.is_done()), (1, true));
    assert_eq!(nodes(&world), [("n2".to_owned(), NodeState::Ready, 1)]);
    let left = world.tenants.displaced(&world.view(), &Txn::new(), &acme).unwrap();
    assert_eq!((left[0].workload.as_str(), left[0].by), ("a", DisplacedBy::Removal));
    // Its name is free again, and so is that of the node.
    let anew = Node::new("n1".parse().unwrap(), cores(1));
    block_on(world.tenants.add_node(&admin("add-again"), anew)).unwrap();
    put(&world, &acme, "n1", workload("a"));
}

#[test]
fn a_drain_keeps_budgets_and_ends_when_the_rest_may_go() {
    let world = World::new();
    node(&world, "n1", 4);
    node(&world, "n2", 4);
    let (acme, other) = (tenant(&world, "acme"), tenant(&world, "other"));
    let budget = DisruptionBudget::new(acme.tenant().clone(), "app=a".parse().unwrap(), 1);
    world
        .commit(|view, txn| world.tenants.stage_set_budgets(view, txn, &acme, std::slice::from_ref(&budget)))
        .unwrap();
    for name in ["a-1", "a-2", "b-1"] {
        put(&world, &acme, "n1", workload(name));
    }
    put(&world, &other, "n1", workload("a-1"));
    let first = remove(&world, &admin("r"), "n1", Removal::Drain).unwrap();
    let told: Vec<_> = first.displaced.iter().map(|(tenant, id)| format!("{}/{id}", tenant.id)).collect();
    assert_eq!((told.join(" ").as_str(), first.left), ("acme/a-1 acme/b-1 other/a-1", 1));
    assert_eq!(nodes(&world)[0], ("n1".to_owned(), NodeState::Cordoned, 1));
    // Nothing more until one of them runs elsewhere.
    let again = remove(&world, &admin("r"), "n1", Removal::Drain).unwrap();
    assert_eq!((again.displaced.len(), again.left), (0, 1));
    put(&world, &acme, "n2", workload("a-1"));
    assert!(remove(&world, &admin("r"), "n1", Removal::Drain).unwrap().is_done());
    assert_eq!(nodes(&world), [("n2".to_owned(), NodeState::Ready, 1)]);
}

#[test]
fn a_drain_meets_the_failure_of_the_node_with_what_a_budget_keeps() {
    let world = World::new();
    node(&world, "n1", 4);
    node(&world, "n2", 4);
    let acme = tenant(&world, "acme");
    let budget = DisruptionBudget::new(acme.tenant().clone(), "app=a".parse().unwrap(), 1);
    world.commit(|view, txn| world.tenants.stage_set_budgets(view, txn, &acme, &[budget])).unwrap();
    put(&world, &acme, "n1", workload("a-1"));
    put(&world, &acme, "n2", workload("a-2"));
    let (view, root, mut txn) = (world.view(), admin("r"), Txn::new());
    let n1 = "n1".parse().unwrap();
    world.tenants.stage_remove_node(&view, &mut txn, &root, &n1, Removal::Drain).unwrap();
    let failed = |view: &_, txn: &mut _| {
        world.tenants.stage_set_node_state(view, txn, &root, &"n2".parse().unwrap(), NodeState::Failed)
    };
    world.commit(failed).unwrap();
    assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
    let again = remove(&world, &admin("again"), "n1", Removal::Drain).unwrap();
    assert_eq!((again.displaced.len(), again.left), (0, 1), "it is the last one now");
}

#[test]
fn a_full_node_goes_in_steps_that_fit_a_transaction() {
    let world = World::new();
    node(&world, "n1", 80);
    let acme = tenant(&world, "acme");
    for turn in 0..4 {
        let asks: Vec<_> =
            (0..20).map(|n| (workload(&format!("w{turn}-{n}")), "n1".parse().unwrap())).collect();
        world.commit(|view, txn| world.tenants.stage_assign(view, txn, &acme, &asks)).unwrap();
    }
    let mut left = Vec::new();
    while left.last() != Some(&0) {
        left.push(remove(&world, &admin("r"), "n1", Removal::Force).unwrap().left);
    }
    assert_eq!(left, [48, 16, 0]);
    assert_eq!(world.tenants.displaced(&world.view(), &Txn::new(), &acme).unwrap().len(), 80);
}

#[test]
fn labels_set_anew_count_for_what_comes_and_what_runs_stays() {
    let world = World::new();
    node(&world, "n1", 4);
    let acme = tenant(&world, "acme");
    let id = "n1".parse().unwrap();
    let relabel = |who: &TenantContext, labels: Labels| {
        world.commit(|view, txn| world.tenants.stage_relabel_node(view, txn, who, &id, &labels))
    };
    let zone = Labels::new().with("zone", "z1").unwrap();
    assert_eq!(relabel(&acme, zone.clone()).unwrap_err().kind(), ErrorKind::Denied);
    let asks = |name: &str| [workload(name).on("zone=z1".parse().unwrap())];
    let place =
        |name: &str| world.commit(|view, txn| world.tenants.stage_place(view, txn, &acme, &asks(name)));
    assert_eq!(place("a").unwrap_err().kind(), ErrorKind::Exhausted);
    relabel(&admin("l"), zone).unwrap();
    place("a").unwrap();
    // A decision on the old labels does not commit.
    let (view, mut txn) = (world.view(), Txn::new());
    world.tenants.stage_place(&view, &mut txn, &acme, &asks("b")).unwrap();
    relabel(&admin("l"), Labels::new()).unwrap();
    assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(nodes(&world)[0].2, 1);
}

fn taint(key: &str, at: Option<u64>) -> Taint {
    let taint = Taint::new(key.parse().unwrap(), "".parse().unwrap(), TaintEffect::NoExecute);
    at.map_or(taint.clone(), |at| taint.since(Timestamp::from_secs(at)))
}

fn tolerates(key: &str, seconds: Option<u64>) -> Toleration {
    let one = Toleration::new(Tolerated::Exists(key.parse().unwrap()));
    seconds.map_or(one.clone(), |seconds| one.for_seconds(seconds))
}

/// By the rules of Kubernetes' taint eviction controller.
#[test]
fn tolerations_for_a_time_end_when_kubernetes_ends_them() {
    for (case, taints, tolerations, since, expected) in [
        ("no taint", vec![], vec![], None, None),
        ("not tolerated", vec![taint("a", Some(10))], vec![], None, Some(10)),
        ("for ever", vec![taint("a", Some(10))], vec![tolerates("a", None)], None, None),
        ("for a time", vec![taint("a", Some(10))], vec![tolerates("a", Some(5))], None, Some(15)),
        ("not at all", vec![taint("a", Some(10))], vec![tolerates("a", Some(0))], None, Some(10)),
        (
            "the shortest counts",
            vec![taint("a", Some(10))],
            vec![tolerates("a", Some(9)), tolerates("a", Some(3)), tolerates("a", None)],
            None,
            Some(13),
        ),
        (
            "one of two is not tolerated",
            vec![taint("a", Some(10)), taint("b", Some(20))],
            vec![tolerates("a", Some(5))],
            None,
            Some(20),
        ),
        (
            "the first of two to end",
            vec![taint("a", Some(10)), taint("b", Some(20))],
            vec![tolerates("a", Some(50)), tolerates("b", Some(5))],
            None,
            Some(25),
        ),
        ("came later", vec![taint("a", Some(10))], vec![tolerates("a", Some(5))], Some(100), Some(105)),
        ("since when is unknown", vec![taint("a", None)], vec![], None, Some(0)),
        (
            "no end that can be counted",
            vec![taint("a", Some(1))],
            vec![tolerates("a", Some(u64::MAX))],
            None,
            { Some(u64::MAX) },
        ),
    ] {
        let mut node = Node::new("n1".parse().unwrap(), cores(1));
        node.taints = taints;
        node.taints.push(Taint::new("x".parse().unwrap(), "".parse().unwrap(), TaintEffect::NoSchedule));
        let mut placed = PlacedWorkload::new(cores(1));
        (placed.tolerations, placed.since) = (tolerations, since.map(Timestamp::from_secs));
        let mut running = NodeAllocations::default();
        let acme =
            hivemind_core::TenantRef::new("acme".parse().unwrap(), hivemind_core::Generation::from_u64(1));
        running.workloads.entry(acme).or_default().insert("w".parse().unwrap(), placed);
        let found = evictions(&[(&node, &running)]);
        let expected = expected.map(|at| match at {
            u64::MAX => Timestamp::from_secs(1).after(std::time::Duration::from_secs(u64::MAX)),
            at => Timestamp::from_secs(at),
        });
        assert_eq!(found.first().map(|one| one.due), expected, "{case}");
    }
}

#[test]
fn what_is_due_is_put_out_and_the_rest_later() {
    let world = World::new();
    node(&world, "n1", 4);
    let acme = tenant(&world, "acme");
    let key = || "down".parse().unwrap();
    let for_seconds = |n| Toleration::new(Tolerated::Exists(key())).for_seconds(n);
    put(&world, &acme, "n1", workload("a"));
    put(&world, &acme, "n1", workload("b").tolerating(for_seconds(30)));
    put(&world, &acme, "n1", workload("c").tolerating(Toleration::new(Tolerated::Exists(key()))));
    let down = [Taint::new(key(), "".parse().unwrap(), TaintEffect::NoExecute)];
    let id = "n1".parse().unwrap();
    let set = |second| {
        let who = admin("t").with_time(Timestamp::from_secs(second));
        world.commit(|view, txn| world.tenants.stage_set_taints(view, txn, &who, &id, &down)).unwrap();
    };
    set(100);
    // Set again, it is as old as it was.
    set(110);
    let mut steps = Vec::new();
    for second in [99, 100, 129, 130] {
        let now = Timestamp::from_secs(second);
        assert!(!world.commit(|view, txn| world.tenants.stage_evict(view, txn, &admin("e"), now)).unwrap());
        steps.push(nodes(&world)[0].2);
    }
    assert_eq!(steps, [3, 2, 2, 1]);
    let gone = world.tenants.displaced(&world.view(), &Txn::new(), &acme).unwrap();
    assert!(gone.iter().all(|one| one.by == DisplacedBy::Taint));
    let denied =
        world.commit(|view, txn| world.tenants.stage_evict(view, txn, &acme, Timestamp::from_secs(999)));
    assert_eq!(denied.unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn what_leaves_many_nodes_at_once_fits_a_transaction() {
    let world = World::new();
    let acme = tenant(&world, "acme");
    let down = [Taint::new("down".parse().unwrap(), "".parse().unwrap(), TaintEffect::NoExecute)];
    let who = admin("t").with_time(Timestamp::from_secs(100));
    for number in 0..40 {
        let name = format!("n{number}");
        node(&world, &name, 1);
        put(&world, &acme, &name, workload(&format!("w-{number}")));
        let id = name.parse().unwrap();
        world.commit(|view, txn| world.tenants.stage_set_taints(view, txn, &who, &id, &down)).unwrap();
    }
    let now = Timestamp::from_secs(100);
    let evict = || world.commit(|view, txn| world.tenants.stage_evict(view, txn, &admin("e"), now)).unwrap();
    let turns = (1..9).find(|_| !evict());
    assert!(turns.is_some(), "it ends");
    assert!(nodes(&world).iter().all(|(_, _, left)| *left == 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However many workloads of however many tenants, under any budgets: a drain never breaks one, puts out each once,
    /// and what it leaves it may not take.
    #[test]
    fn a_drain_takes_all_it_may_and_no_more(
        runs in prop::collection::vec((0usize..2, 0u8..3, any::<bool>()), 0..12),
        budgets in prop::collection::vec((0u8..3, 0u64..4), 0..4),
    ) {
        let world = World::new();
        node(&world, "n1", 20);
        node(&world, "n2", 20);
        let tenants = ["acme", "other"].map(|name| tenant(&world, name));
        let theirs: Vec<_> = budgets.iter().map(|(app, left)| {
            DisruptionBudget::new(tenants[0].tenant().clone(), format!("app=a{app}").parse().unwrap(), *left)
        }).collect();
        world.commit(|view, txn| world.tenants.stage_set_budgets(view, txn, &tenants[0], &theirs)).unwrap();
        for (number, (who, app, there)) in runs.iter().enumerate() {
            put(&world, &tenants[*who], if *there { "n1" } else { "n2" }, workload(&format!("a{app}-{number}")));
        }
        let done = remove(&world, &admin("r"), "n1", Removal::Drain).unwrap();
        // By hand: of each app, how many are anywhere, how many may go.
        let mut expected = 0;
        for app in 0..3 {
            let of = |who: usize, at: Option<bool>| runs.iter()
                .filter(|one| one.0 == who && one.1 == app && at.is_none_or(|at| one.2 == at)).count() as u64;
            let keep = budgets.iter().filter(|one| one.0 == app).map(|one| one.1).max().unwrap_or(0);
            expected += of(0, Some(true)).min(of(0, None).saturating_sub(keep)) + of(1, Some(true));
        }
        prop_assert_eq!(done.displaced.len() as u64, expected);
        prop_assert_eq!(done.left, runs.iter().filter(|one| one.2).count() - done.displaced.len());
        prop_assert_eq!(nodes(&world).len(), if done.is_done() { 1 } else { 2 });
    }
}
