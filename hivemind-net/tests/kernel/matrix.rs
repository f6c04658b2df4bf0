//! Every workload to every other, with real packets, against what the evaluator says.

use hivemind_net::overlay::UnderlayFamily;

use crate::cluster::{Cluster, Inner};
use crate::lab::is_root;

fn check(cluster: &Cluster, what: &str) {
    let (pairs, differ) = cluster.matrix();
    println!("kernel matrix: {pairs} pairs, {} differ ({what})", differ.len());
    assert!(differ.is_empty(), "{what}: {differ:#?}");
}

/// Policies, their change, a workload that moves, a host that is lost and comes back, agents that restart.
fn whole_life(tag: &str, underlay: UnderlayFamily, inner: Inner) {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::new(tag, underlay, inner);
    let name = format!("{underlay:?} below, {inner:?} inside");
    cluster.sync();
    check(&cluster, &format!("{name}: no policy"));

    let from_web = r#"{"podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]}]}"#;
    cluster.policy("red", "db", from_web);
    let no_egress = r#"{"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                    "ports": [{"protocol": "UDP", "port": 5353}]}]}"#;
    cluster.policy("blue", "web", no_egress);
    cluster.sync();
    check(&cluster, &format!("{name}: two policies"));

    let wider = r#"{"podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 9090}, {"protocol": "UDP", "port": 5353}]}]}"#;
    cluster.policy("red", "db", wider);
    let changed = cluster.sync();
    assert!(changed.values().flatten().all(|op| op.to_string().contains("change table")), "{changed:?}");
    check(&cluster, &format!("{name}: another policy"));

    cluster.put("red", 1, 2, 3);
    cluster.sync();
    check(&cluster, &format!("{name}: one moved"));

    cluster.lose(2);
    check(&cluster, &format!("{name}: a host lost"));
    cluster.regain();
    cluster.sync();
    check(&cluster, &format!("{name}: and back"));

    cluster.restart_agents();
    assert!(cluster.sync().values().all(Vec::is_empty), "a new agent finds everything as it shall be");
    check(&cluster, &format!("{name}: agents restarted"));
}

#[test]
fn every_pair_over_an_ipv6_underlay() {
    whole_life("m6", UnderlayFamily::V6, Inner::Dual);
}

#[test]
fn every_pair_over_an_ipv4_underlay() {
    whole_life("m4", UnderlayFamily::V4, Inner::Dual);
}

#[test]
fn every_pair_with_ipv6_alone_inside() {
    whole_life("mi6", UnderlayFamily::V6, Inner::V6);
}
