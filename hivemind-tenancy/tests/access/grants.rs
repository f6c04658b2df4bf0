//! Nobody hands out more than they hold.

use std::cell::Cell;

use hivemind_core::store::{Prefix, Txn};
use hivemind_core::{
    AccessRequest, ErrorKind, Principal, Result, StateStore, StateStoreExt, TenantContext, TenantRef,
    Timestamp, Verb, block_on,
};
use hivemind_tenancy::rbac::{
    AccessHandle, AccessIndex, Escalation, Inherit, Rule, Scope, StalePolicy, Subject,
};
use hivemind_tenancy::{Role, RoleBinding, TenantManager, TenantSpec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

use crate::common::{World, admin};
use crate::model::{KINDS, NAMES, State, VERBS, binding, labels, rule, state, tenant, user};

/// One change of roles and bindings.
#[derive(Debug, Clone)]
enum Op {
    Bind(RoleBinding),
    Unbind(Index),
    PutRole(Index, Vec<Rule>),
    DeleteRole(Index),
}

fn role_named(name: &str, rules: Vec<Rule>) -> Role {
    Role::new(name.parse().unwrap(), rules)
}

/// A state in which ada holds a good deal, by one binding and what there is at random, and may hand out roles.
fn with_grantor() -> impl Strategy<Value = State> {
    (state(), prop::collection::vec(rule(), 0..2)).prop_flat_map(|(mut state, rules)| {
        let granter = Rule::allow().verbs([Verb::Grant, Verb::Create, Verb::Update, Verb::Delete]);
        state.roles.push(role_named("granter", vec![granter.kind("roles".parse().unwrap())]));
        state.roles.push(role_named("own", std::iter::once(Rule::allow()).chain(rules).collect()));
        let own = state.roles.iter().filter(|role| role.name.as_str() == "own").cloned().collect();
        (Just(state), binding(own), prop::bool::weighted(0.4)).prop_map(|(mut state, mut own, global)| {
            let ada = || [Subject::Principal(user("ada"))];
            let name = |name: &str| name.parse().unwrap();
            state.bindings.push(RoleBinding::new(name("granter"), name("granter"), Scope::Global, ada()));
            (own.name, own.role, own.subjects) = (name("own"), name("own"), ada().into_iter().collect());
            if global {
                own.scope = Scope::Global;
            }
            state.bindings.push(own);
            state
        })
    })
}

fn op(state: &State) -> impl Strategy<Value = Op> + use<> {
    let roles = state.roles.clone();
    let names = select((0..8).map(|number| format!("b{number}")).collect::<Vec<_>>());
    let bind = (binding(roles.clone()), any::<Index>(), names).prop_map(move |(mut one, role, name)| {
        let role = role.get(&roles);
        (one.role, one.role_of, one.name) = (role.name.clone(), role.tenant.clone(), name.parse().unwrap());
        Op::Bind(one)
    });
    prop_oneof![
        4 => bind,
        1 => any::<Index>().prop_map(Op::Unbind),
        2 => (any::<Index>(), prop::collection::vec(rule(), 0..3)).prop_map(|(role, rules)| Op::PutRole(role, rules)),
        1 => any::<Index>().prop_map(Op::DeleteRole),
    ]
}

fn run(
    manager: &TenantManager,
    store: &dyn StateStore,
    ctx: &TenantContext,
    state: &State,
    op: &Op,
) -> Result<()> {
    let (view, mut txn) = (block_on(store.snapshot(&[Prefix::ROOT]))?, Txn::new());
    match op {
        Op::Bind(one) => manager.stage_bind(&view, &mut txn, ctx, one)?,
        Op::Unbind(index) => {
            let one = index.get(&state.bindings);
            manager.stage_unbind(&view, &mut txn, ctx, &one.scope, &one.name)?;
        }
        Op::PutRole(index, rules) => {
            let mut role = index.get(&state.roles).clone();
            role.rules.clone_from(rules);
            manager.stage_put_role(&view, &mut txn, ctx, &role)?;
        }
        Op::DeleteRole(index) => {
            let role = index.get(&state.roles);
            manager.stage_delete_role(&view, &mut txn, ctx, role.tenant.as_ref(), &role.name)?;
        }
    }
    block_on(store.commit(&txn)).map(drop)
}

/// The circumstances of a request, at random.
type Around = (Option<u64>, Option<&'static str>, bool, hivemind_core::labels::Labels);

fn around() -> impl Strategy<Value = Around> {
    let time = select(vec![None, Some(5), Some(15), Some(22), Some(30)]);
    let source = select(vec![None, Some("10.1.0.1"), Some("10.2.0.1"), Some("::1")]);
    (time, source, any::<bool>(), labels())
}

fn context(tenant: &TenantRef, who: &Principal, group: Option<&str>, around: &Around) -> TenantContext {
    let ctx = TenantContext::new(tenant.clone(), who.clone(), "r".parse().unwrap());
    let ctx = group.into_iter().fold(ctx, |ctx, group| ctx.with_group(group.parse().unwrap()));
    let ctx = around.0.into_iter().fold(ctx, |ctx, at| ctx.with_time(Timestamp::from_secs(at)));
    let ctx = around.1.into_iter().fold(ctx, |ctx, from| ctx.with_source(from.parse().unwrap()));
    if around.2 { ctx.with_emergency("fire") } else { ctx }
}

/// Everybody, in every tenant, for every request: who may after and not before, the grantor may before.
fn nobody_gains_more(
    before: &AccessIndex,
    after: &AccessIndex,
    group: Option<&str>,
    all: &[Around],
) -> Option<String> {
    let places: Vec<_> = (0..5).map(|number| tenant(number, 1)).chain([TenantRef::system()]).collect();
    let account = |tenant: &TenantRef| Principal::ServiceAccount {
        tenant: tenant.clone(),
        name: "ci".parse().unwrap(),
    };
    let people: Vec<_> = [user("ada"), user("bob")].into_iter().chain(places.iter().map(account)).collect();
    for around in all {
        for place in &places {
            let grantor = context(place, &user("ada"), group, around);
            for (who, of) in
                people.iter().flat_map(|who| [(who, None), (who, Some("staff")), (who, Some("ops"))])
            {
                let ctx = context(place, who, of, around);
                for (verb, kind) in VERBS.iter().flat_map(|verb| KINDS.iter().map(move |kind| (*verb, *kind)))
                {
                    for name in NAMES.iter().copied().map(Some).chain([None]) {
                        let request =
                            AccessRequest::new(verb, kind.parse().unwrap()).labelled(around.3.clone());
                        let request = name.into_iter().fold(request, AccessRequest::named);
                        let gained =
                            after.decide(&ctx, &request).allowed && !before.decide(&ctx, &request).allowed;
                        if gained && !before.decide(&grantor, &request).allowed {
                            return Some(format!("{ctx} of {of:?} {around:?}: {request}"));
                        }
                    }
                }
            }
        }
    }
    None
}

#[test]
fn pitfall_09_no_change_hands_out_more_than_the_grantor_holds() {
    let case = with_grantor().prop_flat_map(|state| {
        let op = op(&state);
        (Just(state), op, select(vec![None, Some("staff"), Some("ops")]), prop::collection::vec(around(), 2))
    });
    let (permitted, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: 700, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&case, |(state, op, group, all)| {
        let (store, manager) = state.stored();
        let ctx =
            context(&TenantRef::system(), &user("ada"), group, &(Some(12), None, false, Default::default()));
        if let Err(error) = run(&manager, &store, &ctx, &state, &op) {
            prop_assert!(
                matches!(error.kind(), ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Corrupt),
                "{}",
                error
            );
            refused.set(refused.get() + 1);
            return Ok(());
        }
        permitted.set(permitted.get() + 1);
        let gained = nobody_gains_more(&state.index(), &state.after(&store).index(), group, &all);
        prop_assert_eq!(gained, None);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(
        permitted.get() > 50 && refused.get() > 50,
        "{} permitted, {} refused",
        permitted.get(),
        refused.get()
    );
}

fn bound(name: &str, role: &str, tenant: &TenantRef, who: &str) -> RoleBinding {
    let subject = Subject::Principal(user(who));
    RoleBinding::new(name.parse().unwrap(), role.parse().unwrap(), Scope::Tenant(tenant.clone()), [subject])
}

/// Acme, in which ada may do all with apps but delete, and hand out roles.
fn acme(world: &World) -> TenantRef {
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    let apps = || "apps".parse().unwrap();
    let own = [
        Rule::allow().kind(apps()),
        Rule::deny().verbs([Verb::Delete]).kind(apps()),
        Rule::allow().verbs([Verb::Grant]).kind("roles".parse().unwrap()),
    ];
    let put = |role| block_on(world.tenants.put_role(&admin("put"), role)).unwrap();
    put(role_named("own", own.to_vec()));
    put(role_named("reader", vec![Rule::allow().verbs([Verb::Get]).kind(apps())]));
    put(role_named("deleter", vec![Rule::allow().verbs([Verb::Delete]).kind(apps())]));
    block_on(world.tenants.bind(&admin("bind"), bound("own", "own", &acme, "ada"))).unwrap();
    acme
}

#[test]
fn pitfall_09_a_grantor_hands_out_what_they_hold_no_further_no_longer_and_not_what_they_are_denied() {
    let world = World::new();
    let acme = acme(&world);
    let ada = TenantContext::new(acme.clone(), user("ada"), "r".parse().unwrap());
    let try_bind =
        |one: RoleBinding| world.commit(|view, txn| world.tenants.stage_bind(view, txn, &ada, &one));
    try_bind(bound("b1", "reader", &acme, "bob")).unwrap();
    try_bind(bound("b2", "own", &acme, "bob")).unwrap();
    for more in [
        bound("b3", "deleter", &acme, "bob"),
        bound("b3", "cluster-admin", &acme, "bob"),
        bound("b3", "reader", &acme, "bob").with_inherit(Inherit::Down),
    ] {
        let error = try_bind(more).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.detail::<Escalation>().unwrap().grantor, user("ada"));
    }
    let error = try_bind(bound("b3", "deleter", &acme, "bob")).unwrap_err();
    assert_eq!(
        error.message(),
        "user ada would hand out more than they hold: delete on apps in tenant acme; ask somebody who holds it there"
    );
    // Taking a deny from oneself would be to hand oneself what it denies.
    let scope = Scope::Tenant(acme);
    let freed = world
        .commit(|view, txn| world.tenants.stage_unbind(view, txn, &ada, &scope, &"own".parse().unwrap()));
    assert!(freed.unwrap_err().detail::<Escalation>().is_some());
}

#[test]
fn pitfall_09_who_holds_until_a_day_hands_out_until_that_day() {
    let world = World::new();
    let acme = acme(&world);
    let day = Timestamp::from_secs(100);
    let own = bound("own", "own", &acme, "eve").with_expiry(day);
    block_on(world.tenants.bind(&admin("eve"), own)).unwrap();
    let eve = TenantContext::new(acme.clone(), user("eve"), "r".parse().unwrap())
        .with_time(Timestamp::from_secs(9));
    let try_bind =
        |one: RoleBinding| world.commit(|view, txn| world.tenants.stage_bind(view, txn, &eve, &one));
    assert!(try_bind(bound("b", "reader", &acme, "bob")).unwrap_err().detail::<Escalation>().is_some());
    let later = Timestamp::from_secs(101);
    assert!(try_bind(bound("b", "reader", &acme, "bob").with_expiry(later)).is_err());
    try_bind(bound("b", "reader", &acme, "bob").with_expiry(day)).unwrap();
}

#[test]
fn pitfall_09_a_grant_does_not_commit_by_a_right_taken_back_meanwhile() {
    let world = World::new();
    let acme = acme(&world);
    let ada = TenantContext::new(acme.clone(), user("ada"), "r".parse().unwrap());
    let (view, mut txn) = (world.view(), Txn::new());
    world.tenants.stage_bind(&view, &mut txn, &ada, &bound("b", "reader", &acme, "bob")).unwrap();
    let scope = Scope::Tenant(acme);
    block_on(world.tenants.unbind(&admin("revoke"), &scope, &"own".parse().unwrap())).unwrap();
    assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn pitfall_09_after_a_revocation_its_revision_is_denied_or_not_answered() {
    let world = World::new();
    let acme = acme(&world);
    let handle = AccessHandle::of(&world.view()).unwrap();
    let ada = TenantContext::new(acme.clone(), user("ada"), "r".parse().unwrap());
    let get = AccessRequest::new(Verb::Get, "apps".parse().unwrap());
    assert!(handle.current().decide(&ada, &get).allowed);
    let scope = Scope::Tenant(acme);
    block_on(world.tenants.unbind(&admin("revoke"), &scope, &"own".parse().unwrap())).unwrap();
    let revoked = world.view().revision();
    let error = handle.at_least(revoked).unwrap_err();
    assert_eq!(
        (error.kind(), error.detail::<StalePolicy>().unwrap().asked),
        (ErrorKind::Unavailable, revoked)
    );
    handle.refresh(&world.view()).unwrap();
    let decision = handle.at_least(revoked).unwrap().decide(&ada, &get);
    assert!(!decision.allowed && decision.revision >= revoked);
}

#[test]
fn pitfall_09_nothing_of_a_tenant_applies_to_one_created_anew() {
    let world = World::new();
    let old = acme(&world);
    let other = world.tenant(TenantSpec::new("other".parse().unwrap())).tenant;
    let account = Principal::ServiceAccount { tenant: old.clone(), name: "ci".parse().unwrap() };
    let mut abroad = bound("abroad", "reader", &other, "bob");
    abroad.subjects = [Subject::Principal(account.clone())].into_iter().collect();
    block_on(world.tenants.bind(&admin("abroad"), abroad)).unwrap();
    let handle = AccessHandle::of(&world.view()).unwrap();
    let get = AccessRequest::new(Verb::Get, "apps".parse().unwrap());
    let ask = |tenant: &TenantRef, who: &Principal| {
        let ctx = TenantContext::new(tenant.clone(), who.clone(), "r".parse().unwrap());
        handle.current().decide(&ctx, &get).allowed
    };
    assert!(ask(&old, &user("ada")) && ask(&other, &account));
    block_on(world.tenants.delete(&admin("delete"), &old.id)).unwrap();
    let anew =
        block_on(world.tenants.create(&admin("anew"), TenantSpec::new("acme".parse().unwrap()))).unwrap();
    handle.refresh(&world.view()).unwrap();
    let reborn = Principal::ServiceAccount { tenant: anew.tenant.clone(), name: "ci".parse().unwrap() };
    assert!(!ask(&anew.tenant, &user("ada")) && !ask(&old, &user("ada")));
    assert!(!ask(&other, &account) && !ask(&other, &reborn));
}

#[test]
fn pitfall_09_a_grant_in_one_tenant_is_none_in_the_tenants_below() {
    let world = World::new();
    let acme = acme(&world);
    let mut below = TenantSpec::new("child".parse().unwrap());
    below.parent = Some(acme);
    let child = world.tenant(below).tenant;
    let granter = Rule::allow().verbs([Verb::Grant]).kind("roles".parse().unwrap());
    block_on(world.tenants.put_role(&admin("put-granter"), role_named("granter", vec![granter]))).unwrap();
    let subject = Subject::Principal(user("ada"));
    let name = || "granter".parse().unwrap();
    block_on(
        world
            .tenants
            .bind(&admin("bind-granter"), RoleBinding::new(name(), name(), Scope::Global, [subject])),
    )
    .unwrap();
    let ada = TenantContext::new(child.clone(), user("ada"), "r".parse().unwrap());
    let one = bound("b", "reader", &child, "bob");
    let refused = world.commit(|view, txn| world.tenants.stage_bind(view, txn, &ada, &one));
    assert!(refused.unwrap_err().detail::<Escalation>().is_some());
}
