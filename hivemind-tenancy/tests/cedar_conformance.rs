//! One table of cases, decided by roles and by policies in the Cedar language.
#![cfg(feature = "cedar")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::common;

use common::{World, admin, user};
use hivemind_core::store::Revision;
use hivemind_core::{
    AccessRequest, Authorizer, Generation, Principal, TenantContext, TenantRef, Verb, block_on,
};
use hivemind_tenancy::cedar::{CedarAuthorizer, PolicySet};
use hivemind_tenancy::rbac::{Rule, Scope, Subject};
use hivemind_tenancy::{Role, RoleAuthorizer, RoleBinding, TenantSpec};

struct Case {
    what: &'static str,
    ctx: TenantContext,
    request: AccessRequest,
    expected: bool,
}

fn account(tenant: &TenantRef) -> Principal {
    Principal::ServiceAccount { tenant: tenant.clone(), name: "ci".parse().unwrap() }
}

fn bind(world: &World, name: &str, rules: Vec<Rule>, scope: Scope, subject: Subject) {
    let role = Role::new(name.parse().unwrap(), rules);
    block_on(world.tenants.put_role(&admin(&format!("role-{name}")), role)).unwrap();
    let binding = RoleBinding::new(name.parse().unwrap(), name.parse().unwrap(), scope, [subject]);
    block_on(world.tenants.bind(&admin(&format!("bind-{name}")), binding)).unwrap();
}

fn bind_roles(world: &World, acme: &TenantRef) {
    let staff = || Subject::Group("staff".parse().unwrap());
    let here = || Scope::Tenant(acme.clone());
    let reads = vec![Rule::allow().verbs([Verb::Get, Verb::List]).kind("apps".parse().unwrap())];
    bind(world, "reader", reads, Scope::Global, staff());
    let all_but = vec![Rule::allow(), Rule::deny().verbs([Verb::Delete]).named("billing")];
    bind(world, "owner", all_but, here(), Subject::Principal(user("ada")));
    let secrets = vec![Rule::deny().kind("secrets".parse().unwrap())];
    bind(world, "guard", secrets, Scope::Global, Subject::Group("guarded".parse().unwrap()));
    let volumes = vec![Rule::allow().kind("volumes".parse().unwrap()).named("data")];
    bind(world, "ci", volumes, here(), Subject::Principal(account(acme)));
}

fn policies(acme: &TenantRef) -> CedarAuthorizer {
    let text = format!(
        r#"
        permit(principal in Group::"staff", action in [Action::"get", Action::"list"], resource is apps);
        permit(principal == User::"ada", action, resource in Tenant::"{acme}");
        forbid(principal == User::"ada", action == Action::"delete", resource in Tenant::"{acme}")
            when {{ resource has name && resource.name == "billing" }};
        forbid(principal in Group::"guarded", action, resource is secrets);
        permit(principal == ServiceAccount::"{acme}/ci", action, resource is volumes in Tenant::"{acme}")
            when {{ resource has name && resource.name == "data" }};"#
    );
    CedarAuthorizer::new(PolicySet::parse(&text).unwrap(), Revision::new(1))
}

fn cases(acme: &TenantRef, other: &TenantRef) -> Vec<Case> {
    let older = TenantRef::new(acme.id.clone(), Generation::from_u64(0));
    let case = |what, tenant: &TenantRef, who, groups: &[&str], (verb, kind, name), expected| {
        let ctx = TenantContext::new(tenant.clone(), who, "r".parse().unwrap());
        let ctx = groups.iter().fold(ctx, |ctx, group| ctx.with_group(group.parse().unwrap()));
        let mut request = AccessRequest::new(verb, str::parse(kind).unwrap());
        request.name = Option::<&str>::map(name, str::to_owned);
        Case { what, ctx, request, expected }
    };
    use Verb::{Delete, Get, List};
    let (ada, eve) = (|| user("ada"), || user("eve"));
    vec![
        case("what nothing allows", acme, eve(), &[], (Get, "apps", None), false),
        case("a group that has no role", acme, eve(), &["others"], (Get, "apps", None), false),
        case("a group everywhere", acme, eve(), &["staff"], (Get, "apps", None), true),
        case("a group elsewhere", other, eve(), &["others", "staff"], (List, "apps", Some("x")), true),
        case("another kind", acme, eve(), &["staff"], (Get, "volumes", None), false),
        case("another verb", acme, eve(), &["staff"], (Delete, "apps", None), false),
        case("one who may all", acme, ada(), &[], (Delete, "apps", Some("web")), true),
        case("in another tenant", other, ada(), &[], (Delete, "apps", Some("web")), false),
        case("in an older generation", &older, ada(), &[], (Get, "apps", None), false),
        case("deny wins", acme, ada(), &[], (Delete, "apps", Some("billing")), false),
        case("deny is of a verb", acme, ada(), &[], (Get, "apps", Some("billing")), true),
        case("a name narrows no list", acme, ada(), &[], (Delete, "apps", None), true),
        case("before deny", acme, ada(), &["staff"], (Get, "secrets", None), true),
        case("deny through a group", acme, ada(), &["guarded"], (Get, "secrets", None), false),
        case("an account at home", acme, account(acme), &[], (Get, "volumes", Some("data")), true),
        case("an account of others", acme, account(other), &[], (Get, "volumes", Some("data")), false),
        case("an older account", acme, account(&older), &[], (Get, "volumes", Some("data")), false),
        case("one name only", acme, account(acme), &[], (Get, "volumes", Some("data2")), false),
        case("no name at all", acme, account(acme), &[], (List, "volumes", None), false),
        case("a hostile name", acme, account(acme), &[], (Get, "volumes", Some("x\" || \"data")), false),
    ]
}

#[test]
fn roles_and_policies_agree_on_every_case() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    let other = world.tenant(TenantSpec::new("other".parse().unwrap())).tenant;
    bind_roles(&world, &acme);
    let (roles, cedar) = (RoleAuthorizer::new(), policies(&acme));
    let (view, both): (_, [&dyn Authorizer; 2]) = (world.view(), [&roles, &cedar]);
    for authorizer in both {
        for Case { what, ctx, request, expected } in cases(&acme, &other) {
            let decision = authorizer.authorize(&view, &ctx, &request);
            assert_eq!(decision.allowed, expected, "{what}: {authorizer:?}: {decision:?}");
            assert!(!decision.because.is_empty(), "{what}: {authorizer:?}");
        }
    }
}
