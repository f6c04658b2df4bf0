//! The policies of each tenant, in force where its packets are routed.

use hivemind_core::NodeId;
use hivemind_net::dataplane::rules::{Family, TableKey};
use hivemind_net::overlay::OverlayState;
use hivemind_net::policy::Engine;

use crate::cluster::Cluster;

pub(crate) fn add_tables(state: &mut OverlayState, cluster: &Cluster, node: &NodeId) {
    let engine = Engine::new(cluster.world.clone());
    for mut rules in cluster.overlay.node_rules(&engine, node).unwrap() {
        if cluster.refusing {
            rules = rules.with_refusals();
        }
        let key = TableKey::new(Family::Inet, "hivemind".parse().unwrap());
        state.enforce(&rules.prepare().unwrap(), key).unwrap();
    }
}
