//! What is allocated, in proportion to what is kept.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and shows what it measured"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use allocation_counter::measure;
use hivemind_core::resources::{MilliCpu, ResourceName, Resources};
use hivemind_core::store::Revision;
use hivemind_core::{Generation, Principal, TenantRef, Verb};
use hivemind_tenancy::placement::{Ask, Packing, WorkloadRequest};
use hivemind_tenancy::quota::{QuotaNode, QuotaRule};
use hivemind_tenancy::rbac::{AccessIndex, Rule, Scope, Subject};
use hivemind_tenancy::{ClusterIndex, Node, QuotaTree, Role, RoleBinding};

fn tenant(number: usize) -> TenantRef {
    TenantRef::new(format!("tenant-{number}").parse().unwrap(), Generation::from_u64(1))
}

fn user(number: usize) -> Principal {
    Principal::User(format!("user-{number}").parse().unwrap())
}

/// Ten users to a tenant, one role for each.
fn access(bindings: usize) -> AccessIndex {
    let rule = Rule::allow().verbs([Verb::Get, Verb::List]).kind("apps".parse().unwrap());
    let reader = Arc::new(Role::new("reader".parse().unwrap(), [rule]));
    let tenants: Vec<_> = (0..bindings / 10).map(|number| (tenant(number), None)).collect();
    let bound = (0..bindings).map(|number| {
        let subject = Subject::Principal(user(number));
        let scope = Scope::Tenant(tenant(number / 10));
        RoleBinding::new(format!("b-{number}").parse().unwrap(), "reader".parse().unwrap(), scope, [subject])
    });
    AccessIndex::new(Revision::new(1), tenants, [reader], bound.collect::<Vec<_>>())
}

fn quotas(tenants: usize) -> (QuotaTree, Vec<QuotaNode>) {
    let names = ["gpu", "containers", "services"].map(|name| name.parse::<ResourceName>().unwrap());
    let resources = [ResourceName::Cpu, ResourceName::Memory, ResourceName::Storage].into_iter().chain(names);
    let resources: Vec<_> = resources.collect();
    let limits: BTreeMap<_, _> =
        resources.iter().map(|name| (name.clone(), QuotaRule::default().with_max(1_000))).collect();
    let (tree, root) = QuotaTree::new(resources, "root".parse().unwrap(), &BTreeMap::new()).unwrap();
    let leaf = |number: usize| tree.add(format!("t-{number}").parse().unwrap(), root, &limits).unwrap();
    let leaves = (0..tenants).map(leaf).collect();
    (tree, leaves)
}

fn cluster(nodes: usize) -> ClusterIndex {
    let mut index = ClusterIndex::new(Packing::Spread, 1);
    let size = |cores| Resources::new().with_cpu(MilliCpu::from_cores(cores));
    for number in 0..nodes {
        index.add_node(Node::new(format!("node-{number}").parse().unwrap(), size(16))).unwrap();
    }
    for number in 0..nodes * 10 {
        let workload = WorkloadRequest::new(format!("w-{number}").parse().unwrap(), size(1));
        index.place(Ask::new(&tenant(number % 100), &workload)).unwrap();
    }
    index
}

/// Bytes that are kept after `build`, for each of `count`.
fn bytes_each<T>(count: usize, build: impl FnOnce(usize) -> T) -> u64 {
    let mut kept = None;
    let info = measure(|| kept = Some(build(count)));
    u64::try_from(info.bytes_current).unwrap() / u64::try_from(count).unwrap()
}

/// Of ten times as many, each takes at most twice as much: tables that double are half empty at worst.
fn is_linear<T>(what: &str, few: usize, build: impl Fn(usize) -> T) {
    let (one, ten) = (bytes_each(few, &build), bytes_each(few * 10, &build));
    println!("{what}: {one} bytes each for {few}, {ten} for {}", few * 10);
    assert!(ten * 4 <= one * 8, "{what}: {one} bytes each for {few}, {ten} for ten times as many");
}

#[test]
fn reserving_and_releasing_allocates_nothing_once_there_is_room() {
    let (tree, leaves) = quotas(10);
    let one = tree.amounts(&Resources::new().with_cpu(MilliCpu::from_millis(1))).unwrap();
    let leaf = leaves.first().copied().unwrap();
    let once = || tree.release(tree.reserve(leaf, &one, None).unwrap().commit().unwrap()).is_ok();
    once();
    let mut released = false;
    let info = measure(|| released = once());
    assert!(released);
    assert_eq!(info.count_total, 0);
}

#[test]
fn memory_grows_with_what_is_kept() {
    is_linear("bindings", 2_000, access);
    is_linear("tenants with quotas", 2_000, quotas);
    is_linear("nodes with ten workloads each", 200, cluster);
}
