//! The speed of quotas in memory.
//!
//! `cargo bench -p hivemind-tenancy --bench quota`: reserve and commit, then release, on a tree of four levels that counts
//! six resources; alone, and with other threads at the same tree. Charge is reserve and commit in one step.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench measures and tells"
)]
#![allow(missing_docs, reason = "criterion's macros")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hivemind_core::TenantId;
use hivemind_core::resources::{ByteSize, MilliCpu, ResourceName, Resources};
use hivemind_tenancy::QuotaTree;
use hivemind_tenancy::quota::{Amounts, QuotaNode, QuotaRule};

/// A tree of four levels and six resources, with eight tenants at the bottom.
fn tree() -> (QuotaTree, Vec<QuotaNode>, Amounts) {
    let names = ["gpu", "containers", "services"].map(|name| name.parse::<ResourceName>().unwrap());
    let resources =
        [ResourceName::Cpu, ResourceName::Memory, ResourceName::Storage].into_iter().chain(names.clone());
    let resources: Vec<_> = resources.collect();
    let all = |rule: QuotaRule| -> BTreeMap<_, _> {
        resources.iter().map(|name| (name.clone(), rule.clone())).collect()
    };
    let name = |text: &str| text.parse::<TenantId>().unwrap();
    let rule = QuotaRule::default().with_max(1 << 50);
    let top = all(QuotaRule::default().with_max(1 << 60));
    let (tree, root) = QuotaTree::new(resources.clone(), name("root"), &top).unwrap();
    let inner = all(rule.clone().with_guaranteed(1 << 40).with_lending_limit(1 << 39));
    let region = tree.add(name("region"), root, &inner).unwrap();
    let teams: Vec<_> = (0..2).map(|_| tree.add(name("team"), region, &inner).unwrap()).collect();
    let leaves = (0..8).map(|at| tree.add(name("app"), teams[at % 2], &all(rule.clone())).unwrap()).collect();
    let mut asked = Resources::new()
        .with_cpu(MilliCpu::from_millis(500))
        .with_memory(ByteSize::from_gib(1))
        .with_storage(ByteSize::from_gib(10));
    for name in names {
        asked = asked.with(name, 1);
    }
    let asked = tree.amounts(&asked).unwrap();
    (tree, leaves, asked)
}

fn alone(c: &mut Criterion) {
    let mut group = c.benchmark_group("quota, 4 levels, 6 resources");
    group.throughput(Throughput::Elements(1));
    group.bench_function("reserve + commit", |b| {
        b.iter_custom(|times| {
            let (tree, leaves, asked) = tree();
            let mut took = Duration::ZERO;
            let mut left = times;
            while left > 0 {
                // In batches, so that what is never released does not grow without end.
                let batch = left.min(10_000);
                let mut charges = Vec::with_capacity(10_000);
                let begun = Instant::now();
                for turn in 0..batch {
                    let leaf = leaves[usize::try_from(turn % 8).unwrap()];
                    charges.push(tree.reserve(leaf, &asked, None).unwrap().commit().unwrap());
                }
                took += begun.elapsed();
                for charge in charges {
                    let _ = tree.release(charge);
                }
                left -= batch;
            }
            took
        });
    });
    group.bench_function("charge + release", |b| {
        let (tree, leaves, asked) = tree();
        let mut turn = 0;
        b.iter(|| {
            turn += 1;
            tree.release(tree.charge(leaves[turn % 8], black_box(&asked)).unwrap()).is_ok()
        });
    });
    group.bench_function("reserve + commit + release", |b| {
        let (tree, leaves, asked) = tree();
        let mut turn = 0;
        b.iter(|| {
            turn += 1;
            let hold = tree.reserve(leaves[turn % 8], black_box(&asked), None).unwrap();
            tree.release(hold.commit().unwrap()).is_ok()
        });
    });
    group.bench_function("denied, with every limit that is short", |b| {
        let (tree, leaves, _) = tree();
        let much = tree.amounts(&Resources::new().with_cpu(MilliCpu::from_millis(1 << 61))).unwrap();
        b.iter(|| tree.reserve(leaves[0], black_box(&much), None).is_err());
    });
    group.finish();
}

fn contended(c: &mut Criterion) {
    let mut group = c.benchmark_group("quota, 4 levels, 6 resources, one of 16 threads");
    group.throughput(Throughput::Elements(1));
    group.bench_function("reserve + commit + release", |b| {
        let (tree, leaves, asked) = tree();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 1..16_usize {
                let (tree, leaves, stop) = (&tree, &leaves, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let hold = tree.reserve(leaves[thread % 8], &asked, None).unwrap();
                        let _ = tree.release(hold.commit().unwrap());
                    }
                });
            }
            b.iter(|| {
                let hold = tree.reserve(leaves[0], &asked, None).unwrap();
                tree.release(hold.commit().unwrap()).is_ok()
            });
            stop.store(true, Ordering::Relaxed);
        });
    });
    group.finish();
}

criterion_group!(benches, alone, contended);
criterion_main!(benches);
