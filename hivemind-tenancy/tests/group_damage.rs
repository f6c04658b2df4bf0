//! What fails one request of a group commit fails no other: damage, refusals and conflicts are told to whom they concern.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use hivemind_core::labels::Labels;
use hivemind_core::resources::{MilliCpu, ResourceName, Resources};
use hivemind_core::store::{Conflict, Key, Limits, Prefix, Record, Revision, ScanPage, ScanRequest, Txn};
use hivemind_core::{
    Error, ErrorKind, Generation, MemoryStore, Principal, ReservationId, Result, Retry, StateStore,
    StateStoreExt, SystemClock, SystemIds, TenantContext, TenantRef, Timestamp, WatchStream, async_trait,
    block_on,
};
use hivemind_tenancy::quota::{
    FairQueue, GroupCommit, QueuePolicy, QuotaSpec, RequestAttributes, Returned, Turns, WhenOver,
};
use hivemind_tenancy::{QuotaRequest, ResourceQuotas, StillExpired, TenantManager, TenantQuota, TenantSpec};

/// A store that takes no transaction of which `refuse` says why not.
struct Picky<F> {
    inner: MemoryStore,
    refuse: F,
    refused: AtomicUsize,
}

impl<F> std::fmt::Debug for Picky<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Picky")
    }
}

#[async_trait]
impl<F: Fn(&Txn) -> Option<Error> + Send + Sync + 'static> StateStore for Picky<F> {
    async fn revision(&self) -> Result<Revision> {
        self.inner.revision().await
    }
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        self.inner.get(key, at).await
    }
    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        self.inner.scan(request).await
    }
    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        if let Some(error) = (self.refuse)(txn) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(error);
        }
        self.inner.commit(txn).await
    }
    async fn watch(&self, prefix: &Prefix, from: Revision) -> Result<WatchStream> {
        self.inner.watch(prefix, from).await
    }
    async fn compact(&self, at: Revision) -> Result<()> {
        self.inner.compact(at).await
    }
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
}

fn ctx(tenant: &TenantRef) -> TenantContext {
    TenantContext::new(tenant.clone(), Principal::User("ada".parse().unwrap()), "r".parse().unwrap())
}

fn manager(disk: &MemoryStore) -> TenantManager {
    TenantManager::new(Arc::new(disk.clone()), Arc::new(SystemClock::new()), Arc::new(SystemIds::new()))
}

fn operator(request: &str) -> TenantContext {
    let root = Principal::User("root".parse().unwrap());
    TenantContext::new(TenantRef::system(), root, request.parse().unwrap())
}

/// Tenants of ten cores each, all roots.
fn world(disk: &MemoryStore) -> [TenantRef; 3] {
    let tenants = manager(disk);
    ["red", "blue", "green"].map(|name| {
        let ten = ResourceQuotas::default().with_cpu_limit(MilliCpu::from_cores(10));
        let spec = TenantSpec::new(name.parse().unwrap()).with_quotas(ten);
        block_on(tenants.create(&operator(name), spec)).unwrap().tenant.clone()
    })
}

fn group(store: Arc<dyn StateStore>) -> GroupCommit {
    GroupCommit::new(store, &SystemIds::new(), "g").unwrap()
}

fn id(name: &str) -> ReservationId {
    name.parse().unwrap()
}

fn core(name: &str) -> QuotaRequest {
    QuotaRequest::new(id(name), Resources::new().with_cpu(MilliCpu::from_cores(1)))
}

/// One core for each of `asked`, all at once.
fn reserve(group: &GroupCommit, asked: &[(&TenantRef, &str)]) -> Vec<Option<ErrorKind>> {
    let all = asked.iter().map(|(tenant, name)| {
        let ctx = ctx(tenant);
        async move { group.reserve(&ctx, core(name)).await.err().map(|e| e.kind()) }
    });
    block_on(join_all(all))
}

fn used(disk: &MemoryStore, tenant: &TenantRef) -> u64 {
    let view = block_on(disk.snapshot(&[Prefix::ROOT])).unwrap();
    TenantQuota.usage(&view, &ctx(tenant)).unwrap().used.cpu().as_millis() / 1000
}

/// Overwrites every record whose key holds all of `parts`; returns what was there.
fn damage(disk: &MemoryStore, parts: &[&str]) -> Vec<Record> {
    let (_, all) = block_on(disk.scan_all(&Prefix::ROOT, None)).unwrap();
    let hit = |record: &Record| parts.iter().all(|part| record.key.to_string().contains(part));
    let hit: Vec<_> = all.into_iter().filter(hit).collect();
    assert!(!hit.is_empty(), "there is something to damage");
    let mut txn = Txn::new();
    hit.iter().for_each(|record| txn.put(record.key.clone(), &b"\xff\x00 not json"[..]));
    block_on(disk.commit(&txn)).unwrap();
    hit
}

fn mend(disk: &MemoryStore, records: Vec<Record>) {
    let mut txn = Txn::new();
    records.into_iter().for_each(|record| txn.put(record.key, record.value));
    block_on(disk.commit(&txn)).unwrap();
}

/// A reservation of a record of its own.
fn reserve_alone(disk: &MemoryStore, tenant: &TenantRef, name: &str) {
    let view = block_on(disk.snapshot(&[Prefix::ROOT])).unwrap();
    let mut txn = Txn::new();
    TenantQuota.stage_request(&view, &mut txn, &ctx(tenant), &core(name)).unwrap();
    block_on(disk.commit(&txn)).unwrap();
}

const CORRUPT: Option<ErrorKind> = Some(ErrorKind::Corrupt);

#[test]
fn a_damaged_batch_is_told_to_its_tenant_alone_until_it_is_mended() {
    let disk = MemoryStore::new();
    let [red, blue, green] = world(&disk);
    let group = group(Arc::new(disk.clone()));
    assert_eq!(reserve(&group, &[(&red, "old"), (&blue, "old")]), [None, None]);
    reserve_alone(&disk, &red, "alone");
    let were = damage(&disk, &["batches", "red"]);
    for round in ["a", "b", "c"] {
        let asked = [(&blue, round), (&red, round), (&green, round), (&red, "old"), (&red, "alone")];
        assert_eq!(reserve(&group, &asked), [None, CORRUPT, None, CORRUPT, None], "round {round}");
    }
    assert_eq!((used(&disk, &red), used(&disk, &blue), used(&disk, &green)), (2, 4, 3));
    // Giving back what can be read works meanwhile.
    assert!(matches!(block_on(group.release(&ctx(&red), &id("alone"))), Ok(Returned::Now(_))));
    let unknown = block_on(group.release(&ctx(&red), &id("old"))).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Corrupt);
    mend(&disk, were);
    assert_eq!(reserve(&group, &[(&red, "a"), (&red, "old")]), [None, None]);
    assert!(matches!(block_on(group.release(&ctx(&red), &id("old"))), Ok(Returned::Now(_))));
    assert_eq!(used(&disk, &red), 1);
}

#[test]
fn a_damaged_reservation_is_told_to_those_alone_who_ask_for_it() {
    let disk = MemoryStore::new();
    let [red, blue, _] = world(&disk);
    reserve_alone(&disk, &red, "bad");
    let were = damage(&disk, &["reservations", "red", "bad"]);
    let group = group(Arc::new(disk.clone()));
    let asked = [(&red, "x"), (&red, "bad"), (&blue, "x"), (&red, "y")];
    assert_eq!(reserve(&group, &asked), [None, CORRUPT, None, None]);
    // All operations at once: each has its own answer.
    let (red, blue) = (ctx(&red), ctx(&blue));
    let (bad, x) = (id("bad"), id("x"));
    let (a, b, c, d) = block_on(async {
        let bad_release = group.release(&red, &bad);
        let bad_commit = group.commit(&red, &bad);
        futures::join!(bad_release, bad_commit, group.release(&red, &x), group.release(&blue, &x))
    });
    assert_eq!([a.unwrap_err().kind(), b.unwrap_err().kind()], [ErrorKind::Corrupt; 2]);
    assert!(matches!((c, d), (Ok(Returned::Now(_)), Ok(Returned::Now(_)))));
    mend(&disk, were);
    assert!(matches!(block_on(group.release(&red, &bad)), Ok(Returned::Now(_))));
    let view = block_on(disk.snapshot(&[Prefix::ROOT])).unwrap();
    assert!(TenantQuota.drift(&view, &red).unwrap().is_empty());
}

#[test]
fn a_damaged_ledger_or_tenant_is_told_to_those_below_it_alone() {
    for parts in [&["ledgers", "red"][..], &["quotas", "red"], &["tenants", "red"]] {
        let disk = MemoryStore::new();
        let [red, blue, green] = world(&disk);
        let group = group(Arc::new(disk.clone()));
        assert_eq!(reserve(&group, &[(&red, "old"), (&blue, "old")]), [None, None]);
        if parts[0] == "quotas" {
            let spec = QuotaSpec::new().with_required(ResourceName::Cpu);
            block_on(manager(&disk).set_quota(&operator("set"), &red.id, spec, WhenOver::Flag)).unwrap();
        }
        let were = damage(&disk, parts);
        let (ctx, old) = (ctx(&red), id("old"));
        let (told, released) = block_on(async {
            let asked = [(&blue, "a"), (&red, "a"), (&green, "a"), (&red, "b")].map(|(tenant, name)| {
                let (group, ctx) = (&group, self::ctx(tenant));
                async move { group.reserve(&ctx, core(name)).await.err().map(|e| e.kind()) }
            });
            futures::join!(join_all(asked), group.release(&ctx, &old))
        });
        assert_eq!(told, [None, CORRUPT, None, CORRUPT], "{parts:?}");
        assert_eq!(released.unwrap_err().kind(), ErrorKind::Corrupt, "{parts:?}");
        mend(&disk, were);
        assert_eq!(reserve(&group, &[(&red, "a")]), [None], "{parts:?}");
        assert_eq!((used(&disk, &red), used(&disk, &blue)), (2, 2), "{parts:?}");
    }
}

#[test]
fn a_tenant_that_is_gone_fails_alone() {
    let disk = MemoryStore::new();
    let [red, blue, _] = world(&disk);
    let group = group(Arc::new(disk.clone()));
    let gone = TenantRef::new(red.id.clone(), Generation::from_u64(99));
    let asked = [(&gone, "a"), (&blue, "a"), (&red, "a")];
    assert_eq!(reserve(&group, &asked), [Some(ErrorKind::NotFound), None, None]);
}

fn writes_of<'a>(txn: &'a Txn, name: &'a str) -> impl Iterator<Item = &'a Key> {
    txn.writes().map(|(key, _)| key).filter(move |key| key.to_string().contains(name))
}

#[test]
fn whom_the_store_refuses_fails_alone() {
    let disk = MemoryStore::new();
    let [red, blue, green] = world(&disk);
    let refuse = |txn: &Txn| {
        let red = writes_of(txn, "red").next().is_some();
        red.then(|| Error::new(ErrorKind::Internal, "commit", "nothing of red is taken"))
    };
    let store = Arc::new(Picky { inner: disk.clone(), refuse, refused: AtomicUsize::new(0) });
    let group = group(store);
    let names: Vec<_> = (0..9).map(|n| format!("r{n}")).collect();
    for round in 0..3 {
        let of = |n: usize| if n == round + 3 { &red } else { [&blue, &green][n % 2] };
        let asked: Vec<_> = names.iter().enumerate().map(|(n, name)| (of(n), name.as_str())).collect();
        let told = reserve(&group, &asked);
        for (n, told) in told.into_iter().enumerate() {
            assert_eq!(told, (n == round + 3).then_some(ErrorKind::Internal), "{n} of round {round}");
        }
    }
    assert_eq!(used(&disk, &red), 0);
}

#[test]
fn a_record_that_others_keep_changing_fails_those_alone_who_need_it() {
    let disk = MemoryStore::new();
    let [red, blue, green] = world(&disk);
    let refuse = |txn: &Txn| {
        let ledger = txn.guards().map(|(key, _)| key).find(|key| {
            let key = key.to_string();
            key.contains("ledgers") && key.contains("red")
        });
        ledger.map(|key| Error::of(ErrorKind::Conflict, "commit", Conflict::new(key.clone(), None)))
    };
    let store = Arc::new(Picky { inner: disk.clone(), refuse, refused: AtomicUsize::new(0) });
    let group = group(store.clone());
    for round in ["a", "b"] {
        let asked = [(&red, round), (&blue, round), (&red, "r"), (&green, round)];
        let conflict = Some(ErrorKind::Conflict);
        assert_eq!(reserve(&group, &asked), [conflict, None, conflict, None], "round {round}");
    }
    assert_eq!((used(&disk, &red), used(&disk, &blue), used(&disk, &green)), (0, 2, 2));
    let tries = store.refused.load(Ordering::Relaxed);
    assert!((2..200).contains(&tries), "it gives up, and not at once: {tries}");
}

#[test]
fn a_request_too_large_for_the_store_fails_alone() {
    let limits = Limits::new(127, 60_000, 2_000);
    let disk = MemoryStore::with_limits(limits);
    let [red, blue, _] = world(&disk);
    let group = group(Arc::new(disk.clone()));
    let labels: Labels = (0..100)
        .fold(Labels::new(), |labels, n| labels.with(&format!("label-{n}"), &"a".repeat(40)).unwrap());
    let large = core("large").with_attributes(RequestAttributes::new("pod").with_labels(labels));
    let (red, blue) = (ctx(&red), ctx(&blue));
    let mut asked = vec![group.reserve(&red, large)];
    asked
        .extend((0..9).map(|n| group.reserve(if n % 2 == 0 { &red } else { &blue }, core(&format!("r{n}")))));
    let told = block_on(join_all(asked));
    let kinds: Vec<_> = told.into_iter().map(|told| told.err().map(|e| e.kind())).collect();
    assert_eq!(kinds[0], Some(ErrorKind::Invalid));
    assert!(kinds[1..].iter().all(Option::is_none), "{kinds:?}");
    assert_eq!((used(&disk, red.tenant()), used(&disk, blue.tenant())), (5, 4));
    let (_, all) = block_on(disk.scan_all(&Prefix::ROOT, None)).unwrap();
    assert!(all.iter().all(|record| record.value.len() <= limits.max_value_bytes));
}

#[test]
fn expiry_gives_up_if_others_are_always_faster_and_tells_what_was_done() {
    let disk = MemoryStore::new();
    let [red, ..] = world(&disk);
    let commits = AtomicUsize::new(0);
    // The first commit goes through, the others conflict: 64 at once are given back.
    let refuse = move |txn: &Txn| {
        let key = txn.guards().next().map(|(key, _)| key.clone())?;
        let late = commits.fetch_add(1, Ordering::Relaxed) > 0;
        late.then(|| Error::of(ErrorKind::Conflict, "commit", Conflict::new(key, None)))
    };
    let store = Arc::new(Picky { inner: disk.clone(), refuse, refused: AtomicUsize::new(0) });
    let group = group(Arc::new(disk.clone()));
    for n in 0..70 {
        let asked =
            QuotaRequest::new(id(&format!("r{n}")), Resources::new().with_cpu(MilliCpu::from_millis(1)));
        let asked = asked.held_until(Timestamp::from_secs(1));
        block_on(group.reserve(&ctx(&red), asked)).unwrap();
    }
    let clock = Arc::new(SystemClock::new());
    let tenants = TenantManager::new(store.clone(), clock, Arc::new(SystemIds::new()));
    let error = block_on(tenants.expire_reservations(&ctx(&red))).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::Later));
    assert_eq!(error.detail::<StillExpired>().unwrap().given_back, 64);
    assert_eq!(store.refused.load(Ordering::Relaxed), 32);
    assert_eq!(block_on(manager(&disk).expire_reservations(&ctx(&red))).unwrap(), 6);
}

#[test]
fn giving_turns_gives_up_if_others_are_always_faster() {
    let disk = MemoryStore::new();
    let [red, ..] = world(&disk);
    let refuse = |txn: &Txn| {
        let key = txn.guards().next().map(|(key, _)| key.clone())?;
        Some(Error::of(ErrorKind::Conflict, "commit", Conflict::new(key, None)))
    };
    let now = ctx(&red).with_time(Timestamp::from_secs(1));
    let view = block_on(disk.snapshot(&[Prefix::ROOT])).unwrap();
    let mut txn = Txn::new();
    TenantQuota.stage_enqueue(&view, &mut txn, &now, &core("waits")).unwrap();
    block_on(disk.commit(&txn)).unwrap();
    let store = Arc::new(Picky { inner: disk.clone(), refuse, refused: AtomicUsize::new(0) });
    let tenants = TenantManager::new(store.clone(), Arc::new(SystemClock::new()), Arc::new(SystemIds::new()));
    let turns = Turns::new(FairQueue::new(QueuePolicy::BestEffortFifo, Duration::from_secs(9)));
    let error = block_on(tenants.admit_waiting(&ctx(&red), &turns)).unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::Later));
    assert_eq!(store.refused.load(Ordering::Relaxed), 32);
    let admitted = block_on(manager(&disk).admit_waiting(&ctx(&red), &turns)).unwrap();
    assert_eq!(admitted.len(), 1);
}
