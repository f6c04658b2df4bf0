//! The speed of placement in a cluster of 5,000 nodes, by what workloads ask for.
//!
//! `cargo bench -p hivemind-tenancy --bench placement` prints criterion's figures, then a table of rates: one core, no
//! store, each workload placed by the index and the oldest one taken away, so that 50,000 run all the time. With quota,
//! each is first reserved in a `QuotaTree` of four levels, and given back when it goes. Beside it the engine that looks
//! at every node, and the price of tenant exclusion in rounds that take turns.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench measures and tells"
)]
#![allow(missing_docs, reason = "criterion's macros")]

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use hivemind_core::labels::Labels;
use hivemind_core::resources::{ByteSize, MilliCpu, ResourceName, Resources};
use hivemind_core::{Generation, TenantRef};
use hivemind_tenancy::placement::{
    AffinityTerm, Ask, NodeAffinity, NodeAllocations, Packing, Reach, Taint, TaintEffect, Tolerated,
    Toleration, Topology, TopologySpread, WorkloadAffinity, WorkloadRequest,
};
use hivemind_tenancy::quota::{Charge, QuotaNode, QuotaRule};
use hivemind_tenancy::{ClusterIndex, Node, PlacementRequest, QuotaTree, place};

const NODES: usize = 5_000;
const RUNNING: usize = 50_000;

/// The best rate of the run by name.
static RATES: Mutex<BTreeMap<String, f64>> = Mutex::new(BTreeMap::new());

/// How long this thread has been on a processor: what others do on a shared machine is not in it. Where the kernel
/// does not tell, the time that has passed.
fn on_cpu() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Keeps the rate by processor time; returns the time that has passed.
fn note(name: &str, busy: Option<Duration>, started: Instant, count: u64) -> Duration {
    let elapsed = started.elapsed();
    let spent = busy.zip(on_cpu()).map(|(before, after)| after.saturating_sub(before));
    let spent = spent.filter(|spent| !spent.is_zero()).unwrap_or(elapsed);
    // A few rounds say little, as the kernel counts by its ticks.
    if elapsed > Duration::from_millis(20) {
        let mut all = RATES.lock().unwrap();
        let best = all.entry(name.to_owned()).or_default();
        *best = best.max(count as f64 / spent.as_secs_f64());
    }
    elapsed
}

fn size(cpu: u64, mib: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_millis(cpu)).with_memory(ByteSize::from_mib(mib))
}

/// In ten zones; half of them with fast disks, one in five tainted; of two sizes.
fn nodes() -> Vec<Node> {
    let node = |n: usize| {
        let labels = Labels::new()
            .with("zone", &format!("z{}", n % 10))
            .and_then(|labels| labels.with("disk", if n % 4 < 2 { "ssd" } else { "hdd" }))
            .unwrap();
        let capacity = if n.is_multiple_of(3) { size(64_000, 256 << 10) } else { size(32_000, 128 << 10) };
        let mut node = Node::new(format!("node-{n}").parse().unwrap(), capacity).with_labels(labels);
        if n.is_multiple_of(5) {
            let effect =
                if n.is_multiple_of(2) { TaintEffect::NoSchedule } else { TaintEffect::PreferNoSchedule };
            node.taints.push(Taint::new("pool".parse().unwrap(), "batch".parse().unwrap(), effect));
        }
        node
    };
    (0..NODES).map(node).collect()
}

fn tenants() -> Vec<TenantRef> {
    (0..100).map(|n| TenantRef::new(format!("t{n}").parse().unwrap(), Generation::from_u64(1))).collect()
}

fn zone() -> Topology {
    Topology::Label("zone".parse().unwrap())
}

/// What is asked for, and by which tenants.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    packing: Packing,
    /// Of a hundred tenants, so many have their nodes to themselves.
    isolated: usize,
    /// Whether each is reserved in a quota tree first.
    quota: bool,
    ask: fn(usize, WorkloadRequest) -> WorkloadRequest,
}

fn plain(_: usize, workload: WorkloadRequest) -> WorkloadRequest {
    workload
}

fn labelled(n: usize, workload: WorkloadRequest) -> WorkloadRequest {
    let zones = ["z0,z1,z2", "z3,z4,z5", "z6,z7", "z8,z9"][n % 4];
    let affinity = NodeAffinity::default().require(format!("zone in ({zones}),disk=ssd").parse().unwrap());
    let workload = workload.with_node_affinity(affinity);
    if n.is_multiple_of(3) {
        return workload.tolerating(Toleration::new(Tolerated::Exists("pool".parse().unwrap())));
    }
    workload
}

/// Services of ten: no two on a node, evenly over zones.
fn apart(n: usize, workload: WorkloadRequest) -> WorkloadRequest {
    let app = format!("app-{}", n / 100 % (RUNNING / 1000));
    let mut affinity = WorkloadAffinity::default();
    let own = || format!("app={app}").parse().unwrap();
    affinity.anti_required.push(AffinityTerm::new(own(), Topology::Node));
    let spread = TopologySpread::new(zone(), own()).with_max_skew(NonZeroU32::new(2).unwrap());
    workload.with_labels(Labels::new().with("app", &app).unwrap()).with_affinity(affinity).with_spread(spread)
}

const fn case(name: &'static str, ask: fn(usize, WorkloadRequest) -> WorkloadRequest) -> Case {
    Case { name, packing: Packing::Spread, isolated: 0, quota: false, ask }
}

const CASES: [Case; 9] = [
    case("resources only, spread", plain),
    Case { packing: Packing::BinPack, ..case("resources only, bin-pack", plain) },
    Case { isolated: 20, ..case("tenant exclusion, spread", plain) },
    Case { packing: Packing::BinPack, isolated: 20, ..case("tenant exclusion, bin-pack", plain) },
    case("node affinity + taints", labelled),
    case("required anti-affinity + topology spread", apart),
    Case { quota: true, ..case("with quota: resources only, spread", plain) },
    Case { quota: true, ..case("with quota: node affinity + taints", labelled) },
    Case { quota: true, ..case("with quota: anti-affinity + topology spread", apart) },
];

/// Limits of a hundred tenants, by teams, regions and a root.
struct Quota {
    tree: QuotaTree,
    tenants: Vec<QuotaNode>,
    charges: VecDeque<Charge>,
}

impl Quota {
    fn new() -> Self {
        let counted = [ResourceName::Cpu, ResourceName::Memory];
        let rules: BTreeMap<_, _> =
            counted.iter().map(|name| (name.clone(), QuotaRule::default().with_max(1 << 50))).collect();
        let name = |text: &str| text.parse().unwrap();
        let (tree, root) = QuotaTree::new(counted.to_vec(), name("root"), &rules).unwrap();
        let add = |above, text| tree.add(name(text), above, &rules).unwrap();
        let region = add(root, "region");
        let teams: Vec<_> = (0..10).map(|_| add(region, "team")).collect();
        let tenants = (0..100).map(|n| add(teams[n % 10], "tenant")).collect();
        Self { tree, tenants, charges: VecDeque::new() }
    }

    fn reserve(&mut self, tenant: usize, asked: &Resources) {
        let asked = self.tree.amounts(asked).unwrap();
        let hold = self.tree.reserve(self.tenants[tenant], &asked, None).unwrap();
        self.charges.push_back(hold.commit().unwrap());
    }

    fn give_back(&mut self) {
        let _ = self.tree.release(self.charges.pop_front().unwrap());
    }
}

/// A cluster at work: what comes next, and what goes.
struct Load {
    index: ClusterIndex,
    tenants: Vec<TenantRef>,
    requests: Vec<(usize, WorkloadRequest)>,
    running: VecDeque<usize>,
    next: usize,
    case: Case,
    quota: Option<Quota>,
}

impl Load {
    /// Filled with 50,000 workloads.
    fn new(case: Case) -> Self {
        let mut index = ClusterIndex::new(case.packing, 7);
        nodes().into_iter().for_each(|node| index.add_node(node).unwrap());
        // Twice as many names as run, so that a name is free again when its turn comes.
        let request = |n: usize| {
            let resources = size(500 + 250 * (n as u64 % 7), 1024 + 512 * (n as u64 % 5));
            (n % 100, (case.ask)(n, WorkloadRequest::new(format!("w{n}").parse().unwrap(), resources)))
        };
        let requests = (0..2 * RUNNING).map(request).collect();
        let (running, quota) = (VecDeque::new(), case.quota.then(Quota::new));
        let mut load = Self { index, tenants: tenants(), requests, running, next: 0, case, quota };
        (0..RUNNING).for_each(|_| load.place());
        load
    }

    fn place(&mut self) {
        let (tenant, workload) = &self.requests[self.next];
        if let Some(quota) = &mut self.quota {
            quota.reserve(*tenant, &workload.resources);
        }
        let mut ask = Ask::new(&self.tenants[*tenant], workload);
        ask.isolated = *tenant < self.case.isolated;
        black_box(self.index.place(ask).unwrap());
        self.running.push_back(self.next);
        self.next = (self.next + 1) % self.requests.len();
    }

    fn step(&mut self) {
        let oldest = self.running.pop_front().unwrap();
        let (tenant, workload) = &self.requests[oldest];
        self.index.unassign(&self.tenants[*tenant], &workload.id).unwrap();
        self.quota.iter_mut().for_each(Quota::give_back);
        self.place();
    }

    /// How long so many steps take, in nanoseconds each.
    fn time(&mut self, steps: u32) -> f64 {
        let (started, busy) = (Instant::now(), on_cpu());
        (0..steps).for_each(|_| self.step());
        let spent = busy.zip(on_cpu()).map(|(before, after)| after.saturating_sub(before));
        let spent = spent.filter(|spent| !spent.is_zero()).unwrap_or_else(|| started.elapsed());
        spent.as_secs_f64() * 1e9 / f64::from(steps)
    }
}

fn by_index(c: &mut Criterion) {
    let mut group = c.benchmark_group("place one, take one away");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(1));
    for case in CASES {
        let mut load = None;
        group.bench_function(case.name, |b| {
            // Not made for a case that the filter leaves out.
            let load = load.get_or_insert_with(|| Load::new(case));
            b.iter_custom(|iterations| {
                let (started, busy) = (Instant::now(), on_cpu());
                (0..iterations).for_each(|_| load.step());
                note(case.name, busy, started, iterations)
            });
        });
    }
    group.finish();
}

/// Tenant exclusion beside resources only, in turns, so that both have the same neighbours on the machine.
fn exclusion_in_turns() {
    const ROUNDS: usize = 25;
    let (mut plain, mut excluding) = (Load::new(CASES[0]), Load::new(CASES[2]));
    let round = |turn: usize| {
        if turn.is_multiple_of(2) {
            let first = plain.time(20_000);
            return (first, excluding.time(20_000));
        }
        let second = excluding.time(20_000);
        (plain.time(20_000), second)
    };
    let mut ratios: Vec<f64> = (0..ROUNDS).map(round).map(|(plain, excluding)| excluding / plain).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |part: usize| ratios[(ROUNDS - 1) * part / 4];
    println!(
        "\ntenant exclusion, time beside resources only, {ROUNDS} rounds in turns: {:.2} (quartiles {:.2} to {:.2}, all {:.2} to {:.2})",
        at(2),
        at(1),
        at(3),
        at(0),
        at(4)
    );
}

fn by_looking_at_everything(c: &mut Criterion) {
    let nodes = nodes();
    let nothing = NodeAllocations::default();
    let pairs: Vec<_> = nodes.iter().map(|node| (node, &nothing)).collect();
    let tenant = tenants().remove(0);
    let mut group = c.benchmark_group("place one, looking at every node");
    group.sample_size(10).measurement_time(Duration::from_secs(1)).throughput(Throughput::Elements(1));
    for case in [CASES[0], CASES[4]] {
        let batch = [(case.ask)(1, WorkloadRequest::new("w".parse().unwrap(), size(500, 1024)))];
        let request = PlacementRequest::new(&tenant, false, &batch);
        group.bench_function(case.name, |b| {
            b.iter_custom(|iterations| {
                let (started, busy) = (Instant::now(), on_cpu());
                for _ in 0..iterations {
                    black_box(place(&request, &pairs).unwrap());
                }
                note(&format!("every node: {}", case.name), busy, started, iterations)
            });
        });
    }
    group.finish();
}

/// A full cluster: 5,000 nodes with ten workloads each, of four priorities.
fn preemption(c: &mut Criterion) {
    let mut index = ClusterIndex::new(Packing::Spread, 7);
    let tenants = tenants();
    for n in 0..NODES {
        index.add_node(Node::new(format!("node-{n}").parse().unwrap(), size(10_000, 40_960))).unwrap();
    }
    for n in 0..RUNNING {
        let workload = WorkloadRequest::new(format!("w{n}").parse().unwrap(), size(1000, 4096))
            .with_priority(i32::try_from(n % 4).unwrap());
        index.place(Ask::new(&tenants[n % 100], &workload)).unwrap();
    }
    let mut group = c.benchmark_group("preempt");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for (name, cores) in [("preemption, one victim", 1), ("preemption, five victims", 5)] {
        let workload =
            WorkloadRequest::new("vip".parse().unwrap(), size(1000 * cores, 4096 * cores)).with_priority(9);
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let (started, busy) = (Instant::now(), on_cpu());
                for _ in 0..iterations {
                    let decided = index.preempt(Ask::new(&tenants[0], &workload), Reach::AllTenants, &[]);
                    assert!(!black_box(decided.unwrap()).victims.is_empty());
                }
                note(name, busy, started, iterations)
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    by_index(&mut criterion);
    preemption(&mut criterion);
    by_looking_at_everything(&mut criterion);
    exclusion_in_turns();
    criterion.final_summary();
    println!("\n{:<56}{:>12}{:>14}", "best of the run, 5,000 nodes, one core", "per second", "microseconds");
    for (name, rate) in RATES.lock().unwrap().iter() {
        println!("{name:<56}{rate:>12.0}{:>14.2}", 1e6 / rate);
    }
}
