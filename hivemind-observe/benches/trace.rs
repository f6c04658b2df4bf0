//! How long a span takes: recorded, not recorded, across a process.
//!
//! `cargo bench -p hivemind-observe --bench trace`. A recorded span reads the clock twice and is queued; somebody empties the
//! queue now and then, outside of what is measured.
#![allow(clippy::unwrap_used, reason = "a bench measures")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hivemind_core::{Generation, Principal, SystemClock, SystemIds, TenantContext, TenantRef, block_on};
use hivemind_observe::trace::{Baggage, Sampling, Tracer, TracerOptions, extract_context, inject_context};
use hivemind_observe::{ExportLoop, MemorySpans};

fn ctx() -> TenantContext {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    TenantContext::new(tenant, Principal::System("api".parse().unwrap()), "req-1".parse().unwrap())
}

fn tracer(sampling: Sampling) -> Tracer {
    let options = TracerOptions::default().with_sampling(sampling);
    Tracer::new(Arc::new(SystemClock::new()), &SystemIds::new(), options)
}

/// `count` spans in pieces, after each of which the queue is emptied.
fn recorded(tracer: &Tracer, count: u64, mut span: impl FnMut()) -> Duration {
    let export = ExportLoop::new(tracer.clone(), Arc::new(SystemClock::new()), Arc::new(MemorySpans::new(0)));
    let (mut left, mut taken) = (count, Duration::ZERO);
    while left > 0 {
        let piece = left.min(4096);
        #[allow(clippy::disallowed_methods, reason = "a bench measures")]
        let begun = Instant::now();
        (0..piece).for_each(|_| span());
        taken += begun.elapsed();
        left -= piece;
        block_on(export.drain()).unwrap();
    }
    taken
}

fn spans(c: &mut Criterion) {
    let all = tracer(Sampling::ALL);
    let parent = all.span(&ctx(), "parent");
    let within = parent.within(ctx());
    c.bench_function("recorded, of a tenant, within a parent", |b| {
        b.iter_custom(|count| recorded(&all, count, || all.span(black_box(&within), "child").end()));
    });
    c.bench_function("the same with three attributes", |b| {
        b.iter_custom(|count| {
            recorded(&all, count, || {
                let span = all.span(black_box(&within), "child").with("a", 1_u32).with("b", true);
                span.with("c", "text").end();
            })
        });
    });
    let none = tracer(Sampling::NONE);
    let quiet = none.span(&ctx(), "parent");
    let unrecorded = quiet.within(ctx());
    c.bench_function("not recorded, within a parent", |b| {
        b.iter(|| none.span(black_box(&unrecorded), "child").end());
    });
    c.bench_function("not recorded, a new trace", |b| {
        let ctx = ctx();
        b.iter(|| none.span(black_box(&ctx), "child").end());
    });
}

fn headers(c: &mut Criterion) {
    let came = [
        ("host", "api.example"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("accept", "*/*"),
    ];
    let mut length = 0;
    c.bench_function("extract and inject", |b| {
        b.iter(|| {
            let came = extract_context(black_box(came));
            let span = came.span.unwrap();
            inject_context(&span, &Baggage::default(), |_, value| length += value.len());
        });
    });
    black_box(length);
}

criterion_group!(benches, spans, headers);
criterion_main!(benches);
