//! A packet's way through the kernels of a cluster, without a kernel: what arrives is what policies let pass.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use hivemind_core::labels::Labels;
use hivemind_core::{Generation, NodeId, TenantRef};
use hivemind_net::addr::IpFamily;
use hivemind_net::dataplane::rules::{ConnectionState, Family, RulePacket, TableKey};
use hivemind_net::dataplane::{Cluster, Fate, KernelState};
use hivemind_net::overlay::{
    OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayWorkload, Peering, TenantNetwork,
    UnderlayFamily, Vni,
};
use hivemind_net::policy::rules::NodeRules;
use hivemind_net::policy::{
    AnyPolicy, Change, Endpoint, EndpointKey, Engine, Flow, NetworkPolicy, Party, PolicyRef, PolicySpec,
    Profile, Traffic, World,
};
use proptest::prelude::*;

const TENANTS: [&str; 3] = ["red", "blue", "green"];

/// What begins the addresses of a tenant, and its first node: it has three.
fn place(of: &str) -> (&'static str, &'static str, u8) {
    if of == "green" { ("fd20::", "10.20.", 2) } else { ("fd10::", "10.10.", 1) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tenant(of: &str) -> TenantRef {
    TenantRef::new(of.parse().unwrap(), Generation::from_u64(1))
}

fn node(number: u8) -> NodeId {
    format!("n{number}").parse().unwrap()
}

/// Four nodes; two tenants with the same addresses on three of them, one with its own on others, each with two workloads on
/// every node of its.
fn cluster() -> (OverlayNetwork, World) {
    let mut overlay = OverlayNetwork::new(OverlayConfig::vxlan(UnderlayFamily::V6, 1500)).unwrap();
    let mut world = World::new();
    for number in 1..=4 {
        let at = OverlayNode::new(node(number), 1500).with_address(ip(&format!("fd6e::{number}")));
        overlay.load([OverlayChange::PutNode(at)]).unwrap();
    }
    for (of, vni) in TENANTS.into_iter().zip(1001..) {
        let network = TenantNetwork::new(tenant(of), Vni::new(vni).unwrap());
        let (v6, v4, first) = place(of);
        let network = network.with_pool(format!("{v6}/64").parse().unwrap());
        let network = network.with_pool(format!("{v4}0.0/16").parse().unwrap());
        overlay.load([OverlayChange::PutTenant(network)]).unwrap();
        for (on, number) in (first..first + 3).flat_map(|on| [(on, 1), (on, 2)]) {
            let (id, app) = (format!("w{on}{number}"), if number == 1 { "web" } else { "db" });
            let profile =
                Profile::new(tenant(of), "shop".parse().unwrap(), Labels::new().with("app", app).unwrap());
            let mut workload = OverlayWorkload::new(tenant(of), id.parse().unwrap(), node(on));
            let mut endpoint = Endpoint::new(id.parse().unwrap(), node(on), profile);
            for address in [ip(&format!("{v6}{on}:{number}")), ip(&format!("{v4}{on}.{number}"))] {
                workload = workload.with_address(address);
                endpoint = endpoint.at(address);
            }
            overlay.load([OverlayChange::PutWorkload(workload)]).unwrap();
            world.apply(Change::Endpoint(endpoint));
        }
    }
    let spec: PolicySpec = serde_json::from_str(
        r#"{"podSelector": {"matchLabels": {"app": "db"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]}]}"#,
    )
    .unwrap();
    let policy = NetworkPolicy::new(tenant("red"), "shop".parse().unwrap(), "db".parse().unwrap(), spec);
    world.apply(Change::Policy(AnyPolicy::Network(policy)));
    (overlay, world)
}

fn kernels(overlay: &OverlayNetwork, world: &World) -> BTreeMap<NodeId, KernelState> {
    let engine = Engine::new(world.clone());
    let mut kernels = BTreeMap::new();
    for number in 1..=4 {
        let mut state = overlay.node_state(&node(number)).unwrap();
        for of in TENANTS {
            let mut rules = NodeRules::new(&engine, tenant(of), node(number));
            for workload in overlay.workloads(&tenant(of)).filter(|w| w.node == node(number)) {
                rules = rules.with_link(workload.id.clone(), workload.effective_link().unwrap());
            }
            for peer in overlay.peer_networks(&tenant(of)).unwrap() {
                rules = rules.with_peer(peer);
            }
            let key = TableKey::new(Family::Inet, "hivemind".parse().unwrap());
            state.enforce(&rules.prepare().unwrap(), key).unwrap();
        }
        assert_eq!((state.uncovered().count(), state.closed_ways().count()), (0, 0));
        kernels.insert(node(number), state.into_kernel());
    }
    kernels
}

fn wire(kernels: &BTreeMap<NodeId, KernelState>) -> Cluster<'_> {
    (1..).zip(kernels).fold(Cluster::new(), |wire, (number, (at, kernel))| {
        wire.with_node(at.clone(), kernel, [ip(&format!("fd6e::{number}"))])
    })
}

#[test]
fn every_pair_arrives_as_the_evaluator_says() {
    let (overlay, world) = cluster();
    let kernels = kernels(&overlay, &world);
    let wire = wire(&kernels);
    let (mut pairs, mut delivered) = (0, 0);
    for of in TENANTS {
        for from in overlay.workloads(&tenant(of)) {
            for to in overlay.workloads(&tenant(of)).filter(|to| to.id != from.id) {
                for (port, v6) in [(8080, true), (8080, false), (9090, true), (9090, false)] {
                    let pick = |w: &OverlayWorkload| w.addresses().find(|a| a.is_ipv6() == v6).unwrap();
                    let packet = RulePacket::new(pick(from), pick(to), 6).with_ports(40_000, port);
                    let fate = wire.send(&from.node, &from.effective_netns().unwrap(), &packet, 100);
                    let party = |w: &OverlayWorkload| {
                        Party::Workload(EndpointKey { tenant: tenant(of), id: w.id.clone() })
                    };
                    let family = if v6 { IpFamily::V6 } else { IpFamily::V4 };
                    let flow = Flow::new(party(from), party(to), family, Traffic::tcp(port));
                    let allowed = world.reach(&flow).unwrap().verdict().passes();
                    let there =
                        Fate::Delivered { node: to.node.clone(), netns: to.effective_netns().unwrap() };
                    let fine = if allowed { fate == there } else { matches!(fate, Fate::Filtered { .. }) };
                    assert!(fine, "{of} {} -> {} {port}: {fate:?}, allowed: {allowed}", from.id, to.id);
                    pairs += 1;
                    delivered += usize::from(allowed);
                }
            }
        }
    }
    assert_eq!(pairs, 3 * 6 * 5 * 4);
    assert!(delivered > 100 && delivered < pairs, "{delivered}");
}

#[test]
fn what_cannot_arrive_is_told_apart() {
    let (overlay, world) = cluster();
    let kernels = kernels(&overlay, &world);
    let mut wire = Cluster::new();
    for (number, (at, kernel)) in (1..).zip(&kernels).take(2) {
        wire = wire.with_node(at.clone(), kernel, [ip(&format!("fd6e::{number}"))]);
    }
    let blue = tenant("blue");
    let from = overlay.workloads(&blue).find(|w| w.id.as_str() == "w11").unwrap();
    let netns = from.effective_netns().unwrap();
    let send = |to: &str, length| {
        let packet = RulePacket::new(ip("fd10::1:1"), ip(to), 6).with_ports(40_000, 80);
        wire.send(&node(1), &netns, &packet, length)
    };
    assert!(matches!(send("fd10::2:1", 1430), Fate::Delivered { .. }));
    assert!(matches!(send("fd10::2:1", 1431), Fate::TooBig { mtu: 1430, .. }));
    assert_eq!(send("fd10::9:9", 100), Fate::Unreachable { node: node(1) });
    // Node 3 is not there.
    assert!(matches!(send("fd10::3:1", 100), Fate::Lost { .. }));
}

/// What each tenant may grant, and policies that tell workloads of both.
const GRANTS: [&str; 6] = [
    r#"{"by":"red.0000000000000001","name":"out","direction":"Egress","to":{"tenant":"green.0000000000000001"}}"#,
    r#"{"by":"red.0000000000000001","name":"web","direction":"Egress","to":{"tenant":"green.0000000000000001"},"own":"app=web","peers":"app=db","ports":[{"port":8080}]}"#,
    r#"{"by":"red.0000000000000001","name":"in","direction":"Ingress","to":{"tenant":"green.0000000000000001"},"ports":[{"port":9090}]}"#,
    r#"{"by":"green.0000000000000001","name":"in","direction":"Ingress","to":{"tenant":"red.0000000000000001"}}"#,
    r#"{"by":"green.0000000000000001","name":"db","direction":"Ingress","to":{"matching":""},"own":"app=db"}"#,
    r#"{"by":"green.0000000000000001","name":"out","direction":"Egress","to":{"tenant":"red.0000000000000001"},"peers":"app=web"}"#,
];

const SPECS: [(&str, &str); 3] = [
    (
        "green",
        r#"{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"from":[{"tenantSelector":{},"podSelector":{"matchLabels":{"app":"web"}}}],"ports":[{"port":8080}]}]}"#,
    ),
    (
        "green",
        r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"tenantSelector":{}}],"ports":[{"port":9090}]}]}"#,
    ),
    // A block of another tenant's addresses means somebody outside, and nobody there is.
    (
        "red",
        r#"{"podSelector":{},"ingress":[{"from":[{"podSelector":{}}]},{"from":[{"ipBlock":{"cidr":"10.20.0.0/16"}}]}]}"#,
    ),
];

/// The cluster with red and green joined, and with these of the grants and policies.
fn joined(grants: &[bool], specs: &[bool]) -> (OverlayNetwork, World) {
    let (mut overlay, mut world) = cluster();
    overlay.load([OverlayChange::PutPeering(Peering::new(tenant("red"), tenant("green")))]).unwrap();
    for text in GRANTS.iter().zip(grants).filter(|(_, wanted)| **wanted).map(|(text, _)| text) {
        world.apply(Change::Policy(AnyPolicy::Grant(serde_json::from_str(text).unwrap())));
    }
    for (number, ((of, spec), _)) in SPECS.iter().zip(specs).filter(|(_, wanted)| **wanted).enumerate() {
        let (spec, name) = (serde_json::from_str(spec).unwrap(), format!("p{number}").parse().unwrap());
        let policy = NetworkPolicy::new(tenant(of), "shop".parse().unwrap(), name, spec);
        world.apply(Change::Policy(AnyPolicy::Network(policy)));
    }
    (overlay, world)
}

/// A packet between two tenants, whether the evaluator lets it pass, and its answer.
struct Sent {
    from: OverlayWorkload,
    to: OverlayWorkload,
    packet: RulePacket,
    allowed: bool,
}

fn between(overlay: &OverlayNetwork, world: &World) -> Vec<Sent> {
    let mut all = Vec::new();
    for (own, other) in [("red", "green"), ("green", "red"), ("blue", "green")] {
        let (own, other) = (tenant(own), tenant(other));
        let both =
            overlay.workloads(&own).flat_map(|from| overlay.workloads(&other).map(move |to| (from, to)));
        for (from, to) in both {
            for (port, v6) in [(8080, true), (8080, false), (9090, true), (9090, false)] {
                let pick = |w: &OverlayWorkload| w.addresses().find(|a| a.is_ipv6() == v6).unwrap();
                let packet = RulePacket::new(pick(from), pick(to), 6).with_ports(40_000, port);
                let party = |w: &OverlayWorkload| {
                    Party::Workload(EndpointKey { tenant: w.tenant.clone(), id: w.id.clone() })
                };
                let family = if v6 { IpFamily::V6 } else { IpFamily::V4 };
                let flow = Flow::new(party(from), party(to), family, Traffic::tcp(port));
                let allowed = world.reach(&flow).unwrap().verdict().passes();
                all.push(Sent { from: from.clone(), to: to.clone(), packet, allowed });
            }
        }
    }
    all
}

fn send(
    wire: &Cluster<'_>,
    from: &OverlayWorkload,
    to: &OverlayWorkload,
    packet: &RulePacket,
) -> (Fate, bool) {
    let fate = wire.send(&from.node, &from.effective_netns().unwrap(), packet, 1430);
    let there = Fate::Delivered { node: to.node.clone(), netns: to.effective_netns().unwrap() };
    let arrived = fate == there;
    (fate, arrived)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn between_tenants_what_arrives_is_what_the_evaluator_lets_pass(
        grants in proptest::collection::vec(any::<bool>(), GRANTS.len()),
        specs in proptest::collection::vec(any::<bool>(), SPECS.len()),
    ) {
        let (overlay, world) = joined(&grants, &specs);
        let kernels = kernels(&overlay, &world);
        let wire = wire(&kernels);
        for Sent { from, to, packet, allowed } in between(&overlay, &world) {
            let (fate, arrived) = send(&wire, &from, &to, &packet);
            let fine = if allowed { arrived } else { !matches!(fate, Fate::Delivered { .. }) };
            prop_assert!(fine, "{} to {} {:?}: {fate:?}, allowed: {allowed}", from.id, to.id, packet);
            // The answer, by the routers that have not seen the question too.
            let answer = RulePacket::new(packet.destination, packet.source, 6);
            let answer = answer.with_ports(packet.destination_port, 40_000);
            let answer = answer.with_connection(ConnectionState::Established);
            if allowed {
                prop_assert!(send(&wire, &to, &from, &answer).1, "the answer of {} to {}", to.id, from.id);
            }
        }
    }
}

#[test]
fn a_peering_without_grants_of_both_opens_nothing() {
    for grants in
        [[false; 6], [true, true, false, false, false, true], [false, false, true, true, true, false]]
    {
        let (overlay, world) = joined(&grants, &[]);
        let kernels = kernels(&overlay, &world);
        let wire = wire(&kernels);
        for Sent { from, to, packet, .. } in between(&overlay, &world) {
            let (fate, _) = send(&wire, &from, &to, &packet);
            assert!(!matches!(fate, Fate::Delivered { .. }), "{} to {}: {fate:?}", from.id, to.id);
        }
    }
}

#[test]
fn pitfall_35_who_has_heard_that_a_grant_or_a_peering_is_over_is_reached_by_nobody() {
    let (mut overlay, mut world) = joined(&[true, false, false, true, false, false], &[]);
    let before = kernels(&overlay, &world);
    let reached = |kernels: &BTreeMap<NodeId, KernelState>, known: &World| -> Vec<NodeId> {
        let wire = wire(kernels);
        let sent = between(&overlay, known).into_iter();
        sent.filter(|one| send(&wire, &one.from, &one.to, &one.packet).1).map(|one| one.to.node).collect()
    };
    assert_eq!(reached(&before, &world).len(), 6 * 6 * 4);
    let granted = world.clone();
    world.apply(Change::NoPolicy(PolicyRef::Grant(tenant("green"), "in".parse().unwrap())));
    let withdrawn = kernels(&overlay, &world);
    let mut gone = overlay.clone();
    gone.apply(OverlayChange::RemovePeering(Peering::new(tenant("green"), tenant("red")))).unwrap();
    // Also if the grant is still there: without a peering no way is left.
    for after in [withdrawn, kernels(&gone, &world), kernels(&gone, &granted)] {
        for heard in 1..=4 {
            let mut mixed = before.clone();
            mixed.insert(node(heard), after[&node(heard)].clone());
            let reached = reached(&mixed, &granted);
            assert!(!reached.contains(&node(heard)), "node {heard}");
            assert!(!reached.is_empty(), "the others have not heard");
        }
        assert!(reached(&after, &granted).is_empty());
    }
    overlay = gone;
    assert_eq!(overlay.peerings().count(), 0);
}
