//! forge-orchestration: its fast scheduler (resources only), and the one that knows affinity and taints.

use forge_orchestration::scheduler::placement::{
    AffinityRule, ConstraintExpression, ExpressionOperator, NodeAffinity,
};
use forge_orchestration::scheduler::{
    Affinity, BinPackScheduler, NodeResources, OptimizedScheduler, ResourceRequirements, Scheduler, Taint,
    TaintEffect, Toleration, TolerationOperator, Workload,
};
use forge_orchestration::types::NodeId;

use super::{NODE_CPU, NODE_MEMORY, asks};

fn node(at: usize) -> NodeResources {
    let node = NodeResources::new(NodeId::new(), NODE_CPU, NODE_MEMORY)
        .with_label("zone", format!("zone-{}", at % 3));
    if at % 10 == 0 {
        return node.with_taint(Taint {
            key: "dedicated".to_owned(),
            value: "batch".to_owned(),
            effect: TaintEffect::NoSchedule,
        });
    }
    node
}

fn workload(at: usize) -> Workload {
    let (cpu, memory) = asks(at);
    Workload::new(format!("w-{at}"), "bench")
        .with_resources(ResourceRequirements::new().cpu(cpu).memory(memory))
}

/// Places by resources alone, and keeps what it placed.
pub fn optimized(nodes: usize) -> impl FnMut() -> bool {
    let scheduler = OptimizedScheduler::new();
    for at in 0..nodes {
        scheduler.register_node(node(at));
    }
    scheduler.refresh_cache();
    let workloads: Vec<_> = (0..64).map(workload).collect();
    let mut at = 0;
    move || {
        at += 1;
        scheduler.schedule_fast_commit(&workloads[at % workloads.len()]).is_some()
    }
}

/// Places with one required node affinity term and a toleration, and keeps what it placed.
pub fn affine(nodes: usize) -> impl FnMut() -> bool {
    let scheduler = Scheduler::with_algorithm(BinPackScheduler::new());
    for at in 0..nodes {
        scheduler.register_node(node(at));
    }
    let zone = ConstraintExpression {
        key: "zone".to_owned(),
        operator: ExpressionOperator::In,
        values: vec!["zone-1".to_owned(), "zone-2".to_owned()],
    };
    let affinity = Affinity::new()
        .with_node_affinity(NodeAffinity::new().require(AffinityRule { match_expressions: vec![zone] }));
    let workloads: Vec<_> = (0..64)
        .map(|at| {
            workload(at).with_affinity(affinity.clone()).with_toleration(Toleration {
                key: Some("dedicated".to_owned()),
                operator: TolerationOperator::Equal,
                value: Some("batch".to_owned()),
                effect: Some(TaintEffect::NoSchedule),
                toleration_seconds: None,
            })
        })
        .collect();
    let mut at = 0;
    move || {
        at += 1;
        let mut workload = workloads[at % workloads.len()].clone();
        workload.id = format!("w-{at}");
        scheduler.schedule(&workload).node_id.is_some()
    }
}
