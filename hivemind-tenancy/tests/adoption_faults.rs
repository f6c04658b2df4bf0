//! An adoption under crashes at every write, conflicts and lost replies: each resource is moved once, all or nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod common;
#[path = "common/things.rs"]
mod things;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::admin;
use hivemind_core::store::{Key, Prefix, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, until_crash};
use hivemind_core::{
    Effect, ErrorKind, MemoryStore, RequestId, Result, SeededIds, StateStore, StateStoreExt, SystemClock,
    TenantRef, block_on,
};
use hivemind_tenancy::adoption::{AdoptionPhase, AdoptionPlan, AdoptionRule, AdoptionStatus, AdoptionStep};
use hivemind_tenancy::{Adoption, TenantManager, TenantSpec};
use things::{Things, all, free};

type Bytes = BTreeMap<Key, Vec<u8>>;

fn id() -> RequestId {
    "adopt".parse().unwrap()
}

fn adoption() -> Adoption {
    Adoption::new().with_step(3)
}

async fn reads(store: &dyn StateStore) -> Result<hivemind_core::store::Snapshot> {
    store.snapshot(&[hivemind_tenancy::prefix()?, things::below()]).await
}

/// A store with things for two tenants, one that cannot be read, and one that changed since the plan; and the plan.
fn prepared() -> (Arc<MemoryStore>, AdoptionPlan) {
    let disk = Arc::new(MemoryStore::new());
    let manager = TenantManager::new(disk.clone(), Arc::new(SystemClock::new()), Arc::new(SeededIds::new(1)));
    let tenants: Vec<TenantRef> = ["acme", "globex"]
        .map(|id| {
            let spec = TenantSpec::new(id.parse().unwrap());
            block_on(manager.create(&admin(&format!("create-{id}")), spec)).unwrap().tenant
        })
        .into();
    let mut txn = Txn::new();
    for number in 0..10 {
        let (kind, tenant) = ([("moving"), ("staying")][number % 2], ["a", "g"][number / 5]);
        txn.put(free(kind, &format!("{tenant}{number}")), vec![0xff, u8::try_from(number).unwrap()]);
    }
    txn.put(free("moving", "a-broken"), "?");
    block_on(disk.commit(&txn)).unwrap();
    let view = block_on(reads(&*disk)).unwrap();
    let rules = [
        AdoptionRule::to(tenants[0].clone()).named_like("a"),
        AdoptionRule::to(tenants[1].clone()).named_like("g"),
    ];
    let plan = adoption().plan(&view, &admin("r"), &Things, &rules).unwrap().leaving_problems();
    assert_eq!((plan.moves.len(), plan.problems.len()), (10, 1));
    let mut txn = Txn::new();
    txn.put(free("staying", "g9"), "changed");
    block_on(disk.commit(&txn)).unwrap();
    (disk, plan)
}

/// Commits one decision after the other, without a request id: what has happened shows in the state, and an outcome
/// that is unknown is found out by reading it.
async fn insist(
    store: &dyn StateStore,
    mut decide: impl FnMut(&hivemind_core::store::Snapshot, &mut Txn) -> Result<AdoptionStep>,
    end: AdoptionPhase,
) -> Vec<AdoptionStep> {
    let mut told = Vec::new();
    loop {
        let Ok(view) = reads(store).await else { continue };
        let mut txn = Txn::new();
        let step = decide(&view, &mut txn).unwrap();
        if txn.is_empty() {
            assert_eq!(step.phase, end);
            return told;
        }
        match store.commit(&txn).await {
            Ok(_) => told.push(step),
            Err(e) => assert!(
                e.effect() == Effect::Unknown
                    || matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Conflict),
                "{e}"
            ),
        }
    }
}

async fn start(store: &dyn StateStore, plan: &AdoptionPlan) {
    loop {
        let Ok(view) = reads(store).await else { continue };
        let mut txn = Txn::new();
        match adoption().stage_start(&view, &mut txn, &admin("r"), &id(), plan) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return,
            staged => staged.unwrap(),
        }
        let _ = store.commit(&txn).await;
    }
}

async fn adopt(store: &dyn StateStore, plan: &AdoptionPlan) -> Vec<AdoptionStep> {
    start(store, plan).await;
    let step = |view: &_, txn: &mut _| adoption().stage_step(view, txn, &admin("r"), &id(), &Things);
    insist(store, step, AdoptionPhase::Done).await
}

async fn undo(store: &dyn StateStore) -> Vec<AdoptionStep> {
    let step = |view: &_, txn: &mut _| adoption().stage_undo(view, txn, &admin("r"), &id());
    insist(store, step, AdoptionPhase::Undone).await
}

fn look(disk: &MemoryStore) -> (Bytes, AdoptionStatus) {
    let view = block_on(disk.snapshot(&[Prefix::ROOT])).unwrap();
    (all(&view), adoption().status(&view, &admin("r"), &id()).unwrap())
}

#[test]
fn a_crash_at_any_call_and_a_restart_come_to_the_same_as_no_crash() {
    let (whole, plan) = prepared();
    let original = all(&block_on(reads(&*whole)).unwrap());
    block_on(adopt(&*whole, &plan));
    let adopted = look(&whole);
    assert_eq!((adopted.1.moved, adopted.1.left.len()), (9, 2));
    block_on(undo(&*whole));
    let undone = look(&whole);
    assert_eq!((&undone.0, undone.1.restored), (&original, 9));

    let (mut crashed, mut halfway) = (0, 0);
    for call in 1.. {
        let mut crashes = 0;
        // Before the call takes effect and after, by the seed.
        for seed in 0..4 {
            let (disk, plan) = prepared();
            let faulty = || FaultyStore::new(disk.clone(), FaultPlan::new(seed).with_crash_at(call));
            let first = faulty();
            crashes += u32::from(block_on(until_crash(&first, adopt(&first, &plan))).is_err());
            let between = all(&block_on(reads(&*disk)).unwrap());
            halfway += u32::from(between != original && between != adopted.0);
            block_on(adopt(&*disk, &plan));
            assert_eq!(look(&disk), adopted, "call {call}, seed {seed}");
            let first = faulty();
            crashes += u32::from(block_on(until_crash(&first, undo(&first))).is_err());
            block_on(undo(&*disk));
            assert_eq!(look(&disk), undone, "call {call}, seed {seed}");
        }
        crashed += crashes;
        if crashes == 0 {
            break;
        }
    }
    assert!(crashed > 60 && halfway > 20, "{crashed} {halfway}");
}

#[test]
fn two_at_work_on_the_same_adoption_move_each_resource_once_whatever_fails() {
    let (whole, plan) = prepared();
    let original = all(&block_on(reads(&*whole)).unwrap());
    block_on(adopt(&*whole, &plan));
    let adopted = look(&whole);
    let mut injected = 0;
    let mut shared = 0;
    for seed in 0..150 {
        let sim = Sim::new(seed);
        let (disk, plan) = prepared();
        for undoing in [false, true] {
            let tasks: Vec<_> = (0..2)
                .map(|worker| {
                    let faults = FaultPlan::rough(seed * 10 + worker)
                        .with_latency(sim.runtime(), Duration::ZERO..=Duration::from_millis(3));
                    let (store, plan) = (FaultyStore::new(disk.clone(), faults), plan.clone());
                    sim.spawn(async move {
                        let told = if undoing { undo(&store).await } else { adopt(&store, &plan).await };
                        (told, store.counts())
                    })
                })
                .collect();
            let told = sim.run(async {
                let mut told = Vec::new();
                for task in tasks {
                    told.push(task.await);
                }
                told
            });
            let told = told.unwrap();
            injected += told.iter().map(|(_, counts)| counts.conflicts + counts.lost_replies).sum::<u64>();
            shared += u32::from(told.iter().all(|(steps, _)| !steps.is_empty()));
            // What was told as done was done by one of both only; a lost reply tells nobody.
            let mut moves: Vec<_> =
                told.iter().flat_map(|(steps, _)| steps.iter().flat_map(|step| &step.moved)).collect();
            let count = moves.len();
            moves.sort_by(|a, b| a.from.cmp(&b.from));
            moves.dedup();
            assert!(moves.len() == count && count <= 9, "seed {seed}: {moves:?}");
            let (things, status) = look(&disk);
            if undoing {
                assert_eq!((&things, status.restored), (&original, 9), "seed {seed}");
            } else {
                assert_eq!((things, status), adopted, "seed {seed}");
            }
        }
    }
    assert!(injected > 100 && shared > 100, "{injected} {shared}");
}
