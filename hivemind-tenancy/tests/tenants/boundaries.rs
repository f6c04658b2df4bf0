//! What an owner may not learn, gain or leave behind by administering tenants.

use hivemind_core::store::{Key, Txn};
use hivemind_core::{
    ErrorKind, Generation, Principal, StateStore, TenantContext, TenantRef, Timestamp, Verb, block_on,
};
use hivemind_tenancy::quota::{QuotaRule, QuotaSpec, WhenOver};
use hivemind_tenancy::rbac::{Escalation, Inherit, Rule, Scope, Subject};
use hivemind_tenancy::share::ShareOffer;
use hivemind_tenancy::tenant::DeletionOutcome;
use hivemind_tenancy::{NameClaims, Role, RoleBinding, Shares, TenantSpec};

use crate::common::{World, admin, ctx, user};

fn spec(id: &str) -> TenantSpec {
    TenantSpec::new(id.parse().unwrap())
}

/// The system's context for `tenant`, with a time.
fn within(tenant: &TenantRef, request: &str) -> TenantContext {
    ctx(tenant, request).with_time(Timestamp::from_secs(1))
}

fn bind(world: &World, request: &str, role: &str, tenant: &TenantRef, who: &str) {
    let name = request.parse().unwrap();
    let subject = Subject::Principal(user(who));
    let scope = Scope::Tenant(tenant.clone());
    let one = RoleBinding::new(name, role.parse().unwrap(), scope, [subject]).with_inherit(Inherit::Down);
    block_on(world.tenants.bind(&admin(request), one)).unwrap();
}

#[test]
fn a_foreign_deletion_looks_like_one_of_a_tenant_that_is_gone() {
    let world = World::new();
    let ada = Subject::Principal(user("ada"));
    let acme = world.tenant(spec("acme").with_owner(ada)).tenant;
    let globex = world.tenant(spec("globex")).tenant;
    let nobody = TenantRef::new("nobody".parse().unwrap(), Generation::from_u64(1));
    let before = world.view().revision();
    let told = |tenant: &TenantRef| {
        let progress = block_on(world.tenants.advance_deletion(&ctx(&acme, "a"), tenant));
        format!("{progress:?}").replace(&format!("{tenant:?}"), "T")
    };
    assert_eq!(told(&globex), told(&nobody));
    assert_eq!(world.view().revision(), before);
    // The tenant's own deletion is for those above it.
    block_on(world.tenants.delete(&admin("d"), &globex.id)).unwrap();
    let begin = |view: &_, txn: &mut _| {
        world.tenants.stage_begin_deletion(view, txn, &admin("d"), &acme.id, Timestamp::EPOCH)
    };
    world.commit(begin).unwrap();
    let own = block_on(world.tenants.advance_deletion(&ctx(&acme, "own"), &acme)).unwrap_err();
    assert_eq!(own.kind(), ErrorKind::Denied);
}

#[test]
fn a_service_account_does_not_own_beyond_the_life_of_its_tenant() {
    let world = World::new();
    let tools = world.tenant(spec("tools")).tenant;
    let robot = Principal::ServiceAccount { tenant: tools.clone(), name: "robot".parse().unwrap() };
    let acme = world.tenant(spec("acme").with_owner(Subject::Principal(robot.clone()))).tenant;
    let as_robot = |request: &str| TenantContext::new(acme.clone(), robot.clone(), request.parse().unwrap());
    block_on(world.tenants.create(&as_robot("c1"), spec("one").below(acme.clone()))).unwrap();
    block_on(world.tenants.delete(&admin("d"), &tools.id)).unwrap();
    let late = block_on(world.tenants.create(&as_robot("c2"), spec("two").below(acme.clone())));
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn what_is_drained_below_is_told_to_those_above() {
    let world = World::new();
    let a = world.tenant(spec("a")).tenant;
    let b = world.tenant(spec("b").below(a.clone())).tenant;
    block_on(world.tenants.suspend(&admin("s"), &b.id, Some(Timestamp::from_secs(9)))).unwrap();
    let drains = world.tenants.drains(&world.view(), &ctx(&a, "r")).unwrap();
    assert_eq!(drains.iter().map(|one| &one.tenant).collect::<Vec<_>>(), [&b]);
}

#[test]
fn a_move_hands_out_no_more_than_the_mover_holds() {
    let world = World::new();
    let owner = || Subject::Principal(user("ada"));
    let root = world.tenant(spec("root").with_owner(owner())).tenant;
    let left = world.tenant(spec("left").below(root.clone())).tenant;
    let right = world.tenant(spec("right").below(root.clone())).tenant;
    let moved = world.tenant(spec("moved").below(left.clone())).tenant;
    let role = |name: &str, rule| Role::new(name.parse().unwrap(), [rule]);
    block_on(world.tenants.put_role(&admin("p1"), role("all", Rule::allow()))).unwrap();
    block_on(world.tenants.put_role(&admin("p2"), role("none", Rule::deny().verbs([Verb::Delete])))).unwrap();
    let ada = |request: &str| ctx(&root, request);
    let reparent =
        |request: &str, to: &TenantRef| block_on(world.tenants.reparent(&ada(request), &moved.id, Some(to)));
    // Nothing is inherited on either side: who owns both may move.
    reparent("m1", &right).unwrap();
    reparent("m2", &left).unwrap();
    // Whoever holds something in the new parent would hold it in what is moved, too: here the mover itself.
    bind(&world, "b1", "all", &right, "ada");
    let gained = reparent("m3", &right).unwrap_err();
    assert_eq!(gained.kind(), ErrorKind::Denied);
    assert!(gained.detail::<Escalation>().is_some());
    // One that holds it above both gains nothing.
    bind(&world, "b2", "all", &root, "ada");
    reparent("m4", &right).unwrap();
    // What is denied in the old parent is not shaken off: the mover is denied it, too.
    bind(&world, "b3", "none", &right, "ada");
    assert!(reparent("m5", &left).unwrap_err().detail::<Escalation>().is_some());
    // In the system's context it is the host that answers for it.
    block_on(world.tenants.reparent(&admin("m6"), &moved.id, Some(&left))).unwrap();
}

#[test]
fn nothing_of_a_tenant_stays_when_it_is_gone() {
    let world = World::new();
    let (acme, globex) = (world.tenant(spec("acme")).tenant, world.tenant(spec("globex")).tenant);
    let own = within(&acme, "r");
    let role = |number: usize| Role::new(format!("own-{number}").parse().unwrap(), [Rule::allow()]);
    for number in 0..70 {
        let request = format!("p{number}");
        block_on(world.tenants.put_role(&admin(&request), role(number).of_tenant(acme.clone()))).unwrap();
    }
    let bound = RoleBinding::new(
        "b".parse().unwrap(),
        "own-1".parse().unwrap(),
        Scope::Tenant(acme.clone()),
        [Subject::Principal(user("ada"))],
    );
    block_on(world.tenants.bind(&admin("b"), bound.with_role_of(acme.clone()))).unwrap();
    let rule = QuotaRule::default().with_max(5);
    let quota = QuotaSpec::new().with_rule("cpu".parse().unwrap(), rule);
    block_on(world.tenants.set_quota(&admin("q"), &acme.id, quota, WhenOver::Refuse)).unwrap();
    for number in 0..70 {
        let name = format!("hosts:h{number}.example.org").parse().unwrap();
        world.commit(|view, txn| NameClaims.stage_claim(view, txn, &own, &name)).unwrap();
    }
    let offer = ShareOffer::new(globex.clone(), "volumes".parse().unwrap(), [Verb::Get]);
    world.commit(|view, txn| Shares.stage_offer(view, txn, &own, &offer)).unwrap();
    let offer = ShareOffer::new(acme.clone(), "volumes".parse().unwrap(), [Verb::Get]);
    let theirs = within(&globex, "o");
    let offered = world.commit(|view, txn| Shares.stage_offer(view, txn, &theirs, &offer)).unwrap();
    world.commit(|view, txn| Shares.stage_accept(view, txn, &own, &offered.share)).unwrap();

    let gone = block_on(world.tenants.delete(&admin("d"), &acme.id)).unwrap();
    assert_eq!(gone.outcome, DeletionOutcome::Done);
    let left: Vec<String> = world
        .view()
        .scan(&hivemind_tenancy::prefix().unwrap())
        .filter(|record| {
            let text = format!("{} {}", record.key, String::from_utf8_lossy(&record.value));
            text.contains("acme")
        })
        .map(|record| record.key.to_string())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_damaged_foreign_tenant_is_not_told_of() {
    let world = World::new();
    let (acme, top) = (world.tenant(spec("acme")).tenant, world.tenant(spec("top")).tenant);
    let below = world.tenant(spec("below").below(top)).tenant;
    let mut txn = Txn::new();
    txn.delete(Key::new(["tenancy", "tenants", "top"]).unwrap());
    block_on(world.store.commit(&txn)).unwrap();
    let damaged = block_on(world.tenants.get(&ctx(&acme, "g"), &below.id)).unwrap_err();
    assert_eq!((damaged.kind(), damaged.message()), (ErrorKind::NotFound, "there is no tenant below"));
    assert_eq!(block_on(world.tenants.get(&admin("g"), &below.id)).unwrap_err().kind(), ErrorKind::Corrupt);
}
