//! Who may do what, and why.

use crate::common::{World, admin, ctx, user};
use hivemind_core::store::Txn;
use hivemind_core::{
    AccessRequest, Authorizer, ErrorKind, Principal, TenantContext, TenantRef, Verb, block_on,
};
use hivemind_tenancy::rbac::{AccessIndex, Rule, Scope, Subject};
use hivemind_tenancy::{Role, RoleAuthorizer, RoleBinding, TenantSpec};

fn ask(verb: Verb, kind: &str) -> AccessRequest {
    AccessRequest::new(verb, kind.parse().unwrap())
}

fn grant(world: &World, name: &str, rules: Vec<Rule>, scope: Scope, subject: Subject) {
    let request = format!("grant-{name}");
    let role = Role::new(name.parse().unwrap(), rules);
    block_on(world.tenants.put_role(&admin(&request), role)).unwrap();
    let name: hivemind_core::RoleName = name.parse().unwrap();
    block_on(world.tenants.bind(&admin(&request), RoleBinding::new(name.clone(), name, scope, [subject])))
        .unwrap();
}

fn ada() -> Subject {
    Subject::Principal(user("ada"))
}

fn allowed(world: &World, ctx: &TenantContext, request: &AccessRequest) -> bool {
    RoleAuthorizer::new().authorize(&world.view(), ctx, request).allowed
}

#[test]
fn nothing_is_allowed_by_default_and_the_reason_says_so() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    let (ctx, create) = (ctx(&acme, "r"), ask(Verb::Create, "apps"));
    let error =
        RoleAuthorizer::new().authorize(&world.view(), &ctx, &create).into_result(&ctx, &create).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(
        error.message(),
        "user ada may not create apps in tenant acme: no role is bound to user ada in this tenant",
        "who is refused is not told which roles there are"
    );
    let told = AccessIndex::of(&world.view(), &Txn::new()).unwrap().explain(&ctx, &create);
    assert_eq!(told.help, ["role cluster-admin would allow it: bind it to user ada in tenant acme"]);
    let reader = vec![Rule::allow().verbs([Verb::Get, Verb::List]).kind("apps".parse().unwrap())];
    grant(&world, "reader", reader, Scope::Tenant(acme), ada());
    let told = RoleAuthorizer::new().authorize(&world.view(), &ctx, &create).because;
    assert_eq!(told[0], "role reader by binding reader for tenant acme allows get, list on apps, not create");
}

#[test]
fn deny_wins_and_names_narrow() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    grant(&world, "admin", vec![Rule::allow()], Scope::Tenant(acme.clone()), ada());
    let no_deletes = vec![Rule::deny().verbs([Verb::Delete]).named("billing")];
    grant(&world, "guard", no_deletes, Scope::Global, Subject::Group("staff".parse().unwrap()));
    let staff = ctx(&acme, "r").with_group("staff".parse().unwrap());
    assert!(allowed(&world, &staff, &ask(Verb::Delete, "apps")));
    assert!(allowed(&world, &ctx(&acme, "r"), &ask(Verb::Delete, "apps").named("billing")));
    let decision =
        RoleAuthorizer::new().authorize(&world.view(), &staff, &ask(Verb::Delete, "apps").named("billing"));
    assert_eq!(decision.because, ["role guard by binding guard for every tenant denies it"]);
}

#[test]
fn a_grant_dies_with_its_generation_and_its_tenant() {
    let world = World::new();
    let old = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    grant(&world, "admin", vec![Rule::allow()], Scope::Tenant(old.clone()), ada());
    assert!(allowed(&world, &ctx(&old, "r"), &ask(Verb::Get, "apps")));
    block_on(world.tenants.delete(&admin("d"), &old.id)).unwrap();
    assert!(!allowed(&world, &ctx(&old, "r"), &ask(Verb::Get, "apps")));
    let anew =
        block_on(world.tenants.create(&admin("a"), TenantSpec::new("acme".parse().unwrap()))).unwrap().tenant;
    assert!(!allowed(&world, &ctx(&anew, "r"), &ask(Verb::Get, "apps")));
}

#[test]
fn a_service_account_of_the_same_name_elsewhere_is_a_stranger() {
    let world = World::new();
    let account = |tenant: &TenantRef| Principal::ServiceAccount {
        tenant: tenant.clone(),
        name: "ci".parse().unwrap(),
    };
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    let globex = world.tenant(TenantSpec::new("globex".parse().unwrap())).tenant;
    grant(&world, "ci", vec![Rule::allow()], Scope::Tenant(acme.clone()), Subject::Principal(account(&acme)));
    let as_account = |owner| TenantContext::new(acme.clone(), account(owner), "r".parse().unwrap());
    assert!(allowed(&world, &as_account(&acme), &ask(Verb::Get, "apps")));
    assert!(!allowed(&world, &as_account(&globex), &ask(Verb::Get, "apps")));
}

#[test]
fn a_tenant_binds_in_itself_only_and_only_what_is_there() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    let globex = world.tenant(TenantSpec::new("globex".parse().unwrap())).tenant;
    grant(&world, "admin", vec![Rule::allow()], Scope::Tenant(acme.clone()), ada());
    let bind =
        |role: &str, scope| RoleBinding::new("b".parse().unwrap(), role.parse().unwrap(), scope, [ada()]);
    let own = ctx(&acme, "r");
    let try_bind = |one: RoleBinding| {
        world
            .commit(|view, txn| world.tenants.stage_bind(view, txn, &own, &one))
            .map_err(|error| error.kind())
    };
    assert_eq!(try_bind(bind("admin", Scope::Global)), Err(ErrorKind::Denied));
    assert_eq!(try_bind(bind("admin", Scope::Tenant(globex))), Err(ErrorKind::NotFound));
    assert_eq!(try_bind(bind("ghost", Scope::Tenant(acme.clone()))), Err(ErrorKind::NotFound));
    assert_eq!(try_bind(bind("admin", Scope::Tenant(acme))), Ok(()));
    let role = Role::new("ghost".parse().unwrap(), [Rule::allow()]);
    let refused = world.commit(|view, txn| world.tenants.stage_put_role(view, txn, &own, &role));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn a_binding_whose_role_is_gone_grants_nothing_and_the_reason_says_so() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    grant(&world, "ghost", vec![Rule::allow()], Scope::Tenant(acme.clone()), ada());
    let name = "ghost".parse().unwrap();
    world.commit(|view, txn| world.tenants.stage_delete_role(view, txn, &admin("d"), None, &name)).unwrap();
    let told = RoleAuthorizer::new().authorize(&world.view(), &ctx(&acme, "r"), &ask(Verb::Get, "apps"));
    assert!(!told.allowed);
    assert_eq!(
        told.because[0],
        "binding ghost for tenant acme names role ghost, and one of the two does not exist"
    );
}

#[test]
fn there_is_one_first_administrator() {
    let world = World::new();
    let again = world.commit(|view, txn| world.tenants.stage_first_admin(view, txn, &ada()));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
}
