//! The index after changes is the one that is compiled anew.

use std::cell::RefCell;
use std::sync::Arc;

use hivemind_core::store::{Event, Key, Prefix, Record, Revision, Snapshot, Txn, WatchBatch};
use hivemind_core::{
    AccessRequest, ErrorKind, Mirror, MirrorChange, StateStore, TenantContext, TenantRef, Verb, block_on,
    encode,
};
use hivemind_tenancy::rbac::{AccessHandle, AccessIndex, Inherit, PolicyChange, Rule, Scope, Subject};
use hivemind_tenancy::{Role, RoleBinding, TenantSpec};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::common::{World, admin};
use crate::model::{State, any_tenant, binding, context, request, rule, state, tenant, user};

/// One change of a state.
#[derive(Debug, Clone)]
enum Edit {
    Tenant(Index, Option<Option<TenantRef>>, u64),
    Role(Index, Option<Vec<Rule>>),
    Bind(Index, Box<RoleBinding>),
    Unbind(Index),
}

fn edit(roles: Vec<Role>) -> impl Strategy<Value = Edit> {
    let rules = prop::option::of(prop::collection::vec(rule(), 0..3));
    let parent = prop::option::weighted(0.8, prop::option::of(any_tenant()));
    prop_oneof![
        3 => (any::<Index>(), binding(roles)).prop_map(|(name, one)| Edit::Bind(name, Box::new(one))),
        2 => any::<Index>().prop_map(Edit::Unbind),
        2 => (any::<Index>(), rules).prop_map(|(role, rules)| Edit::Role(role, rules)),
        2 => (any::<Index>(), parent, 0u64..3).prop_map(|(number, parent, generation)| {
            Edit::Tenant(number, parent, generation)
        }),
    ]
}

/// Changes `state`, and says how.
fn apply(state: &mut State, roles: &[Role], edit: &Edit) -> Option<PolicyChange> {
    match edit {
        Edit::Tenant(number, parent, generation) => {
            let new = tenant(number.index(6), *generation);
            state.tenants.retain(|(one, _)| one.id != new.id);
            let Some(parent) = parent else { return Some(PolicyChange::RemoveTenant(new.id)) };
            state.tenants.push((new.clone(), parent.clone()));
            Some(PolicyChange::PutTenant(new, parent.clone()))
        }
        Edit::Role(number, rules) => {
            let mut role = number.get(roles).clone();
            state.roles.retain(|one| (&one.name, &one.tenant) != (&role.name, &role.tenant));
            let Some(rules) = rules else { return Some(PolicyChange::RemoveRole(role.tenant, role.name)) };
            role.rules.clone_from(rules);
            state.roles.push(role.clone());
            Some(PolicyChange::PutRole(Arc::new(role)))
        }
        Edit::Bind(number, one) => {
            let mut one = (**one).clone();
            one.name = format!("b{}", number.index(10)).parse().unwrap();
            state.bindings.retain(|old| (&old.name, &old.scope) != (&one.name, &one.scope));
            state.bindings.push(one.clone());
            Some(PolicyChange::PutBinding(Arc::new(one)))
        }
        Edit::Unbind(number) if !state.bindings.is_empty() => {
            let one = state.bindings.remove(number.index(state.bindings.len()));
            Some(PolicyChange::RemoveBinding(one.scope, one.name))
        }
        Edit::Unbind(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_changes_come_to_the_same_as_compiling_anew(
        (start, edits) in state().prop_flat_map(|state| {
            let edits = prop::collection::vec((edit(state.roles.clone()), any::<bool>()), 1..40);
            (Just(state), edits)
        }),
        asked in prop::collection::vec((context(), request()), 12),
    ) {
        let (mut now, roles) = (start.clone(), start.roles.clone());
        let (first, mut index) = (start.index(), start.index());
        let mut together = Vec::new();
        for (edit, flush) in &edits {
            together.extend(apply(&mut now, &roles, edit));
            if *flush {
                index = index.changed(Revision::new(1), together.drain(..));
            }
        }
        index = index.changed(Revision::new(1), together);
        let anew = now.index();
        prop_assert_eq!(index.len(), anew.len());
        prop_assert_eq!(index.lint(None), anew.lint(None));
        for (ctx, request) in &asked {
            prop_assert_eq!(index.explain(ctx, request), anew.explain(ctx, request), "{:?} {}", ctx, request);
            prop_assert_eq!(index.who_can(ctx, request), anew.who_can(ctx, request));
            let seen = |index: &AccessIndex| {
                let visible = index.visible(ctx, request.verb, &request.kind);
                (visible.tenants(), visible.names())
            };
            prop_assert_eq!(seen(&index), seen(&anew));
            // Who still has the index before is not disturbed.
            prop_assert_eq!(first.explain(ctx, request), start.index().explain(ctx, request));
        }
    }
}

fn reader() -> Role {
    Role::new("reader".parse().unwrap(), [Rule::allow()])
}

fn get() -> AccessRequest {
    AccessRequest::new(Verb::Get, "apps".parse().unwrap())
}

fn bound(number: usize, tenant: &TenantRef) -> RoleBinding {
    let subject = Subject::Principal(user(&format!("u{number}")));
    let scope = Scope::Tenant(tenant.clone());
    RoleBinding::new(format!("b{number}").parse().unwrap(), "reader".parse().unwrap(), scope, [subject])
}

#[test]
fn numbers_of_what_is_gone_are_given_up() {
    let mut index = State { tenants: vec![], roles: vec![reader()], bindings: vec![] }.index();
    for number in 0..1_000 {
        let one = tenant(0, number);
        let changes = [
            PolicyChange::PutTenant(one.clone(), None),
            PolicyChange::PutBinding(Arc::new(bound(0, &one))),
            PolicyChange::RemoveBinding(Scope::Tenant(one.clone()), "b0".parse().unwrap()),
        ];
        index = index.changed(Revision::new(number), changes);
    }
    let last = tenant(0, 999);
    let bound = PolicyChange::PutBinding(Arc::new(bound(1, &last)));
    let index = index.changed(Revision::new(1_000), [bound]);
    let ctx = TenantContext::new(last, user("u1"), "r".parse().unwrap());
    assert!(index.decide(&ctx, &get()).allowed && index.len() == 1);
}

/// What happened below all prefixes between two snapshots, as a watch tells it.
fn batch(before: &Snapshot, after: &Snapshot) -> WatchBatch {
    let root = Prefix::ROOT;
    let new = |record: &&Record| record.mod_revision > before.revision();
    let puts = after.scan(&root).filter(new).cloned().map(Event::Put);
    let gone = before.scan(&root).filter(|record| after.get(&record.key).is_none());
    let gone = gone.map(|record| Event::Delete(record.key.clone()));
    WatchBatch::new(after.revision(), puts.chain(gone).collect())
}

#[test]
fn a_handle_follows_what_a_watch_tells_and_a_refresh_comes_to_the_same() {
    let world = World::new();
    let all = [AccessHandle::of(&world.view()).unwrap(), AccessHandle::of(&world.view()).unwrap()];
    let [follower, refreshed] = &all;
    let last = RefCell::new(world.view());
    let step = |what: &str, places: &[&TenantRef]| {
        let now = world.view();
        let before = last.replace(world.view());
        assert!(follower.follow(&batch(&before, &now)).unwrap(), "{what}");
        assert!(!follower.follow(&batch(&before, &now)).unwrap(), "{what}: twice");
        refreshed.refresh(&now).unwrap();
        let anew = AccessIndex::of(&now, &Txn::new()).unwrap();
        for index in all.iter().map(AccessHandle::current) {
            assert_eq!((index.revision(), index.len()), (anew.revision(), anew.len()), "{what}");
            for (place, name) in places.iter().flat_map(|place| [(place, "u1"), (place, "ada")]) {
                let ctx = TenantContext::new((*place).clone(), user(name), "r".parse().unwrap());
                assert_eq!(index.explain(&ctx, &get()), anew.explain(&ctx, &get()), "{what}");
            }
        }
    };
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    step("a tenant", &[&acme]);
    let team = world.tenant(TenantSpec::new("team".parse().unwrap()).below(acme.clone())).tenant;
    block_on(world.tenants.put_role(&admin("p"), reader())).unwrap();
    step("a tenant below, and a role", &[&acme, &team]);
    let own = reader().of_tenant(acme.clone());
    block_on(world.tenants.put_role(&admin("o"), own)).unwrap();
    let down = bound(1, &acme).with_inherit(Inherit::Down);
    block_on(world.tenants.bind(&admin("b"), down)).unwrap();
    step("a binding that reaches down", &[&acme, &team]);
    assert!(
        refreshed
            .current()
            .decide(&TenantContext::new(team.clone(), user("u1"), "r".parse().unwrap()), &get())
            .allowed
    );
    block_on(world.tenants.put_role(&admin("q"), Role::new("reader".parse().unwrap(), []))).unwrap();
    step("a role that says no more", &[&acme, &team]);
    let scope = Scope::Tenant(acme.clone());
    block_on(world.tenants.unbind(&admin("u"), &scope, &"b1".parse().unwrap())).unwrap();
    step("a binding taken back", &[&acme, &team]);
    world
        .commit(|view, txn| {
            let name = "reader".parse().unwrap();
            world.tenants.stage_delete_role(view, txn, &admin("d1"), Some(&acme), &name)?;
            world.tenants.stage_delete_role(view, txn, &admin("d2"), None, &name)
        })
        .unwrap();
    step("roles deleted", &[&acme, &team]);
    block_on(world.tenants.delete(&admin("d"), &team.id)).unwrap();
    step("a tenant deleted", &[&acme, &team]);
}

#[test]
fn a_handle_follows_a_mirror_whatever_it_could_not_read_meanwhile() {
    let world = World::new();
    let acme = world.tenant(TenantSpec::new("acme".parse().unwrap())).tenant;
    block_on(world.tenants.put_role(&admin("p"), reader())).unwrap();
    let store: Arc<dyn StateStore> = Arc::new(world.store.clone());
    let opened = block_on(Mirror::open(store, hivemind_tenancy::prefix().unwrap()));
    let (mirror, feed) = opened.unwrap();
    let (handle, feed) = (AccessHandle::of(&mirror.view()).unwrap(), RefCell::new(feed));
    let advance = || handle.advance(&block_on(feed.borrow_mut().advance()).unwrap(), &mirror.view());
    let scope = acme.to_string();
    let commit = |name: &str, value: Option<Vec<u8>>| {
        let (mut txn, key) = (Txn::new(), Key::new(["tenancy", "bindings", &scope, name]).unwrap());
        match value {
            Some(value) => txn.put(key, value),
            None => txn.delete(key),
        }
        block_on(world.store.commit(&txn)).unwrap()
    };
    let one = |number| Some(encode(&bound(number, &acme)).unwrap().to_vec());
    let may = |name: &str| {
        let ctx = TenantContext::new(acme.clone(), user(name), "r".parse().unwrap());
        handle.current().decide(&ctx, &get()).allowed
    };
    let first = commit("b1", one(1));
    assert!(advance().unwrap());
    assert!(may("u1") && handle.at_least(first).is_ok());

    commit("bad", Some(b"?".to_vec()));
    assert_eq!(advance().unwrap_err().kind(), ErrorKind::Corrupt);
    commit("b2", one(2));
    assert_eq!(advance().unwrap_err().kind(), ErrorKind::Corrupt, "it is not whole yet");
    assert!(may("u1") && !may("u2"));
    let mended = commit("bad", None);
    assert!(advance().unwrap());
    assert!(may("u1") && may("u2") && handle.at_least(mended).is_ok());

    commit("b1", None);
    let last = commit("b3", one(3));
    // What came meanwhile was compacted away, and the mirror read anew.
    handle.advance(&MirrorChange::ReadAnew(last), &world.view()).unwrap();
    assert!(!may("u1") && may("u3"));
}
