//! Existing records become tenants', as a dry run said, and go back as they were.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod common;
#[path = "common/tenure.rs"]
mod tenure;
#[path = "common/things.rs"]
mod things;

use std::collections::BTreeMap;

use common::{World, admin, ctx};
use hivemind_core::store::{Key, Prefix, Txn};
use hivemind_core::{ErrorKind, RequestId, StateStore, TenantContext, TenantRef, Timestamp, block_on};
use hivemind_tenancy::adoption::{
    AdoptionPhase, AdoptionPlan, AdoptionProblem, AdoptionRule, AdoptionStatus, AdoptionStep, Unresolved,
};
use hivemind_tenancy::{Adoption, TenantState};
use tenure::{born, dies, gets_into};
use things::{Things, all, free, of};

fn id() -> RequestId {
    "adopt-1".parse().unwrap()
}

fn put(world: &World, key: Key, value: impl Into<Vec<u8>>) {
    let mut txn = Txn::new();
    txn.put(key, value.into());
    block_on(world.store.commit(&txn)).unwrap();
}

fn plan(world: &World, rules: &[AdoptionRule]) -> AdoptionPlan {
    Adoption::new().plan(&world.view(), &admin("r"), &Things, rules).unwrap()
}

fn start(world: &World, plan: &AdoptionPlan) -> hivemind_core::Result<()> {
    world.commit(|view, txn| Adoption::new().stage_start(view, txn, &admin("r"), &id(), plan))
}

fn step(world: &World, adoption: Adoption) -> AdoptionStep {
    world.commit(|view, txn| adoption.stage_step(view, txn, &admin("r"), &id(), &Things)).unwrap()
}

fn undo(world: &World) -> AdoptionStep {
    world.commit(|view, txn| Adoption::new().stage_undo(view, txn, &admin("r"), &id())).unwrap()
}

fn status(world: &World) -> AdoptionStatus {
    Adoption::new().status(&world.view(), &admin("r"), &id()).unwrap()
}

fn adopt_all(world: &World) {
    while step(world, Adoption::new()).phase == AdoptionPhase::Running {}
}

fn undo_all(world: &World) {
    while undo(world).phase != AdoptionPhase::Undone {}
}

fn problems(plan: &AdoptionPlan) -> BTreeMap<Key, AdoptionProblem> {
    plan.problems.iter().map(|left| (left.key.clone(), left.problem.clone())).collect()
}

#[test]
fn a_dry_run_tells_everything_and_changes_nothing() {
    let world = World::new();
    let [acme, globex, gone, leaving] = ["acme", "globex", "gone", "leaving"].map(|id| born(&world, id, 0));
    dies(&world, &gone);
    gets_into(&world, &leaving, TenantState::Terminating { since: Timestamp::EPOCH });
    for (kind, name, value) in [
        ("moving", "a1", "team=a;"),
        ("moving", "b1", "team=b;"),
        ("moving", "ab", "team=a;"),
        ("moving", "nobodys", ""),
        ("moving", "damaged", "?"),
        ("moving", "a-lost", "team=gone;"),
        ("moving", "a-leaving", "team=leaving;"),
        ("shrinking", "twin1", "team=a;"),
        ("shrinking", "twin2", "team=a;"),
        ("staying", "a2", "team=a;"),
        ("stubborn", "a3", "team=a;"),
        ("greedy", "a4", "team=a;"),
        ("moving", "taken", "team=a;"),
    ] {
        put(&world, free(kind, name), value);
    }
    put(&world, of(&acme, "moving", "taken"), "team=b;");
    put(&world, of(&globex, "moving", "theirs"), "team=a;");
    put(&world, free("moving", "huge"), [&b"team=a;"[..], &vec![b'x'; 700_000]].concat());
    put(&world, Key::new(["things", "other"]).unwrap(), "no resource");
    let labelled = |team: &str, tenant: &TenantRef| {
        AdoptionRule::to(tenant.clone()).labelled(format!("team={team}").parse().unwrap())
    };
    let rules = [
        labelled("a", &acme),
        labelled("b", &globex),
        labelled("gone", &gone),
        labelled("leaving", &leaving),
        AdoptionRule::to(globex.clone()).named_like("ab").kind("moving".parse().unwrap()),
    ];
    let before = block_on(world.store.revision()).unwrap();
    let plan = plan(&world, &rules);
    let moves: Vec<_> = plan.moves.iter().map(|one| (one.name.as_str(), &one.to, &one.tenant)).collect();
    assert_eq!(
        moves,
        [
            ("a1", &of(&acme, "moving", "a1"), &acme),
            ("b1", &of(&globex, "moving", "b1"), &globex),
            ("twin1", &of(&acme, "shrinking", "twin"), &acme),
            ("a2", &free("staying", "a2"), &acme),
        ]
    );
    let problems = problems(&plan);
    let of_thing = |kind, name| problems[&free(kind, name)].to_string();
    assert_eq!(of_thing("moving", "ab"), "rules give it to acme and to globex: narrow them down");
    assert_eq!(of_thing("moving", "damaged"), "it cannot be read: describe: internal error: it is damaged");
    let gone = "takes nothing: it is gone, created anew, or being deleted";
    assert_eq!(of_thing("moving", "a-lost"), format!("tenant gone {gone}"));
    assert_eq!(of_thing("moving", "a-leaving"), format!("tenant leaving {gone}"));
    assert!(
        matches!(&problems[&free("moving", "taken")], AdoptionProblem::TargetTaken(key) if *key == of(&acme, "moving", "taken"))
    );
    assert!(matches!(&problems[&free("shrinking", "twin2")], AdoptionProblem::TargetTaken(_)));
    assert!(matches!(&problems[&free("moving", "huge")], AdoptionProblem::TooLarge { .. }));
    assert!(of_thing("stubborn", "a3").contains("what it becomes is not tenant acme's"));
    assert!(matches!(&problems[&free("greedy", "a4")], AdoptionProblem::Refused(_)));
    assert_eq!(problems.len(), 9);
    assert_eq!((plan.unmatched, plan.owned), (vec![free("moving", "nobodys")], 2));
    assert_eq!(block_on(world.store.revision()).unwrap(), before);
}

#[test]
fn a_plan_with_problems_is_not_started_unless_they_are_to_be_left() {
    let world = World::new();
    let acme = born(&world, "acme", 0);
    put(&world, free("moving", "a"), "a");
    put(&world, free("moving", "b"), "?");
    let before = all(&world.view());
    let plan = plan(&world, &[AdoptionRule::to(acme.clone())]);
    let error = start(&world, &plan).unwrap_err();
    assert_eq!((error.kind(), error.detail::<Unresolved>().unwrap().count), (ErrorKind::Invalid, 1));
    assert!(
        error
            .message()
            .starts_with("1 resources cannot be adopted, the first is things/free/moving/b: it cannot")
    );
    let mut empty = plan.clone().leaving_problems();
    empty.moves.clear();
    assert_eq!(start(&world, &empty).unwrap_err().kind(), ErrorKind::Invalid);
    let mut later = plan.clone().leaving_problems();
    later.revision = later.revision.next();
    assert!(start(&world, &later).unwrap_err().message().starts_with("the plan is of revision"));
    assert_eq!(all(&world.view()), before);

    start(&world, &plan.clone().leaving_problems()).unwrap();
    assert_eq!(start(&world, &plan.leaving_problems()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    adopt_all(&world);
    assert_eq!(
        all(&world.view()).keys().cloned().collect::<Vec<_>>(),
        [free("moving", "b"), of(&acme, "moving", "a")]
    );
    let status = status(&world);
    assert_eq!((status.planned, status.moved, status.left.len()), (1, 1, 1));
    undo_all(&world);
    assert_eq!(all(&world.view()), before);
}

#[test]
fn what_changed_since_the_plan_is_reported_and_not_overwritten() {
    let world = World::new();
    let acme = born(&world, "acme", 0);
    for name in ["a", "b", "c", "d"] {
        put(&world, free("moving", name), name);
    }
    let plan = plan(&world, &[AdoptionRule::to(acme.clone())]);
    put(&world, free("moving", "b"), "b changed");
    start(&world, &plan).unwrap();
    step(&world, Adoption::new().with_step(1));
    put(&world, free("moving", "d2"), "new");
    put(&world, of(&acme, "moving", "c"), "somebody else's");
    adopt_all(&world);
    let now = all(&world.view());
    assert_eq!(now[&free("moving", "b")], b"b changed");
    assert_eq!(now[&free("moving", "d2")], b"new");
    assert_eq!(
        (&now[&free("moving", "c")][..], &now[&of(&acme, "moving", "c")][..]),
        (&b"c"[..], &b"somebody else's"[..])
    );
    let left: BTreeMap<_, _> = status(&world).left.into_iter().map(|left| (left.key, left.problem)).collect();
    assert_eq!(left.len(), 3);
    assert_eq!(left[&free("moving", "b")], AdoptionProblem::ChangedSincePlan);
    assert_eq!(left[&free("moving", "d2")], AdoptionProblem::ChangedSincePlan);
    assert!(matches!(left[&free("moving", "c")], AdoptionProblem::TargetTaken(_)));
}

#[test]
fn an_undo_leaves_what_was_changed_since_and_keeps_what_it_was() {
    let world = World::new();
    let acme = born(&world, "acme", 0);
    for name in ["a", "b", "c", "d"] {
        put(&world, free("moving", name), [b"\xff\x00", name.as_bytes()].concat());
    }
    let before = all(&world.view());
    let plan = plan(&world, &[AdoptionRule::to(acme.clone())]);
    start(&world, &plan).unwrap();
    adopt_all(&world);
    // The same value put again is a change, too.
    put(&world, of(&acme, "moving", "a"), before[&free("moving", "a")].clone());
    put(&world, free("moving", "b"), "a new b");
    let mut txn = Txn::new();
    txn.delete(of(&acme, "moving", "c"));
    block_on(world.store.commit(&txn)).unwrap();
    undo_all(&world);
    let now = all(&world.view());
    assert_eq!(now[&free("moving", "d")], before[&free("moving", "d")]);
    assert_eq!(now[&free("moving", "b")], b"a new b");
    assert!(!now.contains_key(&free("moving", "a")) && !now.contains_key(&free("moving", "c")));
    let status = status(&world);
    assert_eq!((status.phase, status.moved, status.restored), (AdoptionPhase::Undone, 4, 1));
    let again = world.commit(|view, txn| Adoption::new().stage_step(view, txn, &admin("r"), &id(), &Things));
    assert_eq!(again.unwrap_err().message(), "adoption adopt-1 has been undone: start another");
    let left: Vec<_> = status.left.iter().map(|left| left.key.clone()).collect();
    assert_eq!(left, ["c", "b", "a"].map(|name| of(&acme, "moving", name)));
    let (view, kept) = (world.view(), Prefix::new(["tenancy", "adoption-kept"]).unwrap());
    let kept: Vec<_> = view.scan(&kept).map(|record| String::from_utf8_lossy(&record.value)).collect();
    assert!(kept.iter().any(|text| text.contains("ff0061")), "{kept:?}");
}

#[test]
fn what_is_forgotten_cannot_be_undone_and_what_is_not_at_an_end_is_not_forgotten() {
    let world = World::new();
    let acme = born(&world, "acme", 0);
    for name in ["a", "b", "c"] {
        put(&world, free("moving", name), name);
    }
    let plan = plan(&world, &[AdoptionRule::to(acme)]);
    start(&world, &plan).unwrap();
    let one = Adoption::new().with_step(1);
    let forget = || world.commit(|view, txn| one.stage_forget(view, txn, &admin("r"), &id()));
    step(&world, one);
    assert_eq!(forget().unwrap_err().kind(), ErrorKind::Invalid);
    while step(&world, one).phase == AdoptionPhase::Running {}
    assert!(!forget().unwrap());
    let undo = world.commit(|view, txn| one.stage_undo(view, txn, &admin("r"), &id())).unwrap_err();
    assert!(undo.message().contains("there is no way back"), "{undo}");
    assert!(!forget().unwrap());
    assert!(forget().unwrap());
    assert_eq!(forget().unwrap_err().kind(), ErrorKind::NotFound);
    let (left, all) = (world.view(), hivemind_tenancy::prefix().unwrap());
    let mut left = left.scan(&all).map(|record| record.key.to_string());
    assert!(left.all(|key| !key.contains("adopt")), "something of the adoption is left");
}

#[test]
fn a_tenant_deleted_meanwhile_gets_nothing() {
    let world = World::new();
    let acme = born(&world, "acme", 0);
    put(&world, free("moving", "a"), "a");
    let plan = plan(&world, &[AdoptionRule::to(acme.clone())]);
    start(&world, &plan).unwrap();
    let (view, mut txn) = (world.view(), Txn::new());
    Adoption::new().stage_step(&view, &mut txn, &admin("r"), &id(), &Things).unwrap();
    dies(&world, &acme);
    assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
    born(&world, "acme", 1);
    let step = step(&world, Adoption::new());
    assert_eq!((step.moved.len(), &step.left[0].problem), (0, &AdoptionProblem::TenantGone(acme)));
}

#[test]
fn only_the_system_hears_of_adoptions() {
    let world = World::new();
    let (acme, globex) = (born(&world, "acme", 0), born(&world, "globex", 0));
    put(&world, free("moving", "a"), "a");
    let plan = plan(&world, &[AdoptionRule::to(acme.clone())]);
    start(&world, &plan).unwrap();
    step(&world, Adoption::new());
    let before = block_on(world.store.revision()).unwrap();
    let (view, adoption) = (world.view(), Adoption::new());
    let told = |ctx: &TenantContext, id: &RequestId| {
        let mut txn = Txn::new();
        let told = [
            adoption.plan(&view, ctx, &Things, &plan.rules).map(drop),
            adoption.stage_start(&view, &mut txn, ctx, id, &plan),
            adoption.stage_step(&view, &mut txn, ctx, id, &Things).map(drop),
            adoption.stage_undo(&view, &mut txn, ctx, id).map(drop),
            adoption.stage_forget(&view, &mut txn, ctx, id).map(drop),
            adoption.status(&view, ctx, id).map(drop),
        ];
        assert!(txn.is_empty());
        told.map(|told| told.unwrap_err()).map(|e| (e.kind(), e.to_string()))
    };
    for tenant in [&acme, &globex] {
        let there = told(&ctx(tenant, "r"), &id());
        assert!(there.iter().all(|(kind, _)| *kind == ErrorKind::Denied));
        assert_eq!(there, told(&ctx(tenant, "r"), &"no-such".parse().unwrap()));
    }
    assert_eq!(block_on(world.store.revision()).unwrap(), before);
}
