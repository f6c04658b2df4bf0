//! The policies of each tenant, in force where its packets are routed.

use hivemind_core::NodeId;
use hivemind_net::dataplane::KernelState;
use hivemind_net::dataplane::rules::{Family, TableKey};
use hivemind_net::policy::Engine;
use hivemind_net::policy::rules::NodeRules;

use crate::cluster::{Cluster, TENANTS, tenant};

pub(crate) fn add_tables(state: &mut KernelState, cluster: &Cluster, node: &NodeId) {
    let engine = Engine::new(cluster.world.clone());
    for (of, _) in TENANTS {
        let mut rules = NodeRules::new(&engine, tenant(of), node.clone());
        let mut a_link = None;
        for workload in cluster.overlay.workloads(&tenant(of)).filter(|workload| workload.node == *node) {
            let link = workload.effective_link().unwrap();
            rules = rules.with_link(workload.id.clone(), link.clone());
            a_link = Some(link);
        }
        let Some(link) = a_link else { continue };
        let (_, router) =
            state.namespaces.iter_mut().find(|(_, netns)| netns.links.contains_key(&link)).unwrap();
        router
            .tables
            .insert(TableKey::new(Family::Inet, "hivemind".parse().unwrap()), rules.table().unwrap());
    }
}
