//! A packet's way through the kernels of a cluster, without a kernel: what arrives is what policies let pass.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use hivemind_core::labels::Labels;
use hivemind_core::{Generation, NodeId, TenantRef};
use hivemind_net::addr::IpFamily;
use hivemind_net::dataplane::rules::{Family, RulePacket, TableKey};
use hivemind_net::dataplane::{Cluster, Fate, KernelState};
use hivemind_net::overlay::{
    OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayWorkload, TenantNetwork,
    UnderlayFamily, Vni,
};
use hivemind_net::policy::rules::NodeRules;
use hivemind_net::policy::{
    AnyPolicy, Change, Endpoint, EndpointKey, Engine, Flow, NetworkPolicy, Party, PolicySpec, Profile,
    Traffic, World,
};

const TENANTS: [&str; 2] = ["red", "blue"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tenant(of: &str) -> TenantRef {
    TenantRef::new(of.parse().unwrap(), Generation::from_u64(1))
}

fn node(number: u8) -> NodeId {
    format!("n{number}").parse().unwrap()
}

/// Three nodes, two tenants with the same addresses, two workloads of each on every node.
fn cluster() -> (OverlayNetwork, World) {
    let mut overlay = OverlayNetwork::new(OverlayConfig::vxlan(UnderlayFamily::V6, 1500)).unwrap();
    let mut world = World::new();
    for number in 1..=3 {
        let at = OverlayNode::new(node(number), 1500).with_address(ip(&format!("fd6e::{number}")));
        overlay.load([OverlayChange::PutNode(at)]).unwrap();
    }
    for (of, vni) in TENANTS.into_iter().zip(1001..) {
        let network = TenantNetwork::new(tenant(of), Vni::new(vni).unwrap());
        let network =
            network.with_pool("fd10::/64".parse().unwrap()).with_pool("10.10.0.0/16".parse().unwrap());
        overlay.load([OverlayChange::PutTenant(network)]).unwrap();
        for (on, number) in (1..=3).flat_map(|on| [(on, 1), (on, 2)]) {
            let (id, app) = (format!("w{on}{number}"), if number == 1 { "web" } else { "db" });
            let profile =
                Profile::new(tenant(of), "shop".parse().unwrap(), Labels::new().with("app", app).unwrap());
            let mut workload = OverlayWorkload::new(tenant(of), id.parse().unwrap(), node(on));
            let mut endpoint = Endpoint::new(id.parse().unwrap(), node(on), profile);
            for address in [ip(&format!("fd10::{on}:{number}")), ip(&format!("10.10.{on}.{number}"))] {
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
    for number in 1..=3 {
        let mut state = overlay.node_state(&node(number)).unwrap();
        for of in TENANTS {
            let mut rules = NodeRules::new(&engine, tenant(of), node(number));
            for workload in overlay.workloads(&tenant(of)).filter(|w| w.node == node(number)) {
                rules = rules.with_link(workload.id.clone(), workload.effective_link().unwrap());
            }
            let key = TableKey::new(Family::Inet, "hivemind".parse().unwrap());
            state.enforce(&rules.prepare().unwrap(), key).unwrap();
        }
        assert_eq!(state.uncovered().count(), 0);
        kernels.insert(node(number), state.into_kernel());
    }
    kernels
}

#[test]
fn every_pair_arrives_as_the_evaluator_says() {
    let (overlay, world) = cluster();
    let kernels = kernels(&overlay, &world);
    let mut wire = Cluster::new();
    for (number, (at, kernel)) in (1..).zip(&kernels) {
        wire = wire.with_node(at.clone(), kernel, [ip(&format!("fd6e::{number}"))]);
    }
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
    assert_eq!(pairs, 2 * 6 * 5 * 4);
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
