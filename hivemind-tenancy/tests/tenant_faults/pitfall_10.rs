//! Restart, move and deletion: what went wrong elsewhere (HNC#228, HNC#214, kubernetes#60807) and must not here.

use std::sync::Arc;
use std::time::Duration;

use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::store::{Prefix, Record, Revision, Snapshot, Txn, Write};
use hivemind_core::testkit::{FaultPlan, FaultyStore, until_crash};
use hivemind_core::{
    AuditOutcome, ManualClock, MemoryAudit, MemoryStore, QuotaGate, SeededIds, StateStore, StateStoreExt,
    TenantRef, Timestamp, block_on,
};
use hivemind_tenancy::tenant::{DeletionOutcome, Finalizer};
use hivemind_tenancy::{Tenant, TenantManager, TenantQuota, TenantSpec};
use proptest::prelude::*;

use crate::common::{World, admin, ctx};

fn spec(id: &str) -> TenantSpec {
    TenantSpec::new(id.parse().unwrap())
}

fn finalizer(name: &str, order: u32) -> Finalizer {
    Finalizer::new(name.parse().unwrap(), order, Duration::from_secs(10))
}

/// `a` above `b` above `c`; `d` beside them, on its way out and not empty of turns to take.
fn family() -> (World, Vec<Tenant>) {
    let world = World::new();
    let a = world.tenant(spec("a"));
    let b = world.tenant(spec("b").below(a.tenant.clone()));
    let c = world.tenant(spec("c").below(b.tenant.clone()));
    let d = world.tenant(spec("d").below(a.tenant.clone()).with_finalizer(finalizer("f", 0)));
    block_on(world.tenants.delete(&admin("d"), &d.tenant.id)).unwrap();
    (world, vec![a, b, c, d])
}

/// Which tenants' records `txn` deletes.
fn removed<'a>(txn: &Txn, all: &'a [Tenant]) -> Vec<&'a TenantRef> {
    let tenants = Prefix::new(["tenancy", "tenants"]).unwrap();
    let key = |one: &&Tenant| tenants.key([one.tenant.id.as_str()]).unwrap();
    let gone = |one: &&Tenant| txn.writes().any(|(at, write)| *at == key(one) && *write == Write::Delete);
    all.iter().filter(gone).map(|one| &one.tenant).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn pitfall_10_nothing_goes_before_the_tree_is_complete(seed in any::<u64>()) {
        let (world, all) = family();
        let full = world.view();
        let below = Prefix::new(["tenancy"]).unwrap();
        let mut records: Vec<Record> = full.scan(&below).cloned().collect();
        let mut rng = hivemind_core::testkit::SimRng::new(seed);
        for last in (1..records.len()).rev() {
            let other = rng.below(u64::try_from(last + 1).unwrap());
            records.swap(last, usize::try_from(other).unwrap());
        }
        // The records come back one after the other, in any order, and somebody tries to delete all the time.
        for loaded in 0..=records.len() {
            let view = Snapshot::new(Revision::new(99), records[..loaded].iter().cloned());
            let complete = loaded == records.len();
            for (n, one) in all.iter().enumerate() {
                let mut txn = Txn::new();
                let begun = world.tenants.stage_begin_deletion(&view, &mut txn, &admin("x"), &one.tenant.id, Timestamp::EPOCH);
                prop_assert!(removed(&txn, &all).is_empty());
                // Only the leaves may even begin: `c`, and `d`, which has.
                prop_assert!(begun.is_err() || n >= 2, "{} began with {} records", one.tenant, loaded);
                prop_assert!(!complete || begun.is_ok() == (n >= 2));

                let mut txn = Txn::new();
                let step = world.tenants.stage_advance_deletion(&view, &mut txn, &admin("x"), &one.tenant, Timestamp::EPOCH);
                prop_assert!(removed(&txn, &all).is_empty());
                prop_assert!(!complete || step.is_ok() == (n == 3));
            }
        }
    }

    #[test]
    fn pitfall_10_a_deletion_always_ends_done_or_stuck(
        finalizers in prop::collection::vec((0_u32..3, 0_u8..3), 0..5),
        crumbs in any::<bool>(),
    ) {
        let world = World::new();
        let named = |n: usize| format!("f{n}").parse().unwrap();
        let with = |spec: TenantSpec, (n, (order, _)): (usize, &(u32, u8))| spec.with_finalizer(finalizer(&format!("f{n}"), *order));
        let one = world.tenant(finalizers.iter().enumerate().fold(spec("a"), with));
        let (own, id) = (ctx(&one.tenant, "own"), "r".parse().unwrap());
        let mut begun = Txn::new();
        world.tenants.stage_begin_deletion(&world.view(), &mut begun, &admin("d"), &one.tenant.id, Timestamp::EPOCH).unwrap();
        if crumbs {
            // Decided before the deletion began, and committed before, too: the end of the deletion must see it.
            let some = Resources::new().with_cpu(MilliCpu::from_cores(1));
            world.commit(|view, txn| TenantQuota.reserve(view, txn, &own, &id, &some)).unwrap();
        }
        block_on(world.store.commit(&begun)).unwrap();
        let mut last = None;
        for round in 0..40 {
            let request = format!("round-{round}");
            for (n, (_, mood)) in finalizers.iter().enumerate() {
                // Some do their part, some fail, some say nothing. To speak out of turn is refused.
                let _ = match mood {
                    0 => block_on(world.tenants.finalizer_done(&admin(&request), &one.tenant, &named(n))),
                    1 => block_on(world.tenants.finalizer_failed(&admin(&request), &one.tenant, &named(n), "no")),
                    _ => continue,
                };
            }
            world.clock.advance(Duration::from_secs(11));
            last = Some(block_on(world.tenants.advance_deletion(&admin(&request), &one.tenant)).unwrap().outcome);
        }
        let all_well = !crumbs && finalizers.iter().all(|(_, mood)| *mood == 0);
        match last.unwrap() {
            DeletionOutcome::Done => prop_assert!(all_well),
            DeletionOutcome::Stuck { reasons } => prop_assert!(!all_well && !reasons.is_empty()),
            other => prop_assert!(false, "it is {other:?} for ever"),
        }
    }
}

#[test]
fn pitfall_10_what_is_left_when_finalizers_are_done_is_stuck_with_its_reason() {
    use hivemind_tenancy::Node;
    use hivemind_tenancy::placement::WorkloadRequest;
    let world = World::new();
    let cores = |n| Resources::new().with_cpu(MilliCpu::from_cores(n));
    let one = world.tenant(spec("a"));
    block_on(world.tenants.add_node(&admin("n"), Node::new("n1".parse().unwrap(), cores(9)))).unwrap();
    // Placed by a decision that was made before the deletion began, and committed after: nothing of it is guarded
    // against, so the end of the deletion must see it.
    let begun = world.commit(|view, txn| {
        world.tenants.stage_begin_deletion(view, txn, &admin("d"), &one.tenant.id, Timestamp::EPOCH)
    });
    begun.unwrap();
    let key = Prefix::new(["tenancy", "allocations"]).unwrap().key(["n1"]).unwrap();
    let body = format!(
        r#"{{"schema":1,"body":{{"used":{{"cpu":"1"}},"dedicated_to":null,"workloads":{{"{}":{{"w":{{"resources":{{"cpu":"1"}}}}}}}}}}}}"#,
        one.tenant
    );
    let mut stray = Txn::new();
    stray.put(key, body);
    block_on(world.store.commit(&stray)).unwrap();
    let step = |request: &str| {
        block_on(world.tenants.advance_deletion(&admin(request), &one.tenant)).unwrap().outcome
    };
    assert_eq!(step("a1"), DeletionOutcome::Running);
    world.clock.advance(Duration::from_secs(301));
    let DeletionOutcome::Stuck { reasons } = step("a2") else { panic!("it is stuck") };
    assert_eq!(reasons, ["tenant a: 1 workloads run on nodes: remove them first"]);
    let work = [WorkloadRequest::new("w".parse().unwrap(), cores(1))];
    let places = [(&work[0].id, &"n1".parse().unwrap())];
    let own = ctx(&one.tenant, "own");
    world.commit(|view, txn| world.tenants.stage_unplace(view, txn, &own, places)).unwrap();
    assert_eq!(step("a3"), DeletionOutcome::Done);
}

/// One life of a manager on `disk` that is killed at its call number `at`.
fn manager(disk: &Arc<MemoryStore>, at: u64, seed: u64) -> (Arc<FaultyStore>, TenantManager) {
    let store = Arc::new(FaultyStore::new(disk.clone(), FaultPlan::new(seed).with_crash_at(at)));
    let ids = Arc::new(SeededIds::new(seed));
    (store.clone(), TenantManager::new(store, Arc::new(ManualClock::default()), ids))
}

#[test]
fn pitfall_10_a_move_happens_whole_or_not_at_all_wherever_it_crashes() {
    let mut seen = [0, 0];
    for (at, seed) in (1..8).flat_map(|at| (0..6).map(move |seed| (at, seed))) {
        let disk = Arc::new(MemoryStore::new());
        let (_, calm) = manager(&disk, u64::MAX, seed);
        let create = |request: &str, spec: TenantSpec| block_on(calm.create(&admin(request), spec)).unwrap();
        let (from, to) = (create("c1", spec("from")), create("c2", spec("to")));
        let moved = create("c3", spec("moved").below(from.tenant.clone()));
        create("c4", spec("leaf").below(moved.tenant.clone()));

        let (store, killed) = manager(&disk, at, seed);
        let request = admin("m");
        let to_there = killed.reparent(&request, &moved.tenant.id, Some(&to.tenant));
        let alive = block_on(until_crash(&store, to_there)).is_ok();
        // Either all of it is there, or nothing: the record, and who may be deleted for being without children.
        let view = block_on(disk.snapshot(&[Prefix::ROOT])).unwrap();
        let there =
            calm.tenant(&view, &admin("g"), &moved.tenant.id).unwrap().parent == Some(to.tenant.clone());
        let empty = |one: &Tenant| {
            let begun = calm.stage_begin_deletion(
                &view,
                &mut Txn::new(),
                &admin("x"),
                &one.tenant.id,
                Timestamp::EPOCH,
            );
            begun.is_ok()
        };
        assert_eq!((empty(&from), empty(&to)), (there, !there), "killed at {at}, seed {seed}");
        assert!(there || !alive);
        seen[usize::from(there)] += 1;
        // Sent again after the restart, it has happened once.
        let again = block_on(calm.reparent(&admin("m"), &moved.tenant.id, Some(&to.tenant))).unwrap();
        assert_eq!(again.parent.as_ref(), Some(&to.tenant));
        block_on(calm.delete(&admin("d"), &from.tenant.id)).unwrap();
        assert!(block_on(calm.delete(&admin("d"), &to.tenant.id)).is_err());
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[test]
fn pitfall_10_force_leaves_a_trace_wherever_it_crashes() {
    let mut forced = [0, 0];
    for (at, seed) in (1..8).flat_map(|at| (0..6).map(move |seed| (at, seed))) {
        let disk = Arc::new(MemoryStore::new());
        let (_, calm) = manager(&disk, u64::MAX, seed);
        let one = block_on(calm.create(&admin("c"), spec("a").with_finalizer(finalizer("f", 0)))).unwrap();
        block_on(calm.delete(&admin("d"), &one.tenant.id)).unwrap();
        let (audit, name) = (MemoryAudit::new(), "f".parse().unwrap());
        let (store, killed) = manager(&disk, at, seed);
        let request = admin("f");
        let force = killed.force_finalizer(&request, &audit, &one.tenant, &name, "gone for good");
        let _ = block_on(until_crash(&store, force));
        let gone = block_on(calm.get(&admin("g"), &one.tenant.id)).unwrap().finalizers.is_empty();
        let traced = audit.events().iter().any(|event| event.outcome == AuditOutcome::Done);
        assert!(traced || !gone, "killed at {at}, seed {seed}: forced, and nobody knows");
        forced[usize::from(gone)] += 1;
        block_on(calm.force_finalizer(&admin("f"), &audit, &one.tenant, &name, "gone for good")).unwrap();
        assert_eq!(
            block_on(calm.advance_deletion(&admin("a"), &one.tenant)).unwrap().outcome,
            DeletionOutcome::Done
        );
    }
    assert!(forced[0] > 0 && forced[1] > 0, "{forced:?}");
}
