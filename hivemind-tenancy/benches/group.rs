//! The speed of durable quotas: many callers of one group on a store in a file, each commit flushed to the disk.
//!
//! `cargo bench -p hivemind-tenancy --bench group` prints reservations per second, told and durable, for a tenant with
//! three above it and limits on six resources on each of the four levels; by how many callers wait at once. Beside it,
//! from the same run: which share of the time a reservation spent in the store's commits and reads and in everything
//! else, how much of the processors' time it took (which others on the machine do not change), what the callers alone
//! cost, and the floor: appending the bytes of such a commit to a file and syncing it, once and twice as the store does.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench measures and tells"
)]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use hivemind_core::resources::{ByteSize, MilliCpu, ResourceName, Resources};
use hivemind_core::store::{Key, Limits, Prefix, Record, Revision, ScanPage, ScanRequest, Txn, Write};
use hivemind_core::{
    Durability, Principal, RedbOptions, RedbStore, Result, StateStore, StateStoreExt, SystemClock, SystemIds,
    TenantContext, TenantRef, WatchStream, async_trait, block_on,
};
use hivemind_tenancy::quota::{GroupCommit, Returned};
use hivemind_tenancy::{QuotaRequest, ResourceQuotas, TenantManager, TenantQuota, TenantSpec};

const OTHERS: [&str; 3] = ["nvidia.com/gpu", "containers", "services"];

fn ctx(tenant: &TenantRef, request: &str) -> TenantContext {
    TenantContext::new(tenant.clone(), Principal::User("ada".parse().unwrap()), request.parse().unwrap())
}

fn others() -> [ResourceName; 3] {
    OTHERS.map(|name| name.parse().unwrap())
}

fn asked() -> Resources {
    let own = Resources::new()
        .with_cpu(MilliCpu::from_millis(500))
        .with_memory(ByteSize::from_gib(1))
        .with_storage(ByteSize::from_gib(10));
    others().into_iter().fold(own, |sum, name| sum.with(name, 1))
}

/// Four tenants, one below the other; the lowest.
async fn tenants(store: &Arc<dyn StateStore>) -> TenantRef {
    let manager =
        TenantManager::new(Arc::clone(store), Arc::new(SystemClock::new()), Arc::new(SystemIds::new()));
    let quotas = ResourceQuotas::default()
        .with_cpu_limit(MilliCpu::from_cores(1 << 40))
        .with_memory_limit(ByteSize::from_gib(1 << 32))
        .with_storage_limit(ByteSize::from_gib(1 << 32));
    let quotas = others().into_iter().fold(quotas, |quotas, name| quotas.with_other(name, 1 << 50));
    let mut above: Option<TenantRef> = None;
    for name in ["org", "region", "team", "project"] {
        let mut spec = TenantSpec::new(name.parse().unwrap()).with_quotas(quotas.clone());
        spec.parent = above.take();
        let created = manager.create(&ctx(&TenantRef::system(), name), spec).await.unwrap();
        above = Some(created.tenant.clone());
    }
    above.unwrap()
}

fn rate(count: u32, took: Duration) -> f64 {
    f64::from(count) / took.as_secs_f64()
}

/// A store that notes how long it took.
#[derive(Debug)]
struct Timed {
    inner: RedbStore,
    commits: AtomicU64,
    reads: AtomicU64,
    bytes: AtomicU64,
}

fn note(sum: &AtomicU64, since: Instant) {
    sum.fetch_add(u64::try_from(since.elapsed().as_nanos()).unwrap(), Ordering::Relaxed);
}

#[async_trait]
impl StateStore for Timed {
    async fn revision(&self) -> Result<Revision> {
        self.inner.revision().await
    }
    async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        let begun = Instant::now();
        let found = self.inner.get(key, at).await;
        note(&self.reads, begun);
        found
    }
    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        let begun = Instant::now();
        let found = self.inner.scan(request).await;
        note(&self.reads, begun);
        found
    }
    async fn commit(&self, txn: &Txn) -> Result<Revision> {
        let size = |(key, write): (&Key, &Write)| match write {
            Write::Put(value) => key.as_bytes().len() + value.len(),
            Write::Delete => key.as_bytes().len(),
        };
        self.bytes.fetch_add(txn.writes().map(size).sum::<usize>() as u64, Ordering::Relaxed);
        let begun = Instant::now();
        let done = self.inner.commit(txn).await;
        note(&self.commits, begun);
        done
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

/// The processors' time of all threads of this process; zero where the kernel does not tell.
fn processor_time() -> Duration {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let of = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(of).sum())
}

/// What it takes to make `bytes` durable in a plain file: with one sync, and with two.
fn floor(directory: &Path, bytes: usize) -> [Duration; 2] {
    let mut file = std::fs::File::create(directory.join("floor")).unwrap();
    let block = vec![7u8; bytes];
    [1, 2].map(|syncs| {
        const TIMES: u32 = 20;
        let begun = Instant::now();
        for _ in 0..TIMES {
            file.write_all(&block).unwrap();
            for sync in 0..syncs {
                if sync > 0 {
                    file.write_all(&[7; 512]).unwrap();
                }
                file.sync_data().unwrap();
            }
        }
        begun.elapsed() / TIMES
    })
}

/// What `callers` cost that only wait for an answer, each.
async fn callers_alone(callers: u32) -> Duration {
    let begun = Instant::now();
    for _ in 0..10 {
        let mut told = Vec::new();
        let all: Vec<_> = (0..callers)
            .map(|_| {
                let (tell, heard) = futures::channel::oneshot::channel::<u64>();
                told.push(tell);
                heard
            })
            .collect();
        let all = join_all(all);
        let telling = async move { told.into_iter().for_each(|tell| tell.send(1).unwrap()) };
        futures::join!(all, telling);
    }
    begun.elapsed() / (10 * callers)
}

/// `callers` at once reserve, and then give back, `rounds` times.
async fn measure(callers: u32, rounds: u32) {
    // In the target directory: a temporary one may be in memory, and know no fsync.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = RedbOptions::new().with_durability(Durability::Immediate);
    let inner = options.open(directory.path().join("state.redb")).unwrap();
    let zero = AtomicU64::default;
    let timed = Arc::new(Timed { inner, commits: zero(), reads: zero(), bytes: zero() });
    let store: Arc<dyn StateStore> = timed.clone();
    let project = tenants(&store).await;
    let group = GroupCommit::new(Arc::clone(&store), &SystemIds::new(), "bench").unwrap();
    let (ctx, amount, before) = (ctx(&project, "bench"), asked(), store.revision().await.unwrap());
    let (mut reserving, mut releasing, mut busy) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let sums = || [&timed.commits, &timed.reads, &timed.bytes].map(|sum| sum.load(Ordering::Relaxed));
    let mut spent = [0; 3];
    for round in 0..rounds {
        let ids: Vec<hivemind_core::ReservationId> =
            (0..callers).map(|caller| format!("r-{round}-{caller}").parse().unwrap()).collect();
        let (was, worked, begun) = (sums(), processor_time(), Instant::now());
        let all = ids.iter().map(|id| group.reserve(&ctx, QuotaRequest::new(id.clone(), amount.clone())));
        let told = join_all(all).await;
        reserving += begun.elapsed();
        busy += processor_time() - worked;
        spent.iter_mut().zip(sums()).zip(was).for_each(|((spent, now), was)| *spent += now - was);
        assert!(told.iter().all(std::result::Result::is_ok));
        // Half stays, so that there is something to be found among.
        let gone = ids.iter().take(ids.len() / 2);
        let begun = Instant::now();
        let told = join_all(gone.map(|id| group.release(&ctx, id))).await;
        releasing += begun.elapsed();
        assert!(told.iter().all(|told| matches!(told, Ok(Returned::Now(_)))));
    }
    let commits = store.revision().await.unwrap().as_u64() - before.as_u64();
    let view = store.snapshot(&[Prefix::ROOT]).await.unwrap();
    assert!(TenantQuota.recount(&view, &ctx).unwrap().is_none());
    let count = callers * rounds;
    println!(
        "{callers:>6} callers: {:>9.0} reservations/s, {:>9.0} releases/s, durable; {count} and half as many, {commits} \
         commits",
        rate(count, reserving),
        rate(count / 2, releasing),
    );
    let [in_commits, in_reads, bytes] = spent;
    let per = |nanos: f64| nanos / f64::from(count) / 1000.0;
    let [whole, stored, read] = [reserving.as_nanos() as f64, in_commits as f64, in_reads as f64];
    let [one, two] = floor(directory.path(), usize::try_from(bytes / u64::from(rounds)).unwrap());
    println!(
        "        each: {:.2} us = commits {:.2} + reads {:.2} + deciding and callers {:.2}; processors {:.2} us, so {:.0}/s \
         on one alone; {} bytes; callers alone {:.2} us; floor of a round: one sync {:.1} ms, two {:.1} ms",
        per(whole),
        per(stored),
        per(read),
        per(whole - stored - read),
        per(busy.as_nanos() as f64),
        rate(count, busy),
        bytes / u64::from(count),
        callers_alone(callers).await.as_nanos() as f64 / 1000.0,
        one.as_secs_f64() * 1000.0,
        two.as_secs_f64() * 1000.0,
    );
}

fn main() {
    for (callers, rounds) in [(2, 50), (64, 25), (2048, 20), (8192, 10), (32_768, 4)] {
        block_on(measure(callers, rounds));
    }
}
