//! How long it takes to measure, and to be read.
//!
//! `cargo bench -p hivemind-observe --bench metrics`. "Two threads" is the time that each of two threads takes for one, both at
//! the same series.
#![allow(clippy::unwrap_used, reason = "a bench measures")]
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::disallowed_methods, reason = "a bench measures time, with threads")]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hivemind_core::{Metric, Recorder, TenantId};
use hivemind_observe::{Registry, RegistryOptions};

const JOBS: Metric = Metric::new("jobs_total", "Jobs that were run.");
const WAIT: Metric = Metric::new("wait_seconds", "How long they waited.");
const LABELS: [(&str, &str); 3] = [("method", "GET"), ("path", "/api/v1/apps"), ("status", "200")];

/// The time of `count` calls on each of two threads at once.
fn two_threads(count: u64, call: impl Fn() + Sync) -> Duration {
    let barrier = Barrier::new(2);
    let work = || {
        barrier.wait();
        let begun = Instant::now();
        (0..count).for_each(|_| call());
        begun.elapsed()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work().max(other.join().unwrap())
    })
}

fn metrics(c: &mut Criterion) {
    let tenant: TenantId = "acme".parse().unwrap();
    let registry = Registry::new();
    let counter = registry.counter(&JOBS, Some(&tenant), &LABELS);
    c.bench_function("a counter that is held", |b| b.iter(|| counter.add(black_box(1))));
    c.bench_function("the same, two threads", |b| {
        b.iter_custom(|count| two_threads(count, || counter.add(1)))
    });
    let look_up = || registry.counter(black_box(&JOBS), Some(&tenant), black_box(&LABELS)).add(1);
    c.bench_function("a counter by three labels and a tenant", |b| b.iter(look_up));
    c.bench_function("this, two threads", |b| b.iter_custom(|count| two_threads(count, look_up)));
    let histogram = registry.histogram(&WAIT, Some(&tenant), &LABELS);
    c.bench_function("a histogram that is held", |b| b.iter(|| histogram.observe(black_box(0.07))));
    c.bench_function("and by two threads", |b| {
        b.iter_custom(|count| two_threads(count, || histogram.observe(0.07)));
    });
}

fn reading(c: &mut Criterion) {
    let registry = Registry::with_options(RegistryOptions::default().with_series_per_tenant(20_000));
    let tenant: TenantId = "acme".parse().unwrap();
    for number in 0..10_000_u64 {
        let labels = [("node", format!("node-{}", number / 100)), ("container", format!("c{number}"))];
        let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        registry.counter(&JOBS, Some(&tenant), &labels).add(number);
    }
    c.bench_function("10,000 series as text", |b| b.iter(|| registry.expose().len()));
    c.bench_function("10,000 series as samples", |b| b.iter(|| registry.samples().len()));
}

criterion_group!(benches, metrics, reading);
criterion_main!(benches);
