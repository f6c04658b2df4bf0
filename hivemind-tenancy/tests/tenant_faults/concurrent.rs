//! Two managers on one store: they create, move and delete, while calls fail and both are killed and started again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, SimRng, until_crash};
use hivemind_core::{
    Clock, Effect, ErrorKind, IdSource, MemoryStore, Result, Retry, StateStoreExt, TenantId, TenantRef,
};
use hivemind_tenancy::tenant::DeletionOutcome;
use hivemind_tenancy::{Tenant, TenantManager, TenantSpec};

use crate::common::{admin, ctx};

const STEPS: u64 = 8;

/// Repeats a request, under its own id, until its outcome is known: done, or refused.
async fn insist<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Option<T> {
    loop {
        let e = match call().await {
            Ok(value) => return Some(value),
            Err(e) => e,
        };
        let refused = matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::AlreadyExists)
            || (e.kind() == ErrorKind::Conflict && e.retry() == Retry::AfterChange);
        if refused && e.effect() != Effect::Unknown {
            return None;
        }
        let passing = matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Conflict);
        assert!(passing || e.effect() == Effect::Unknown, "{e}");
    }
}

/// What one manager was told.
#[derive(Debug, Default)]
struct Told {
    created: BTreeSet<TenantRef>,
    deleted: BTreeSet<TenantRef>,
    moved: usize,
}

/// The same steps in each life, under the same request ids.
async fn work(tenants: &TenantManager, writer: u64, seed: u64) -> Told {
    let mut rng = SimRng::new(seed * 10 + writer);
    let mut told = Told::default();
    for step in 0..STEPS {
        let request = admin(&format!("w{writer}-{step}"));
        let name = |rng: &mut SimRng| -> TenantId { format!("t{}", rng.below(5)).parse().unwrap() };
        let (one, other, what) = (name(&mut rng), name(&mut rng), rng.below(4));
        let parent = insist(|| tenants.get(&request, &other)).await.map(|parent| parent.tenant);
        match what {
            0 | 1 => {
                let mut spec = TenantSpec::new(one);
                spec.parent = parent.filter(|_| what == 0);
                let created = insist(|| tenants.create(&request, spec.clone())).await;
                told.created.extend(created.map(|tenant| tenant.tenant));
            }
            2 => {
                let moved = insist(|| tenants.reparent(&request, &one, parent.as_ref())).await;
                told.moved += usize::from(moved.is_some());
            }
            _ => {
                if let Some(progress) = insist(|| tenants.delete(&request, &one)).await {
                    assert_eq!(progress.outcome, DeletionOutcome::Done);
                    told.deleted.insert(progress.tenant);
                }
            }
        }
    }
    told
}

async fn lives(
    disk: Arc<MemoryStore>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    writer: u64,
    seed: u64,
) -> (Told, u64) {
    for life in 0..4 {
        let plan = FaultPlan::rough(seed * 100 + writer * 10 + life);
        let plan = if life < 3 { plan.with_crash_at(3 + seed % 17 * (life + 1)) } else { plan };
        let store = Arc::new(FaultyStore::new(disk.clone(), plan));
        let tenants = TenantManager::new(store.clone(), clock.clone(), ids.clone());
        if let Ok(told) = until_crash(&store, work(&tenants, writer, seed)).await {
            return (told, store.counts().lost_replies + store.counts().conflicts);
        }
    }
    panic!("the last life does not crash");
}

/// The tree is one, none is half deleted, and the counts of children are right: each leaf may be deleted, and no other.
fn check(view: &Snapshot, tenants: &TenantManager, told: &[Told], seed: u64) -> usize {
    let all = tenants.visible(view, &admin("check")).unwrap();
    let mut children: BTreeMap<&TenantRef, usize> = BTreeMap::new();
    for one in &all {
        Tenant::chain(view, &Txn::new(), &ctx(&one.tenant, "check")).unwrap();
        assert!(!one.state.is_terminating(), "seed {seed}: {} was left half deleted", one.tenant);
        *children.entry(&one.tenant).or_default() += 0;
        if let Some(parent) = &one.parent {
            *children.entry(parent).or_default() += 1;
        }
    }
    for one in &all {
        let begun = tenants.stage_begin_deletion(
            view,
            &mut Txn::new(),
            &admin("check"),
            &one.tenant.id,
            one.updated_at,
        );
        assert_eq!(begun.is_ok(), children[&one.tenant] == 0, "seed {seed}: {}", one.tenant);
    }
    let there: BTreeSet<_> = all.iter().map(|one| one.tenant.clone()).collect();
    let created: BTreeSet<_> = told.iter().flat_map(|one| one.created.clone()).collect();
    let deleted: BTreeSet<_> = told.iter().flat_map(|one| one.deleted.clone()).collect();
    assert_eq!(there, created.difference(&deleted).cloned().collect(), "seed {seed}");
    all.iter().filter(|one| one.parent.is_some()).count()
}

#[test]
fn two_managers_under_faults_leave_one_tree_and_what_they_were_told() {
    let (mut faults, mut below, mut moved, mut deleted) = (0, 0, 0, 0);
    for seed in 0..200 {
        let sim = Sim::new(seed);
        let disk = Arc::new(MemoryStore::new());
        let tasks: Vec<_> = (0..2)
            .map(|writer| sim.spawn(lives(disk.clone(), sim.clock(), sim.ids(), writer, seed)))
            .collect();
        let told = sim.run(async {
            let mut told = Vec::new();
            for task in tasks {
                told.push(task.await);
            }
            told
        });
        let (told, injected): (Vec<_>, Vec<_>) = told.unwrap().into_iter().unzip();
        faults += injected.iter().sum::<u64>();
        moved += told.iter().map(|one| one.moved).sum::<usize>();
        deleted += told.iter().map(|one| one.deleted.len()).sum::<usize>();
        let view = sim.run(disk.snapshot(&[Prefix::ROOT])).unwrap().unwrap();
        let tenants = TenantManager::new(disk.clone(), sim.clock(), sim.ids());
        below += check(&view, &tenants, &told, seed);
    }
    // The test has seen what it is about.
    assert!(faults > 100 && below > 50 && moved > 50 && deleted > 50, "{faults} {below} {moved} {deleted}");
}
