//! The quota bugs of others, which must not be ours.

use std::sync::Arc;

use futures::future::join_all;
use hivemind_core::testkit::{FaultPlan, FaultyStore, until_crash};
use hivemind_core::{ErrorKind, Once, QuotaGate, transact};

use super::*;
use crate::quota::ledger::{Usage, ledger_key, ledgers};
use crate::quota::{OverQuota, QuotaRequest, QuotaScope, Returned, ScopedQuota, TenantQuota, WhenOver};

fn limit(world: &World, tenant: &TenantRef, spec: QuotaSpec) {
    let ctx = world.ctx(tenant);
    world.commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &spec, WhenOver::Refuse)).unwrap();
}

fn max(cpu_limit: u64) -> QuotaSpec {
    cpu(QuotaRule::default().with_max(cpu_limit))
}

fn used(world: &World, tenant: &TenantRef) -> Usage {
    TenantQuota.usage(&world.view(), &world.ctx(tenant)).unwrap()
}

/// Three levels: root, middle, leaf.
fn three(world: &World) -> [TenantRef; 3] {
    let root = world.tenant("root", None);
    let middle = world.tenant("middle", Some(&root));
    let leaf = world.tenant("leaf", Some(&middle));
    [root, middle, leaf]
}

#[test]
fn pitfall_01_denied_becomes_admitted_on_retry() {
    for conflicts in 0..8 {
        let world = World::default();
        let [root, _, leaf] = three(&world);
        // One quota comes to refuse; the other has room, and its ledger is written by a rival again and again.
        let gpus = ScopedQuota::new(QuotaScope::everything()).with_limit(gpu(), 1);
        limit(&world, &leaf, max(100).with_scoped("gpus", gpus));
        limit(&world, &root, max(10_000));
        let (rival, ctx) = (world.tenant("rival", Some(&root)), world.ctx(&leaf));
        let charge = |tenant: &TenantRef, number: u64, gpus| {
            let ctx = world.ctx(tenant);
            world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(number), &amount(1, gpus)))
        };
        if conflicts == 0 {
            charge(&leaf, 99, 1).unwrap();
        }
        let once = Once::new(&ctx, "reserve", at(0)).unwrap();
        let mut asked = 0;
        let outcome = block_on(transact(&world.store, &once, &[Prefix::ROOT], |view, txn| {
            asked += 1;
            // Behind the back of this decision, which still sees room for itself.
            match asked {
                last if last == conflicts => charge(&leaf, 99, 1)?,
                before if before < conflicts => charge(&rival, before, 0)?,
                _ => {}
            }
            TenantQuota.reserve(view, txn, &ctx, &id(0), &amount(1, 1))
        }));
        let denied = outcome.unwrap_err();
        assert_eq!((denied.kind(), asked), (ErrorKind::QuotaExceeded, conflicts + 1));
        assert_eq!(used(&world, &leaf).used, amount(1, 1));
        assert_eq!(used(&world, &root).used, amount(conflicts.max(1), 1));
    }
}

#[test]
fn pitfall_02_charge_without_create() {
    let world = World::default();
    let [root, _, leaf] = three(&world);
    limit(&world, &root, max(1_000));
    let ctx = world.ctx(&leaf);
    // Creates that fail after the charge was decided leave nothing: charge and thing are one transaction.
    for number in 0..10_000 {
        let mut txn = Txn::new();
        TenantQuota.reserve(&world.view(), &mut txn, &ctx, &id(number), &amount(1, 0)).unwrap();
    }
    assert_eq!(used(&world, &root), Usage::default());
    // Charges that are held, and whose owners crash, are gone by their deadline.
    for number in 0..100 {
        let request = QuotaRequest::new(id(number), amount(10, 0)).held_until(at(5));
        world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &request)).unwrap();
    }
    assert_eq!(used(&world, &root).reserved, amount(1_000, 0));
    let expire = || world.commit(|view, txn| TenantQuota.stage_expire(view, txn, &ctx, at(5))).unwrap();
    assert_eq!([expire(), expire(), expire()], [64, 36, 0]);
    assert_eq!(used(&world, &root), Usage::default());
}

#[test]
fn pitfall_03_partial_commit_over_several_quotas_or_levels() {
    for crash in 1..12 {
        let world = World::default();
        let tenants = three(&world);
        limit(&world, &tenants[0], max(1_000).with_scoped("all", ScopedQuota::new(QuotaScope::everything())));
        limit(&world, &tenants[2], max(500));
        let plan = FaultPlan::new(crash).with_crash_at(crash);
        let store = Arc::new(FaultyStore::new(Arc::new(world.store.clone()), plan));
        let ctx = world.ctx(&tenants[2]);
        let work = async {
            for number in 0..3 {
                let view = store.snapshot(&[Prefix::ROOT]).await.unwrap();
                let mut txn = Txn::new();
                TenantQuota.reserve(&view, &mut txn, &ctx, &id(number), &amount(7, 1)).unwrap();
                let _ = store.commit(&txn).await;
            }
        };
        let _ = block_on(until_crash(&store, work));
        // Every ledger has it, or none has.
        let [root, middle, leaf] = tenants.each_ref().map(|tenant| used(&world, tenant));
        assert_eq!((&root.used, &middle.used), (&leaf.used, &leaf.used));
        let counted = root.scoped.get("all").map(|all| all.used.clone()).unwrap_or_default();
        assert_eq!(counted, leaf.used);
        assert!(TenantQuota.drift(&world.view(), &world.ctx(&tenants[0])).unwrap().is_empty());
    }
}

#[test]
fn pitfall_04_concurrent_over_admission() {
    let world = World::default();
    let root = world.tenant("root", None);
    limit(&world, &root, max(1_000));
    let leaves: Vec<_> = (0..4).map(|n| world.tenant(&format!("leaf{n}"), Some(&root))).collect();
    // All decide on the same state. Each fits by itself; together they do not.
    let staged: Vec<_> = leaves
        .iter()
        .map(|leaf| {
            let mut txn = Txn::new();
            TenantQuota.reserve(&world.view(), &mut txn, &world.ctx(leaf), &id(0), &amount(600, 0)).unwrap();
            txn
        })
        .collect();
    let outcomes = staged.iter().map(|txn| block_on(world.store.commit(txn)).map_err(|e| e.kind()));
    let conflict = Err(ErrorKind::Conflict);
    let outcomes: Vec<_> = outcomes.map(|outcome| outcome.map(|_| ())).collect();
    assert_eq!(outcomes, [Ok(()), conflict, conflict, conflict]);
    // Decided again until they know: as many as there is room for.
    let again =
        leaves.iter().flat_map(|leaf| (1..4).map(move |number| (leaf, number))).map(|(leaf, number)| {
            let (ctx, store) = (world.ctx(leaf), &world.store);
            async move {
                let once = Once::new(&ctx, &format!("reserve-{number}"), at(0))?;
                let decide = |view: &Snapshot, txn: &mut Txn| {
                    TenantQuota.reserve(view, txn, &ctx, &id(number), &amount(150, 0))
                };
                transact(store, &once, &[Prefix::ROOT], decide).await
            }
        });
    let admitted = block_on(join_all(again)).into_iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(admitted, 2);
    assert_eq!(used(&world, &root).used, amount(900, 0));
}

#[test]
fn pitfall_05_stale_recount_overwrites_newer_usage() {
    let world = World::default();
    let [root, _, leaf] = three(&world);
    let ctx = world.ctx(&leaf);
    world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(0), &amount(5, 0))).unwrap();
    // A ledger is damaged; a count that mends it begins; and a charge comes in between.
    world
        .commit(|view, txn| {
            let old = ledgers()?.require(view, txn, &ledger_key(&root)?)?;
            ledgers()?.update(txn, &old, &Usage::default())
        })
        .unwrap();
    let (view, mut stale, admin) = (world.view(), Txn::new(), world.ctx(&root));
    let drift = TenantQuota.drift(&view, &admin).unwrap();
    assert_eq!(drift.keys().collect::<Vec<_>>(), [&root]);
    assert_eq!(TenantQuota.recount(&world.view(), &admin).unwrap().counted.used, amount(5, 0));
    assert!(TenantQuota.stage_repair(&view, &mut stale, &admin).unwrap().is_some());
    world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(1), &amount(3, 0))).unwrap();
    assert_eq!(block_on(world.store.commit(&stale)).unwrap_err().kind(), ErrorKind::Conflict);
    // A newer count mends it, and then there is nothing to mend.
    let repair = || world.commit(|view, txn| TenantQuota.stage_repair(view, txn, &admin)).unwrap();
    assert_eq!(repair().unwrap().counted.used, amount(8, 0));
    assert_eq!((repair(), used(&world, &root).used), (None, amount(8, 0)));
}

#[test]
fn pitfall_06_never_released_or_released_twice() {
    let world = World::default();
    let [root, _, leaf] = three(&world);
    let ctx = world.ctx(&leaf).with_time(at(1));
    let release = || world.commit(|view, txn| TenantQuota.stage_release(view, txn, &ctx, &id(0))).unwrap();
    let abort = || world.commit(|view, txn| TenantQuota.stage_abort(view, txn, &ctx, &id(0))).unwrap();
    let expire = || world.commit(|view, txn| TenantQuota.stage_expire(view, txn, &ctx, at(9))).unwrap();
    for first in 0..3 {
        let request = QuotaRequest::new(id(0), amount(5, 0)).held_until(at(9));
        world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &request)).unwrap();
        let given_back = match first {
            0 => release() == Returned::Now(amount(5, 0)),
            1 => abort() == Returned::Now(amount(5, 0)),
            _ => expire() == 1,
        };
        assert!(given_back);
        // Whoever comes later, in whatever way, gives back nothing.
        assert_eq!((release(), abort(), expire()), (Returned::Already, Returned::Already, 0));
        assert_eq!(used(&world, &root), Usage::default());
    }
    // Two that give back at the same time: one does.
    world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(1), &amount(5, 0))).unwrap();
    let staged = [(), ()].map(|()| {
        let mut txn = Txn::new();
        TenantQuota.stage_release(&world.view(), &mut txn, &ctx, &id(1)).unwrap();
        txn
    });
    let done = staged.map(|txn| block_on(world.store.commit(&txn)).is_ok());
    assert_eq!((done, used(&world, &root)), ([true, false], Usage::default()));
}

/// From the numbers of a level above, a tenant could work out what its siblings use.
#[test]
fn a_denial_tells_a_tenant_no_numbers_of_those_above_it() {
    let world = World::default();
    let corp = world.tenant("corp", None);
    let unit = world.tenant("unit", Some(&corp));
    let (red, blue) = (world.tenant("red", Some(&unit)), world.tenant("blue", Some(&unit)));
    for (tenant, max) in [(&corp, 7_919), (&unit, 7_907), (&red, 7_901)] {
        let (ctx, spec) = (world.ctx(tenant), cpu(QuotaRule::default().with_max(max)));
        world
            .commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &spec, WhenOver::Refuse))
            .unwrap();
    }
    let charge = |tenant, number, cpu| {
        let ctx = world.ctx(tenant);
        world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(number), &amount(cpu, 0)))
    };
    charge(&blue, 0, 1_237).unwrap();
    let error = charge(&red, 0, 8_111).unwrap_err();
    let over = error.detail::<OverQuota>().unwrap();
    let json = serde_json::to_string(over).unwrap();
    for told in [format!("{error:?} {error:#?} {error} {over:?} {over}"), json.clone()] {
        for secret in ["7919", "7.919", "7907", "7.907", "1237", "1.237", "1429", "1441", "corp", "unit"] {
            assert!(!told.contains(secret), "{secret} in {told}");
        }
        assert!(told.contains("7901") || told.contains("7901m"), "its own numbers are its own: {told}");
    }
    assert_eq!(
        error.message(),
        "tenant red: cpu: limit 7901m, used 0, reserved 0, asked 8111m, short by 210m; \
         cpu: a tenant above has too little left"
    );
    let copy: OverQuota = serde_json::from_str(&json).unwrap();
    assert_eq!((copy.to_string(), copy.in_full().len()), (over.to_string(), 0));
    assert_eq!(copy.seen_by(&world.ctx(&TenantRef::system())), copy, "what it says is not lost");

    let depths = |reader: &TenantRef| -> Vec<usize> {
        over.seen_by(&world.ctx(reader)).short.iter().map(|short| short.depth).collect()
    };
    assert_eq!(depths(&TenantRef::system()), [0, 1, 2]);
    assert_eq!(depths(&corp), [0, 1, 2]);
    assert_eq!(depths(&unit), [0, 1]);
    let stranger = TenantRef::new("corp".parse().unwrap(), Generation::from_u64(2));
    for reader in [&red, &blue, &stranger] {
        assert_eq!(depths(reader), [0]);
    }
    assert!(over.seen_by(&world.ctx(&corp)).above.is_empty());
    assert_eq!(over.in_full().len(), 3);
}
