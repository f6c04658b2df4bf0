//! The same input gives the same placements, today and from a log; records of older versions are read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;

use hivemind_core::labels::Labels;
use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::{Generation, NodeId, TenantRef, WorkloadId};
use hivemind_tenancy::placement::{
    AffinityTerm, Ask, NodeAllocations, NodeState, Packing, Topology, WorkloadAffinity, WorkloadRequest,
};
use hivemind_tenancy::{ClusterIndex, Node};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// One line of the log of a scheduler.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Event {
    Add(Node),
    Update(Node),
    Remove(NodeId),
    Place { tenant: TenantRef, isolated: bool, workload: Box<WorkloadRequest> },
    Leave { tenant: TenantRef, workload: WorkloadId },
}

/// What each event answered.
fn run(seed: u64, log: &[Event]) -> Vec<Result<String, String>> {
    let mut index = ClusterIndex::new(Packing::Spread, seed);
    let mut one = |event: &Event| -> hivemind_core::Result<String> {
        Ok(match event {
            Event::Add(node) => index.add_node(node.clone()).map(|()| String::new())?,
            Event::Update(node) => index.update_node(node.clone()).map(|()| String::new())?,
            Event::Remove(node) => format!("{:?}", index.remove_node(node)?),
            Event::Place { tenant, isolated, workload } => {
                let mut ask = Ask::new(tenant, workload);
                ask.isolated = *isolated;
                index.place(ask)?.to_string()
            }
            Event::Leave { tenant, workload } => index.unassign(tenant, workload)?.to_string(),
        })
    };
    log.iter().map(|event| one(event).map_err(|e| e.to_string())).collect()
}

fn node(number: usize, zone: usize, ready: bool) -> Node {
    let capacity = Resources::new().with_cpu(MilliCpu::from_cores(4));
    let labels = Labels::new().with("zone", &format!("z{zone}")).unwrap();
    let mut node = Node::new(format!("n{number}").parse().unwrap(), capacity).with_labels(labels);
    node.state = if ready { NodeState::Ready } else { NodeState::Cordoned };
    node
}

fn tenant(number: usize) -> TenantRef {
    TenantRef::new(format!("t{number}").parse().unwrap(), Generation::from_u64(1))
}

fn event() -> impl Strategy<Value = Event> {
    let workload = (0usize..12, 0usize..3, 1u64..4, any::<bool>()).prop_map(|(id, who, cores, apart)| {
        let resources = Resources::new().with_cpu(MilliCpu::from_cores(cores));
        let mut workload = WorkloadRequest::new(format!("w{id}").parse().unwrap(), resources)
            .with_labels(Labels::new().with("app", "a").unwrap());
        if apart {
            let mut affinity = WorkloadAffinity::default();
            let zone = Topology::Label("zone".parse().unwrap());
            affinity.anti_required.push(AffinityTerm::new("app=a".parse().unwrap(), zone));
            workload = workload.with_affinity(affinity);
        }
        Event::Place { tenant: tenant(who), isolated: who == 0, workload: Box::new(workload) }
    });
    prop_oneof![
        2 => (0usize..6, 0usize..3).prop_map(|(n, zone)| Event::Add(node(n, zone, true))),
        1 => (0usize..6, 0usize..3, any::<bool>()).prop_map(|(n, zone, ready)| Event::Update(node(n, zone, ready))),
        1 => (0usize..6).prop_map(|n| Event::Remove(format!("n{n}").parse().unwrap())),
        6 => workload,
        2 => (0usize..12, 0usize..3).prop_map(|(id, who)| Event::Leave {
            tenant: tenant(who), workload: format!("w{id}").parse().unwrap(),
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A log that was written and read again gives the same answers, one by one, refusals and their reasons included.
    #[test]
    fn a_log_replays_to_the_same_placements(log in prop::collection::vec(event(), 1..60), seed in any::<u64>()) {
        let text: Vec<_> = log.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
        let read: Vec<Event> = text.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        prop_assert_eq!(run(seed, &log), run(seed, &read));
    }

    /// It does not matter in which order nodes came.
    #[test]
    fn the_order_of_nodes_is_no_matter(
        order in Just((0usize..8).collect::<Vec<_>>()).prop_shuffle(),
        asks in prop::collection::vec(event(), 1..30),
        seed in any::<u64>(),
    ) {
        let asks: Vec<_> = asks.into_iter().filter(|event| matches!(event, Event::Place { .. } | Event::Leave { .. })).collect();
        let with = |nodes: &[usize]| {
            let nodes = nodes.iter().map(|n| Event::Add(node(*n, n % 3, true)));
            let log: Vec<_> = nodes.chain(asks.iter().cloned()).collect();
            run(seed, &log).split_off(8)
        };
        let sorted: Vec<_> = (0..8).collect();
        prop_assert_eq!(with(&order), with(&sorted));
    }
}

#[test]
fn records_from_before_taints_and_priorities_are_read() {
    let node: Node =
        serde_json::from_str(r#"{"id":"n1","capacity":{"cpu":"2"},"labels":{"a":"b"},"state":"ready"}"#)
            .unwrap();
    assert!(node.taints.is_empty());
    let text = r#"{"used":{"cpu":"1"},"dedicated_to":null,
        "workloads":{"acme.0000000000000001":{"w":{"resources":{"cpu":"1"},"spread_key":"k"}}}}"#;
    let running: NodeAllocations = serde_json::from_str(text).unwrap();
    let placed = running.workloads.values().flat_map(BTreeMap::values).next().unwrap();
    assert_eq!((placed.priority, placed.generation, placed.terminating), (0, 0, false));
    // What needs no new field is written as before.
    let before: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&running).unwrap(), before);
}
