//! The tree: parents exist, there are no cycles whatever happens at the same time, and foreign tenants do not exist.

use std::collections::BTreeMap;

use hivemind_core::store::{Key, Txn};
use hivemind_core::testkit::context;
use hivemind_core::{ErrorKind, StateStore, TenantRef, block_on};
use hivemind_tenancy::tenant::MAX_DEPTH;
use hivemind_tenancy::{Tenant, TenantQuota, TenantSpec, TenantUpdate};
use proptest::prelude::*;

use crate::common::{World, admin, ctx};

fn spec(id: &str) -> TenantSpec {
    TenantSpec::new(id.parse().unwrap())
}

#[test]
fn a_parent_must_exist_in_its_generation() {
    let world = World::new();
    let stranger = context("nobody", "r").tenant().clone();
    let orphan = block_on(world.tenants.create(&admin("a"), spec("b").below(stranger))).unwrap_err();
    assert_eq!((orphan.kind(), orphan.message()), (ErrorKind::NotFound, "there is no tenant nobody"));

    let old = world.tenant(spec("a"));
    block_on(world.tenants.delete(&admin("d"), &old.tenant.id)).unwrap();
    block_on(world.tenants.create(&admin("again"), spec("a"))).unwrap();
    let stale = block_on(world.tenants.create(&admin("c"), spec("b").below(old.tenant))).unwrap_err();
    assert_eq!((stale.kind(), stale.message()), (ErrorKind::NotFound, "there is no tenant a"));
    assert!(world.tenants.tenant(&world.view(), &admin("r"), &"b".parse().unwrap()).is_err());
}

/// Whoever has nothing below pays for no other: the record that cannot be read is not looked at.
#[test]
fn the_part_of_the_tree_below_a_leaf_is_found_without_a_look_at_all_tenants() {
    let world = World::new();
    let (leaf, top) = (world.tenant(spec("leaf")).tenant, world.tenant(spec("top")).tenant);
    world.tenant(spec("below").below(top.clone()));
    let mut txn = Txn::new();
    txn.put(Key::new(["tenancy", "tenants", "zzz"]).unwrap(), "?");
    block_on(world.store.commit(&txn)).unwrap();
    let (view, leaf, top) = (world.view(), ctx(&leaf, "r"), ctx(&top, "r"));
    assert_eq!(world.tenants.visible(&view, &leaf).unwrap().len(), 1);
    assert!(TenantQuota.drift(&view, &leaf).unwrap().is_empty());
    assert_eq!(world.tenants.visible(&view, &top).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_tree_has_a_last_level() {
    let world = World::new();
    let mut last = world.tenant(spec("t0"));
    for level in 1..MAX_DEPTH {
        last = world.tenant(spec(&format!("t{level}")).below(last.tenant));
    }
    let deep = block_on(world.tenants.create(&admin("x"), spec("deep").below(last.tenant.clone())));
    assert_eq!(deep.unwrap_err().kind(), ErrorKind::Invalid);
    let pair = world.tenant(spec("p"));
    world.tenant(spec("q").below(pair.tenant.clone()));
    let above = last.parent.unwrap();
    let moved = block_on(world.tenants.reparent(&admin("y"), &pair.tenant.id, Some(&above)));
    assert!(moved.unwrap_err().message().contains("deeper than 16 levels"));
}

#[test]
fn a_tenant_keeps_its_id_when_it_is_renamed() {
    let world = World::new();
    let acme = world.tenant(spec("acme"));
    let renamed =
        block_on(world.tenants.update(&admin("r"), &acme.tenant.id, TenantUpdate::name("Acme Ltd"))).unwrap();
    assert_eq!((renamed.name.as_str(), &renamed.tenant), ("Acme Ltd", &acme.tenant));
    assert_eq!(
        world.tenants.tenant(&world.view(), &ctx(&acme.tenant, "g"), &acme.tenant.id).unwrap(),
        renamed
    );
}

#[test]
fn a_tenant_sees_itself_and_those_below_and_no_other() {
    let world = World::new();
    let (a, z) = (world.tenant(spec("a")), world.tenant(spec("z")));
    let b = world.tenant(spec("b").below(a.tenant.clone()));
    let c = world.tenant(spec("c").below(b.tenant.clone()));
    let names = |of: &TenantRef| -> Vec<String> {
        block_on(world.tenants.list(&ctx(of, "l")))
            .unwrap()
            .iter()
            .map(|one| one.tenant.id.to_string())
            .collect()
    };
    assert_eq!(names(&TenantRef::system()), ["a", "b", "c", "z"]);
    assert_eq!(names(&a.tenant), ["a", "b", "c"]);
    assert_eq!(names(&b.tenant), ["b", "c"]);
    assert_eq!(names(&z.tenant), ["z"]);
    // What is foreign, and what was never there, look the same; so does everything that is tried on it.
    for (one, id) in [(&b.tenant, "a"), (&z.tenant, "a"), (&z.tenant, "nobody")] {
        let (one, id) = (ctx(one, "f"), id.parse().unwrap());
        let expected = (ErrorKind::NotFound, format!("there is no tenant {id}"));
        let errors = [
            block_on(world.tenants.get(&one, &id)).unwrap_err(),
            block_on(world.tenants.update(&one, &id, TenantUpdate::name("mine"))).unwrap_err(),
            block_on(world.tenants.delete(&one, &id)).unwrap_err(),
            block_on(world.tenants.suspend(&one, &id, None)).unwrap_err(),
            block_on(world.tenants.resume(&one, &id)).unwrap_err(),
            block_on(world.tenants.reparent(&one, &id, None)).unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.message().to_owned()), expected);
        }
    }
    assert_eq!(c.parent, Some(b.tenant));
}

#[test]
fn a_cycle_or_a_gap_in_stored_data_is_an_error_and_no_loop() {
    let world = World::new();
    let (a, b) = (world.tenant(spec("a")), world.tenant(spec("b")));
    // One that is counted, so that those below are looked for.
    world.tenant(spec("c").below(a.tenant.clone()));
    let below = |one: &Tenant, parent: &TenantRef| {
        let mut one = one.clone();
        one.parent = Some(parent.clone());
        let key = hivemind_core::store::Key::new(["tenancy", "tenants", one.tenant.id.as_str()]).unwrap();
        let mut txn = Txn::new();
        txn.put(key, hivemind_core::encode(&one).unwrap());
        block_on(world.store.commit(&txn)).unwrap();
    };
    let told = || {
        let (view, own) = (world.view(), ctx(&a.tenant, "c"));
        let chain = Tenant::chain(&view, &Txn::new(), &own).unwrap_err();
        let found = world.tenants.tenant(&view, &own, &a.tenant.id).unwrap_err();
        assert_eq!((chain.kind(), found.kind()), (ErrorKind::Corrupt, ErrorKind::Corrupt));
        chain.message().to_owned()
    };
    below(&a, &b.tenant);
    below(&b, &a.tenant);
    assert_eq!(told(), "tenant a is below a, which is below itself");
    below(&b, context("nobody", "r").tenant());
    assert_eq!(told(), "tenant a is below nobody, which is gone");
    // Listing loops no more than looking up.
    below(&b, &a.tenant);
    assert_eq!(world.tenants.visible(&world.view(), &ctx(&a.tenant, "v")).unwrap().len(), 3);
}

/// A small tree by hand: who is below whom.
type Parents = BTreeMap<usize, Option<usize>>;

fn is_above(parents: &Parents, above: usize, mut below: usize) -> bool {
    loop {
        if below == above {
            return true;
        }
        match parents[&below] {
            Some(parent) => below = parent,
            None => return false,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Two moves are decided on the same state and committed one after the other, again and again. The tree stays one,
    /// and is what a model says in which each move happens at once or not at all.
    #[test]
    fn concurrent_moves_never_make_a_cycle(
        moves in prop::collection::vec([(0_usize..6, prop::option::of(0_usize..6)), (0_usize..6, prop::option::of(0_usize..6))], 1..12),
    ) {
        let world = World::new();
        let tenants: Vec<Tenant> = (0..6).map(|n| world.tenant(spec(&format!("t{n}")))).collect();
        let mut model: Parents = (0..6).map(|n| (n, None)).collect();
        for pair in moves {
            let view = world.view();
            let mut staged = Vec::new();
            for (moved, to) in pair {
                let mut txn = Txn::new();
                let parent = to.map(|to| &tenants[to].tenant);
                let decided = world.tenants.stage_reparent(
                    &view, &mut txn, &admin("m"), &tenants[moved].tenant.id, parent, hivemind_core::Timestamp::EPOCH,
                );
                let cycle = to.is_some_and(|to| is_above(&model, moved, to)) && model[&moved] != to;
                prop_assert_eq!(decided.is_err(), cycle, "{} below {:?}", moved, to);
                if decided.is_ok() {
                    staged.push((moved, to, txn));
                }
            }
            for (moved, to, txn) in staged {
                match block_on(world.store.commit(&txn)) {
                    Ok(_) => {
                        prop_assert!(model[&moved] == to || !to.is_some_and(|to| is_above(&model, moved, to)));
                        model.insert(moved, to);
                    }
                    Err(e) => prop_assert_eq!(e.kind(), ErrorKind::Conflict),
                }
            }
            let view = world.view();
            for (n, tenant) in tenants.iter().enumerate() {
                let chain = Tenant::chain(&view, &Txn::new(), &ctx(&tenant.tenant, "c")).unwrap();
                let above = chain[0].parent.as_ref().map(|parent| tenants.iter().position(|t| t.tenant == *parent).unwrap());
                prop_assert_eq!(above, model[&n]);
            }
        }
        // The counts of children that deletion relies on are right: leaves can go, and nothing else.
        for (n, tenant) in tenants.iter().enumerate() {
            let mut txn = Txn::new();
            let begun = world.tenants.stage_begin_deletion(
                &world.view(), &mut txn, &admin("d"), &tenant.tenant.id, hivemind_core::Timestamp::EPOCH,
            );
            prop_assert_eq!(begun.is_ok(), !model.values().any(|parent| *parent == Some(n)));
        }
    }
}
