//! Preemption through the store: one transaction, budgets kept, managers that race, and it ends.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::common;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use common::{World, admin, ctx};
use hivemind_core::labels::Labels;
use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::store::{Prefix, Txn};
use hivemind_core::{ErrorKind, NodeId, Result, StateStore, TenantContext, WorkloadId, block_on};
use hivemind_tenancy::placement::{
    DisplacedBy, DisruptionBudget, Node, NodeState, PlacementPolicy, Preemption, Reach, WorkloadRequest,
};
use hivemind_tenancy::{IsolationLevel, TenantSpec};
use proptest::prelude::*;

fn cores(n: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(n))
}

fn node(world: &World, name: &str, n: u64) {
    let node = Node::new(name.parse().unwrap(), cores(n));
    block_on(world.tenants.add_node(&admin(&format!("add-{name}")), node)).unwrap();
}

fn tenant(world: &World, name: &str, level: IsolationLevel) -> TenantContext {
    ctx(&world.tenant(TenantSpec::new(name.parse().unwrap()).with_isolation(level)).tenant, "r")
}

fn workload(name: &str, size: u64, priority: i32) -> WorkloadRequest {
    let app = name.split('-').next().unwrap();
    WorkloadRequest::new(name.parse().unwrap(), cores(size))
        .with_priority(priority)
        .with_labels(Labels::new().with("app", app).unwrap())
}

fn put(world: &World, who: &TenantContext, at: &str, asks: WorkloadRequest) {
    let decided = [(asks, at.parse().unwrap())];
    world.commit(|view, txn| world.tenants.stage_assign(view, txn, who, &decided)).unwrap();
}

fn preempt(world: &World, who: &TenantContext, asks: &WorkloadRequest, reach: Reach) -> Result<Preemption> {
    let policy = PlacementPolicy::default();
    world.commit(|view, txn| world.tenants.stage_preempt(view, txn, who, asks, reach, &policy))
}

fn budget(world: &World, who: &TenantContext, app: &str, left: u64) {
    let budget = DisruptionBudget::new(who.tenant().clone(), format!("app={app}").parse().unwrap(), left);
    world
        .commit(|view, txn| world.tenants.stage_set_budgets(view, txn, who, std::slice::from_ref(&budget)))
        .unwrap();
}

/// Who runs where, with the priority.
fn running(world: &World) -> BTreeMap<(String, WorkloadId), (NodeId, i32)> {
    let mut all = BTreeMap::new();
    for (node, here) in world.tenants.nodes(&world.view(), &Txn::new()).unwrap() {
        assert!(here.used.fits_in(&node.capacity), "{} is overfull", node.id);
        for (tenant, theirs) in &here.workloads {
            for (id, placed) in theirs {
                let before =
                    all.insert((tenant.id.to_string(), id.clone()), (node.id.clone(), placed.priority));
                assert!(before.is_none(), "{id} runs twice");
            }
        }
    }
    all
}

fn names(world: &World) -> Vec<String> {
    running(world).into_keys().map(|(_, id)| id.to_string()).collect()
}

#[test]
fn victims_go_and_the_more_important_comes_in_one_commit_and_it_is_on_record() {
    let world = World::new();
    node(&world, "n1", 2);
    let acme = tenant(&world, "acme", IsolationLevel::Soft);
    put(&world, &acme, "n1", workload("a", 1, 0));
    put(&world, &acme, "n1", workload("b", 1, 5));
    let decided = preempt(&world, &acme, &workload("w", 1, 9), Reach::OwnTenant).unwrap();
    assert_eq!((decided.node.as_str(), decided.victims.len()), ("n1", 1));
    assert_eq!(names(&world), ["b", "w"]);
    let view = world.view();
    let gone = world.tenants.displaced(&view, &Txn::new(), &acme).unwrap();
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].workload.as_str(), gone[0].by), ("a", DisplacedBy::Preemption));
    assert_eq!((gone[0].node.as_str(), &gone[0].was.resources), ("n1", &cores(1)));
    // Another tenant sees nothing of it, and the system all.
    let other = tenant(&world, "other", IsolationLevel::Soft);
    assert!(world.tenants.displaced(&view, &Txn::new(), &other).unwrap().is_empty());
    assert_eq!(world.tenants.displaced(&view, &Txn::new(), &admin("s")).unwrap().len(), 1);
    // The victim's name is free, and its record is forgotten once.
    node(&world, "n2", 1);
    put(&world, &acme, "n2", workload("a", 1, 0));
    let (a, n1) = ("a".parse().unwrap(), "n1".parse().unwrap());
    let forget = |who: &TenantContext| {
        world.commit(|view, txn| world.tenants.stage_forget_displaced(view, txn, who, &a, &n1))
    };
    assert_eq!(forget(&other).unwrap_err().kind(), ErrorKind::NotFound);
    forget(&acme).unwrap();
    assert_eq!(forget(&acme).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_refused_stages_nothing() {
    let world = World::new();
    node(&world, "n1", 1);
    let (acme, other) =
        (tenant(&world, "acme", IsolationLevel::Soft), tenant(&world, "rival", IsolationLevel::Soft));
    put(&world, &other, "n1", workload("b", 1, 0));
    let victim = |name: &str, who: &TenantContext| (who.tenant().clone(), name.parse().unwrap());
    let of = |victims| Preemption::new("n1".parse().unwrap(), victims);
    let (foreign, unknown, twice) = (
        of(vec![victim("b", &other)]),
        of(vec![victim("x", &acme)]),
        of(vec![victim("b", &other), victim("b", &other)]),
    );
    for (case, asks, decided, reach, kind) in [
        ("out of reach", workload("w", 1, 9), &foreign, Reach::OwnTenant, ErrorKind::Denied),
        ("an equal", workload("w", 1, 0), &foreign, Reach::AllTenants, ErrorKind::Conflict),
        ("gone", workload("w", 1, 9), &unknown, Reach::AllTenants, ErrorKind::Conflict),
        ("named twice", workload("w", 2, 9), &twice, Reach::AllTenants, ErrorKind::Conflict),
        ("not enough", workload("w", 2, 9), &foreign, Reach::AllTenants, ErrorKind::Conflict),
        (
            "elsewhere",
            workload("w", 1, 9).on("zone=x".parse().unwrap()),
            &foreign,
            Reach::AllTenants,
            ErrorKind::Conflict,
        ),
    ] {
        let (view, mut txn) = (world.view(), Txn::new());
        let error = world.tenants.stage_put_out(&view, &mut txn, &acme, &asks, decided, reach).unwrap_err();
        assert_eq!(error.kind(), kind, "{case}: {error}");
        assert!(txn.is_empty(), "{case}");
        assert!(!error.to_string().contains("rival"), "{case} names another tenant: {error}");
    }
    assert_eq!(names(&world), ["b"]);
}

/// What runs together now would still run together while the victim stops.
#[test]
fn an_isolated_tenant_does_not_take_a_node_from_others_by_force() {
    let world = World::new();
    node(&world, "n1", 1);
    let (hard, soft) =
        (tenant(&world, "hard", IsolationLevel::Hard), tenant(&world, "soft", IsolationLevel::Soft));
    put(&world, &soft, "n1", workload("a", 1, 0));
    let error = preempt(&world, &hard, &workload("w", 1, 9), Reach::AllTenants).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(names(&world), ["a"]);
}

#[test]
fn two_stagings_into_one_transaction_see_each_other() {
    let world = World::new();
    node(&world, "n1", 2);
    let acme = tenant(&world, "acme", IsolationLevel::Soft);
    budget(&world, &acme, "a", 1);
    put(&world, &acme, "n1", workload("a-1", 1, 0));
    put(&world, &acme, "n1", workload("a-2", 1, 0));
    let (view, mut txn) = (world.view(), Txn::new());
    let policy = PlacementPolicy::default();
    let mut stage = |asks: &WorkloadRequest| {
        let done = world.tenants.stage_preempt(&view, &mut txn, &acme, asks, Reach::OwnTenant, &policy);
        done.map(|done| done.victims.len()).map_err(|e| e.kind())
    };
    assert_eq!(stage(&workload("w", 1, 9)), Ok(1));
    assert_eq!(stage(&workload("v", 1, 9)), Err(ErrorKind::Exhausted), "the budget keeps the other one");
    block_on(world.store.commit(&txn)).unwrap();
    assert_eq!(names(&world).len(), 2);
}

#[test]
fn two_that_would_break_a_budget_together_meet_on_different_nodes() {
    for case in ["preempt", "take away", "terminate", "set", "node fails"] {
        let world = World::new();
        node(&world, "n1", 1);
        node(&world, "n2", 1);
        let acme = tenant(&world, "acme", IsolationLevel::Soft);
        budget(&world, &acme, "a", 1);
        put(&world, &acme, "n1", workload("a-1", 1, 0));
        put(&world, &acme, "n2", workload("a-2", 1, 0));
        let view = world.view();
        let out = |name: &str, victim: &str, at: &str| {
            let mut txn = Txn::new();
            let victims = vec![(acme.tenant().clone(), victim.parse().unwrap())];
            let decided = Preemption::new(at.parse().unwrap(), victims);
            let asks = workload(name, 1, 9);
            world.tenants.stage_put_out(&view, &mut txn, &acme, &asks, &decided, Reach::OwnTenant).unwrap();
            txn
        };
        let first = match case {
            "preempt" => out("v", "a-1", "n1"),
            _ => {
                let mut txn = Txn::new();
                let (a, n1) = ("a-1".parse().unwrap(), "n1".parse().unwrap());
                match case {
                    "take away" => {
                        let gone = BTreeMap::from([(a, n1)]);
                        world.tenants.stage_unplace(&view, &mut txn, &acme, &gone).unwrap();
                    }
                    "node fails" => {
                        let root = admin("fails");
                        world
                            .tenants
                            .stage_set_node_state(&view, &mut txn, &root, &n1, NodeState::Failed)
                            .unwrap();
                    }
                    "terminate" => world.tenants.stage_terminate(&view, &mut txn, &acme, &a, &n1).unwrap(),
                    _ => {
                        let two = DisruptionBudget::new(acme.tenant().clone(), "app=a".parse().unwrap(), 2);
                        world.tenants.stage_set_budgets(&view, &mut txn, &acme, &[two]).unwrap();
                    }
                }
                txn
            }
        };
        let second = out("w", "a-2", "n2");
        block_on(world.store.commit(&first)).unwrap();
        assert_eq!(block_on(world.store.commit(&second)).unwrap_err().kind(), ErrorKind::Conflict, "{case}");
        // Decided again on the newer state, it is refused for the budget.
        let again = preempt(&world, &acme, &workload("w", 1, 9), Reach::OwnTenant);
        let victims = again.map(|done| done.victims.iter().map(|(_, id)| id.to_string()).collect());
        let expected: Option<Vec<String>> = match case {
            "take away" => Some(Vec::new()),
            // It no longer counts, so that nothing keeps it.
            "terminate" => Some(vec!["a-1".to_owned()]),
            _ => None,
        };
        assert_eq!(victims.ok(), expected, "{case}");
    }
}

/// A budget that comes into being beside a preemption is seen by one of the two.
#[test]
fn a_first_budget_meets_what_it_would_forbid() {
    let world = World::new();
    node(&world, "n1", 1);
    let acme = tenant(&world, "acme", IsolationLevel::Soft);
    put(&world, &acme, "n1", workload("a", 1, 0));
    let (view, mut txn) = (world.view(), Txn::new());
    let policy = PlacementPolicy::default();
    let asks = workload("w", 1, 9);
    world.tenants.stage_preempt(&view, &mut txn, &acme, &asks, Reach::OwnTenant, &policy).unwrap();
    budget(&world, &acme, "a", 1);
    assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(preempt(&world, &acme, &asks, Reach::OwnTenant).unwrap_err().kind(), ErrorKind::Exhausted);
}

#[test]
fn budgets_are_of_the_own_tenant_and_go_with_it() {
    let world = World::new();
    let (acme, other) =
        (tenant(&world, "acme", IsolationLevel::Soft), tenant(&world, "other", IsolationLevel::Soft));
    let foreign = DisruptionBudget::new(other.tenant().clone(), "app=a".parse().unwrap(), 1);
    let set = |budgets: &[DisruptionBudget]| {
        world.commit(|view, txn| world.tenants.stage_set_budgets(view, txn, &acme, budgets))
    };
    assert_eq!(set(&[foreign]).unwrap_err().kind(), ErrorKind::Invalid);
    let own = DisruptionBudget::new(acme.tenant().clone(), "app=a".parse().unwrap(), 1);
    assert_eq!(set(&vec![own.clone(); 65]).unwrap_err().kind(), ErrorKind::Invalid);
    set(std::slice::from_ref(&own)).unwrap();
    let of = |who| world.tenants.budgets(&world.view(), &Txn::new(), who).unwrap();
    assert_eq!((of(&acme), of(&other)), (vec![own], vec![]));
    for request in ["d1", "d2", "d3"] {
        let _ = block_on(world.tenants.delete(&admin(request), &acme.tenant().id));
    }
    let is_left = |key: String| key.contains("disruption-budgets");
    assert!(!world.view().scan(&Prefix::ROOT).any(|record| is_left(record.key.to_string())));
}

/// What a manager decided on a state that may be old by the time it commits.
type Open = Option<(Txn, WorkloadId, Preemption)>;

/// The priorities that run, the highest first.
fn potential(all: &BTreeMap<(String, WorkloadId), (NodeId, i32)>) -> Vec<Reverse<i32>> {
    let mut priorities: Vec<_> = all.values().map(|(_, priority)| Reverse(*priority)).collect();
    priorities.sort();
    priorities
}

fn is_larger(after: &[Reverse<i32>], before: &[Reverse<i32>]) -> bool {
    let first = before.iter().zip(after).position(|(before, after)| before != after);
    first.map_or(after.len() > before.len(), |at| after[at] < before[at])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Two managers read, decide and commit in any order: every commit is progress by the same potential, no node is
    /// overfull, no budget is broken, nobody who was put out ever puts out who did it; and alone, each ends.
    #[test]
    fn pitfall_07_two_managers_make_progress_and_end(
        sizes in prop::collection::vec(1u64..5, 1..4),
        asks in prop::collection::vec((0usize..2, 1u64..4, 0i32..4), 1..9),
        steps in prop::collection::vec((0usize..2, any::<bool>(), any::<prop::sample::Index>()), 0..30),
        left in 0u64..3,
    ) {
        let world = World::new();
        for (number, size) in sizes.iter().enumerate() {
            node(&world, &format!("n{number}"), *size);
        }
        let tenants = ["a", "b"].map(|name| tenant(&world, name, IsolationLevel::Soft));
        budget(&world, &tenants[0], "w0", left);
        let all: Vec<_> = asks.iter().enumerate().map(|(number, (who, size, priority))| {
            (&tenants[*who], workload(&format!("w{}-{number}", number % 2), *size, *priority))
        }).collect();
        let protected = |all: &BTreeMap<(String, WorkloadId), (NodeId, i32)>| {
            all.keys().filter(|(tenant, id)| tenant == "a" && id.as_str().starts_with("w0")).count() as u64
        };
        let policy = PlacementPolicy::default();
        let mut open: [Open; 2] = [None, None];
        let mut put_out = BTreeSet::new();
        let mut check = |txn: &Txn, id: &WorkloadId, decided: &Preemption| -> std::result::Result<bool, TestCaseError> {
            let before = running(&world);
            if let Err(e) = block_on(world.store.commit(txn)) {
                prop_assert_eq!(e.kind(), ErrorKind::Conflict);
                prop_assert_eq!(running(&world), before);
                return Ok(false);
            }
            let after = running(&world);
            prop_assert!(is_larger(&potential(&after), &potential(&before)));
            prop_assert!(protected(&after) >= protected(&before).min(left));
            prop_assert!(after.keys().any(|(_, one)| one == id));
            for (_, victim) in &decided.victims {
                prop_assert!(!put_out.contains(&(victim.clone(), id.clone())), "{} once put out {}", victim, id);
                put_out.insert((id.clone(), victim.clone()));
            }
            Ok(true)
        };
        let decide = |who: &TenantContext, asks: &WorkloadRequest| {
            let (view, mut txn) = (world.view(), Txn::new());
            let decided = world.tenants.stage_preempt(&view, &mut txn, who, asks, Reach::AllTenants, &policy);
            decided.ok().map(|decided| (txn, asks.id.clone(), decided))
        };
        for (manager, commits, index) in steps {
            if commits {
                if let Some((txn, id, decided)) = open[manager].take() {
                    check(&txn, &id, &decided)?;
                }
            } else {
                let (who, asks) = &all[index.index(all.len())];
                open[manager] = decide(who, asks);
            }
        }
        // From here everybody in turn, until nothing moves.
        let mut rounds = 0;
        loop {
            let mut moved = false;
            for (who, asks) in &all {
                if let Some((txn, id, decided)) = decide(who, asks) {
                    prop_assert!(check(&txn, &id, &decided)?, "nobody else commits now");
                    moved = true;
                }
            }
            if !moved { break }
            rounds += 1;
            prop_assert!(rounds <= 1 << all.len(), "it goes in circles");
        }
    }
}
