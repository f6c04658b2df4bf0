//! Group commits under conflicts, lost replies, failures, crashes and dropped callers: what was told is so.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{Either, join_all, select};
use hivemind_core::resources::{MilliCpu, ResourceName, Resources};
use hivemind_core::store::{Prefix, Snapshot};
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, until_crash};
use hivemind_core::{
    Effect, ErrorKind, MemoryStore, Principal, QuotaGate, ReservationId, StateStore, StateStoreExt,
    TenantContext, TenantRef, Timestamp, transact,
};
use hivemind_tenancy::quota::{
    Budget, GroupCommit, PriorityRange, QuotaScope, QuotaSpec, RequestAttributes, Returned, ScopedQuota,
    SoftLimit, WhenOver,
};
use hivemind_tenancy::{OverQuota, QuotaRequest, ResourceQuotas, TenantManager, TenantQuota, TenantSpec};

/// What a caller heard last of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Admitted,
    Denied,
    Released,
    /// It was cut off: by a crash, or because it gave up.
    Nothing,
}

type Ledger = Arc<Mutex<BTreeMap<(TenantRef, ReservationId), Told>>>;

fn ctx(tenant: &TenantRef) -> TenantContext {
    let ctx =
        TenantContext::new(tenant.clone(), Principal::User("ada".parse().unwrap()), "r".parse().unwrap());
    ctx.with_time(Timestamp::from_secs(1))
}

fn cores(cores: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(cores))
}

fn quotas(cores: u64) -> ResourceQuotas {
    ResourceQuotas::default().with_cpu_limit(MilliCpu::from_cores(cores))
}

/// Three cores of what is urgent, and two that may be exceeded for an hour, all within a budget.
fn limits() -> QuotaSpec {
    let cpu = ResourceName::Cpu;
    let urgent = QuotaScope::everything().with_priority(PriorityRange::at_least(1));
    let hour = Duration::from_secs(3600);
    QuotaSpec::new()
        .with_scoped("urgent", ScopedQuota::new(urgent).with_limit(cpu.clone(), 3000))
        .with_soft_limit(cpu.clone(), SoftLimit::new(2000, hour))
        .with_budget(cpu, Budget::new(1 << 40, hour, Timestamp::EPOCH).unwrap())
}

/// A root of 10 cores, and two tenants of 7 below it, one of them with every other kind of limit.
async fn world(sim: &Sim, disk: &Arc<MemoryStore>) -> (TenantRef, [TenantRef; 2]) {
    let tenants = TenantManager::new(disk.clone(), sim.clock(), sim.ids());
    let operator = |id: &str| {
        let user = Principal::User("root".parse().unwrap());
        TenantContext::new(TenantRef::system(), user, id.parse().unwrap())
    };
    let root = TenantSpec::new("acme".parse().unwrap()).with_quotas(quotas(10));
    let root = tenants.create(&operator("root"), root).await.unwrap().tenant.clone();
    let mut below = Vec::new();
    for name in ["red", "blue"] {
        let spec = TenantSpec::new(name.parse().unwrap()).with_quotas(quotas(7)).below(root.clone());
        below.push(tenants.create(&operator(name), spec).await.unwrap().tenant.clone());
    }
    let red = below[0].id.clone();
    tenants.set_quota(&operator("set"), &red, limits(), WhenOver::Refuse).await.unwrap();
    (root, [below[0].clone(), below[1].clone()])
}

/// Asks until the outcome is known: of those whose id ends in an odd number urgently, of every third first held and then put in use.
async fn reserve(group: &GroupCommit, tenant: &TenantRef, id: &ReservationId, amount: u64) -> Told {
    let number: i32 =
        id.as_str().rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or("0").parse().unwrap_or(0);
    let attributes = RequestAttributes::new("pod").with_priority(number % 2);
    let mut request = QuotaRequest::new(id.clone(), cores(amount)).with_attributes(attributes);
    if number % 3 == 1 {
        request = request.held_until(Timestamp::from_secs(100));
    }
    let held = request.deadline.is_some();
    loop {
        match group.reserve(&ctx(tenant), request.clone()).await {
            Ok(()) if held => return commit(group, tenant, id).await,
            Ok(()) => return Told::Admitted,
            Err(e) if e.kind() == ErrorKind::QuotaExceeded => {
                assert!(e.detail::<OverQuota>().is_some(), "{e}");
                return Told::Denied;
            }
            Err(e) => assert!(passes(&e), "{e}"),
        }
    }
}

async fn commit(group: &GroupCommit, tenant: &TenantRef, id: &ReservationId) -> Told {
    loop {
        match group.commit(&ctx(tenant), id).await {
            Ok(()) => return Told::Admitted,
            Err(e) => assert!(passes(&e), "{e}"),
        }
    }
}

fn passes(e: &hivemind_core::Error) -> bool {
    e.effect() == Effect::Unknown || matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Conflict)
}

async fn release(group: &GroupCommit, tenant: &TenantRef, id: &ReservationId) -> (bool, bool) {
    let mut doubtful = false;
    loop {
        match group.release(&ctx(tenant), id).await {
            Ok(returned) => return (matches!(returned, Returned::Now(_)), doubtful),
            Err(e) => {
                assert!(passes(&e), "{e}");
                doubtful |= e.effect() == Effect::Unknown;
            }
        }
    }
}

/// One caller: reserves, and sometimes gives back, or gives up waiting.
async fn caller(sim: CallerSim, group: GroupCommit, tenant: TenantRef, id: ReservationId, told: Ledger) {
    let note = |what| {
        told.lock().unwrap().insert((tenant.clone(), id.clone()), what);
    };
    note(Told::Nothing);
    let mut asked = Box::pin(reserve(&group, &tenant, &id, 1 + sim.draw % 2));
    let answer = if sim.draw.is_multiple_of(5) {
        match select(asked, sim.runtime.sleep(Duration::from_millis(sim.draw % 7))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => return,
        }
    } else {
        asked.as_mut().await
    };
    note(answer);
    if answer == Told::Admitted && sim.draw.is_multiple_of(3) {
        note(Told::Nothing);
        let (now, doubtful) = release(&group, &tenant, &id).await;
        assert!(now || doubtful, "{id}: it was there, and nobody else gives it back");
        note(Told::Released);
    }
}

struct CallerSim {
    draw: u64,
    runtime: Arc<dyn hivemind_core::Runtime>,
}

fn there(view: &Snapshot, tenant: &TenantRef, id: &ReservationId) -> bool {
    let released = TenantQuota.stage_release(view, &mut hivemind_core::store::Txn::new(), &ctx(tenant), id);
    matches!(released.unwrap(), Returned::Now(_))
}

/// No tenant is over its limit, no ledger drifts, and every answer is as it is in the store.
fn check(
    sim: &Sim,
    disk: &Arc<MemoryStore>,
    root: &TenantRef,
    below: &[TenantRef; 2],
    told: &Ledger,
    seed: u64,
) {
    let view = sim.run(disk.snapshot(&[Prefix::ROOT])).unwrap().unwrap();
    let drift = TenantQuota.drift(&view, &ctx(root)).unwrap();
    assert!(drift.is_empty(), "seed {seed}: {drift:?}");
    let used = |tenant| TenantQuota.usage(&view, &ctx(tenant)).unwrap().used.cpu();
    assert!(used(root) <= MilliCpu::from_cores(10), "seed {seed}");
    assert!(below.iter().all(|tenant| used(tenant) <= MilliCpu::from_cores(7)), "seed {seed}");
    let usage = TenantQuota.usage(&view, &ctx(&below[0])).unwrap();
    let urgent = usage
        .scoped
        .get("urgent")
        .map_or(0, |urgent| urgent.used.cpu().as_millis() + urgent.reserved.cpu().as_millis());
    assert!(urgent <= 3000, "seed {seed}: {urgent}");
    let all = usage.used.cpu().as_millis() + usage.reserved.cpu().as_millis();
    assert_eq!(usage.soft.contains_key(&ResourceName::Cpu), all > 2000, "seed {seed}: {usage:?}");
    assert_eq!(usage.budgets.get(&ResourceName::Cpu).map_or(0, |budget| budget.in_use), all, "seed {seed}");
    for ((tenant, id), told) in told.lock().unwrap().iter() {
        match told {
            Told::Admitted => assert!(there(&view, tenant, id), "seed {seed}: {id} is lost"),
            Told::Denied | Told::Released => assert!(!there(&view, tenant, id), "seed {seed}: {id} is there"),
            Told::Nothing => {}
        }
    }
}

/// Callers of two groups on one store, whose processes die; each group has faults of its own.
fn run(seed: u64, crashes: bool) -> [u64; 5] {
    let sim = Sim::new(seed);
    let disk = Arc::new(MemoryStore::new());
    let (root, below) = sim.run(world(&sim, &disk)).unwrap();
    let told = Ledger::default();
    let mut tasks = Vec::new();
    for process in 0..2 {
        let (disk, below, told, ids) = (disk.clone(), below.clone(), told.clone(), sim.ids());
        let (runtime, mut rng) = (sim.runtime(), sim.rng());
        tasks.push(sim.spawn(async move {
            let mut injected = [0; 5];
            for life in 0..2 {
                let latency = Duration::from_micros(100)..=Duration::from_millis(3);
                let plan =
                    FaultPlan::rough(seed * 100 + process * 10 + life).with_latency(runtime.clone(), latency);
                let plan = if crashes { plan.with_crash_at(8 + seed % 31 + process * 5) } else { plan };
                let store = Arc::new(FaultyStore::new(disk.clone(), plan));
                let group = GroupCommit::new(store.clone(), &*ids, &format!("p{process}")).unwrap();
                let callers = (0..14).map(|number| {
                    let id = format!("r{process}-{life}-{number}").parse().unwrap();
                    let sim = CallerSim { draw: rng.below(1000), runtime: runtime.clone() };
                    caller(sim, group.clone(), below[number % 2].clone(), id, told.clone())
                });
                let callers: Vec<_> = callers.collect();
                let _ = until_crash(&store, join_all(callers)).await;
                let counts = store.counts();
                let new = [counts.conflicts, counts.lost_replies, counts.lost_requests, counts.crashes, 0];
                injected.iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
            }
            injected
        }));
    }
    let injected = sim.run(async {
        let mut sum = [0; 5];
        for task in tasks {
            sum.iter_mut().zip(task.await).for_each(|(sum, new)| *sum += new);
        }
        sum
    });
    let mut injected = injected.unwrap();
    check(&sim, &disk, &root, &below, &told, seed);
    injected[4] += told.lock().unwrap().values().filter(|told| **told == Told::Denied).count() as u64;
    injected
}

fn runs(crashes: bool) -> [u64; 5] {
    (0..400).map(|seed| run(seed, crashes)).fold([0; 5], |mut sum, new| {
        sum.iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
        sum
    })
}

#[test]
fn two_groups_on_one_store_tell_what_is_so_whatever_fails() {
    let [conflicts, replies, requests, _, denied] = runs(false);
    assert!(conflicts > 50 && replies > 50 && requests > 50 && denied > 50, "{conflicts} {replies} {denied}");
}

#[test]
fn what_was_told_before_a_crash_is_so_after_it() {
    let [_, _, _, crashes, denied] = runs(true);
    assert!(crashes > 100 && denied > 50, "{crashes} {denied}");
}

#[test]
fn both_shapes_of_a_reservation_are_one_to_all_operations() {
    let sim = Sim::new(1);
    let disk = Arc::new(MemoryStore::new());
    let (root, [red, _]) = sim.run(world(&sim, &disk)).unwrap();
    let ids = sim.ids();
    let done = sim.run(async {
        let group = GroupCommit::new(disk.clone(), &*ids, "g").unwrap();
        let id = |name: &str| name.parse::<ReservationId>().unwrap();
        let staged = |once: &'static str| {
            let ctx = ctx(&red);
            hivemind_core::Once::new(&ctx, once, hivemind_core::Timestamp::from_secs(1)).unwrap()
        };
        let scope = [Prefix::ROOT];
        // One by each way, and each again by the other: charged once.
        assert_eq!(reserve(&group, &red, &id("batched"), 2).await, Told::Admitted);
        for name in ["alone", "batched"] {
            let decide = |view: &Snapshot, txn: &mut hivemind_core::store::Txn| {
                TenantQuota.reserve(view, txn, &ctx(&red), &id(name), &cores(2))
            };
            transact(&*disk, &staged(name), &scope, decide).await.unwrap();
        }
        assert_eq!(reserve(&group, &red, &id("alone"), 2).await, Told::Admitted);
        let view = disk.snapshot(&scope).await.unwrap();
        assert_eq!(TenantQuota.usage(&view, &ctx(&root)).unwrap().used, cores(4));
        let other = group.reserve(&ctx(&red), QuotaRequest::new(id("batched"), cores(1))).await.unwrap_err();
        assert_eq!(other.kind(), ErrorKind::AlreadyExists);
        // Each is given back by the other way, once.
        let give_back = |view: &Snapshot, txn: &mut hivemind_core::store::Txn| {
            TenantQuota.release(view, txn, &ctx(&red), &id("batched"))
        };
        transact(&*disk, &staged("give-back"), &scope, give_back).await.unwrap();
        assert_eq!(group.release(&ctx(&red), &id("batched")).await.unwrap(), Returned::Already);
        assert_eq!(group.release(&ctx(&red), &id("alone")).await.unwrap(), Returned::Now(cores(2)));
        let view = disk.snapshot(&scope).await.unwrap();
        assert_eq!(TenantQuota.usage(&view, &ctx(&root)).unwrap().used, cores(0));
        assert!(TenantQuota.drift(&view, &ctx(&root)).unwrap().is_empty());
    });
    done.unwrap();
}

#[test]
fn those_that_wait_at_once_are_one_commit_and_each_has_its_own_answer() {
    let sim = Sim::new(1);
    let disk = Arc::new(MemoryStore::new());
    let (root, [red, blue]) = sim.run(world(&sim, &disk)).unwrap();
    let ids = sim.ids();
    let done = sim.run(async {
        let group = GroupCommit::new(disk.clone(), &*ids, "g").unwrap();
        let before = disk.revision().await.unwrap();
        let ids: Vec<ReservationId> = (0..20).map(|n| format!("r{n}-plain").parse().unwrap()).collect();
        let all = ids
            .iter()
            .enumerate()
            .map(|(n, id)| reserve(&group, if n % 2 == 0 { &red } else { &blue }, id, 1));
        let told = join_all(all).await;
        assert_eq!(
            told.iter().filter(|told| **told == Told::Admitted).count(),
            10,
            "all that fits, and no more"
        );
        assert_eq!(disk.revision().await.unwrap(), before.next());
        // The same ids again hear the same, and nothing is written.
        let all = ids
            .iter()
            .enumerate()
            .map(|(n, id)| reserve(&group, if n % 2 == 0 { &red } else { &blue }, id, 1));
        assert_eq!(join_all(all).await, told);
        assert_eq!(disk.revision().await.unwrap(), before.next());
        let view = disk.snapshot(&[Prefix::ROOT]).await.unwrap();
        assert_eq!(TenantQuota.usage(&view, &ctx(&root)).unwrap().used, cores(10));
        let unknown = group.commit(&ctx(&red), &"never".parse().unwrap()).await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::NotFound);
    });
    done.unwrap();
}
