//! Tenants that become isolated while they run beside others, and nodes that change under them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::common;

use common::{World, admin, ctx};
use hivemind_core::labels::Labels;
use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::store::Txn;
use hivemind_core::{ErrorKind, NodeId, Result, StateStore, TenantContext, block_on};
use hivemind_tenancy::isolation::DEDICATED_KEY;
use hivemind_tenancy::placement::{
    Ask, ClusterIndex, Node, NodeState, Packing, Rejection, StaleNode, Tolerated, Toleration, WorkloadRequest,
};
use hivemind_tenancy::{IsolationLevel, Tenant, TenantSpec, TenantUpdate};

fn cores(n: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(n))
}

fn node(world: &World, name: &str) {
    let node = Node::new(name.parse().unwrap(), cores(8));
    block_on(world.tenants.add_node(&admin(&format!("add-{name}")), node)).unwrap();
}

fn tenant(world: &World, name: &str, level: IsolationLevel) -> Tenant {
    world.tenant(TenantSpec::new(name.parse().unwrap()).with_isolation(level))
}

fn of(tenant: &Tenant) -> TenantContext {
    ctx(&tenant.tenant, "r")
}

fn workload(name: &str) -> WorkloadRequest {
    WorkloadRequest::new(name.parse().unwrap(), cores(1))
}

/// Puts it there, or tells what the node is.
fn put(world: &World, who: &TenantContext, at: &str, asks: WorkloadRequest) -> Result<(), Rejection> {
    let decided = [(asks, at.parse::<NodeId>().unwrap())];
    let done = world.commit(|view, txn| world.tenants.stage_assign(view, txn, who, &decided));
    done.map(drop).map_err(|e| e.detail::<StaleNode>().unwrap_or_else(|| panic!("{e}")).reason)
}

fn level(world: &World, tenant: &Tenant, level: IsolationLevel, request: &str) {
    let update = TenantUpdate::isolation(level);
    block_on(world.tenants.update(&admin(request), &tenant.tenant.id, update)).unwrap();
}

#[test]
fn nobody_new_comes_beside_a_tenant_whose_level_was_raised() {
    let world = World::new();
    node(&world, "n1");
    let (acme, other) =
        (tenant(&world, "acme", IsolationLevel::Soft), tenant(&world, "other", IsolationLevel::Soft));
    put(&world, &of(&acme), "n1", workload("a")).unwrap();
    put(&world, &of(&other), "n1", workload("b")).unwrap();
    level(&world, &acme, IsolationLevel::Hard, "up");
    assert_eq!(put(&world, &of(&other), "n1", workload("c")), Err(Rejection::Dedicated));
    assert_eq!(put(&world, &of(&acme), "n1", workload("d")), Err(Rejection::Shared));
    let asks = [workload("c")];
    let placed = world.commit(|view, txn| world.tenants.stage_place(view, txn, &of(&other), &asks));
    assert_eq!(placed.unwrap_err().kind(), ErrorKind::Exhausted);
    // Lowered again, the node is everybody's, at once.
    level(&world, &acme, IsolationLevel::Soft, "down");
    put(&world, &of(&other), "n1", workload("c")).unwrap();
}

#[test]
fn nobody_new_comes_beside_a_tenant_that_moved_below_an_isolated_one() {
    let world = World::new();
    node(&world, "n1");
    let (bank, acme) =
        (tenant(&world, "bank", IsolationLevel::Hard), tenant(&world, "acme", IsolationLevel::Soft));
    let other = tenant(&world, "other", IsolationLevel::Soft);
    // Its level, and that of a part of it, are as high as the new parent asks for; only whose nodes they are is not.
    put(&world, &of(&acme), "n1", workload("a")).unwrap();
    let moved = block_on(world.tenants.reparent(&admin("m"), &acme.tenant.id, Some(&bank.tenant)));
    if moved.is_err() {
        // A ceiling keeps a lower level out: raised first, it moves.
        level(&world, &acme, IsolationLevel::Hard, "up");
        block_on(world.tenants.reparent(&admin("m2"), &acme.tenant.id, Some(&bank.tenant))).unwrap();
    }
    assert_eq!(put(&world, &of(&other), "n1", workload("b")), Err(Rejection::Dedicated));
    assert_eq!(put(&world, &of(&bank), "n1", workload("b")), Err(Rejection::Dedicated), "a part has its own");
    put(&world, &of(&acme), "n1", workload("c")).unwrap();
}

/// The level of one who runs there is not written by the placement of another, and yet they meet.
#[test]
fn a_level_that_is_raised_beside_a_placement_is_seen_by_one_of_them() {
    for known in [false, true] {
        let world = World::new();
        node(&world, "n1");
        let (acme, other) =
            (tenant(&world, "acme", IsolationLevel::Soft), tenant(&world, "other", IsolationLevel::Soft));
        if known {
            level(&world, &other, IsolationLevel::Hard, "before");
            level(&world, &other, IsolationLevel::Soft, "back");
        }
        put(&world, &of(&acme), "n1", workload("a")).unwrap();
        let (view, mut txn) = (world.view(), Txn::new());
        world.tenants.stage_place(&view, &mut txn, &of(&other), &[workload("b")]).unwrap();
        level(&world, &acme, IsolationLevel::Hard, "up");
        assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict, "{known}");
    }
}

#[test]
fn an_isolated_tenant_keeps_its_node_whatever_becomes_of_labels_and_states() {
    let world = World::new();
    node(&world, "n1");
    let (hard, soft) =
        (tenant(&world, "hard", IsolationLevel::Hard), tenant(&world, "soft", IsolationLevel::Soft));
    put(&world, &of(&hard), "n1", workload("a")).unwrap();
    let id: NodeId = "n1".parse().unwrap();
    for state in [NodeState::Cordoned, NodeState::Failed, NodeState::Ready] {
        block_on(world.tenants.set_node_state(&admin(&format!("{state:?}").to_lowercase()), &id, state))
            .unwrap();
    }
    let relabel = |labels: &Labels| {
        world
            .commit(|view, txn| world.tenants.stage_relabel_node(view, txn, &admin("l"), &id, labels))
            .unwrap();
    };
    // Marked as another's, it is of no use to anybody: not to its owner, who is not there any more by the mark.
    relabel(&Labels::new().with(DEDICATED_KEY, &format!("t-{}", soft.tenant.generation)).unwrap());
    assert_eq!(put(&world, &of(&soft), "n1", workload("b")), Err(Rejection::Dedicated));
    assert_eq!(put(&world, &of(&hard), "n1", workload("b")), Err(Rejection::Dedicated));
    relabel(&Labels::new());
    assert_eq!(put(&world, &of(&soft), "n1", workload("b")), Err(Rejection::Dedicated));
    put(&world, &of(&hard), "n1", workload("b")).unwrap();
}

#[test]
fn no_toleration_opens_a_node_that_is_marked_for_another() {
    let world = World::new();
    node(&world, "n1");
    let (hard, soft) =
        (tenant(&world, "hard", IsolationLevel::Hard), tenant(&world, "soft", IsolationLevel::Soft));
    let mark = Labels::new().with(DEDICATED_KEY, &format!("t-{}", hard.tenant.generation)).unwrap();
    let id: NodeId = "n1".parse().unwrap();
    world.commit(|view, txn| world.tenants.stage_relabel_node(view, txn, &admin("l"), &id, &mark)).unwrap();
    let anything = |name| workload(name).tolerating(Toleration::new(Tolerated::Everything));
    assert_eq!(put(&world, &of(&soft), "n1", anything("b")), Err(Rejection::Dedicated));
    put(&world, &of(&hard), "n1", anything("a")).unwrap();
}

#[test]
fn an_index_that_is_told_agrees_with_the_store() {
    let world = World::new();
    node(&world, "n1");
    node(&world, "n2");
    let (acme, other) =
        (tenant(&world, "acme", IsolationLevel::Soft), tenant(&world, "other", IsolationLevel::Soft));
    put(&world, &of(&acme), "n1", workload("a")).unwrap();
    let all = world.tenants.nodes(&world.view(), &Txn::new()).unwrap();
    let pairs: Vec<_> = all.iter().map(|(node, running)| (&*node.value, &*running.value)).collect();
    let mut index = ClusterIndex::of(Packing::BinPack, 1, &pairs).unwrap();
    let asks = workload("b");
    let ask = Ask::new(&other.tenant, &asks).packing(Packing::BinPack);
    assert_eq!(index.find(ask).unwrap().as_str(), "n1");
    level(&world, &acme, IsolationLevel::Hard, "up");
    index.set_isolated(&acme.tenant, true);
    assert_eq!(index.find(ask).unwrap().as_str(), "n2");
    assert_eq!(put(&world, &of(&other), "n1", workload("b")), Err(Rejection::Dedicated));
    index.set_isolated(&acme.tenant, false);
    assert_eq!(index.find(ask).unwrap().as_str(), "n1");
}
