//! The speed of address management.
//!
//! `cargo bench -p hivemind-net --bench ipam` prints nanoseconds a call, at several fills, beside a replica of the
//! bitmap with which Kubernetes allocates node subnets; then what a store takes.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench measures and tells"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hivemind_core::store::{Prefix, Txn};
use hivemind_core::{
    Generation, ManualClock, MemoryStore, Mirror, MirrorFeed, NodeId, Principal, RequestId, StateStore,
    TenantContext, TenantRef, Timestamp, WorkloadId, block_on,
};
use hivemind_net::addr::IpFamily;
use hivemind_net::ipam::{Allocator, Ask, FreeBits, FreePrefixes, FreeRanges, Layout, Profile, Strategy};
use hivemind_net::{IpamManager, NetworkConfig};

const MILLION: usize = 1_000_000;

fn owner(n: usize) -> WorkloadId {
    format!("workload-{n}").parse().unwrap()
}

fn request() -> RequestId {
    "request".parse().unwrap()
}

fn layout(net: &str) -> Layout {
    Layout::new().with_subnet(net.parse().unwrap(), Profile::Routed, false)
}

/// Nanoseconds a call: the best of many short rounds, as others use the machine too.
fn each(calls: usize, mut round: impl FnMut()) -> f64 {
    let took = (0..40).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed()
    });
    took.min().unwrap().as_secs_f64() * 1e9 / calls as f64
}

/// The time this thread has had a processor: for what is too long to fit between the turns of others.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn tell(what: &str, nanos: f64) {
    println!("{what:<76} {nanos:>10.1} ns");
}

/// Allocates and gives back some owners in turn, while all others stay.
fn pair(ipam: &mut Allocator, now: Timestamp) -> f64 {
    let asks: Vec<_> = (0..500).map(|n| Ask::new(owner(10_000_000 + n), request())).collect();
    let mut allocate = Duration::MAX;
    let both = each(asks.len(), || {
        let start = Instant::now();
        for ask in &asks {
            black_box(ipam.allocate(ask, now).unwrap());
        }
        allocate = allocate.min(start.elapsed());
        for ask in &asks {
            assert!(ipam.release(&ask.owner, &ask.request, now));
        }
    });
    tell("    and released", both);
    allocate.as_secs_f64() * 1e9 / asks.len() as f64
}

fn allocator() {
    println!("one dual-stack allocation with its owner index, in memory");
    let now = Timestamp::from_secs(1);
    // The /12 and a bit more: nearly full at a million.
    for (v4, v6, held, every) in [
        ("10.0.0.0/8", "fd00::/64", 0, 1),
        ("10.0.0.0/8", "fd00::/64", 10_000, 1),
        ("10.0.0.0/8", "fd00::/64", MILLION, 1),
        ("10.0.0.0/8", "::/0", MILLION, 2),
        ("10.0.0.0/12", "fd00::/108", 1_047_000, 1),
    ] {
        for strategy in
            [Strategy::Lowest, Strategy::Next, Strategy::Random { seed: 1 }, Strategy::Hashed { seed: 1 }]
        {
            let mut ipam = Allocator::new(Some(layout(v4)), Some(layout(v6))).with_strategy(strategy);
            for n in 0..held {
                ipam.allocate(&Ask::new(owner(n), request()), now).unwrap();
            }
            if every == 2 {
                for n in (0..held).step_by(2) {
                    ipam.release(&owner(n), &request(), now);
                }
            }
            let nanos = pair(&mut ipam, now);
            let holes = if every == 2 { ", every other one free" } else { "" };
            tell(&format!("  {v4} {v6}, {held} held{holes}, {strategy:?}"), nanos);
        }
    }
}

fn quarantine_and_restore() {
    let layouts = || (Some(layout("10.0.0.0/8")), Some(layout("fd00::/64")));
    let (v4, v6) = layouts();
    let mut ipam = Allocator::new(v4, v6).with_cooldown(Duration::from_secs(30));
    let asks: Vec<_> = (0..MILLION).map(|n| Ask::new(owner(n), request())).collect();
    let now = Timestamp::from_secs(1);
    let at = |ipam: &mut Allocator, now: Timestamp, what: &str| {
        let start = cpu();
        for ask in &asks {
            black_box(ipam.allocate(ask, now).unwrap());
        }
        tell(what, (cpu() - start).as_secs_f64() * 1e9 / MILLION as f64);
    };
    at(&mut ipam, now, "a million allocated, each");
    let state = ipam.state();
    let (v4, v6) = layouts();
    let start = cpu();
    black_box(Allocator::restore(v4, v6, state));
    println!("a million dual-stack leases restored: {:?}", (cpu() - start));
    let start = cpu();
    asks.iter().enumerate().for_each(|(n, ask)| {
        ipam.release(&ask.owner, &ask.request, now.after(Duration::from_nanos(n as u64 * 7919 % 1_000_003)));
    });
    tell(
        "two million addresses put to rest, each pair",
        (cpu() - start).as_secs_f64() * 1e9 / MILLION as f64,
    );
    at(
        &mut ipam,
        now.after(Duration::from_secs(31)),
        "a million allocated while two million cease to rest, each",
    );
}

/// What Kubernetes' NodeIPAM does (pkg/controller/nodeipam/ipam/cidrset): a bitmap and a cursor, probed one by one.
struct CidrSet {
    used: Vec<u64>,
    next: usize,
    most: usize,
}

impl CidrSet {
    fn allocate(&mut self) -> Option<usize> {
        for offset in 0..self.most {
            let at = (self.next + offset) % self.most;
            if self.used[at / 64] >> (at % 64) & 1 == 0 {
                self.used[at / 64] |= 1 << (at % 64);
                self.next = (at + 1) % self.most;
                return Some(at);
            }
        }
        None
    }

    fn release(&mut self, at: usize) {
        self.used[at / 64] &= !(1 << (at % 64));
    }
}

fn bare() {
    println!("bare free space");
    let mut set = CidrSet { used: vec![0; 1024], next: 0, most: 65_536 };
    for _ in 0..65_535 {
        set.allocate();
    }
    // The only free one is the one given back: just behind the cursor.
    let nearly = each(20, || {
        for _ in 0..20 {
            let at = black_box(set.allocate().unwrap());
            set.release(at);
        }
    });
    tell("  Kubernetes' bitmap (replica), 65,535 of 65,536 taken", nearly);
    let mut free = FreePrefixes::new(IpFamily::V4);
    free.put("10.0.0.0/8".parse().unwrap());
    for _ in 0..65_535 {
        free.take(24);
    }
    let ours = each(1_000, || {
        for _ in 0..1_000 {
            let cidr = black_box(free.take(24).unwrap());
            free.put(cidr);
        }
    });
    tell("  free networks, the same, taken and put back", ours);
    for nodes in [1usize, 1_000, 100_000] {
        let mut free = FreePrefixes::new(IpFamily::V6);
        free.put("fd00::/32".parse().unwrap());
        for _ in 0..nodes {
            free.take(64);
        }
        let nanos = each(1_000, || {
            for _ in 0..1_000 {
                let cidr = black_box(free.take(64).unwrap());
                free.put(cidr);
            }
        });
        tell(&format!("  free networks, {nodes} nodes, taken and put back"), nanos);
    }
    let mut free = FreeRanges::from_range(0, u128::MAX);
    let lowest = each(2_000, || {
        for _ in 0..2_000 {
            black_box(free.take_from(0));
        }
    });
    tell("  free ranges, lowest of one range", lowest);
    let mut free: FreeRanges = (0..500_000u128).map(|n| (n * 4, n * 4 + 1)).collect::<Vec<_>>().into();
    let take = each(2_000, || {
        for n in 0..2_000u128 {
            let at = n * 7919 % 2_000_000;
            let number = black_box(free.take_from(at)).unwrap();
            free.put(number);
        }
    });
    tell("  free ranges, 500,000 of them, taken anywhere and put back", take);
    let mut bits = FreeBits::new(&free);
    let take = each(2_000, || {
        for n in 0..2_000u128 {
            let at = n * 7919 % 2_000_000;
            let number = black_box(bits.take_from(at)).unwrap();
            bits.put(number);
        }
    });
    tell("  free bits, the same", take);
}

fn ctx() -> TenantContext {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    TenantContext::new(tenant, Principal::System("bench".parse().unwrap()), request())
}

struct World {
    store: Arc<dyn StateStore>,
    mirror: Mirror,
    feed: MirrorFeed,
    ipam: IpamManager,
}

impl World {
    fn new(v4: &str) -> Self {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let ipam = IpamManager::new(Arc::clone(&store), Arc::new(ManualClock::default()));
        let config = NetworkConfig::dual_stack(v4.parse().unwrap(), "fd00::/32".parse().unwrap()).unwrap();
        block_on(ipam.create_pool(&ctx(), config)).unwrap();
        let (mirror, feed) = block_on(Mirror::open(Arc::clone(&store), Prefix::ROOT)).unwrap();
        Self { store, mirror, feed, ipam }
    }

    /// Decides, commits, and waits until the mirror shows it; the time of the decision alone.
    fn commit(&mut self, decide: impl FnOnce(&Self, &hivemind_core::store::Snapshot, &mut Txn)) -> Duration {
        let mut txn = Txn::new();
        let start = Instant::now();
        decide(self, &self.mirror.view(), &mut txn);
        let decided = start.elapsed();
        let revision = block_on(self.store.commit(&txn)).unwrap();
        block_on(self.feed.catch_up(revision)).unwrap();
        decided
    }
}

fn node(n: usize) -> NodeId {
    format!("node-{n}").parse().unwrap()
}

fn committed() {
    println!("through the memory store, decided, committed and mirrored");
    let total = 120_000;
    for batch in [1usize, 10, 60, 110] {
        let mut world = World::new("10.0.0.0/8");
        let (calls, own) = (total / batch.max(4), ctx());
        // A node has its subnets before the first workload comes.
        let pool = "default".parse().unwrap();
        for number in 0..calls.min(1000) {
            world.commit(|this, view, txn| {
                this.ipam.stage_node_subnets(view, txn, &own, (&pool, &node(number))).unwrap();
            });
        }
        let wanted: Vec<Vec<_>> = (0..calls)
            .map(|call| (0..batch).map(|n| (owner(call * batch + n), node(call % 1000))).collect())
            .collect();
        let (mut decided, start) = (Duration::ZERO, cpu());
        for wanted in &wanted {
            decided += world.commit(|this, view, txn| {
                this.ipam.stage_assign(view, txn, &own, wanted).unwrap();
            });
        }
        let (took, leases) = (cpu() - start, calls * batch);
        let rate = |took: Duration| leases as f64 / took.as_secs_f64();
        println!(
            "  {batch} workloads a transaction, 1,000 nodes: {:.0} leases/s ({:.0} addresses/s); decisions alone {:.0}/s",
            rate(took),
            2.0 * rate(took),
            rate(decided)
        );
    }
}

fn node_subnets() {
    println!("a node's first subnets, decided, through the manager");
    let mut world = World::new("10.0.0.0/8");
    let (pool, own) = ("default".parse().unwrap(), ctx());
    let mut nodes = 0;
    for total in [1usize, 100, 10_000, 100_000] {
        let mut last = Vec::new();
        while nodes < total {
            let decided = world.commit(|this, view, txn| {
                this.ipam.stage_node_subnets(view, txn, &own, (&pool, &node(nodes))).unwrap();
            });
            nodes += 1;
            last.push(decided);
        }
        let tail = &last[last.len().saturating_sub(500)..];
        let mut sorted = tail.to_vec();
        sorted.sort_unstable();
        println!("  at {total} nodes: {:?} (median of the last {})", sorted[sorted.len() / 2], sorted.len());
    }
}

fn main() {
    let parts: [(&str, fn()); 5] = [
        ("bare", bare),
        ("allocator", allocator),
        ("restore", quarantine_and_restore),
        ("committed", committed),
        ("subnets", node_subnets),
    ];
    // `cargo bench --bench ipam -- committed` runs one of them.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, run) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            run();
        }
    }
}
