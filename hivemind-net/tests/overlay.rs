//! What follows for each node from nodes, tenants and workloads.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::overlay_world;

use std::collections::BTreeSet;

use hivemind_core::NodeId;
use hivemind_net::dataplane::state::{
    LinkKind, LinkName, Mac, Neighbour, Netns, NetnsState, RouteKey, RouteTarget, SysctlName,
};
use hivemind_net::dataplane::{Action, KernelState, diff};
use hivemind_net::overlay::{
    InvalidMtu, InvalidOverlay, OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, UnderlayFamily,
    Vni, inner_mtu, vtep_mac,
};
use overlay_world::{
    Fate, Wire, block, ip, kernels, net, network, node, node_id, overlay, remove, tenant, workload,
};
use proptest::prelude::*;

fn put(of: &str, id: &str, on: usize, addresses: &[&str]) -> OverlayChange {
    OverlayChange::PutWorkload(workload(of, id, on, addresses))
}

/// Two tenants with the same addresses on three nodes, two workloads of each on every node.
fn twins(family: UnderlayFamily, pools: &[&str]) -> OverlayNetwork {
    let mut overlay = overlay(family, 3);
    for (of, vni) in [("red", 1001), ("blue", 1002)] {
        overlay.load([OverlayChange::PutTenant(network(of, vni, pools))]).unwrap();
        for on in 1..=3 {
            for pool in pools {
                let prefix =
                    if pool.contains(':') { format!("fd10::{on}:0/112") } else { format!("10.10.{on}.0/24") };
                overlay.load([block(of, &prefix, on)]).unwrap();
            }
            for number in 1..=2 {
                let all = [format!("10.10.{on}.{number}"), format!("fd10::{on}:{number}")];
                let inside: Vec<_> = all
                    .iter()
                    .map(String::as_str)
                    .filter(|a| pools.iter().any(|pool| net(pool).contains(&ip(a))))
                    .collect();
                overlay.load([put(of, &format!("w{on}{number}"), on, &inside)]).unwrap();
            }
        }
    }
    overlay
}

const DUAL: [&str; 2] = ["10.10.0.0/16", "fd10::/64"];

#[test]
fn tenants_with_equal_addresses_are_side_by_side_over_either_underlay() {
    for family in [UnderlayFamily::V4, UnderlayFamily::V6] {
        let overlay = twins(family, &DUAL);
        let kernels = kernels(&overlay);
        let wire = Wire { overlay: &overlay, kernels: &kernels };
        assert_eq!(wire.check_all(), 2 * 6 * 6 * 2);
        // No namespace routes for two tenants, and each tunnel has a VNI of its own.
        let red = workload("red", "w11", 1, &["10.10.1.1"]);
        assert_eq!(wire.send(&red, ip("10.10.3.7")), Fate::Unreachable(node_id(3)));
        assert_eq!(wire.send(&red, ip("10.10.9.7")), Fate::Unreachable(node_id(1)));
    }
}

fn namespaces(
    kernels: &std::collections::BTreeMap<NodeId, KernelState>,
) -> impl Iterator<Item = &NetnsState> {
    kernels.values().flat_map(|kernel| kernel.namespaces.values())
}

#[test]
fn ipv6_alone_means_no_ipv4_anywhere() {
    let overlay = twins(UnderlayFamily::V6, &["fd10::/64"]);
    let kernels = kernels(&overlay);
    assert_eq!(Wire { overlay: &overlay, kernels: &kernels }.check_all(), 2 * 6 * 6);
    for netns in namespaces(&kernels) {
        assert!(netns.addresses.keys().all(|key| key.address.is_ipv6()));
        assert!(netns.routes.keys().all(|key| key.destination.addr().is_ipv6()));
        assert!(netns.neighbours.keys().all(|key| key.address.is_ipv6()));
        assert!(netns.remotes.values().flatten().all(|remote| remote.is_ipv6()));
    }
}

#[test]
fn a_node_knows_only_the_nodes_of_its_tenants() {
    let mut overlay = overlay(UnderlayFamily::V6, 4);
    overlay.load([OverlayChange::PutTenant(network("red", 7, &DUAL))]).unwrap();
    overlay.load([put("red", "a", 1, &["10.10.0.1"]), put("red", "b", 2, &["10.10.0.2"])]).unwrap();
    let kernels = kernels(&overlay);
    assert!(kernels[&node_id(3)].namespaces.is_empty() && kernels[&node_id(4)].namespaces.is_empty());
    let routers: Vec<_> =
        kernels[&node_id(1)].namespaces.values().filter(|netns| !netns.remotes.is_empty()).collect();
    assert_eq!(routers.len(), 1);
    assert_eq!(routers[0].remotes.values().flatten().collect::<Vec<_>>(), [&ip("2001:db8:1::2")]);
}

#[test]
fn direct_routing_needs_no_tunnel_and_leads_over_the_uplink() {
    for family in [UnderlayFamily::V4, UnderlayFamily::V6] {
        let config = OverlayConfig::direct(family, 1500).with_links_up_without_rules();
        let mut overlay = OverlayNetwork::new(config).unwrap();
        assert_eq!(overlay.mtu(), 1500);
        overlay.load((1..=3).map(node).map(OverlayChange::PutNode)).unwrap();
        overlay.load([OverlayChange::PutTenant(network("red", 1, &DUAL))]).unwrap();
        overlay.load([block("red", "10.10.1.0/24", 1), block("red", "fd10::1:0/112", 1)]).unwrap();
        overlay
            .load([
                put("red", "a", 1, &["10.10.1.1", "fd10::1:1"]),
                put("red", "b", 2, &["10.10.2.1", "fd10::2:1"]),
                put("red", "borrower", 3, &["10.10.1.9", "fd10::1:9"]),
            ])
            .unwrap();
        let same = OverlayChange::PutTenant(network("blue", 2, &["10.0.0.0/8"]));
        assert_eq!(overlay.apply(same).unwrap_err(), InvalidOverlay::PoolTaken { pool: net("10.0.0.0/8") });
        let kernels = kernels(&overlay);
        assert_eq!(Wire { overlay: &overlay, kernels: &kernels }.check_all(), 3 * 3 * 2);
        let host = &kernels[&node_id(1)].namespaces[&Netns::Host];
        assert!(!host.owned && host.remotes.is_empty());
        assert!(host.links.values().all(|link| matches!(link.kind, LinkKind::Veth { .. })));
        let accept: SysctlName = "net/ipv6/conf/uplink0/accept_ra".parse().unwrap();
        assert_eq!(host.sysctls[&accept], "2", "or the default route that was announced goes");
    }
}

#[test]
fn with_direct_routing_ipv6_leads_to_nodes_by_ipv6_alone() {
    let bare = |number: usize| {
        let node = OverlayNode::new(node_id(number), 1500).with_address(ip(&format!("192.0.2.{number}")));
        node.with_uplink("uplink0".parse().unwrap())
    };
    let refused = InvalidOverlay::NoNextHop { node: node_id(3) };
    let mut overlay = OverlayNetwork::new(OverlayConfig::direct(UnderlayFamily::V4, 1500)).unwrap();
    overlay.load([node(1), node(2), bare(3)].map(OverlayChange::PutNode)).unwrap();
    let both = || OverlayChange::PutTenant(network("red", 1, &DUAL));
    assert_eq!(overlay.apply(both()).unwrap_err(), refused);
    overlay.load([OverlayChange::PutTenant(network("red", 1, &DUAL[..1]))]).unwrap();
    let twice = bare(3).with_address(ip("2001:db8:1::1"));
    let taken = overlay.apply(OverlayChange::PutNode(twice)).unwrap_err();
    assert!(matches!(taken, InvalidOverlay::UnderlayAddressTaken { .. }), "{taken}");
    overlay.load([OverlayChange::PutNode(node(3)), both()]).unwrap();
    assert_eq!(overlay.apply(OverlayChange::PutNode(bare(3))).unwrap_err(), refused);
    let tunnelled = OverlayNetwork::new(OverlayConfig::vxlan(UnderlayFamily::V4, 1500));
    tunnelled.unwrap().load([OverlayChange::PutNode(bare(3)), both()]).unwrap();
}

/// Blocks by their index, and addresses by their last byte, with the nodes that they are on.
type Allocation = (Vec<(usize, usize)>, Vec<(u8, usize)>);

/// Any allocation over any blocks, borrowed addresses included.
fn allocation() -> impl Strategy<Value = Allocation> {
    let blocks = proptest::collection::vec((0usize..8, 1usize..=4), 0..8);
    let workloads = proptest::collection::btree_map(0u8..128, 1usize..=4, 1..24);
    (blocks, workloads.prop_map(|map| map.into_iter().collect()))
}

proptest! {
    #[test]
    fn pitfall_09_every_allocated_address_has_a_route_on_every_node_of_its_tenant(
        (blocks, workloads) in allocation(),
    ) {
        let mut overlay = overlay(UnderlayFamily::V6, 4);
        let pools = ["10.10.0.0/25", "fd10::/121"];
        overlay.load([OverlayChange::PutTenant(network("red", 5, &pools))]).unwrap();
        for (index, on) in blocks {
            overlay.load([block("red", &format!("10.10.0.{}/28", index * 16), on)]).unwrap();
            overlay.load([block("red", &format!("fd10::{:x}/124", index * 16), on)]).unwrap();
        }
        for (last, on) in &workloads {
            let addresses = [format!("10.10.0.{last}"), format!("fd10::{last:x}")];
            let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
            overlay.load([put("red", &format!("w{last}"), *on, &addresses)]).unwrap();
        }
        let kernels = kernels(&overlay);
        let present: BTreeSet<_> = workloads.iter().map(|(_, on)| *on).collect();
        let vni = Vni::new(5).unwrap();
        for at in &present {
            // The oracle: the longest prefix of the one namespace that routes.
            let routers = kernels[&node_id(*at)].namespaces.values();
            let router = routers.into_iter().find(|netns| netns.links.keys().any(|l| l.as_str() == "vx5")).unwrap();
            for last in 0u8..128 {
                let holder = workloads.iter().find(|(held, _)| *held == last);
                for address in [ip(&format!("10.10.0.{last}")), ip(&format!("fd10::{last:x}"))] {
                    let matching = router.routes.iter().filter(|(key, _)| key.destination.contains(&address));
                    let (_, route) = matching.max_by_key(|(key, _)| key.destination.prefix_len()).unwrap();
                    match (holder, &route.target) {
                        (Some((_, on)), RouteTarget::Link { dev, gateway, .. }) if on == at => {
                            prop_assert_eq!(*gateway, None);
                            let to = LinkKind::Veth {
                                peer_netns: workload("red", &format!("w{last}"), *on, &[]).effective_netns().unwrap(),
                                peer: "eth0".parse().unwrap(),
                            };
                            prop_assert_eq!(&router.links[dev].kind, &to);
                        }
                        (Some((_, on)), RouteTarget::Link { dev, gateway, .. }) => {
                            prop_assert_eq!(dev.as_str(), "vx5");
                            let via = hivemind_net::overlay::link_local(vtep_mac(&node_id(*on), &tenant("red"), vni));
                            prop_assert_eq!(*gateway, Some(via.into()));
                        }
                        (Some(_), target) => prop_assert!(false, "{} at {}: {:?}", address, at, target),
                        // Nobody's: not at a workload here.
                        (None, RouteTarget::Link { gateway, .. }) => prop_assert!(gateway.is_some()),
                        (None, _) => {}
                    }
                }
            }
        }
        Wire { overlay: &overlay, kernels: &kernels }.check_all();
    }
}

#[test]
fn pitfall_12_stale_entries_are_replaced_and_a_recreated_node_keeps_its_mac() {
    let mut overlay = twins(UnderlayFamily::V6, &DUAL);
    let before = kernels(&overlay);
    // The node comes back under another address: only where its tunnels end is different.
    let back = node(3).with_address(ip("2001:db8:1::33"));
    let changes = overlay.apply(OverlayChange::PutNode(back)).unwrap();
    for other in [1, 2] {
        let ops = changes[&node_id(other)].ops();
        assert_eq!(ops.len(), 2, "one forwarding entry per tenant: {ops:?}");
        assert!(
            ops.iter().all(|op| matches!(op.action, Action::SetRemote(_, to) if to == ip("2001:db8:1::33")))
        );
    }
    // A node that missed that, and whose entries somebody spoilt besides, is repaired by one comparison.
    let mut stale = before[&node_id(1)].clone();
    let router = stale.namespaces.values_mut().find(|netns| !netns.remotes.is_empty()).unwrap();
    let wrong: Mac = "02:00:00:00:00:99".parse().unwrap();
    for neighbour in router.neighbours.values_mut() {
        *neighbour = Neighbour::Permanent(wrong);
    }
    let spoilt = router.neighbours.len();
    let gone = router.routes.keys().next().unwrap().clone();
    router.routes.remove(&gone);
    let wanted = overlay.node_state(&node_id(1)).unwrap().into_kernel();
    let ops = diff(&stale, &wanted);
    assert_eq!(ops.len(), spoilt + 2 + 1);
    for op in &ops {
        stale.apply(op).unwrap();
    }
    assert_eq!(stale, wanted);
}

#[test]
fn pitfall_14_every_link_has_the_computed_mtu_and_unequal_peers_are_refused() {
    for (config, mtu) in [
        (OverlayConfig::vxlan(UnderlayFamily::V4, 1500), 1450),
        (OverlayConfig::vxlan(UnderlayFamily::V6, 1500), 1430),
        (OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_encryption_overhead(80), 1350),
        (OverlayConfig::direct(UnderlayFamily::V6, 1500).with_encryption_overhead(80), 1420),
    ] {
        let mut overlay = OverlayNetwork::new(config).unwrap();
        overlay.load((1..=2).map(node).map(OverlayChange::PutNode)).unwrap();
        overlay.load([OverlayChange::PutTenant(network("red", 7, &DUAL))]).unwrap();
        overlay.load([put("red", "a", 1, &["10.10.0.1"]), put("red", "b", 2, &["10.10.0.2"])]).unwrap();
        let kernels = kernels(&overlay);
        let mut links = namespaces(&kernels).flat_map(|netns| netns.links.values());
        assert!(links.all(|link| link.mtu == mtu), "{mtu}");
        assert_eq!(overlay.mtu(), mtu);

        let jumbo = OverlayNode::new(node_id(3), 9000)
            .with_address(ip("2001:db8:1::3"))
            .with_address(ip("192.0.2.3"));
        let refused = overlay.apply(OverlayChange::PutNode(jumbo)).unwrap_err();
        assert_eq!(refused, InvalidOverlay::UnequalMtu { node: node_id(3), mtu: 9000, expected: 1500 });
        assert_eq!(
            refused.to_string(),
            "node n3 has an MTU of 9000 between nodes, the others 1500: make them equal"
        );
    }
    let small = OverlayNetwork::new(OverlayConfig::vxlan(UnderlayFamily::V6, 1349)).unwrap_err();
    assert_eq!(small, InvalidOverlay::Mtu(inner_mtu(1349, 70).unwrap_err()));
    assert!(matches!(small, InvalidOverlay::Mtu(InvalidMtu::TooSmall { inner: 1279, .. })));
}

#[test]
fn pitfall_23_no_address_waits_for_duplicate_detection() {
    let overlay = twins(UnderlayFamily::V6, &DUAL);
    let off: SysctlName = "net/ipv6/conf/default/accept_dad".parse().unwrap();
    for kernel in kernels(&overlay).values() {
        for netns in kernel.namespaces.values() {
            assert_eq!(netns.sysctls[&off], "0");
            // The kernel makes none by itself, which it would probe: all are given, and those are never probed.
            assert!(netns.links.values().all(|link| !link.link_local));
        }
        // A link takes the setting when it is made, so that comes first.
        let ops = diff(&KernelState::new(), kernel);
        let set = ops.iter().rposition(|op| matches!(&op.action, Action::SetSysctl(name, _) if *name == off));
        let made = ops.iter().position(|op| matches!(op.action, Action::CreateLink { .. }));
        assert!(set < made);
    }
}

#[test]
fn pitfall_30_ipv6_that_somebody_switched_off_is_seen_and_switched_on() {
    let overlay = twins(UnderlayFamily::V6, &DUAL);
    let wanted = overlay.node_state(&node_id(1)).unwrap().into_kernel();
    let switches = ["net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/accept_ra"];
    for (switch, value) in switches.into_iter().zip(["1", "2"]) {
        let name: SysctlName = switch.parse().unwrap();
        for at in wanted.namespaces.keys() {
            let mut drifted = wanted.clone();
            drifted.namespaces.get_mut(at).unwrap().sysctls.insert(name.clone(), value.to_owned());
            let ops = diff(&drifted, &wanted);
            assert_eq!(ops.len(), 1, "{at} {switch}");
            assert_eq!(ops[0].action, Action::SetSysctl(name.clone(), "0".to_owned()));
        }
    }
}

#[test]
fn a_workload_has_its_addresses_alone_and_one_gateway_for_both_versions() {
    let overlay = twins(UnderlayFamily::V4, &DUAL);
    let kernel = overlay.node_state(&node_id(1)).unwrap().into_kernel();
    let w11 = workload("red", "w11", 1, &["10.10.1.1", "fd10::1:1"]);
    let own = &kernel.namespaces[&w11.effective_netns().unwrap()];
    let addresses: Vec<_> =
        own.addresses.keys().map(|key| format!("{}/{}", key.address, key.prefix_len)).collect();
    assert_eq!(addresses[..2], ["10.10.1.1/32", "fd10::1:1/128"]);
    assert!(own.owned && addresses[2].starts_with("fe80::") && addresses.len() == 3);
    for anywhere in ["0.0.0.0/0", "::/0"] {
        let RouteTarget::Link { gateway, .. } = &own.routes[&RouteKey::new(net(anywhere))].target else {
            panic!()
        };
        assert_eq!(*gateway, Some(ip("fe80::1")));
    }
    // A namespace that the host made is used, and never ours.
    let mut overlay = overlay;
    let container: Netns = "/proc/42/ns/net".parse().unwrap();
    let given = w11.with_netns(container.clone()).with_mac("02:00:00:00:00:42".parse().unwrap());
    overlay.apply(OverlayChange::PutWorkload(given)).unwrap();
    let kernel = overlay.node_state(&node_id(1)).unwrap().into_kernel();
    assert!(!kernel.namespaces[&container].owned);
    let eth0: LinkName = "eth0".parse().unwrap();
    assert_eq!(kernel.namespaces[&container].links[&eth0].mac, "02:00:00:00:00:42".parse().unwrap());
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let mut overlay = twins(UnderlayFamily::V6, &DUAL);
    let gateway = hivemind_net::overlay::gateway_mac(Vni::new(1001).unwrap());
    let only_v4 = OverlayNode::new(node_id(9), 1500).with_address(ip("192.0.2.9"));
    let w = |on, address| workload("red", "new", on, &[address]);
    for (change, says) in [
        (
            OverlayChange::PutNode(only_v4),
            "node n9 has no address of the underlay's IP version (V6): give it one",
        ),
        (
            OverlayChange::PutNode(node(9).with_address(ip("2001:db8:1::1"))),
            "nodes n9 and n1 both have 2001:db8:1::1",
        ),
        (
            OverlayChange::RemoveNode(node_id(1)),
            "node n1 has 4 workloads and 4 blocks: remove them, or put them elsewhere, first",
        ),
        (OverlayChange::PutTenant(network("green", 1001, &DUAL)), "VNI 1001 is that of another network"),
        (
            OverlayChange::PutTenant(network("red", 1001, &["fd10::/64"])),
            "10.10.1.1/32 is in no pool of tenant red",
        ),
        (
            OverlayChange::RemoveTenant(tenant("red")),
            "the network of tenant red has 6 workloads: remove them first",
        ),
        (block("red", "10.11.0.0/24", 1), "10.11.0.0/24 is in no pool of tenant red"),
        (
            block("red", "10.10.0.0/20", 1),
            "block 10.10.0.0/20 overlaps block 10.10.1.0/24 of node n1: remove that first",
        ),
        (
            block("red", "10.10.1.128/25", 2),
            "block 10.10.1.128/25 overlaps block 10.10.1.0/24 of node n1: remove that first",
        ),
        (block("red", "10.10.4.0/24", 7), "there is no node n7: put it first"),
        (block("green", "10.10.4.0/24", 1), "tenant green has no network: put it first"),
        (put("red", "new", 1, &[]), "workload new has no address"),
        (OverlayChange::PutWorkload(w(8, "10.10.4.1")), "there is no node n8: put it first"),
        (OverlayChange::PutWorkload(w(1, "10.10.1.2")), "10.10.1.2 is that of workload w12"),
        (OverlayChange::PutWorkload(w(1, "10.12.1.2")), "10.12.1.2/32 is in no pool of tenant red"),
        (
            OverlayChange::PutWorkload(w(1, "10.10.4.1").with_mac(gateway)),
            &format!("workload new cannot have the MAC {gateway}: give it another, unicast one"),
        ),
        (
            OverlayChange::PutWorkload(w(1, "10.10.4.1").with_mac("33:33:00:00:00:01".parse().unwrap())),
            "workload new cannot have the MAC 33:33:00:00:00:01: give it another, unicast one",
        ),
        (
            OverlayChange::PutWorkload(w(1, "10.10.4.1").with_link("vx1001".parse().unwrap())),
            "node n1 has a link vx1001 already: name that of workload new otherwise",
        ),
        (
            OverlayChange::PutWorkload(w(1, "10.10.4.1").with_netns(Netns::Host)),
            "workload new cannot be in network namespace @host: it is the machine's, a router's or another workload's",
        ),
    ] {
        let before = kernels(&overlay);
        assert_eq!(overlay.apply(change.clone()).unwrap_err().to_string(), says, "{change:?}");
        assert_eq!(kernels(&overlay), before);
    }
}

#[test]
fn with_direct_routing_no_workload_has_the_link_of_the_node() {
    let mut overlay = OverlayNetwork::new(OverlayConfig::direct(UnderlayFamily::V6, 1500)).unwrap();
    overlay.load((1..=2).map(node).map(OverlayChange::PutNode)).unwrap();
    overlay.load([OverlayChange::PutTenant(network("red", 1, &DUAL))]).unwrap();
    let named = |link: &str| {
        let workload = workload("red", "a", 1, &["10.10.7.1"]).with_link(link.parse().unwrap());
        OverlayChange::PutWorkload(workload)
    };
    let uplink = node(1).uplink.unwrap().to_string();
    let before = kernels(&overlay);
    let refused = overlay.apply(named(&uplink)).unwrap_err();
    assert!(matches!(refused, InvalidOverlay::LinkTaken { .. }), "{refused}");
    assert_eq!(kernels(&overlay), before);
    // Nor does a node get an uplink that a workload has.
    overlay.apply(named("tap0")).unwrap();
    let other = node(1).with_uplink("tap0".parse().unwrap());
    let refused = overlay.apply(OverlayChange::PutNode(other)).unwrap_err();
    assert!(matches!(refused, InvalidOverlay::LinkTaken { .. }), "{refused}");
    // With tunnels the two are in different namespaces.
    let mut tunnelled = twins(UnderlayFamily::V6, &DUAL);
    tunnelled.apply(named(&uplink)).unwrap();
}

#[test]
fn names_that_collide_are_refused() {
    let mut overlay = twins(UnderlayFamily::V6, &DUAL);
    let named = |id: &str, address: &str| {
        workload("red", id, 1, &[address])
            .with_link("tap0".parse().unwrap())
            .with_netns("ns-a".parse().unwrap())
    };
    overlay.apply(OverlayChange::PutWorkload(named("a", "10.10.7.1"))).unwrap();
    let refused = overlay.apply(OverlayChange::PutWorkload(named("b", "10.10.7.2"))).unwrap_err();
    assert!(matches!(refused, InvalidOverlay::LinkTaken { .. }));
    let other_link = named("b", "10.10.7.2").with_link("tap1".parse().unwrap());
    let refused = overlay.apply(OverlayChange::PutWorkload(other_link)).unwrap_err();
    assert!(matches!(refused, InvalidOverlay::NetnsTaken { .. }));
    overlay.apply(remove("red", "a")).unwrap();
    overlay.apply(OverlayChange::PutWorkload(named("b", "10.10.7.2"))).unwrap();

    // A tunnel end that comes later must find its name free, too.
    let like_a_tunnel = workload("red", "t", 1, &["10.10.7.4"]).with_link("vx4711".parse().unwrap());
    overlay.apply(OverlayChange::PutWorkload(like_a_tunnel)).unwrap();
    let renumbered = overlay.tenants().find(|network| network.tenant == tenant("red")).unwrap();
    let mut renumbered = renumbered.clone();
    renumbered.vni = Vni::new(4711).unwrap();
    let refused = overlay.apply(OverlayChange::PutTenant(renumbered)).unwrap_err();
    assert!(matches!(refused, InvalidOverlay::LinkTaken { .. }), "{refused}");

    // Where another tenant's packets are routed, a workload would see them all.
    let on_node = overlay.node_state(&"n1".parse().unwrap()).unwrap().into_kernel();
    let routers = on_node.namespaces.keys().map(ToString::to_string).filter(|name| name.starts_with("hm-r"));
    let routers: Vec<_> = routers.collect();
    assert_eq!(routers.len(), 2, "{routers:?}");
    for netns in routers.iter().flat_map(|name| [name.clone(), format!("/run/netns/{name}")]) {
        let inside = workload("red", "c", 1, &["10.10.7.3"]).with_netns(netns.parse().unwrap());
        let refused = overlay.apply(OverlayChange::PutWorkload(inside)).unwrap_err();
        assert!(matches!(refused, InvalidOverlay::NetnsTaken { .. }), "{netns}: {refused}");
    }

    // Two names of nodes whose MACs are the same in this VNI, found by search.
    let (one, other): (NodeId, NodeId) = ("n3151226".parse().unwrap(), "n13954757".parse().unwrap());
    let vni = Vni::new(100).unwrap();
    let green = tenant("green");
    assert_eq!(vtep_mac(&one, &green, vni), vtep_mac(&other, &green, vni));
    for (index, id) in [&one, &other].into_iter().enumerate() {
        let address = ip(&format!("2001:db8:2::{index}"));
        overlay
            .apply(OverlayChange::PutNode(OverlayNode::new(id.clone(), 1500).with_address(address)))
            .unwrap();
    }
    overlay.apply(OverlayChange::PutTenant(network("green", 100, &DUAL))).unwrap();
    let on = |id: &str, node: &NodeId, address: &str| {
        let mut workload = workload("green", id, 1, &[address]);
        workload.node = node.clone();
        OverlayChange::PutWorkload(workload)
    };
    overlay.apply(on("a", &one, "10.10.0.1")).unwrap();
    let refused = overlay.apply(on("b", &other, "10.10.0.2")).unwrap_err();
    assert!(matches!(refused, InvalidOverlay::VtepMacTaken { .. }), "{refused}");
    // Another VNI, other MACs.
    overlay.apply(OverlayChange::PutTenant(network("green", 101, &DUAL))).unwrap();
    overlay.apply(on("b", &other, "10.10.0.2")).unwrap();
    let refused = overlay.apply(OverlayChange::PutTenant(network("green", 100, &DUAL))).unwrap_err();
    assert!(matches!(refused, InvalidOverlay::VtepMacTaken { .. }), "{refused}");
}
