//! Access by policies in the Cedar language.
#![cfg(feature = "cedar")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::common;

use common::{World, admin, ctx, user};
use hivemind_core::labels::Labels;
use hivemind_core::store::Revision;
use hivemind_core::{
    AccessDecision, AccessRequest, Authorizer, ErrorKind, Principal, TenantContext, TenantRef, Timestamp,
    Verb, block_on,
};
use hivemind_tenancy::TenantSpec;
use hivemind_tenancy::cedar::{CedarAuthorizer, PolicySet};

fn ask(verb: Verb, kind: &str) -> AccessRequest {
    AccessRequest::new(verb, kind.parse().unwrap())
}

fn get() -> AccessRequest {
    ask(Verb::Get, "apps").named("web")
}

fn decide(world: &World, text: &str, ctx: &TenantContext, request: &AccessRequest) -> AccessDecision {
    let cedar = CedarAuthorizer::new(PolicySet::parse(text).unwrap(), Revision::ZERO);
    cedar.authorize(&world.view(), ctx, request)
}

fn allowed(world: &World, text: &str, ctx: &TenantContext, request: &AccessRequest) -> bool {
    decide(world, text, ctx, request).allowed
}

fn acme(world: &World) -> TenantRef {
    world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant
}

#[test]
fn a_tenant_is_in_its_parents_and_its_things_in_it() {
    let world = World::new();
    let acme = acme(&world);
    let team = world.tenant(TenantSpec::new("team".parse().unwrap()).below(acme.clone())).tenant;
    let other = world.tenant(TenantSpec::new("other".parse().unwrap())).tenant;
    let subtree = format!(r#"permit(principal, action, resource in Tenant::"{acme}");"#);
    let alone = format!(
        r#"permit(principal, action, resource is apps) when {{ resource.tenant == Tenant::"{acme}" }};"#
    );
    for (tenant, below, itself) in [(&acme, true, true), (&team, true, false), (&other, false, false)] {
        assert_eq!(allowed(&world, &subtree, &ctx(tenant, "r"), &get()), below, "{tenant}");
        assert_eq!(allowed(&world, &alone, &ctx(tenant, "r"), &get()), itself, "{tenant}");
    }
}

#[test]
fn a_tenant_that_is_gone_is_denied_whatever_the_policies_say() {
    let world = World::new();
    let old = acme(&world);
    let all = "permit(principal, action, resource);";
    assert!(allowed(&world, all, &ctx(&old, "r"), &get()));
    block_on(world.tenants.delete(&admin("d"), &old.id)).unwrap();
    let told = decide(&world, all, &ctx(&old, "r"), &get());
    assert!(!told.allowed && told.because[0].starts_with("no policy permits"), "{told:?}");
    let named = format!(r#"permit(principal, action, resource in Tenant::"{old}");"#);
    let anew =
        block_on(world.tenants.create(&admin("anew"), TenantSpec::new("acme".parse().unwrap()))).unwrap();
    assert!(!allowed(&world, &named, &ctx(&anew.tenant, "r"), &get()));
    assert!(allowed(&world, all, &ctx(&anew.tenant, "r"), &get()));
}

#[test]
fn a_tenant_of_others_and_one_that_is_not_there_are_answered_alike() {
    let world = World::new();
    let acme = acme(&world);
    let other = world.tenant(TenantSpec::new("other".parse().unwrap())).tenant;
    let absent = TenantRef::new("absent".parse().unwrap(), other.generation);
    let older = TenantRef::new(other.id.clone(), hivemind_core::Generation::from_u64(u64::MAX));
    let own = format!(r#"permit(principal, action, resource in Tenant::"{acme}");"#);
    assert!(allowed(&world, &own, &ctx(&acme, "r"), &get()));
    let cedar = CedarAuthorizer::new(PolicySet::parse(&own).unwrap(), Revision::ZERO);
    for change in [|ctx: TenantContext| ctx, |ctx: TenantContext| ctx.with_emergency("fire")] {
        let asked = |tenant: &TenantRef| change(ctx(tenant, "r"));
        let told = |tenant| cedar.authorize(&world.view(), &asked(tenant), &get());
        let foreign = told(&other);
        assert!(!foreign.allowed);
        assert_eq!(foreign.because, told(&absent).because);
        assert_eq!(foreign.because, told(&older).because);
        let decided = |tenant| cedar.decide(&world.view(), &asked(tenant), &get());
        assert_eq!(decided(&other), decided(&absent));
    }
}

#[test]
fn a_service_account_is_of_one_tenant_and_one_generation() {
    let world = World::new();
    let acme = acme(&world);
    let other = world.tenant(TenantSpec::new("other".parse().unwrap())).tenant;
    let older = TenantRef::new(acme.id.clone(), hivemind_core::Generation::from_u64(0));
    let named = format!(r#"permit(principal == ServiceAccount::"{acme}/ci", action, resource);"#);
    let home = "permit(principal, action, resource) when { principal in resource.tenant };";
    for (owner, expected) in [(&acme, true), (&other, false), (&older, false)] {
        let account = Principal::ServiceAccount { tenant: owner.clone(), name: "ci".parse().unwrap() };
        let ctx = TenantContext::new(acme.clone(), account, "r".parse().unwrap());
        assert_eq!(allowed(&world, &named, &ctx, &get()), expected, "{owner}");
        assert_eq!(allowed(&world, home, &ctx, &get()), expected, "{owner}");
    }
    // A person, a node or a component of the same name is somebody else.
    let impostor = Principal::System("ci".parse().unwrap());
    let ctx = TenantContext::new(acme, impostor, "r".parse().unwrap());
    assert!(!allowed(&world, &named, &ctx, &get()));
    assert!(allowed(&world, r#"permit(principal == System::"ci", action, resource);"#, &ctx, &get()));
}

#[test]
fn what_the_context_lacks_permits_nothing() {
    let world = World::new();
    let bare = ctx(&acme(&world), "r");
    let office = "permit(principal, action, resource) when { context.source.isInRange(ip(\"10.0.0.0/8\")) };";
    let early = "permit(principal, action, resource) when { context.time.seconds < 100 };";
    let monday = "permit(principal, action, resource) when { context.time.weekday == 0 && context.time.minute >= 480 };";
    let from = |ip: &str| bare.clone().with_source(ip.parse().unwrap());
    let at = |secs| bare.clone().with_time(Timestamp::from_secs(secs));
    for (text, ctx, expected) in [
        (office, bare.clone(), false),
        (office, from("10.1.2.3"), true),
        (office, from("11.1.2.3"), false),
        (office, from("::1"), false),
        (early, bare.clone(), false),
        (early, at(99), true),
        (early, at(100), false),
        (office, from("::ffff:10.1.2.3"), true),
        (monday, bare.clone(), false),
        (monday, at((4 * 24 + 8) * 3600 + 1), true),
        (monday, at((4 * 24 + 8) * 3600 - 1), false),
        (monday, at((5 * 24 + 8) * 3600), false),
    ] {
        assert_eq!(allowed(&world, text, &ctx, &get()), expected, "{text} for {ctx:?}");
    }
    let told = decide(&world, early, &bare, &get()).because;
    assert_eq!(told, ["no policy permits user ada to get apps web"]);
    // Which policies are broken is for who writes them.
    let cedar = CedarAuthorizer::new(PolicySet::parse(early).unwrap(), Revision::ZERO);
    let told = cedar.diagnose(&world.view(), &bare, &get());
    assert!(!told.allowed && told.because[0] == "no policy permits user ada to get apps web");
    assert!(told.because[1].starts_with("policy policy0 permits nothing: "), "{told:?}");
}

#[test]
fn what_only_an_emergency_permits_is_for_who_keeps_a_record() {
    let world = World::new();
    let (calm, view) = (ctx(&acme(&world), "r"), world.view());
    let text = "permit(principal, action == Action::\"list\", resource);
        permit(principal, action, resource) when { context has emergency };";
    let cedar = CedarAuthorizer::new(PolicySet::parse(text).unwrap(), Revision::new(3));
    let hostile = calm.clone().with_emergency("fire \"\\ }; permit(principal, action, resource);");
    for (ctx, request, expected) in [
        (calm.clone(), get(), (false, false)),
        (calm.clone().with_emergency(" \n"), get(), (false, false)),
        (hostile.clone(), get(), (true, true)),
        (hostile, ask(Verb::List, "apps"), (true, false)),
    ] {
        let decision = cedar.decide(&view, &ctx, &request);
        assert_eq!((decision.allowed, decision.emergency), expected, "{ctx:?}");
        assert_eq!(decision.revision, Revision::new(3));
        let told = cedar.authorize(&view, &ctx, &request);
        assert_eq!(told.allowed, expected == (true, false), "{told:?}");
    }
}

#[test]
fn a_forbid_that_cannot_be_evaluated_forbids() {
    let world = World::new();
    let bare = ctx(&acme(&world), "r");
    let text = "permit(principal, action, resource);
        @id(\"business-hours\") forbid(principal, action, resource) when { context.time.seconds < 100 };";
    let told = decide(&world, text, &bare, &get());
    assert!(!told.allowed);
    assert!(told.because[0].starts_with("policy business-hours forbids it: "), "{told:?}");
    assert!(allowed(&world, text, &bare.clone().with_time(Timestamp::from_secs(100)), &get()));
    assert!(!allowed(&world, text, &bare.with_time(Timestamp::from_secs(99)), &get()));
}

#[test]
fn what_forbids_is_told_to_whom_it_is_permitted_otherwise() {
    let world = World::new();
    let here = ctx(&acme(&world), "r");
    let forbid = "@id(\"frozen\") forbid(principal, action, resource);";
    let permit = "permit(principal == User::\"ada\", action, resource);";
    let (alone, both) = (forbid.to_owned(), format!("{forbid}{permit}"));
    let nothing = "no policy permits user ada to get apps web";
    for (text, asker) in [(&alone, nothing), (&both, "policy frozen forbids it")] {
        let cedar = CedarAuthorizer::new(PolicySet::parse(text).unwrap(), Revision::ZERO);
        let told = cedar.authorize(&world.view(), &here, &get());
        assert_eq!((told.allowed, told.because), (false, vec![asker.to_owned()]));
        let told = cedar.diagnose(&world.view(), &here, &get());
        assert_eq!((told.allowed, told.because), (false, vec!["policy frozen forbids it".to_owned()]));
    }
}

#[test]
fn who_impersonates_must_be_permitted_too_and_may_impersonate() {
    let world = World::new();
    let as_ada = ctx(&acme(&world), "r").with_group("staff".parse().unwrap());
    let bob = as_ada.clone().impersonating(user("bob"), ["night".parse().unwrap()]);
    let only_bob = r#"@id("bob") permit(principal == User::"bob", action, resource);"#;
    let staff = r#"@id("staff") permit(principal in Group::"staff", action == Action::"get", resource);"#;
    let as_bob = r#"@id("as-bob") permit(principal in Group::"staff", action == Action::"impersonate", resource is users)
        when { resource has name && resource.name == "bob" };"#;
    let as_night = r#"@id("as-night") permit(principal, action == Action::"impersonate", resource is groups)
        when { resource has name && resource.name == "night" };"#;
    for (texts, missing) in [
        (&[staff, as_bob, as_night][..], "no policy permits user bob to get apps web"),
        (
            &[only_bob, as_bob, as_night],
            "user ada, who impersonates: no policy permits user ada to get apps web",
        ),
        (
            &[only_bob, staff, as_night],
            "user ada, who impersonates: no policy permits user ada to impersonate users bob",
        ),
        (
            &[only_bob, staff, as_bob],
            "user ada, who impersonates: no policy permits user ada to impersonate groups night",
        ),
    ] {
        let told = decide(&world, &texts.concat(), &bob, &get());
        assert_eq!((told.allowed, told.because), (false, vec![missing.to_owned()]));
    }
    let all = decide(&world, &[only_bob, staff, as_bob, as_night].concat(), &bob, &get());
    assert!(all.allowed && all.because.len() == 4, "{all:?}");
    assert_eq!(
        all.because[..2],
        ["policy bob permits it", "user ada, who impersonates: policy staff permits it"]
    );
}

#[test]
fn an_account_is_impersonated_in_its_own_tenant() {
    let world = World::new();
    let acme = acme(&world);
    let other = world.tenant(TenantSpec::new("other".parse().unwrap())).tenant;
    let account = Principal::ServiceAccount { tenant: other.clone(), name: "ci".parse().unwrap() };
    let as_account = ctx(&acme, "r").impersonating(account, []);
    let text = |tenant| {
        format!(
            r#"permit(principal, action == Action::"get", resource);
            permit(principal, action == Action::"impersonate", resource is service_accounts in Tenant::"{tenant}");"#
        )
    };
    assert!(allowed(&world, &text(&other), &as_account, &get()));
    assert!(!allowed(&world, &text(&acme), &as_account, &get()));
}

#[test]
fn names_and_labels_are_data_never_policy() {
    let world = World::new();
    let here = ctx(&acme(&world), "r");
    let hostile = [
        "",
        "/",
        "\"",
        "\\",
        "web\" || true || \"",
        "web\"); permit(principal, action, resource); //",
        "\u{0}\n\r\t",
        "\u{202e}bew",
        "wéb",
        "we\u{301}b",
        "🦀",
        "*",
        "acme.0000000000000001/web",
    ];
    let by_name =
        r#"permit(principal, action, resource) when { resource has name && resource.name == "web" };"#;
    let by_id = format!(r#"permit(principal, action, resource == apps::"{}/web");"#, here.tenant());
    let any = r#"permit(principal, action, resource) when { resource has name && resource.name like "*" };"#;
    for name in hostile {
        let request = ask(Verb::Get, "apps").named(name);
        assert!(!allowed(&world, by_name, &here, &request), "{name:?}");
        assert!(!allowed(&world, &by_id, &here, &request), "{name:?}");
        assert!(allowed(&world, any, &here, &request), "{name:?}");
    }
    assert!(allowed(&world, by_name, &here, &get()) && allowed(&world, &by_id, &here, &get()));
    // All apps, and one that has no name, are no app of an empty name.
    assert!(!allowed(&world, any, &here, &ask(Verb::Get, "apps")));
    let env = r#"permit(principal, action, resource)
        when { resource.hasTag("x.io/env") && resource.getTag("x.io/env") == "dev" };"#;
    let labelled = |value: &str| get().labelled(Labels::new().with("x.io/env", value).unwrap());
    assert!(allowed(&world, env, &here, &labelled("dev")));
    assert!(!allowed(&world, env, &here, &labelled("prod")) && !allowed(&world, env, &here, &get()));
}

#[test]
fn every_kind_has_a_type_of_its_own() {
    let world = World::new();
    let here = ctx(&acme(&world), "r");
    let kinds =
        [("apps", "apps"), ("role-bindings", "role_bindings"), ("3d", "_3d"), ("in", "_in"), ("if", "_if")];
    for (_, type_name) in kinds {
        let text = format!("permit(principal, action, resource is {type_name});");
        for (kind, its_type) in kinds {
            assert_eq!(
                allowed(&world, &text, &here, &ask(Verb::List, kind)),
                its_type == type_name,
                "{kind}"
            );
        }
    }
}

#[test]
fn policies_swap_whole_and_only_forward() {
    let world = World::new();
    let (here, view) = (ctx(&acme(&world), "r"), world.view());
    let policies = |text: &str| PolicySet::parse(text).unwrap();
    let cedar = CedarAuthorizer::new(policies("permit(principal, action, resource);"), Revision::new(7));
    assert!(cedar.authorize(&view, &here, &get()).allowed);
    cedar.swap(PolicySet::default(), Revision::new(8)).unwrap();
    assert!(!cedar.authorize(&view, &here, &get()).allowed);
    for stale in [7, 8] {
        let open = policies("permit(principal, action, resource);");
        let refused = cedar.swap(open, Revision::new(stale)).unwrap_err();
        assert_eq!((refused.kind(), cedar.revision()), (ErrorKind::Conflict, Revision::new(8)));
    }
    assert!(!cedar.authorize(&view, &here, &get()).allowed);
}
