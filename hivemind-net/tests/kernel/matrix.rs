//! Every workload to every other, with real packets, against what the evaluator says.

use hivemind_net::overlay::{OverlayChange, UnderlayFamily};
use hivemind_net::policy::Direction;

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

/// Two tenants with addresses of their own: apart, joined without grants, with one, with both, under another policy, after a
/// move to where the tenant was not, and apart again.
fn two_tenants(tag: &str, underlay: UnderlayFamily, inner: Inner) {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::neighbours(tag, underlay, inner);
    let name = format!("two tenants, {underlay:?} below, {inner:?} inside");
    cluster.sync();
    check(&cluster, &format!("{name}: apart"));

    cluster.overlay.apply(OverlayChange::PutPeering(cluster.peering())).unwrap();
    cluster.sync();
    check(&cluster, &format!("{name}: a peering and no grant"));
    cluster.grant("red", Direction::Egress, "green");
    assert_eq!(cluster.follow_grants(), 1, "there was one for nothing");
    cluster.sync();
    check(&cluster, &format!("{name}: one side's grant"));
    cluster.grant("green", Direction::Ingress, "red");
    assert_eq!(cluster.follow_grants(), 1);
    cluster.sync();
    check(&cluster, &format!("{name}: both sides' grants"));

    let from_web = r#"{"podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"from": [{"tenantSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}],
                     "ports": [{"port": 8080}, {"protocol": "UDP", "port": 5353}]}]}"#;
    cluster.policy("green", "db", from_web);
    cluster.grant("green", Direction::Egress, "red");
    cluster.grant("red", Direction::Ingress, "green");
    cluster.sync();
    check(&cluster, &format!("{name}: a policy, and grants the other way"));

    cluster.put("red", 1, 1, 3);
    cluster.sync();
    check(&cluster, &format!("{name}: one moved"));
    cluster.restart_agents();
    assert!(cluster.sync().values().all(Vec::is_empty), "a new agent finds everything as it shall be");

    cluster.withdraw("green", Direction::Ingress);
    cluster.withdraw("red", Direction::Ingress);
    cluster.sync();
    check(&cluster, &format!("{name}: grants withdrawn"));
    assert_eq!(cluster.follow_grants(), 1);
    cluster.sync();
    check(&cluster, &format!("{name}: apart again"));
}

#[test]
fn every_pair_of_two_tenants_over_an_ipv6_underlay() {
    two_tenants("mt6", UnderlayFamily::V6, Inner::Dual);
}

#[test]
fn every_pair_of_two_tenants_over_an_ipv4_underlay_with_ipv6_alone_inside() {
    two_tenants("mt4", UnderlayFamily::V4, Inner::V6);
}
