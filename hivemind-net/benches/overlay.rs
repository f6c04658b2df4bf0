//! How long the overlay takes to say what one workload makes different, among a hundred thousand.
//!
//! `cargo bench -p hivemind-net --bench overlay`. A cluster of 1,000 nodes and 100 tenants; each tenant has 1,000
//! workloads on 100 nodes, with a block of each IP version on each of them. Over VXLAN, and with direct routing, where each
//! tenant is joined with six others, so that a node has routes to all workloads of about 70 tenants.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures and tells"
)]
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use hivemind_core::{Generation, NodeId, TenantRef};
use hivemind_net::dataplane::diff;
use hivemind_net::overlay::{
    OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayWorkload, Peering, TenantNetwork,
    UnderlayFamily, Vni,
};

const NODES: usize = 1000;
const TENANTS: usize = 100;
/// Nodes of a tenant, and its workloads on each.
const SPREAD: usize = 100;
const EACH: usize = 10;

fn tenant(number: usize) -> TenantRef {
    TenantRef::new(format!("tenant-{number}").parse().unwrap(), Generation::from_u64(1))
}

fn node_id(number: usize) -> NodeId {
    format!("node-{number}").parse().unwrap()
}

/// The `index`th node of a tenant.
fn place(tenant: usize, index: usize) -> usize {
    (tenant * 7 + index * 10) % NODES
}

/// The workload `number` of a tenant on its `on`th node, with addresses of the block of its `of`th.
fn workload(of_tenant: usize, on: usize, of: usize, number: usize) -> OverlayWorkload {
    let id = format!("w-{of}-{number}").parse().unwrap();
    OverlayWorkload::new(tenant(of_tenant), id, node_id(place(of_tenant, on)))
        .with_address(format!("10.{of_tenant}.{of}.{}", number + 2).parse().unwrap())
        .with_address(format!("fd00:{of_tenant:x}::{of:x}:{:x}", number + 2).parse().unwrap())
}

fn cluster(config: OverlayConfig, peers: usize) -> OverlayNetwork {
    let mut overlay = OverlayNetwork::new(config.with_links_up_without_rules()).unwrap();
    let node = |number: usize| {
        let address = format!("2001:db8::{:x}", number + 1).parse().unwrap();
        let node = OverlayNode::new(node_id(number), 1500).with_address(address);
        OverlayChange::PutNode(node.with_uplink("eth0".parse().unwrap()))
    };
    overlay.load((0..NODES).map(node)).unwrap();
    for number in 0..TENANTS {
        let vni = Vni::new(u32::try_from(5000 + number).unwrap()).unwrap();
        let network = TenantNetwork::new(tenant(number), vni)
            .with_pool(format!("10.{number}.0.0/16").parse().unwrap())
            .with_pool(format!("fd00:{number:x}::/64").parse().unwrap());
        overlay.load([OverlayChange::PutTenant(network)]).unwrap();
        for index in 0..SPREAD {
            for prefix in [format!("10.{number}.{index}.0/24"), format!("fd00:{number:x}::{index:x}:0/112")] {
                let (tenant, node) = (tenant(number), node_id(place(number, index)));
                let prefix = prefix.parse().unwrap();
                overlay.load([OverlayChange::PutBlock { tenant, prefix, node }]).unwrap();
            }
            let workloads = (0..EACH).map(|each| workload(number, index, index, each));
            overlay.load(workloads.map(OverlayChange::PutWorkload)).unwrap();
        }
    }
    for (one, next) in (0..TENANTS).flat_map(|one| (1..=peers).map(move |next| (one, next))) {
        let peering = Peering::new(tenant(one), tenant((one + next) % TENANTS));
        overlay.load([OverlayChange::PutPeering(peering)]).unwrap();
    }
    overlay
}

fn remove(workload: &OverlayWorkload) -> OverlayChange {
    OverlayChange::RemoveWorkload { tenant: workload.tenant.clone(), workload: workload.id.clone() }
}

/// Applies, and makes the steps for every node.
fn steps(overlay: &mut OverlayNetwork, change: OverlayChange) -> usize {
    overlay.apply(change).unwrap().values().map(|change| change.ops().len()).sum()
}

fn one_workload(c: &mut Criterion) {
    beside(c, "VXLAN", OverlayConfig::vxlan(UnderlayFamily::V6, 1500), 0);
    beside(c, "direct", OverlayConfig::direct(UnderlayFamily::V6, 1500), 3);
}

fn beside(c: &mut Criterion, how: &str, config: OverlayConfig, peers: usize) {
    let begun = Instant::now();
    let mut overlay = cluster(config, peers);
    println!("{how}: {} workloads loaded in {:?}", TENANTS * SPREAD * EACH, begun.elapsed());

    let usual = workload(50, 30, 30, 100);
    c.bench_function(&format!("{how}: a workload in a block of its node: put and removed, two diffs"), |b| {
        b.iter(|| {
            let steps = steps(&mut overlay, OverlayChange::PutWorkload(usual.clone()));
            black_box(steps + self::steps(&mut overlay, remove(&usual)))
        });
    });
    let homes = [workload(50, 30, 30, 3), workload(50, 31, 30, 3)];
    c.bench_function(
        &format!("{how}: a workload moved to another node of its tenant and back: two diffs on all nodes with routes"),
        |b| {
            b.iter(|| {
                let [home, away] = homes.clone();
                let steps = steps(&mut overlay, OverlayChange::PutWorkload(away));
                black_box(steps + self::steps(&mut overlay, OverlayChange::PutWorkload(home)))
            });
        },
    );
    let mut first = workload(50, 30, 30, 100);
    first.node = node_id(place(50, 0) + 1);
    c.bench_function(
        &format!(
            "{how}: a tenant's first workload on a node: put and removed, two diffs on all nodes with routes"
        ),
        |b| {
            b.iter(|| {
                let steps = steps(&mut overlay, OverlayChange::PutWorkload(first.clone()));
                black_box(steps + self::steps(&mut overlay, remove(&first)))
            });
        },
    );
    let at = node_id(place(50, 30));
    c.bench_function(&format!("{how}, beside: one node compiled whole, and compared with itself"), |b| {
        let old = overlay.node_state(&at).unwrap().into_kernel();
        b.iter(|| black_box(diff(&old, &overlay.node_state(&at).unwrap().into_kernel())));
    });
}

criterion_group! { name = overlay; config = Criterion::default().sample_size(20); targets = one_workload }
criterion_main!(overlay);
