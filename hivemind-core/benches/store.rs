//! The speed of the stores, each beside the engine below it in the same run.
//!
//! `cargo bench -p hivemind-core --bench store` prints criterion's figures, then a table of ratios. Single figures of a
//! shared machine say little; ratios of one run do. With `HIVEMIND_ETCD=HOST:PORT,...` (and feature `etcd`) it measures
//! an etcd too, under a prefix of its own.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures and tells"
)]
#![allow(missing_docs, reason = "criterion's macros")]

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use futures::future::join_all;
use hivemind_core::store::{Key, Prefix, Revision, ScanRequest, Txn};
use hivemind_core::{
    Durability, MemoryStore, Mirror, RedbOptions, RedbStore, StateStore, WatchStream, block_on,
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tempfile::TempDir;

const RAW: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("raw");
const VALUE: [u8; 512] = [b'x'; 512];

/// Medians by name, for the ratios in the end.
static MEDIANS: Mutex<BTreeMap<String, f64>> = Mutex::new(BTreeMap::new());

fn note(name: &str, elapsed: Duration, items: u64) {
    let mut all = MEDIANS.lock().unwrap();
    let rate = items as f64 / elapsed.as_secs_f64();
    // The best run: what else the machine does only ever takes away.
    let best = all.entry(name.to_owned()).or_default();
    *best = best.max(rate);
}

fn key(n: u64) -> Key {
    Key::new(["bench".to_owned(), format!("key-{:030}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))]).unwrap()
}

fn txn(n: u64) -> Txn {
    let mut txn = Txn::new();
    txn.put(key(n), VALUE.as_slice());
    txn
}

/// A store in a directory that goes with it.
struct Stored(Arc<dyn StateStore>, Option<TempDir>);

fn memory() -> Stored {
    Stored(Arc::new(MemoryStore::new()), None)
}

fn embedded(durability: Durability) -> Stored {
    // In the target directory: a temporary one may be in memory, and know no fsync.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = RedbOptions::new().with_durability(durability);
    let store = options.open(directory.path().join("state.redb")).unwrap();
    Stored(Arc::new(store), Some(directory))
}

type Make = (&'static str, fn() -> Stored);

fn stores() -> Vec<Make> {
    let own: [Make; 3] = [
        ("memory", memory),
        ("redb", || embedded(Durability::Immediate)),
        ("redb-deferred", || embedded(Durability::Deferred)),
    ];
    own.into_iter().chain(served()).collect()
}

/// The etcd that the environment names, if any.
#[cfg(feature = "etcd")]
fn served() -> Option<Make> {
    std::env::var_os("HIVEMIND_ETCD").map(|_| -> Make { ("etcd", etcd::store) })
}

#[cfg(not(feature = "etcd"))]
fn served() -> Option<Make> {
    None
}

#[cfg(feature = "etcd")]
mod etcd {
    use std::time::Instant;

    use hivemind_core::{EtcdOptions, EtcdStore, block_on};

    use super::{Arc, Criterion, Stored, VALUE, key, note};

    fn endpoints() -> String {
        std::env::var("HIVEMIND_ETCD").unwrap()
    }

    /// A namespace that nobody has used.
    pub(super) fn store() -> Stored {
        let fresh = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let options: EtcdOptions = format!("etcd://{}/bench-{fresh}", endpoints()).parse().unwrap();
        Stored(Arc::new(block_on(EtcdStore::connect(options)).unwrap()), None)
    }

    /// The client below, putting one key after the other.
    pub(super) fn raw(c: &mut Criterion) {
        if std::env::var_os("HIVEMIND_ETCD").is_none() {
            return;
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let addresses: Vec<_> = endpoints().split(',').map(str::to_owned).collect();
        let client = runtime.block_on(etcd_client::Client::connect(addresses, None)).unwrap();
        let mut n = 0;
        c.bench_function("commit/raw etcd/1", |b| {
            b.iter_custom(|iterations| {
                let mut client = client.clone();
                let started = Instant::now();
                for _ in 0..iterations {
                    n += 1;
                    let name = [b"bench-raw/", key(n).as_bytes()].concat();
                    runtime.block_on(client.put(name, VALUE.as_slice(), None)).unwrap();
                }
                note("commit raw etcd x1", started.elapsed(), iterations);
                started.elapsed()
            });
        });
    }
}

/// `total` commits by `writers` at once.
fn commits(store: &Arc<dyn StateStore>, writers: u64, total: u64, first: u64) -> Duration {
    let started = Instant::now();
    block_on(join_all((0..writers).map(|writer| async move {
        for n in (writer..total).step_by(usize::try_from(writers).unwrap()) {
            store.commit(&txn(first + n)).await.unwrap();
        }
    })));
    started.elapsed()
}

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    group.sample_size(10).throughput(Throughput::Elements(1));
    for writers in [1, 8, 64] {
        for (name, make) in stores() {
            let Stored(store, _directory) = make();
            let mut first = 0;
            group.bench_function(BenchmarkId::new(name, writers), |b| {
                b.iter_custom(|iterations| {
                    let elapsed = commits(&store, writers, iterations, first);
                    first += iterations;
                    note(&format!("commit {name} x{writers}"), elapsed, iterations);
                    elapsed
                });
            });
        }
    }
    // The engine below, with the same promise; and what the disk itself can do.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let raw = Database::create(directory.path().join("raw.redb")).unwrap();
    let mut n = 0;
    group.bench_function("raw redb, two phases/1", |b| {
        b.iter_custom(|iterations| {
            let started = Instant::now();
            for _ in 0..iterations {
                n += 1;
                let mut txn = raw.begin_write().unwrap();
                txn.set_two_phase_commit(true);
                txn.open_table(RAW).unwrap().insert(key(n).as_bytes(), VALUE.as_slice()).unwrap();
                txn.commit().unwrap();
            }
            note("commit raw redb x1", started.elapsed(), iterations);
            started.elapsed()
        });
    });
    let file = File::create(directory.path().join("append")).unwrap();
    let mut at = 0;
    group.bench_function("append and fdatasync/1", |b| {
        b.iter_custom(|iterations| {
            let started = Instant::now();
            for _ in 0..iterations {
                file.write_all_at(&[b'x'; 4096], at).unwrap();
                file.sync_data().unwrap();
                at += 4096;
            }
            note("append and fdatasync x1", started.elapsed(), iterations);
            started.elapsed()
        });
    });
    group.finish();
}

const MANY: u64 = 100_000;

fn filled(make: fn() -> Stored) -> Stored {
    let stored = make();
    for first in (0..MANY).step_by(100) {
        let mut txn = Txn::new();
        (first..first + 100).for_each(|n| txn.put(key(n), VALUE.as_slice()));
        block_on(stored.0.commit(&txn)).unwrap();
    }
    stored
}

fn filled_raw(directory: &TempDir) -> Database {
    let raw = Database::create(directory.path().join("raw.redb")).unwrap();
    let txn = raw.begin_write().unwrap();
    {
        let mut table = txn.open_table(RAW).unwrap();
        for n in 0..MANY {
            table.insert(key(n).as_bytes(), VALUE.as_slice()).unwrap();
        }
    }
    txn.commit().unwrap();
    raw
}

fn read(c: &mut Criterion) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let raw = filled_raw(&directory);
    let view = raw.begin_read().unwrap();
    let table = view.open_table(RAW).unwrap();
    let keys: Vec<_> = (0..MANY).map(key).collect();
    let stores = [("memory", filled(memory)), ("redb", filled(|| embedded(Durability::Deferred)))];

    let mut group = c.benchmark_group("get");
    group.throughput(Throughput::Elements(1));
    let timed = |b: &mut criterion::Bencher<'_>, name: &str, get: &dyn Fn(&Key)| {
        b.iter_custom(|iterations| {
            let started = Instant::now();
            (0..iterations).zip(keys.iter().cycle()).for_each(|(_, key)| get(key));
            note(&format!("get {name}"), started.elapsed(), iterations);
            started.elapsed()
        });
    };
    for (name, Stored(store, _)) in &stores {
        group.bench_function(*name, |b| {
            timed(b, name, &|key| drop(black_box(block_on(store.get(key, None)).unwrap().unwrap())));
        });
    }
    group.bench_function("raw redb", |b| {
        timed(b, "raw redb", &|key| {
            black_box(table.get(key.as_bytes()).unwrap().unwrap().value().len());
        });
    });
    let (mirror, _feed) = block_on(Mirror::open(stores[0].1.0.clone(), Prefix::ROOT)).unwrap();
    group.bench_function("mirror", |b| {
        let held = mirror.view();
        timed(b, "mirror", &|key| {
            black_box(held.get(key).unwrap());
        });
    });
    group.finish();

    let mut group = c.benchmark_group("scan 100,000");
    group.sample_size(10).throughput(Throughput::Elements(MANY));
    for (name, Stored(store, _)) in &stores {
        group.bench_function(*name, |b| {
            b.iter_custom(|iterations| {
                let started = Instant::now();
                for _ in 0..iterations {
                    let all = ScanRequest::new(Prefix::ROOT).limit(200_000);
                    let page = block_on(store.scan(&all)).unwrap();
                    assert_eq!(page.records.len() as u64, MANY);
                }
                note(&format!("scan {name}"), started.elapsed(), iterations * MANY);
                started.elapsed()
            });
        });
    }
    group.bench_function("raw redb", |b| {
        b.iter_custom(|iterations| {
            let started = Instant::now();
            for _ in 0..iterations {
                let all = table.iter().unwrap().map(|entry| {
                    let (key, value) = entry.unwrap();
                    (key.value().to_vec(), value.value().to_vec())
                });
                assert_eq!(black_box(all.collect::<Vec<_>>()).len() as u64, MANY);
            }
            note("scan raw redb", started.elapsed(), iterations * MANY);
            started.elapsed()
        });
    });
    group.finish();
}

fn next(watch: &mut WatchStream) -> Revision {
    block_on(std::future::poll_fn(|context| watch.as_mut().poll_next(context))).unwrap().unwrap().revision
}

fn watch(c: &mut Criterion) {
    let mut group = c.benchmark_group("watch");
    for (name, make) in stores() {
        // A transaction on one thread, until its event is there on another.
        group.bench_function(BenchmarkId::new("commit to event", name), |b| {
            b.iter_custom(|iterations| {
                let Stored(store, _directory) = make();
                let mut stream = block_on(store.watch(&Prefix::ROOT, Revision::ZERO)).unwrap();
                let (heard, hear) = std::sync::mpsc::channel();
                let ear =
                    std::thread::spawn(
                        move || {
                            while heard.send((next(&mut stream), Instant::now())).is_ok() {}
                        },
                    );
                let mut total = Duration::ZERO;
                for n in 0..iterations {
                    let revision = block_on(store.commit(&txn(n))).unwrap();
                    let acknowledged = Instant::now();
                    loop {
                        let (at, when) = hear.recv().unwrap();
                        if at >= revision {
                            // It may come before the acknowledgement does; criterion wants more than nothing.
                            let after = when.saturating_duration_since(acknowledged);
                            total += after.max(Duration::from_nanos(1));
                            break;
                        }
                    }
                }
                drop(hear);
                block_on(store.commit(&txn(0))).unwrap();
                ear.join().unwrap();
                note(&format!("event {name}"), total, iterations);
                total
            });
        });
    }
    group.sample_size(10).throughput(Throughput::Elements(100));
    group.bench_function("fan out to 100", |b| {
        b.iter_custom(|iterations| {
            let Stored(store, _) = memory();
            let open = |_| block_on(store.watch(&Prefix::ROOT, Revision::ZERO)).unwrap();
            let mut watches: Vec<_> = (0..100).map(open).collect();
            let started = Instant::now();
            for n in 0..iterations {
                let revision = block_on(store.commit(&txn(n))).unwrap();
                for watch in &mut watches {
                    while next(watch) < revision {}
                }
            }
            note("fan out to 100 watches", started.elapsed(), iterations * 100);
            started.elapsed()
        });
    });
    group.finish();
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

/// Bytes in memory and on disk for each of a million keys of 42 bytes with values of 100.
fn footprint(name: &str, make: fn() -> Stored) {
    const KEYS: u64 = 1_000_000;
    let before = resident();
    let stored = make();
    for first in (0..KEYS).step_by(100) {
        let mut txn = Txn::new();
        (first..first + 100).for_each(|n| txn.put(key(n), VALUE[..100].to_vec()));
        block_on(stored.0.commit(&txn)).unwrap();
    }
    block_on(stored.0.compact(block_on(stored.0.revision()).unwrap())).unwrap();
    let per_key = resident().saturating_sub(before) / KEYS;
    println!("{name}: {per_key} bytes of memory for each of {KEYS} keys, compacted");
    if let Stored(_, Some(directory)) = &stored {
        let path = directory.path().join("state.redb");
        drop(stored.0);
        println!("{name}: {} bytes of disk for each", std::fs::metadata(&path).unwrap().len() / KEYS);
        let started = Instant::now();
        drop(RedbStore::open(path).unwrap());
        println!("{name}: opened again in {:.1} s", started.elapsed().as_secs_f64());
    }
}

/// Each in a process of its own, whose memory nobody has used before.
fn footprints() {
    for name in ["memory", "redb-deferred"] {
        let myself = std::env::current_exe().unwrap();
        std::process::Command::new(myself).env("HIVEMIND_FOOTPRINT", name).status().unwrap();
    }
}

fn ratios() {
    let all = MEDIANS.lock().unwrap();
    println!("\n{:<44}{:>14}{:>12}", "best of the run", "per second", "ratio");
    let row = |what: &str, base: &str| {
        let (Some(rate), Some(beside)) = (all.get(what), all.get(base)) else { return };
        println!("{what:<44}{rate:>14.0}{:>12.2}  of {base}", rate / beside);
    };
    for writers in [1, 8, 64] {
        for (name, _) in stores() {
            let what = format!("commit {name} x{writers}");
            row(&what, if name == "etcd" { "commit raw etcd x1" } else { "commit raw redb x1" });
            row(&what, "append and fdatasync x1");
        }
    }
    row("commit raw redb x1", "append and fdatasync x1");
    for what in ["get memory", "get redb", "get mirror"] {
        row(what, "get raw redb");
    }
    for what in ["scan memory", "scan redb"] {
        row(what, "scan raw redb");
    }
    for (what, rate) in all.iter().filter(|(what, _)| what.starts_with("event") || what.starts_with("fan")) {
        println!("{what:<44}{rate:>14.0}{:>12.1}  microseconds each", 1e6 / rate);
    }
}

fn main() {
    if let Ok(asked) = std::env::var("HIVEMIND_FOOTPRINT") {
        stores()
            .into_iter()
            .filter(|(name, _)| *name == asked)
            .for_each(|(name, make)| footprint(name, make));
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    commit(&mut criterion);
    #[cfg(feature = "etcd")]
    etcd::raw(&mut criterion);
    read(&mut criterion);
    watch(&mut criterion);
    criterion.final_summary();
    footprints();
    ratios();
}
