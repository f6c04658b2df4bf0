//! No tenant reads, changes, labels or counts what is another's.

use hivemind_core::labels::Labels;
use hivemind_core::{
    AccessRequest, AuditOutcome, Authorizer, ErrorKind, MemoryAudit, Principal, TenantContext, TenantRef,
    Verb, block_on,
};
use hivemind_tenancy::rbac::{AccessHandle, AccessIndex, Inherit, LintKind, Rule, Scope, Subject};
use hivemind_tenancy::{Role, RoleAuthorizer, RoleBinding, TenantSpec};

use crate::common::{World, admin};
use crate::model::user;

/// A thing, its parts that are written on their own, and what access itself is made of.
const PARTS: [&str; 6] =
    ["apps", "apps-status", "apps-finalizers", "apps-labels", "roles", "service-accounts"];

fn account(tenant: &TenantRef) -> Principal {
    Principal::ServiceAccount { tenant: tenant.clone(), name: "ci".parse().unwrap() }
}

/// Two tenants, each with an account of the same name that may do everything there and below.
fn two(world: &World) -> (TenantRef, TenantRef) {
    let role = Role::new("owner".parse().unwrap(), [Rule::allow()]);
    block_on(world.tenants.put_role(&admin("owner"), role)).unwrap();
    let make = |name: &str| {
        let tenant = world.tenant(TenantSpec::new(name.parse().unwrap())).tenant;
        let subject = Subject::Principal(account(&tenant));
        let scope = Scope::Tenant(tenant.clone());
        let binding = RoleBinding::new("owner".parse().unwrap(), "owner".parse().unwrap(), scope, [subject]);
        block_on(world.tenants.bind(&admin(name), binding.with_inherit(Inherit::Down))).unwrap();
        tenant
    };
    (make("acme"), make("globex"))
}

fn ctx(tenant: &TenantRef, who: Principal) -> TenantContext {
    TenantContext::new(tenant.clone(), who, "r".parse().unwrap())
}

fn labelled(verb: Verb, part: &str, labels: &Labels) -> AccessRequest {
    AccessRequest::new(verb, part.parse().unwrap()).labelled(labels.clone())
}

#[test]
fn pitfall_08_no_verb_on_no_part_with_no_label_reaches_another_tenant() {
    let world = World::new();
    let (acme, globex) = two(&world);
    let index = AccessHandle::of(&world.view()).unwrap().current();
    // Labels are what the object claims: that it is acme's, too.
    let claims = [Labels::new(), Labels::new().with("tenant", "acme").unwrap()];
    for verb in Verb::ALL.iter().copied() {
        for (part, labels) in PARTS.iter().flat_map(|part| claims.iter().map(move |labels| (*part, labels))) {
            for name in [None, Some("web"), Some("*"), Some("acme")] {
                let request = labelled(verb, part, labels);
                let request = name.into_iter().fold(request, AccessRequest::named);
                let own = ctx(&acme, account(&acme));
                assert!(index.decide(&own, &request).allowed, "{request} in its own");
                let abroad = ctx(&globex, account(&acme));
                assert!(!index.decide(&abroad, &request).allowed, "{request} abroad");
                let told = RoleAuthorizer::new().authorize(&world.view(), &abroad, &request);
                assert!(!told.allowed, "{request} abroad by the port");
                let visible = index.visible(&own, verb, &request.kind);
                assert!(!visible.matches(&globex, name, labels) && visible.matches(&acme, name, labels));
                assert!(!index.who_can(&abroad, &request).contains(&Subject::Principal(account(&acme))));
            }
        }
    }
}

#[test]
fn pitfall_08_a_list_counts_ones_own_alone() {
    let world = World::new();
    let (acme, globex) = two(&world);
    let index = AccessHandle::of(&world.view()).unwrap().current();
    let objects: Vec<_> = (0..10).map(|number| if number % 3 == 0 { &acme } else { &globex }).collect();
    let visible = index.visible(&ctx(&acme, account(&acme)), Verb::List, &"apps".parse().unwrap());
    assert!(visible.tenants().iter().eq([&acme]));
    assert_eq!(objects.iter().filter(|owner| visible.matches(owner, Some("web"), &Labels::new())).count(), 4);
}

#[test]
fn pitfall_08_nobody_grants_or_impersonates_across_tenants() {
    let world = World::new();
    let (acme, globex) = two(&world);
    let own = ctx(&acme, account(&acme));
    let subject = || [Subject::Principal(account(&acme))];
    let name = || "owner".parse().unwrap();
    let abroad = RoleBinding::new(name(), name(), Scope::Tenant(globex.clone()), subject());
    let refused = world.commit(|view, txn| world.tenants.stage_bind(view, txn, &own, &abroad));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    let theirs = Role::new("theirs".parse().unwrap(), [Rule::allow()]).of_tenant(globex.clone());
    let refused = world.commit(|view, txn| world.tenants.stage_put_role(view, txn, &own, &theirs));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    let index = AccessHandle::of(&world.view()).unwrap().current();
    let get = AccessRequest::new(Verb::Get, "apps".parse().unwrap());
    for place in [&acme, &globex] {
        let posing = ctx(place, account(&acme)).impersonating(account(&globex), []);
        assert!(!index.decide(&posing, &get).allowed);
    }
}

#[test]
fn an_emergency_is_on_record_before_it_allows_anything() {
    let world = World::new();
    let (acme, _) = two(&world);
    let name = || "owner".parse().unwrap();
    let glass = RoleBinding::new(
        "glass".parse().unwrap(),
        name(),
        Scope::Tenant(acme.clone()),
        [Subject::Principal(user("eve"))],
    );
    block_on(world.tenants.bind(&admin("glass"), glass.for_emergencies())).unwrap();
    let index = AccessHandle::of(&world.view()).unwrap().current();
    let get = AccessRequest::new(Verb::Get, "apps".parse().unwrap());
    let (calm, fire) = (ctx(&acme, user("eve")), ctx(&acme, user("eve")).with_emergency("fire"));
    let audit = MemoryAudit::new();
    let ask = |ctx: &TenantContext| block_on(world.tenants.authorize_recorded(&index, ctx, &get, &audit));
    assert_eq!(ask(&calm).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(audit.events().len(), 0);
    assert!(ask(&fire).unwrap().emergency);
    let kept = audit.events();
    assert_eq!((kept.len(), kept[0].outcome, kept[0].ctx.emergency()), (1, AuditOutcome::Done, Some("fire")));
    assert_eq!(kept[0].because, ["role owner by binding glass for tenant acme allows it in an emergency"]);
    // The port cannot put it on record, and so does not allow it.
    assert!(!RoleAuthorizer::new().authorize(&world.view(), &fire, &get).allowed);
}

#[test]
fn a_policy_is_told_what_of_it_has_no_effect() {
    let here = TenantRef::new("here".parse().unwrap(), hivemind_core::Generation::from_u64(2));
    let before = TenantRef::new("here".parse().unwrap(), hivemind_core::Generation::from_u64(1));
    let gone = TenantRef::new("gone".parse().unwrap(), hivemind_core::Generation::from_u64(1));
    let role = |name: &str, rules: Vec<Rule>| Role::new(name.parse().unwrap(), rules);
    let apps = || Rule::allow().kind("apps".parse().unwrap());
    let roles = [
        role("none", vec![]),
        role("self-denied", vec![apps().named("web-1"), Rule::deny().named("web-*")]),
        role("apps", vec![apps()]),
        role("deny", vec![Rule::deny()]),
    ];
    let bind = |name: &str, role: &str, tenant: &TenantRef, who: &[&str]| {
        let subjects = who.iter().map(|who| Subject::Principal(user(who)));
        RoleBinding::new(
            name.parse().unwrap(),
            role.parse().unwrap(),
            Scope::Tenant(tenant.clone()),
            subjects,
        )
    };
    let bindings = [
        bind("b1", "apps", &before, &["ada"]),
        bind("b2", "apps", &gone, &["ada"]),
        bind("b3", "ghost", &here, &["ada"]),
        bind("b4", "apps", &here, &["bob"]).with_expiry(hivemind_core::Timestamp::from_secs(5)),
        bind("b5", "apps", &here, &[]),
        bind("b6", "apps", &here, &["eve"]),
        bind("b7", "deny", &here, &["eve"]).with_inherit(Inherit::Down),
        bind("fine", "apps", &here, &["ada"]),
    ];
    let index = AccessIndex::new(hivemind_core::store::Revision::new(1), [(here, None)], roles, bindings);
    let found = index.lint(Some(hivemind_core::Timestamp::from_secs(9)));
    let told: Vec<_> = found
        .iter()
        .map(|lint| (lint.kind, lint.binding.as_ref().map_or(lint.role.as_str(), |(_, name)| name.as_str())))
        .collect();
    let expected = [
        (LintKind::UnknownTenant, "b2"),
        (LintKind::StaleGeneration, "b1"),
        (LintKind::UnknownRole, "b3"),
        (LintKind::Expired, "b4"),
        (LintKind::NoSubjects, "b5"),
        (LintKind::NoRules, "none"),
        (LintKind::Unreachable, "self-denied"),
        (LintKind::Unreachable, "b6"),
    ];
    assert_eq!(told, expected);
}
