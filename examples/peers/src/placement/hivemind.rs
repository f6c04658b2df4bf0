//! hivemind-tenancy: the incremental index.

use std::error::Error;

use hivemind_core::labels::Labels;
use hivemind_core::resources::{ByteSize, MilliCpu, Resources};
use hivemind_core::{Generation, TenantRef};
use hivemind_tenancy::{ClusterIndex, Node};
use hivemind_tenancy::placement::{Ask, NodeAffinity, Packing, Taint, TaintEffect, Tolerated, Toleration, WorkloadRequest};

use super::{NODE_CPU, NODE_MEMORY, asks};

fn size(cpu: u64, mib: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_millis(cpu)).with_memory(ByteSize::from_mib(mib))
}

fn index(nodes: usize) -> Result<ClusterIndex, Box<dyn Error>> {
    let mut index = ClusterIndex::new(Packing::BinPack, 1);
    for at in 0..nodes {
        let labels = Labels::new().with("zone", &format!("zone-{}", at % 3))?;
        let mut node =
            Node::new(format!("node-{at}").parse()?, size(NODE_CPU, NODE_MEMORY)).with_labels(labels);
        if at % 10 == 0 {
            node =
                node.with_taint(Taint::new("dedicated".parse()?, "batch".parse()?, TaintEffect::NoSchedule));
        }
        index.add_node(node)?;
    }
    Ok(index)
}

fn placing(
    nodes: usize,
    shape: impl Fn(WorkloadRequest) -> WorkloadRequest,
) -> Result<impl FnMut() -> bool, Box<dyn Error>> {
    let mut index = index(nodes)?;
    let tenant = TenantRef::new("acme".parse()?, Generation::from_u64(1));
    let mut workloads = Vec::new();
    for at in 0..64 {
        let (cpu, memory) = asks(at);
        workloads.push(shape(WorkloadRequest::new("w".parse()?, size(cpu, memory))));
    }
    let mut at = 0;
    Ok(move || {
        at += 1;
        let mut workload = workloads[at % workloads.len()].clone();
        let Ok(id) = format!("w-{at}").parse() else { return false };
        workload.id = id;
        index.place(Ask::new(&tenant, &workload)).is_ok()
    })
}

/// Places by resources alone, and keeps what it placed.
pub fn plain(nodes: usize) -> Result<impl FnMut() -> bool, Box<dyn Error>> {
    placing(nodes, |workload| workload)
}

/// Places with one required node affinity term and a toleration, and keeps what it placed.
pub fn affine(nodes: usize) -> Result<impl FnMut() -> bool, Box<dyn Error>> {
    let term: hivemind_core::labels::Selector = "zone in (zone-1,zone-2)".parse()?;
    let toleration = Toleration::new(Tolerated::Equal("dedicated".parse()?, "batch".parse()?));
    placing(nodes, move |workload| {
        workload
            .with_node_affinity(NodeAffinity::default().require(term.clone()))
            .tolerating(toleration.clone())
    })
}
