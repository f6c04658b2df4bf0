//! How long a decision takes, from ten bindings to a million.
//!
//! `cargo bench -p hivemind-tenancy --bench access` prints criterion's figures, then a table of percentiles over short
//! runs of decisions. Hot asks one principal's question again and again; random asks those of 65,536 principals in
//! turn, each in its own tenant. Every case counts the allocations of its decisions and fails if there is one.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench measures and tells"
)]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::time::Instant;

use criterion::Criterion;
use hivemind_core::store::Revision;
use hivemind_core::{AccessRequest, Generation, Principal, TenantContext, TenantRef, Verb};
use hivemind_tenancy::{AccessHandle, AccessIndex, Inherit, Role, RoleBinding, Rule, Scope, Subject};

const SIZES: [usize; 4] = [10, 1_000, 100_000, 1_000_000];
const ASKERS: usize = 65_536;
/// So many decisions are timed at once: reading the clock takes about as long as one.
const RUN: usize = 16;

fn tenant(number: usize) -> TenantRef {
    TenantRef::new(format!("tenant-{number}").parse().unwrap(), Generation::from_u64(1))
}

fn user(number: usize) -> Principal {
    Principal::User(format!("user-{number}").parse().unwrap())
}

/// A principal for each binding, a tenant for each hundred, ten below each, ten roles of three rules.
fn index(size: usize) -> AccessIndex {
    let tenants = (size / 100).max(1);
    let tree =
        (0..tenants).map(|number| (tenant(number), number.checked_sub(1).map(|below| tenant(below / 10))));
    let roles = (0..10).map(|number| {
        let rules = [
            Rule::allow().verbs([Verb::Get, Verb::List]).kind("apps".parse().unwrap()),
            Rule::allow().verbs([Verb::Use]).kind("volumes".parse().unwrap()),
            Rule::deny().verbs([Verb::Delete]).kind("apps".parse().unwrap()).named("billing"),
        ];
        Role::new(format!("role-{number}").parse().unwrap(), rules)
    });
    let bindings = (0..size).map(|number| {
        let (name, role) =
            (format!("b-{number}").parse().unwrap(), format!("role-{}", number % 10).parse().unwrap());
        let scope = Scope::Tenant(tenant(number % tenants));
        let inherit = if number % 2 == 0 { Inherit::Down } else { Inherit::None };
        RoleBinding::new(name, role, scope, [Subject::Principal(user(number))]).with_inherit(inherit)
    });
    AccessIndex::new(Revision::new(1), tree, roles, bindings.collect::<Vec<_>>())
}

/// The same numbers in each run, spread over `0..below`.
fn spread(at: usize, below: usize) -> usize {
    let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from((mixed >> 32) % below as u64).unwrap()
}

fn askers(size: usize, count: usize) -> Vec<TenantContext> {
    let tenants = (size / 100).max(1);
    let ask = |at| {
        let number = spread(at, size);
        TenantContext::new(tenant(number % tenants), user(number), "r".parse().unwrap())
    };
    (0..count).map(ask).collect()
}

fn percentiles(index: &AccessIndex, asked: &[TenantContext], request: &AccessRequest) -> (f64, f64) {
    let mut runs: Vec<f64> = Vec::new();
    for _ in 0..4 {
        for run in asked.chunks_exact(RUN) {
            let start = Instant::now();
            for ctx in run {
                black_box(index.decide(ctx, request));
            }
            runs.push(start.elapsed().as_secs_f64() * 1e9 / RUN as f64);
        }
    }
    runs.sort_by(f64::total_cmp);
    (runs[runs.len() / 2], runs[runs.len() * 99 / 100])
}

fn decisions(c: &mut Criterion) {
    let get = AccessRequest::new(Verb::Get, "apps".parse().unwrap()).named("web");
    let delete = AccessRequest::new(Verb::Delete, "apps".parse().unwrap()).named("billing");
    let mut table = Vec::new();
    for size in SIZES {
        let index = index(size);
        let random = askers(size, ASKERS);
        let hot = vec![random[0].clone(); 4096];
        for (name, asked, request, allowed) in [
            ("hot", &hot, &get, true),
            ("random", &random, &get, true),
            ("random-deny", &random, &delete, false),
        ] {
            assert!(asked.iter().all(|ctx| index.decide(ctx, request).allowed == allowed));
            let counted = allocation_counter::measure(|| {
                for ctx in asked {
                    black_box(index.decide(ctx, request));
                }
            });
            assert_eq!(counted.count_total, 0, "a decision allocates");
            let mut at = 0;
            c.bench_function(&format!("{name}/{size}"), |b| {
                b.iter(|| {
                    at = (at + 1) % asked.len();
                    index.decide(&asked[at], request)
                });
            });
            let (p50, p99) = percentiles(&index, asked, request);
            table.push(format!("{size:>9} {name:<12} p50 {p50:>6.0} ns  p99 {p99:>6.0} ns  allocations 0"));
        }
        if size == 1_000 {
            c.bench_function("explain/1000", |b| b.iter(|| index.explain(&random[0], &get)));
        }
    }
    println!("\n bindings case         each, over runs of {RUN}\n{}", table.join("\n"));
}

fn rebuild(c: &mut Criterion) {
    let mut group = c.benchmark_group("rebuild");
    group.sample_size(10);
    group.bench_function("with-records/100000", |b| b.iter(|| index(100_000)));
    group.finish();
    let handle = AccessHandle::new(index(10));
    c.bench_function("current", |b| b.iter(|| handle.current()));
}

criterion::criterion_group!(benches, decisions, rebuild);
criterion::criterion_main!(benches);
