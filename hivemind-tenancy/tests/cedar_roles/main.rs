//! Roles compiled to Cedar policies decide as the roles themselves do.
#![cfg(feature = "cedar")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
mod model;

use std::cell::Cell;

use common::{World, ctx, user};
use hivemind_core::store::Revision;
use hivemind_core::{AccessRequest, Authorizer, ErrorKind, TenantRef, Verb};
use hivemind_tenancy::cedar::{CedarAuthorizer, NotExpressible, PolicySet, compile, schema};
use hivemind_tenancy::rbac::{AccessIndex, Conditions, Effect, Inherit, Rule, Scope, Stop, Subject};
use hivemind_tenancy::{Role, RoleBinding, TenantSpec};
use model::{BindingDraft, Question, RoleDraft};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestRunner};

/// Tenants in a store, each with its parent.
fn tenants(world: &World, parents: &[Option<Index>]) -> Vec<(TenantRef, Option<TenantRef>)> {
    let mut all: Vec<(TenantRef, Option<TenantRef>)> = Vec::new();
    for (number, parent) in parents.iter().enumerate() {
        let parent = parent.filter(|_| number > 0).map(|index| all[index.index(number)].0.clone());
        let mut spec = TenantSpec::new(format!("t{number}").parse().unwrap());
        spec.parent = parent.clone();
        all.push((world.tenant(spec).tenant, parent));
    }
    all
}

fn agree(
    parents: &[Option<Index>],
    roles: &[RoleDraft],
    bindings: &[BindingDraft],
    questions: &[Question],
    allowed: &Cell<(u32, u32)>,
) -> Result<(), TestCaseError> {
    let world = World::new();
    let tree = tenants(&world, parents);
    let tenants: Vec<_> = tree.iter().map(|(tenant, _)| tenant.clone()).collect();
    let roles: Vec<_> = roles.iter().map(|role| role.of(&tenants)).collect();
    let bindings: Vec<_> =
        bindings.iter().enumerate().map(|(n, binding)| binding.of(n, &roles, &tenants)).collect();
    let policies = compile(&roles, &bindings, tree.iter().cloned()).unwrap();
    let printed = PolicySet::parse(&policies.to_string()).unwrap();
    let revision = Revision::new(1);
    let index = AccessIndex::new(revision, tree, roles.iter().cloned(), bindings.iter().cloned());
    let cedar = CedarAuthorizer::new(policies, revision);
    let reread = CedarAuthorizer::new(printed, revision);
    let view = world.view();
    for question in questions {
        let (ctx, request) = (question.ctx(&tenants), &question.request);
        let ours = index.decide(&ctx, request);
        let told = || cedar.authorize(&view, &ctx, request);
        prop_assert_eq!(ours, cedar.decide(&view, &ctx, request), "{} for {}: {:?}", ctx, request, told());
        prop_assert_eq!(ours, reread.decide(&view, &ctx, request), "printed and read");
        let (yes, no) = allowed.get();
        allowed.set(if ours.allowed { (yes + 1, no) } else { (yes, no + 1) });
    }
    Ok(())
}

#[test]
fn decides_like_cedar() {
    let allowed = Cell::new((0, 0));
    let all = (model::parents(), model::roles(), model::bindings(), model::questions());
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&all, |(parents, roles, bindings, questions)| {
            agree(&parents, &roles, &bindings, &questions, &allowed)
        })
        .unwrap();
    // Else the agreement would be about nothing.
    let (yes, no) = allowed.get();
    assert!(yes * 20 > no && no * 20 > yes, "{yes} allowed, {no} denied");
}

fn bound(rule: Rule, more: impl FnOnce(RoleBinding) -> RoleBinding) -> (Role, RoleBinding) {
    let name: hivemind_core::RoleName = "r".parse().unwrap();
    let ada = Subject::Principal(user("ada"));
    let binding = RoleBinding::new(name.clone(), name.clone(), Scope::Global, [ada]);
    (Role::new(name, [rule]), more(binding))
}

#[test]
fn what_cedar_cannot_say_is_refused_by_name() {
    let labels = Conditions::default().with_labels("cores>4".parse().unwrap());
    let (role, binding) = bound(Rule::allow(), |binding| binding.with_conditions(labels));
    let error = compile([&role], [&binding], []).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.detail::<NotExpressible>().unwrap().binding, binding.name);
    let says = "binding r for every tenant: labels cores>4: Cedar reads no number out of a text";
    assert_eq!(error.message(), says);
    let (role, binding) = bound(Rule::allow(), |binding| binding);
    assert_eq!(compile([&role], [&binding], []).unwrap().ids().into_iter().collect::<Vec<_>>(), ["*/r/0"]);
    assert_eq!(compile([&role], [&binding, &binding], []).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_hostile_name_stays_a_name() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    let here = ctx(&acme, "r");
    let hostile = [
        "\"",
        "\\",
        "\" || true || \"",
        "x\"); permit(principal, action, resource); //",
        "\u{0}\n🦀\u{202e}",
    ];
    for name in hostile {
        for pattern in [name.to_owned(), format!("{name}*")] {
            let (role, binding) = bound(Rule::allow().named(&pattern), |binding| binding);
            let policies = compile([role], [binding], []).unwrap();
            let printed = PolicySet::parse(&policies.to_string()).unwrap();
            for policies in [policies, printed] {
                assert_eq!(policies.ids().len(), 1);
                let cedar = CedarAuthorizer::new(policies, Revision::ZERO);
                let get = |name: &str| AccessRequest::new(Verb::Get, "apps".parse().unwrap()).named(name);
                assert!(cedar.authorize(&world.view(), &here, &get(name)).allowed, "{pattern:?}");
                assert!(!cedar.authorize(&world.view(), &here, &get("web")).allowed, "{pattern:?}");
            }
        }
    }
}

#[test]
fn what_is_compiled_keeps_to_the_schema() {
    let acme = TenantRef::new("acme".parse().unwrap(), hivemind_core::Generation::from_u64(1));
    let window = serde_json::from_value(serde_json::json!(
        { "weekly": { "days": [0, 1], "from": 480, "until": 60 } }
    ));
    let conditions = Conditions::default()
        .with_labels("e in (x,y),f!=z,!g".parse().unwrap())
        .with_network("10.0.0.0/8".parse().unwrap())
        .with_window(window.unwrap());
    let rule =
        || Rule::allow().verbs([Verb::Get]).kind("role-bindings".parse().unwrap()).named("a").named("b*");
    let mut deny = rule();
    deny.effect = Effect::Deny;
    let (role, binding) = bound(rule(), |binding| {
        let mut binding =
            binding.with_inherit(Inherit::DownUntil(Stop::Depth(2))).with_conditions(conditions);
        binding.scope = Scope::Tenant(acme.clone());
        binding.expires = Some(hivemind_core::Timestamp::from_nanos(1_500_000_000));
        binding.emergency = true;
        binding
    });
    let role = Role::new(role.name, [rule(), deny]);
    let policies = compile([role], [binding], [(acme, None)]).unwrap();
    let kinds = ["apps", "role-bindings"].map(|kind| kind.parse().unwrap());
    let checked = PolicySet::parse_for(&policies.to_string(), &schema(kinds)).unwrap();
    assert_eq!(checked.ids().len(), 2);
}
