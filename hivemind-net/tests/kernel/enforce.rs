//! The policies of each tenant, in force where its packets are routed.

use hivemind_core::NodeId;
use hivemind_net::dataplane::rules::{Family, TableKey};
use hivemind_net::overlay::OverlayState;
use hivemind_net::policy::Engine;
use hivemind_net::policy::rules::NodeRules;

use crate::cluster::{Cluster, tenant};

pub(crate) fn add_tables(state: &mut OverlayState, cluster: &Cluster, node: &NodeId) {
    let engine = Engine::new(cluster.world.clone());
    for (of, _) in cluster.tenants {
        let mut rules = NodeRules::new(&engine, tenant(of), node.clone());
        if cluster.refusing {
            rules = rules.with_refusals();
        }
        for workload in cluster.overlay.workloads(&tenant(of)).filter(|workload| workload.node == *node) {
            rules = rules.with_link(workload.id.clone(), workload.effective_link().unwrap());
        }
        for peer in cluster.overlay.peer_networks(&tenant(of)).unwrap() {
            rules = rules.with_peer(peer);
        }
        let key = TableKey::new(Family::Inet, "hivemind".parse().unwrap());
        state.enforce(&rules.prepare().unwrap(), key).unwrap();
    }
}
