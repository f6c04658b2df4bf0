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
use std::sync::Arc;
use std::time::Instant;

use criterion::Criterion;
use hivemind_core::store::{Key, Record, Revision, Snapshot, Txn};
use hivemind_core::{
    AccessRequest, Generation, ManualClock, MemoryStore, Principal, SeededIds, TenantContext, TenantRef,
    Verb, encode,
};
use hivemind_tenancy::rbac::{AccessHandle, AccessIndex, Inherit, PolicyChange, Rule, Scope, Subject};
use hivemind_tenancy::{Role, RoleBinding, Tenant, TenantManager};

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

/// What an index is made of.
struct Records {
    tenants: Vec<(TenantRef, Option<TenantRef>)>,
    roles: Vec<Arc<Role>>,
    bindings: Vec<Arc<RoleBinding>>,
}

/// A principal for each binding, a tenant for each hundred, ten below each, ten roles of three rules.
fn records(size: usize) -> Records {
    let tenants = tenants_of(size);
    let tree =
        (0..tenants).map(|number| (tenant(number), number.checked_sub(1).map(|below| tenant(below / 10))));
    let roles = (0..10).map(|number| {
        let rules = [
            Rule::allow().verbs([Verb::Get, Verb::List]).kind("apps".parse().unwrap()),
            Rule::allow().verbs([Verb::Use]).kind("volumes".parse().unwrap()),
            Rule::deny().verbs([Verb::Delete]).kind("apps".parse().unwrap()).named("billing"),
        ];
        Arc::new(Role::new(format!("role-{number}").parse().unwrap(), rules))
    });
    let bindings = (0..size).map(|number| Arc::new(bound(number, tenants)));
    Records { tenants: tree.collect(), roles: roles.collect(), bindings: bindings.collect() }
}

fn bound(number: usize, tenants: usize) -> RoleBinding {
    let (name, role) =
        (format!("b-{number}").parse().unwrap(), format!("role-{}", number % 10).parse().unwrap());
    let scope = Scope::Tenant(tenant(number % tenants));
    let inherit = if number.is_multiple_of(2) { Inherit::Down } else { Inherit::None };
    RoleBinding::new(name, role, scope, [Subject::Principal(user(number))]).with_inherit(inherit)
}

/// The index of so many bindings, and the bytes that it takes for each beside the records.
fn index(size: usize) -> (AccessIndex, u64) {
    let Records { tenants, roles, bindings } = records(size);
    let mut index = None;
    let counted = allocation_counter::measure(|| {
        index = Some(AccessIndex::new(Revision::new(1), tenants, roles, bindings));
    });
    (index.unwrap(), u64::try_from(counted.bytes_current).unwrap_or_default() / size as u64)
}

/// The same numbers in each run, spread over `0..below`.
fn spread(at: usize, below: usize) -> usize {
    let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from((mixed >> 32) % below as u64).unwrap()
}

fn askers(size: usize, count: usize) -> Vec<TenantContext> {
    let tenants = tenants_of(size);
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
        let (index, bytes) = index(size);
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
        table.push(format!("{size:>9} memory       {bytes} bytes each, beside the records"));
        let stranger = random[0].clone().for_tenant(tenant(tenants_of(size) - 1));
        for (name, ctx) in [("explain-allow", &random[0]), ("explain-deny", &stranger)] {
            c.bench_function(&format!("{name}/{size}"), |b| b.iter(|| index.explain(ctx, &get)));
        }
        changes(c, &index, size);
    }
    println!("\n bindings case         each, over runs of {RUN}\n{}", table.join("\n"));
}

fn tenants_of(size: usize) -> usize {
    (size / 100).max(1)
}

/// One change of a policy of so many bindings.
fn changes(c: &mut Criterion, index: &AccessIndex, size: usize) {
    let tenants = tenants_of(size);
    let role = Arc::new(Role::new("role-1".parse().unwrap(), [Rule::allow()]));
    let down = Arc::new(bound(0, tenants).with_inherit(Inherit::Down));
    let anew = TenantRef::new("anew".parse().unwrap(), Generation::from_u64(1));
    let all = [
        ("role", PolicyChange::PutRole(role)),
        ("bind-down", PolicyChange::PutBinding(down)),
        ("unbind", PolicyChange::RemoveBinding(Scope::Tenant(tenant(0)), "b-0".parse().unwrap())),
        ("tenant", PolicyChange::PutTenant(anew, Some(tenant(0)))),
    ];
    for (name, change) in all {
        let mut group = c.benchmark_group("change");
        group.sample_size(10);
        group.bench_function(format!("{name}/{size}"), |b| {
            b.iter(|| index.changed(Revision::new(2), [change.clone()]));
        });
        group.finish();
    }
}

/// What a grant costs its decision: who may hand out a role to one more user of their tenant.
fn grant(c: &mut Criterion) {
    for size in [1_000, 100_000] {
        let Records { tenants, roles, mut bindings } = records(size);
        let (home, _) = tenants[1].clone();
        let (admin, name) = (user(9), |name: &str| name.parse().unwrap());
        let all = Role::new(name("all"), [Rule::allow()]);
        let subject = || [Subject::Principal(admin.clone())];
        let here = || Scope::Tenant(home.clone());
        bindings.push(Arc::new(
            RoleBinding::new(name("admin"), name("all"), here(), subject()).with_inherit(Inherit::Down),
        ));
        let put = |path: Vec<String>, value: hivemind_core::Result<_>| {
            let path = ["tenancy".to_owned()].into_iter().chain(path);
            Record::new(Key::new(path).unwrap(), value.unwrap(), Revision::new(1), Revision::new(1))
        };
        let mut kept = vec![put(vec!["roles".into(), "all".into()], encode(&all))];
        kept.extend(roles.iter().map(|one| put(vec!["roles".into(), one.name.to_string()], encode(&**one))));
        for one in &bindings {
            let Scope::Tenant(tenant) = &one.scope else { continue };
            kept.push(put(vec!["bindings".into(), tenant.to_string(), one.name.to_string()], encode(&**one)));
        }
        for (tenant, parent) in &tenants {
            let form = serde_json::json!({
                "tenant": tenant, "name": tenant.id, "isolation_level": "soft", "resource_quotas": {},
                "namespaces": [], "labels": {}, "parent": parent, "created_at": 0, "updated_at": 0,
            });
            let tenant: Tenant = serde_json::from_value(form).unwrap();
            kept.push(put(vec!["tenants".into(), tenant.tenant.id.to_string()], encode(&tenant)));
        }
        let view = Snapshot::new(Revision::new(1), kept);
        let ids = Arc::new(SeededIds::new(1));
        let manager = TenantManager::new(Arc::new(MemoryStore::new()), Arc::new(ManualClock::default()), ids);
        let ctx = TenantContext::new(home.clone(), admin.clone(), "r".parse().unwrap());
        let one = RoleBinding::new(name("new"), name("role-1"), here(), [Subject::Principal(user(1))]);
        for (case, one) in [("here", one.clone()), ("down", one.with_inherit(Inherit::Down))] {
            c.bench_function(&format!("grant-{case}/{size}"), |b| {
                b.iter(|| {
                    let mut txn = Txn::new();
                    manager.stage_bind(&view, &mut txn, &ctx, &one).unwrap();
                    txn
                });
            });
        }
    }
}

fn rebuild(c: &mut Criterion) {
    let mut group = c.benchmark_group("rebuild");
    group.sample_size(10);
    let all = records(100_000);
    group.bench_function("anew/100000", |b| {
        b.iter(|| {
            let (tenants, roles) = (all.tenants.clone(), all.roles.clone());
            AccessIndex::new(Revision::new(1), tenants, roles, all.bindings.clone())
        });
    });
    group.finish();
    let handle = AccessHandle::new(index(10).0);
    c.bench_function("current", |b| b.iter(|| handle.current()));
}

criterion::criterion_group!(benches, decisions, rebuild, grant);
criterion::criterion_main!(benches);
