//! Who may not change roles and bindings is not told which there are.

use hivemind_core::{ErrorKind, Result, RoleName, TenantContext, TenantRef, Verb, block_on};
use hivemind_tenancy::rbac::{Inherit, Rule, Scope, Subject};
use hivemind_tenancy::{Role, RoleBinding, TenantSpec};

use crate::common::{World, admin};
use crate::model::user;

fn name(name: &str) -> RoleName {
    name.parse().unwrap()
}

fn bound(binding: &str, role: &str, tenant: &TenantRef, who: &str) -> RoleBinding {
    let subject = Subject::Principal(user(who));
    RoleBinding::new(name(binding), name(role), Scope::Tenant(tenant.clone()), [subject])
        .with_inherit(Inherit::Down)
}

/// Acme with a role of its own, a role for all, and a binding of each; eve may read there, and gus may grant
/// the role `reader` and no other.
fn acme(world: &World) -> TenantRef {
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    let read = || Rule::allow().verbs([Verb::Get]).kind("apps".parse().unwrap());
    let grant = Rule::allow().verbs([Verb::Grant]).kind("roles".parse().unwrap()).named("reader");
    let put = |role| block_on(world.tenants.put_role(&admin("put"), role)).unwrap();
    put(Role::new(name("reader"), [read()]));
    put(Role::new(name("writer"), [Rule::allow().kind("apps".parse().unwrap())]));
    put(Role::new(name("own"), [read()]).of_tenant(acme.clone()));
    put(Role::new(name("granter"), [grant, read()]));
    let bind = |one| block_on(world.tenants.bind(&admin("bind"), one)).unwrap();
    bind(bound("b1", "reader", &acme, "eve"));
    bind(bound("b2", "writer", &acme, "bob"));
    bind(bound("b3", "granter", &acme, "gus"));
    acme
}

fn told(result: Result<()>, names: &[&str]) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind(), names.iter().fold(error.message().to_owned(), |text, name| text.replace(name, "NAME")))
}

#[test]
fn who_may_not_is_told_the_same_of_what_is_there_and_what_is_not() {
    let world = World::new();
    let acme = acme(&world);
    let eve = TenantContext::new(acme.clone(), user("eve"), "r".parse().unwrap());
    let names = ["b2", "own", "reader", "ghost"];
    let scope = Scope::Tenant(acme.clone());
    let delete = |role: &str| {
        let result = world
            .commit(|view, txn| world.tenants.stage_delete_role(view, txn, &eve, Some(&acme), &name(role)));
        told(result, &names)
    };
    let unbind = |one: &str| {
        let result =
            world.commit(|view, txn| world.tenants.stage_unbind(view, txn, &eve, &scope, &name(one)));
        told(result, &names)
    };
    let bind = |role: &str, owner: Option<&TenantRef>, one: &str| {
        let mut binding = bound(one, role, &acme, "eve");
        binding.role_of = owner.cloned();
        told(world.commit(|view, txn| world.tenants.stage_bind(view, txn, &eve, &binding)), &names)
    };
    let put = |role: &str| {
        let role = Role::new(name(role), [Rule::allow()]).of_tenant(acme.clone());
        told(world.commit(|view, txn| world.tenants.stage_put_role(view, txn, &eve, &role)), &names)
    };
    assert_eq!(delete("own"), delete("ghost"));
    assert_eq!(unbind("b2"), unbind("ghost"));
    assert_eq!(bind("reader", None, "b2"), bind("ghost", None, "ghost"));
    assert_eq!(bind("own", Some(&acme), "b2"), bind("ghost", Some(&acme), "ghost"));
    assert_eq!(put("own"), put("ghost"));
    for denied in [delete("own"), unbind("b2"), bind("reader", None, "b2"), put("own")] {
        assert_eq!(denied.0, ErrorKind::Denied, "{denied:?}");
    }
}

#[test]
fn who_may_grant_one_role_is_not_told_of_bindings_of_others() {
    let world = World::new();
    let acme = acme(&world);
    let gus = TenantContext::new(acme.clone(), user("gus"), "r".parse().unwrap());
    let scope = Scope::Tenant(acme);
    let unbind =
        |one: &str| world.commit(|view, txn| world.tenants.stage_unbind(view, txn, &gus, &scope, &name(one)));
    let there = told(unbind("b2"), &["b2", "ghost"]);
    assert_eq!(there, told(unbind("ghost"), &["b2", "ghost"]));
    assert_eq!(there.0, ErrorKind::NotFound);
    unbind("b1").unwrap();
}
