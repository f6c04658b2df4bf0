//! How long policies take: to compile, to keep current, to ask; naive matching beside.
//!
//! `cargo bench -p hivemind-net --bench policy`. 1,000 workloads that all differ, 3,000 rules. In `spread` each workload
//! is selected by three of them; in `together` a tenth of them by all 3,000, as on one endpoint. The identity that comes
//! and goes is a peer of ten rules, and is selected as the others are. `explain` tells what became of every rule about
//! the receiver, `decide` which one decided.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench measures")]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use hivemind_core::labels::Labels;
use hivemind_core::{Generation, TenantRef};
use hivemind_net::addr::IpFamily;
use hivemind_net::policy::{
    AnyPolicy, Change, Direction, Endpoint, EndpointKey, Engine, Flow, NetworkPolicy, Party, PolicySpec,
    Profile, Traffic, World,
};

const WORKLOADS: usize = 1_000;
const RULES: usize = 3_000;

fn tenant() -> TenantRef {
    TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1))
}

fn endpoint(number: usize) -> Endpoint {
    let labels = Labels::new()
        .with("app", &format!("a{}", number / 10))
        .and_then(|labels| labels.with("id", &number.to_string()))
        .and_then(|labels| labels.with("tier", ["web", "db", "batch"][number % 3]))
        .unwrap();
    let profile = Profile::new(tenant(), format!("ns-{}", number % 10).parse().unwrap(), labels);
    Endpoint::new(format!("w{number}").parse().unwrap(), "n1".parse().unwrap(), profile)
        .at(format!("10.0.{}.{}", number / 250, number % 250).parse().unwrap())
        .at(format!("fd00::{number:x}").parse().unwrap())
}

/// One more in namespace 0, that selectors mean as they mean its like.
fn extra() -> Endpoint {
    let labels = Labels::new()
        .with("app", "a42")
        .and_then(|labels| labels.with("id", "extra"))
        .and_then(|labels| labels.with("tier", "web"))
        .unwrap();
    let profile = Profile::new(tenant(), "ns-0".parse().unwrap(), labels);
    Endpoint::new(format!("w{WORKLOADS}").parse().unwrap(), "n1".parse().unwrap(), profile)
        .at("10.0.200.1".parse().unwrap())
        .at("fd00::ffff".parse().unwrap())
}

#[derive(Clone, Copy)]
enum Shape {
    Spread,
    Together,
}

fn policy(shape: Shape, number: usize, port: usize) -> Change {
    let (namespace, subject) = match shape {
        Shape::Spread => (number % 10, format!(r#"{{"matchLabels":{{"app":"a{}"}}}}"#, number / 10 % 100)),
        Shape::Together => (0, "{}".to_owned()),
    };
    let from = format!(
        r#"{{"namespaceSelector":{{}},"podSelector":{{"matchLabels":{{"app":"a{}","tier":"{}"}}}}}}"#,
        number * 7 % 100,
        ["web", "db", "batch"][number % 3]
    );
    let spec =
        format!(r#"{{"podSelector":{subject},"ingress":[{{"from":[{from}],"ports":[{{"port":{port}}}]}}]}}"#);
    let spec: PolicySpec = serde_json::from_str(&spec).unwrap();
    let namespace = format!("ns-{namespace}").parse().unwrap();
    let name = format!("p{number}").parse().unwrap();
    Change::Policy(AnyPolicy::Network(NetworkPolicy::new(tenant(), namespace, name, spec)))
}

fn world(shape: Shape) -> World {
    let endpoints = (0..WORKLOADS).map(|number| Change::Endpoint(endpoint(number)));
    endpoints.chain((0..RULES).map(|number| policy(shape, number, 8000 + number % 100))).collect()
}

fn key(number: usize) -> EndpointKey {
    EndpointKey { tenant: tenant(), id: format!("w{number}").parse().unwrap() }
}

fn flow(from: usize, to: usize) -> Flow {
    let party = |number| Party::Workload(key(number));
    Flow::new(party(from), party(to), IpFamily::V6, Traffic::tcp(8042))
}

/// Every rule asked of every workload: what a straightforward compiler does.
fn naive(world: &World) -> usize {
    let mut matched = 0;
    for policy in world.policies() {
        let AnyPolicy::Network(policy) = policy else { continue };
        for rule in policy.spec().rules(Direction::Ingress).into_iter().flatten() {
            for peer in rule.peers() {
                let hivemind_net::policy::Peer::Workloads(peer) = peer else { continue };
                matched += world.endpoints().filter(|one| peer.matches(policy.home(), one.profile())).count();
            }
        }
    }
    matched
}

fn policies(c: &mut Criterion) {
    for (name, shape) in [("spread", Shape::Spread), ("together", Shape::Together)] {
        let world = world(shape);
        let mut group = c.benchmark_group(name);
        group.sample_size(20);
        group.bench_function("naive matching", |b| b.iter(|| naive(black_box(&world))));
        group.bench_function("full compile", |b| {
            // One at a time: a batch would keep all that was made, and measure how the kernel finds fresh memory for it.
            b.iter_batched(|| world.clone(), |world| black_box(Engine::new(world)), BatchSize::PerIteration);
        });
        let mut engine = Engine::new(world.clone());
        // Like workload 420, but for its own label, name and addresses.
        let extra = extra();
        group.bench_function("identity added and removed", |b| {
            b.iter(|| {
                engine.apply(Change::Endpoint(extra.clone()));
                engine.apply(Change::NoEndpoint(key(WORKLOADS)));
            });
        });
        let changes = [policy(shape, 42, 9000), policy(shape, 42, 8042)];
        let mut turn = 0;
        group.bench_function("rule changed", |b| {
            b.iter(|| {
                turn ^= 1;
                engine.apply(changes[turn].clone());
            });
        });
        let subject = engine.subject(&key(420)).unwrap();
        let peers: Vec<_> = (0..WORKLOADS)
            .map(|number| {
                let address = engine.world().endpoint(&key(number)).unwrap().address(IpFamily::V6).unwrap();
                engine.workload_peer(&tenant(), &key(number), address).unwrap()
            })
            .collect();
        let mut at = 0;
        group.bench_function("verdict", |b| {
            b.iter(|| {
                at = (at + 7) % WORKLOADS;
                engine.verdict(subject, Direction::Ingress, peers[at], Traffic::tcp(8042))
            });
        });
        let asked = flow(7, 420);
        group.bench_function("decide", |b| b.iter(|| engine.decide(black_box(&asked)).unwrap()));
        group.bench_function("explain", |b| b.iter(|| engine.explain(black_box(&asked)).unwrap()));
        group.bench_function("evaluator", |b| b.iter(|| world.reach(black_box(&asked)).unwrap()));
        group.finish();
    }
}

criterion_group!(benches, policies);
criterion_main!(benches);
