//! What leaves the cluster leaves under an address that the world knows, and only that.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::overlay_world;

use std::net::IpAddr;

use hivemind_net::dataplane::diff;
use hivemind_net::dataplane::rules::{
    ConnectionState, Field, Hook, RulePacket, RuleTable, Statement, Verdict, evaluate,
};
use hivemind_net::dataplane::state::{LinkName, Netns, RouteKey};
use hivemind_net::overlay::{
    AddressPlan, InvalidOverlay, OverlayChange, OverlayConfig, OverlayNetwork, Transit, UnderlayFamily, Vni,
};
use overlay_world::{Fate, Wire, ip, kernels, net, network, node, node_id, peering, tenant, workload};

fn plan() -> AddressPlan {
    AddressPlan::new()
        .with_nodes(net("2001:db8:1::/64"))
        .with_nodes(net("192.0.2.0/24"))
        .with_services(net("fd00:5::/112"))
        .with_transit(net("100.64.0.0/22"))
        .with_transit(net("fd00:6::/112"))
        .with_nat64(net("64:ff9b::/96"))
        .with_pool(tenant("red"), net("10.0.0.0/16"))
        .with_pool(tenant("red"), net("fd00:1::/64"))
        .with_pool(tenant("red"), net("2001:db8:7::/64"))
        .with_pool(tenant("blue"), net("10.0.0.0/16"))
        .with_pool(tenant("blue"), net("fd00:1::/64"))
}

fn transit() -> Transit {
    let first = Vni::new(5000).unwrap();
    Transit::new(first).with_prefix(net("100.64.0.0/22")).with_prefix(net("fd00:6::/112"))
}

fn start(config: OverlayConfig, tenants: &[&str]) -> OverlayNetwork {
    plan().validate().unwrap();
    let encapsulated = config.overhead() > 0;
    let mut overlay = OverlayNetwork::new(config).unwrap();
    overlay.load((1..=2).map(node).map(OverlayChange::PutNode)).unwrap();
    for (of, vni) in tenants.iter().zip([5000, 5001]) {
        let network = network(of, vni, &["10.0.0.0/16", "fd00:1::/64"])
            .with_egress(plan().masquerade(&tenant(of), encapsulated));
        overlay.load([OverlayChange::PutTenant(network)]).unwrap();
        for (id, on, last) in [("a", 1, 1), ("b", 2, 2)] {
            let addresses = [format!("10.0.0.{last}"), format!("fd00:1::{last}")];
            let workload = workload(of, id, on, &[&addresses[0], &addresses[1]]);
            overlay.load([OverlayChange::PutWorkload(workload)]).unwrap();
        }
    }
    overlay
}

/// Whether the table would put another source in place of the packet's.
fn is_masqueraded(table: &RuleTable, from: &str, to: &str) -> bool {
    let chain = table.chains.iter().find(|(name, _)| name.as_str() == "leaving").unwrap().1;
    let packet = RulePacket::new(ip(from), ip(to), 6);
    let source = |field: &Field| matches!(field, Field::V4Source | Field::V6Source);
    for rule in &chain.rules {
        let mut matches = true;
        for statement in &rule.statements {
            match statement {
                Statement::Prefix { field, prefix, negate: false } => {
                    let address: IpAddr = if source(field) { packet.source } else { packet.destination };
                    matches &= prefix.contains(&address);
                }
                Statement::Verdict(Verdict::Accept) if matches => return false,
                Statement::Masquerade if matches => return true,
                Statement::Verdict(_) | Statement::Masquerade => {}
                other => panic!("{other:?}"),
            }
        }
    }
    false
}

#[test]
fn each_tenant_leaves_under_a_transit_address_of_its_own() {
    let config =
        OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_transit(transit()).with_links_up_without_rules();
    let overlay = start(config, &["red", "blue"]);
    let kernels = kernels(&overlay);
    let wire = Wire { overlay: &overlay, kernels: &kernels };
    wire.check_all();
    for (of, v4, v6) in [("red", "100.64.0.1", "fd00:6::1"), ("blue", "100.64.0.2", "fd00:6::2")] {
        let a = workload(of, "a", 1, &["10.0.0.1", "fd00:1::1"]);
        // On to the machine, whose own routes are not ours to know.
        for world in ["198.51.100.7", "2001:db8:ffff::7"] {
            assert_eq!(wire.send(&a, ip(world)), Fate::Lost("no route in @host on n1".into()));
        }
        // Nobody's address of the own pool does not leave.
        assert_eq!(wire.send(&a, ip("10.0.9.9")), Fate::Unreachable(node_id(1)));
        let kernel = &kernels[&node_id(1)];
        let machine = &kernel.namespaces[&Netns::Host];
        for address in [v4, v6] {
            let route = &machine.routes[&RouteKey::new(ip(address).into())];
            assert!(machine.links.contains_key(route.dev().unwrap()));
            let routers = kernel.namespaces.iter().filter(|(at, netns)| {
                **at != Netns::Host && netns.addresses.keys().any(|key| key.address == ip(address))
            });
            let (_, router) = { routers }.next().unwrap();
            let table = router.tables.values().next().unwrap();
            table.validate().unwrap();
            for (from, to, changed) in [
                ("10.0.0.1", "198.51.100.7", true),
                ("fd00:1::1", "2001:db8:ffff::7", true),
                ("10.0.0.1", "10.0.0.2", false),
                ("fd00:1::1", "fd00:5::9", false),
                ("fd00:1::1", "64:ff9b::198.51.100.7", true),
                ("10.0.0.1", "192.0.2.2", true),
                ("2001:db8:7::1", "2001:db8:ffff::7", false),
            ] {
                assert_eq!(is_masqueraded(table, from, to), changed, "{from} to {to}");
            }
        }
    }
}

#[test]
fn the_machine_lets_transit_out_and_no_tenant_to_another() {
    let config =
        OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_transit(transit()).with_links_up_without_rules();
    let overlay = start(config, &["red", "blue"]);
    let kernel = overlay.node_state(&node_id(1)).unwrap().into_kernel();
    let table = kernel.namespaces[&Netns::Host].tables.values().next().unwrap();
    table.validate().unwrap();
    assert!(is_masqueraded(table, "100.64.0.1", "198.51.100.7"));
    assert!(is_masqueraded(table, "fd00:6::1", "2001:db8:ffff::7"));
    assert!(!is_masqueraded(table, "192.0.2.1", "198.51.100.7"), "the machine's own packets");
    let passes = |from, to| evaluate(table, &Hook::Forward, &RulePacket::new(ip(from), ip(to), 6)).accepted;
    assert!(!passes("100.64.0.1", "100.64.0.2") && !passes("fd00:6::2", "fd00:6::1"));
    assert!(passes("100.64.0.1", "198.51.100.7"));
    for (from, to) in
        [("198.51.100.7", "100.64.0.1"), ("10.0.0.1", "100.64.0.2"), ("2001:db8:7::1", "fd00:6::2")]
    {
        assert!(!passes(from, to), "{from} to {to}: a workload's own address, or anybody's");
        let answer = RulePacket::new(ip(from), ip(to), 6).with_connection(ConnectionState::Established);
        assert!(evaluate(table, &Hook::Forward, &answer).accepted, "an answer from {from} to {to}");
    }
}

#[test]
fn no_workload_speaks_to_a_tunnel_end() {
    for (underlay, from, to) in [
        (UnderlayFamily::V6, "fd00:1::1", "2001:db8:1::2"),
        (UnderlayFamily::V4, "10.0.0.1", "192.0.2.2"),
        (UnderlayFamily::V4, "10.0.0.1", "198.51.100.7"),
    ] {
        let config =
            OverlayConfig::vxlan(underlay, 1500).with_transit(transit()).with_links_up_without_rules();
        let kernel = start(config, &["red"]).node_state(&node_id(1)).unwrap().into_kernel();
        let up0: LinkName = "up0".parse().unwrap();
        let router = kernel.namespaces.values().find(|netns| netns.links.contains_key(&up0)).unwrap();
        let table = router.tables.values().next().unwrap();
        let passes = |protocol, port, out: &str| {
            let mut packet = RulePacket::new(ip(from), ip(to), protocol).with_ports(40_000, port);
            packet.out_link = Some(out.parse().unwrap());
            evaluate(table, &Hook::Forward, &packet).accepted
        };
        assert!(!passes(17, 4789, "up0"), "{from} to {to}");
        assert!(passes(17, 4790, "up0") && passes(6, 4789, "up0") && passes(17, 4789, "elsewhere"));
    }
}

#[test]
fn with_direct_routing_the_machine_itself_is_the_edge() {
    let overlay = start(OverlayConfig::direct(UnderlayFamily::V6, 1500), &["red"]);
    let kernel = overlay.node_state(&node_id(1)).unwrap().into_kernel();
    let machine = &kernel.namespaces[&Netns::Host];
    let table = machine.tables.values().next().unwrap();
    assert!(is_masqueraded(table, "10.0.0.1", "198.51.100.7"));
    assert!(!is_masqueraded(table, "10.0.0.1", "192.0.2.2"), "nodes know the way back");
    assert!(is_masqueraded(table, "fd00:1::1", "64:ff9b::198.51.100.7"), "who translates to IPv4 is outside");
    let up0: LinkName = "up0".parse().unwrap();
    assert!(kernel.namespaces.values().all(|netns| !netns.links.contains_key(&up0)));
}

#[test]
fn with_direct_routing_what_goes_to_a_peer_keeps_its_address() {
    let mut overlay = start(OverlayConfig::direct(UnderlayFamily::V6, 1500), &["red"]);
    overlay
        .load([
            OverlayChange::PutNode(node(3)),
            OverlayChange::PutTenant(network("green", 6000, &["10.9.0.0/24"])),
            OverlayChange::PutWorkload(workload("green", "a", 3, &["10.9.0.1"])),
        ])
        .unwrap();
    let tables = |overlay: &OverlayNetwork, on: usize| {
        let mut kernel = overlay.node_state(&node_id(on)).unwrap().into_kernel();
        kernel.namespaces.remove(&Netns::Host).unwrap().tables.into_values().collect::<Vec<_>>()
    };
    assert!(is_masqueraded(&tables(&overlay, 1)[0], "10.0.0.1", "10.9.0.1"), "like anybody outside");
    overlay.load([OverlayChange::PutPeering(peering("red", "green"))]).unwrap();
    assert!(!is_masqueraded(&tables(&overlay, 1)[0], "10.0.0.1", "10.9.0.1"));
    assert!(is_masqueraded(&tables(&overlay, 1)[0], "10.0.0.1", "198.51.100.7"));
    assert!(tables(&overlay, 3).is_empty(), "nothing of red leaves by a node that only has routes to it");
}

#[test]
fn a_way_out_comes_and_goes_by_itself() {
    let config =
        OverlayConfig::vxlan(UnderlayFamily::V4, 1500).with_transit(transit()).with_links_up_without_rules();
    let mut overlay = start(config, &["red"]);
    let before = kernels(&overlay);
    let closed = network("red", 5000, &["10.0.0.0/16", "fd00:1::/64"]);
    let changes = overlay.apply(OverlayChange::PutTenant(closed)).unwrap();
    for (node, was) in before {
        let mut kernel = was.clone();
        let ops = changes[&node].ops();
        assert_eq!(ops, diff(&was, &overlay.node_state(&node).unwrap().into_kernel()));
        for op in ops {
            kernel.apply(&op).unwrap();
        }
        assert_eq!(kernel, overlay.node_state(&node).unwrap().into_kernel());
        assert!(kernel.namespaces[&Netns::Host].links.is_empty());
    }
}

#[test]
fn a_way_out_without_addresses_is_refused() {
    let open = |vni| {
        let masquerade = plan().masquerade(&tenant("red"), true);
        OverlayChange::PutTenant(network("red", vni, &["10.0.0.0/16"]).with_egress(masquerade))
    };
    let mut none = OverlayNetwork::new(OverlayConfig::vxlan(UnderlayFamily::V6, 1500)).unwrap();
    assert!(matches!(none.apply(open(5000)).unwrap_err(), InvalidOverlay::NoTransit { .. }));
    let config =
        OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_transit(transit()).with_links_up_without_rules();
    let mut some = OverlayNetwork::new(config).unwrap();
    for (vni, fits) in [(4999, false), (5000, true), (5000 + 1022, true), (5000 + 1023, false)] {
        let refused = some.apply(open(vni)).err();
        assert_eq!(refused.is_none(), fits, "{vni}: {refused:?}");
    }
}

#[test]
fn pitfall_16_on_the_way_to_names_inside_the_cluster_no_source_is_translated() {
    for config in [
        OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_transit(transit()),
        OverlayConfig::direct(UnderlayFamily::V6, 1500),
    ] {
        let overlay = start(config.with_links_up_without_rules(), &["red"]);
        let kernel = overlay.node_state(&node_id(1)).unwrap().into_kernel();
        let leaves = |table: &&RuleTable| table.chains.keys().any(|name| name.as_str() == "leaving");
        let tables: Vec<_> =
            kernel.namespaces.values().flat_map(|netns| netns.tables.values()).filter(leaves).collect();
        assert!(!tables.is_empty());
        // A and AAAA are asked for from one port. Two translations of it may race, and one of the answers is lost: so
        // there is none to the address of the service, nor to the workload behind it, here or on another node.
        for (from, to) in [("10.0.0.1", "10.0.0.2"), ("fd00:1::1", "fd00:5::a"), ("fd00:1::1", "fd00:1::2")] {
            assert!(tables.iter().all(|table| !is_masqueraded(table, from, to)), "{from} to {to}");
        }
        assert!(tables.iter().any(|table| is_masqueraded(table, "10.0.0.1", "198.51.100.7")));
    }
}

#[test]
fn pitfall_30_a_machine_that_forwards_goes_on_listening_to_its_router() {
    let switches = |overlay: &OverlayNetwork| {
        let kernel = overlay.node_state(&node_id(1)).unwrap().into_kernel();
        let machine = kernel.namespaces.get(&Netns::Host).cloned().unwrap_or_default();
        ["net/ipv6/conf/all/forwarding", "net/ipv6/conf/uplink0/accept_ra"]
            .map(|name| machine.sysctls.get(&name.parse().unwrap()).cloned())
    };
    let tunnelled = OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_links_up_without_rules();
    let direct = OverlayConfig::direct(UnderlayFamily::V6, 1500).with_links_up_without_rules();
    let transit_only = tunnelled.clone().with_transit(transit());
    for (config, forwards) in [(tunnelled, false), (transit_only, true), (direct, true)] {
        let mut overlay = OverlayNetwork::new(config).unwrap();
        overlay.apply(OverlayChange::PutNode(node(1))).unwrap();
        let expected = if forwards { [Some("1".into()), Some("2".into())] } else { [None, None] };
        assert_eq!(switches(&overlay), expected);
        // Whose uplink nobody knows cannot be told to listen.
        let mut unnamed = node(2);
        unnamed.uplink = None;
        let refused = overlay.apply(OverlayChange::PutNode(unnamed));
        assert_eq!(matches!(refused, Err(InvalidOverlay::NoUplink { .. })), forwards);
    }
}
