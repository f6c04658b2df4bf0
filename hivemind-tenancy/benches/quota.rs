//! The speed of quotas in memory: four levels, six resources, one core.
//!
//! `cargo bench -p hivemind-tenancy --bench quota` prints criterion's figures: one element is one reservation that is
//! committed and given back.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hivemind_core::Timestamp;
use hivemind_core::resources::{ByteSize, MilliCpu, ResourceName, Resources};
use hivemind_tenancy::{QuotaRule, QuotaSpec, QuotaTree, TreeTenant};

fn names() -> [ResourceName; 6] {
    ["cpu", "memory", "storage", "containers", "services", "nvidia.com/gpu"].map(|name| name.parse().unwrap())
}

fn deep(levels: usize) -> (QuotaTree, TreeTenant) {
    let mut tree = QuotaTree::new(names());
    let spec = names()
        .into_iter()
        .fold(QuotaSpec::new(), |spec, name| spec.with_rule(name, QuotaRule::default().with_max(1 << 50)));
    let mut at = tree.add_root("t0".parse().unwrap(), &spec).unwrap();
    for level in 1..levels {
        at = tree.add(format!("t{level}").parse().unwrap(), at, &spec).unwrap();
    }
    (tree, at)
}

fn asked() -> Resources {
    let [_, _, _, containers, services, gpus] = names();
    Resources::new()
        .with_cpu(MilliCpu::from_millis(250))
        .with_memory(ByteSize::from_gib(1))
        .with_storage(ByteSize::from_gib(2))
        .with(containers, 1)
        .with(services, 1)
        .with(gpus, 1)
}

fn in_memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quota tree, 4 levels, 6 resources");
    group.throughput(Throughput::Elements(1));
    let (tree, leaf) = deep(4);
    let (amount, deadline) = (tree.amount(&asked()).unwrap(), Timestamp::from_secs(60));
    group.bench_function("reserve and commit", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut elapsed = std::time::Duration::ZERO;
            let mut left = rounds;
            // Given back in between, and not timed.
            while left > 0 {
                let some = left.min(1_000);
                left -= some;
                let mut charges = Vec::with_capacity(1_000);
                #[allow(clippy::disallowed_methods, reason = "a bench measures")]
                let begin = std::time::Instant::now();
                for _ in 0..some {
                    let held = tree.reserve(black_box(leaf), black_box(&amount), deadline).unwrap();
                    charges.push(tree.commit(held).unwrap());
                }
                elapsed += begin.elapsed();
                charges.into_iter().for_each(|one| tree.release(one).unwrap());
            }
            elapsed
        });
    });
    group.bench_function("reserve, commit and release", |bencher| {
        bencher.iter(|| {
            let held = tree.reserve(black_box(leaf), black_box(&amount), deadline).unwrap();
            tree.release(tree.commit(held).unwrap()).unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, in_memory);
criterion_main!(benches);
