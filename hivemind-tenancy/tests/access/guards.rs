//! What a policy must not become by other means than grants: older, for nobody, or without effect.

use hivemind_core::store::{Prefix, Revision, Txn};
use hivemind_core::{
    AccessRequest, ErrorKind, StateStore, StateStoreExt, TenantContext, TenantRef, Verb, block_on,
};
use hivemind_tenancy::rbac::{
    AccessHandle, AccessIndex, Conditions, Inherit, Rule, Scope, Subject, TimeWindow,
};
use hivemind_tenancy::{Role, RoleBinding, TenantSpec};

use crate::common::{World, admin};
use crate::model::user;

fn binding(name: &str, role: &str, tenant: &TenantRef, who: &str) -> RoleBinding {
    let scope = Scope::Tenant(tenant.clone());
    let subject = Subject::Principal(user(who));
    RoleBinding::new(name.parse().unwrap(), role.parse().unwrap(), scope, [subject])
}

fn reader() -> Role {
    Role::new("reader".parse().unwrap(), [Rule::allow().verbs([Verb::Get])])
}

fn get() -> AccessRequest {
    AccessRequest::new(Verb::Get, "apps".parse().unwrap())
}

#[test]
fn an_older_view_does_not_undo_a_revocation() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    block_on(world.tenants.put_role(&admin("p"), reader())).unwrap();
    block_on(world.tenants.bind(&admin("b"), binding("b", "reader", &acme, "ada"))).unwrap();
    let before = world.view();
    let scope = Scope::Tenant(acme.clone());
    block_on(world.tenants.unbind(&admin("u"), &scope, &"b".parse().unwrap())).unwrap();
    // A host that compiles by itself puts the newest one in place; a slow refresh comes after it.
    let handle = AccessHandle::new(AccessIndex::of(&world.view(), &Txn::new()).unwrap());
    let revoked = handle.current().revision();
    handle.refresh(&before).unwrap();
    let ada = TenantContext::new(acme, user("ada"), "r".parse().unwrap());
    assert_eq!(handle.current().revision(), revoked);
    assert!(!handle.current().decide(&ada, &get()).allowed);
    // An empty cluster is a state like any other.
    let empty = AccessHandle::of(&hivemind_core::store::Snapshot::default()).unwrap();
    assert_eq!(empty.current().revision(), Revision::ZERO);
}

#[test]
fn one_request_puts_roles_of_one_name_for_all_and_for_a_tenant() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    block_on(world.tenants.put_role(&admin("p"), reader())).unwrap();
    block_on(world.tenants.put_role(&admin("p"), reader().of_tenant(acme.clone()))).unwrap();
    let own = binding("b", "reader", &acme, "ada").with_role_of(acme);
    block_on(world.tenants.bind(&admin("b"), own)).unwrap();
}

#[test]
fn nothing_is_bound_in_a_tenant_that_goes() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    block_on(world.tenants.put_role(&admin("p"), reader())).unwrap();
    let (view, mut bind, mut put) = (world.view(), Txn::new(), Txn::new());
    let one = binding("b", "reader", &acme, "ada");
    let own = reader().of_tenant(acme.clone());
    world.tenants.stage_bind(&view, &mut bind, &admin("b"), &one).unwrap();
    world.tenants.stage_put_role(&view, &mut put, &admin("p2"), &own).unwrap();
    // What was decided before the deletion does not commit after it.
    world
        .commit(|view, txn| {
            let now = hivemind_core::Timestamp::EPOCH;
            world.tenants.stage_begin_deletion(view, txn, &admin("d"), &acme.id, now)
        })
        .unwrap();
    for txn in [&bind, &put] {
        assert_eq!(block_on(world.store.commit(txn)).unwrap_err().kind(), ErrorKind::Conflict);
    }
    let bound = world.commit(|view, txn| world.tenants.stage_bind(view, txn, &admin("b2"), &one));
    let kept = world.commit(|view, txn| world.tenants.stage_put_role(view, txn, &admin("p3"), &own));
    assert_eq!(
        (bound.unwrap_err().kind(), kept.unwrap_err().kind()),
        (ErrorKind::Conflict, ErrorKind::Conflict)
    );
    block_on(world.tenants.advance_deletion(&admin("d"), &acme)).unwrap();
    let late = world.commit(|view, txn| world.tenants.stage_put_role(view, txn, &admin("p4"), &own));
    assert_eq!(late.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_condition_that_never_holds_is_refused_for_a_deny_by_it_denies_nothing() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    block_on(world.tenants.put_role(&admin("p"), reader())).unwrap();
    let weekly =
        |days: &[u8], from, until| TimeWindow::Weekly { days: days.iter().copied().collect(), from, until };
    let at = hivemind_core::Timestamp::from_secs;
    let always = Conditions::default;
    for (bad, told) in [
        (always().with_window(weekly(&[7], 0, 60)), "day 7"),
        (always().with_window(weekly(&[], 0, 60)), "no days"),
        (always().with_window(weekly(&[1], 1440, 60)), "minute 1440"),
        (always().with_window(weekly(&[1], 0, 1441)), "minute 1441"),
        (always().with_window(TimeWindow::Once { from: at(5), until: at(5) }), "over before it begins"),
        (always().with_network("::ffff:10.0.0.0/104".parse().unwrap()), "10.0.0.0/8"),
    ] {
        let one = binding("b", "reader", &acme, "ada").with_conditions(bad);
        let refused = world.commit(|view, txn| world.tenants.stage_bind(view, txn, &admin("b"), &one));
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{told}");
        assert!(refused.message().contains(told), "{told}: {refused}");
    }
    let night =
        always().with_window(weekly(&[0, 6], 22 * 60, 1440)).with_network("10.0.0.0/8".parse().unwrap());
    let one = binding("b", "reader", &acme, "ada").with_conditions(night);
    world.commit(|view, txn| world.tenants.stage_bind(view, txn, &admin("b"), &one)).unwrap();
}

#[test]
fn a_role_is_small_enough_to_be_compared() {
    let world = World::new();
    let rule = (0..300).fold(Rule::allow(), |rule, number| rule.named(format!("n{number}")));
    let large = Role::new("large".parse().unwrap(), [rule]);
    let put = world.commit(|view, txn| world.tenants.stage_put_role(view, txn, &admin("p"), &large));
    assert_eq!(put.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_reason_names_no_binding_of_another_tenant() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    let globex = world.tenant(TenantSpec::new("globex".parse().unwrap())).tenant;
    block_on(world.tenants.put_role(&admin("p"), reader())).unwrap();
    let theirs = binding("secret", "reader", &globex, "ada").with_inherit(Inherit::Down);
    block_on(world.tenants.bind(&admin("b"), theirs)).unwrap();
    let view = block_on(world.store.snapshot(&[Prefix::ROOT])).unwrap();
    let ctx = TenantContext::new(acme, user("ada"), "r".parse().unwrap());
    let told = AccessIndex::of(&view, &Txn::new()).unwrap().explain(&ctx, &get());
    assert!(!told.decision.allowed);
    assert_eq!(told.because, ["no role is bound to user ada in this tenant"]);
    assert_eq!(
        told.help,
        [
            "role cluster-admin would allow it: bind it to user ada in tenant acme",
            "role reader would allow it: bind it to user ada in tenant acme"
        ]
    );
}
