//! Ways between tenants: where they are, what they need, and what cannot be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::NodeId;
use hivemind_core::labels::Labels;
use hivemind_net::dataplane::rules::{Family, Field, RuleTable, Statement, TableKey, Verdict};
use hivemind_net::dataplane::state::{LinkKind, LinkName, Netns, RouteKey, RouteTarget};
use hivemind_net::dataplane::{Action, KernelState, Op, diff};
use hivemind_net::overlay::{
    AddressPlan, InvalidOverlay, NodeChange, OverlayChange, OverlayConfig, OverlayNetwork, OverlayState,
    Peering, Transit, UnderlayFamily, Vni,
};
use hivemind_net::policy::rules::NodeRules;
use hivemind_net::policy::{Change, Endpoint, Engine, Prepared, Profile};

use crate::overlay_world::{
    Fate, Wire, block, ip, kernels, net, network, node, node_id, overlay, peering, remove, tenant, workload,
};

fn put(of: &str, id: &str, on: usize, addresses: &[&str]) -> OverlayChange {
    OverlayChange::PutWorkload(workload(of, id, on, addresses))
}

fn pools(of: &str) -> [&'static str; 2] {
    match of {
        "red" | "blue" => ["10.1.0.0/24", "fd01::/64"],
        "green" => ["10.2.0.0/24", "fd02::/64"],
        _ => ["10.3.0.0/24", "fd03::/64"],
    }
}

/// Red on nodes 1 and 2, green on nodes 2 and 3, gold on node 4; nodes 5 and 6 are empty.
fn fill(overlay: &mut OverlayNetwork) {
    for (of, vni) in ["red", "green", "gold", "blue"].into_iter().zip(1001..) {
        overlay.load([OverlayChange::PutTenant(network(of, vni, &pools(of)))]).unwrap();
    }
    overlay.load([block("red", "10.1.0.0/28", 1), block("green", "fd02::10/124", 3)]).unwrap();
    for (of, id, on, addresses) in [
        ("red", "a", 1, ["10.1.0.1", "fd01::1"]),
        ("red", "b", 2, ["10.1.0.17", "fd01::11"]),
        ("green", "a", 2, ["10.2.0.1", "fd02::1"]),
        ("green", "b", 3, ["10.2.0.17", "fd02::11"]),
        ("gold", "a", 4, ["10.3.0.1", "fd03::1"]),
    ] {
        overlay.load([put(of, id, on, &addresses)]).unwrap();
    }
}

fn start() -> OverlayNetwork {
    let mut overlay = overlay(UnderlayFamily::V6, 6);
    fill(&mut overlay);
    overlay
}

fn routers(kernel: &KernelState) -> BTreeSet<String> {
    let tunnels = kernel.namespaces.values().flat_map(|netns| netns.links.keys());
    tunnels.map(ToString::to_string).filter(|name| name.starts_with("vx")).collect()
}

#[test]
fn peers_reach_each_other_over_both_families_and_nobody_else_does() {
    for family in [UnderlayFamily::V4, UnderlayFamily::V6] {
        let mut overlay = overlay(family, 6);
        fill(&mut overlay);
        let within = Wire { overlay: &overlay, kernels: &kernels(&overlay) }.check_all();
        let changes = overlay.apply(OverlayChange::PutPeering(peering("green", "red"))).unwrap();
        assert_eq!(changes.keys().cloned().collect::<Vec<_>>(), [node_id(1), node_id(2), node_id(3)]);
        let kernels = kernels(&overlay);
        assert_eq!(Wire { overlay: &overlay, kernels: &kernels }.check_all(), within + 2 * 4 * 2);
        for (on, tunnels) in [(1, 2), (2, 2), (3, 2), (4, 1), (5, 0)] {
            assert_eq!(routers(&kernels[&node_id(on)]).len(), tunnels, "node {on}");
        }
        // Nobody's address of a peer's: the sender is told, and it does not leave by a default route.
        let wire = Wire { overlay: &overlay, kernels: &kernels };
        let a = workload("red", "a", 1, &["10.1.0.1", "fd01::1"]);
        assert_eq!(wire.send(&a, ip("10.2.0.99")), Fate::Unreachable(node_id(1)));
        assert_eq!(wire.send(&a, ip("fd02::1f")), Fate::Unreachable(node_id(3)));
    }
}

#[test]
fn a_tenant_has_several_peers_and_they_are_none_of_each_other() {
    let mut overlay = start();
    overlay.load(["green", "gold"].map(|other| OverlayChange::PutPeering(peering("red", other)))).unwrap();
    let kernels = kernels(&overlay);
    Wire { overlay: &overlay, kernels: &kernels }.check_all();
    let all: Vec<_> = overlay.peerings().collect();
    assert_eq!(all, [peering("gold", "red"), peering("green", "red")]);
    // Where neither of two is, there is no link between their routers.
    let links = |on: usize| {
        let all = kernels[&node_id(on)].namespaces.values().flat_map(|netns| netns.links.keys());
        all.map(ToString::to_string).filter(|name| name.starts_with("pr")).collect::<BTreeSet<_>>()
    };
    assert_eq!(links(3), BTreeSet::from(["pr1001".to_owned(), "pr1002".to_owned()]));
    assert_eq!(links(4), BTreeSet::from(["pr1001".to_owned(), "pr1003".to_owned()]));
    assert!(
        kernels
            .values()
            .flat_map(|kernel| kernel.namespaces.values())
            .all(|netns| { netns.links.values().all(|link| link.mtu == overlay.mtu()) })
    );
}

#[test]
fn a_workload_more_is_as_little_news_to_peers_as_to_its_own() {
    let mut overlay = start();
    overlay.load([OverlayChange::PutPeering(peering("red", "green"))]).unwrap();
    let named = |changes: &BTreeMap<NodeId, NodeChange>| changes.keys().cloned().collect::<Vec<_>>();
    // In the block of its node.
    let changes = overlay.apply(put("red", "c", 1, &["10.1.0.2"])).unwrap();
    assert_eq!(named(&changes), [node_id(1)]);
    // Borrowed: one route in each router of both tenants, but for the one that has the workload's link.
    let changes = overlay.apply(put("red", "d", 1, &["10.1.0.18"])).unwrap();
    assert_eq!(named(&changes), [node_id(1), node_id(2), node_id(3)]);
    let routes = |changes: &BTreeMap<NodeId, NodeChange>, on: usize| {
        let ops = changes[&node_id(on)].ops();
        ops.iter().filter(|op| matches!(op.action, Action::AddRoute(..))).count()
    };
    // Its own link has two besides: that of the workload's address, and its default route.
    assert_eq!([1, 2, 3].map(|on| routes(&changes, on)), [1 + 2, 2, 2]);
    assert!(overlay.apply(put("red", "d", 1, &["10.1.0.18"])).unwrap().is_empty());
    // The last of green on node 3: what was there for it alone goes with it.
    let changes = overlay.apply(remove("green", "b")).unwrap();
    assert_eq!(named(&changes), [node_id(1), node_id(2), node_id(3)]);
    assert!(overlay.node_state(&node_id(3)).unwrap().into_kernel().namespaces.is_empty());
}

/// The routes on a node to somewhere else than an end.
fn routes_to(overlay: &OverlayNetwork, on: usize, pools: &[&str]) -> BTreeSet<String> {
    let kernel = overlay.node_state(&node_id(on)).unwrap().into_kernel();
    let Some(host) = kernel.namespaces.get(&Netns::Host) else { return BTreeSet::new() };
    let to = host.routes.iter().filter(|(key, route)| {
        let within = pools.iter().any(|pool| net(pool).contains(&key.destination));
        within && matches!(route.target, RouteTarget::Link { gateway: Some(_), .. })
    });
    to.map(|(key, _)| key.destination.to_string()).collect()
}

#[test]
fn with_direct_routing_peers_have_routes_to_each_other_and_nobody_has_more() {
    for family in [UnderlayFamily::V4, UnderlayFamily::V6] {
        let config = OverlayConfig::direct(family, 1500).with_links_up_without_rules();
        let mut overlay = OverlayNetwork::new(config).unwrap();
        overlay.load((1..=6).map(node).map(OverlayChange::PutNode)).unwrap();
        for (of, vni) in [("red", 1001), ("green", 1002), ("gold", 1003)] {
            overlay.load([OverlayChange::PutTenant(network(of, vni, &pools(of)))]).unwrap();
        }
        overlay.load([block("red", "10.1.0.0/28", 1), block("green", "fd02::10/124", 3)]).unwrap();
        for (of, id, on, addresses) in [
            ("red", "a", 1, ["10.1.0.1", "fd01::1"]),
            ("red", "b", 2, ["10.1.0.17", "fd01::11"]),
            ("green", "a", 2, ["10.2.0.1", "fd02::1"]),
            ("green", "b", 3, ["10.2.0.17", "fd02::11"]),
            ("gold", "a", 4, ["10.3.0.1", "fd03::1"]),
        ] {
            overlay.load([put(of, id, on, &addresses)]).unwrap();
        }
        let [red, green] = ["red", "green"].map(pools);
        assert!(routes_to(&overlay, 1, &green).is_empty() && routes_to(&overlay, 3, &red).is_empty());
        let changes = overlay.apply(OverlayChange::PutPeering(peering("red", "green"))).unwrap();
        assert_eq!(changes.keys().cloned().collect::<Vec<_>>(), [node_id(1), node_id(3)], "2 has both");
        let to_green = ["10.2.0.1/32", "10.2.0.17/32", "fd02::1/128", "fd02::10/124"];
        assert_eq!(routes_to(&overlay, 1, &green), to_green.map(str::to_owned).into());
        assert!(routes_to(&overlay, 4, &[red, green].concat()).is_empty());
        Wire { overlay: &overlay, kernels: &kernels(&overlay) }.check_all();
        assert!(
            kernels(&overlay)
                .values()
                .flat_map(|kernel| kernel.namespaces.values())
                .all(|netns| { netns.links.values().all(|link| matches!(link.kind, LinkKind::Veth { .. })) })
        );

        // A workload more is as little news as without the peer; a borrowed one is a route on each of the nodes of both.
        let named = |changes: BTreeMap<NodeId, NodeChange>| changes.into_keys().collect::<Vec<_>>();
        assert_eq!(named(overlay.apply(put("red", "c", 1, &["10.1.0.2"])).unwrap()), [node_id(1)]);
        let changes = overlay.apply(put("red", "d", 1, &["10.1.0.18"])).unwrap();
        assert_eq!([2, 3].map(|on| changes[&node_id(on)].ops().len()), [1, 1]);
        assert_eq!(named(changes), [node_id(1), node_id(2), node_id(3)]);
        let changes = overlay.apply(OverlayChange::RemovePeering(peering("red", "green"))).unwrap();
        assert_eq!(named(changes), [node_id(1), node_id(3)]);
        assert!(routes_to(&overlay, 1, &green).is_empty() && routes_to(&overlay, 3, &red).is_empty());
    }
}

#[test]
fn what_cannot_be_peered_is_refused_and_changes_nothing() {
    let mut overlay = start();
    overlay.load([OverlayChange::PutPeering(peering("red", "green"))]).unwrap();
    let overlaps =
        |tenant: &str, pool: &str, other: &str, other_pool: &str| InvalidOverlay::PeeredPoolsOverlap {
            tenant: tenant.parse().unwrap(),
            pool: net(pool),
            other: other.parse().unwrap(),
            other_pool: net(other_pool),
        };
    let wider = |of: &str, vni| network(of, vni, &[&pools(of)[..], &["10.0.0.0/8"]].concat());
    for (change, refusal) in [
        (
            OverlayChange::PutPeering(peering("red", "blue")),
            overlaps("red", "10.1.0.0/24", "blue", "10.1.0.0/24"),
        ),
        // Green would have routes to both.
        (
            OverlayChange::PutPeering(peering("blue", "green")),
            overlaps("blue", "10.1.0.0/24", "red", "10.1.0.0/24"),
        ),
        // A pool that comes later.
        (OverlayChange::PutTenant(wider("red", 1001)), overlaps("red", "10.0.0.0/8", "green", "10.2.0.0/24")),
        (
            OverlayChange::PutPeering(peering("red", "red")),
            InvalidOverlay::PeeredWithItself { tenant: "red".parse().unwrap() },
        ),
        (
            OverlayChange::PutPeering(peering("red", "nobody")),
            InvalidOverlay::UnknownTenant { tenant: "nobody".parse().unwrap() },
        ),
        (
            OverlayChange::PutWorkload(
                workload("red", "x", 1, &["10.1.0.9"]).with_link("pr4711".parse().unwrap()),
            ),
            InvalidOverlay::LinkTaken {
                node: node_id(1),
                link: "pr4711".parse().unwrap(),
                workload: "x".parse().unwrap(),
            },
        ),
    ] {
        let before = (kernels(&overlay), overlay.peerings().collect::<Vec<_>>());
        assert_eq!(overlay.apply(change.clone()).unwrap_err(), refusal, "{change:?}");
        assert_eq!((kernels(&overlay), overlay.peerings().collect::<Vec<_>>()), before);
    }
    assert_eq!(
        overlaps("red", "10.1.0.0/24", "blue", "10.1.0.0/24").to_string(),
        "pool 10.1.0.0/24 of tenant red overlaps pool 10.1.0.0/24 of tenant blue: of tenants between whom there is a \
         way, and of all peers of one tenant, no address may be the same"
    );
    // Two peers of one are not each other's, and yet in one routing table.
    overlay.apply(OverlayChange::PutPeering(peering("gold", "green"))).unwrap();
    let refused = overlay.apply(OverlayChange::PutTenant(network(
        "gold",
        1003,
        &["10.3.0.0/24", "fd03::/64", "fd01::/32"],
    )));
    assert_eq!(refused.unwrap_err(), overlaps("gold", "fd01::/32", "red", "fd01::/64"));
    overlay.apply(remove("gold", "a")).unwrap();
    let refused = overlay.apply(OverlayChange::RemoveTenant(tenant("gold"))).unwrap_err();
    assert_eq!(refused.to_string(), "tenant gold is peered with tenant green: remove that peering first");
    overlay.apply(OverlayChange::RemovePeering(peering("green", "gold"))).unwrap();
    overlay.apply(OverlayChange::RemoveTenant(tenant("gold"))).unwrap();
}

#[test]
fn tunnel_ends_of_peers_are_checked_where_they_come_to_be() {
    // Two names of nodes whose MACs are the same in green's network, found by search.
    let (one, other): (NodeId, NodeId) = ("n3151226".parse().unwrap(), "n13954757".parse().unwrap());
    let mut overlay = overlay(UnderlayFamily::V6, 1);
    for (index, id) in [&one, &other].into_iter().enumerate() {
        let mut at = node(90 + index);
        at.id = id.clone();
        overlay.load([OverlayChange::PutNode(at)]).unwrap();
    }
    overlay.load([OverlayChange::PutTenant(network("red", 101, &pools("red")))]).unwrap();
    overlay.load([OverlayChange::PutTenant(network("green", 100, &pools("green")))]).unwrap();
    let on = |of: &str, node: &NodeId, address: &str| {
        let mut workload = workload(of, "a", 1, &[address]);
        workload.node = node.clone();
        OverlayChange::PutWorkload(workload)
    };
    overlay.apply(on("red", &one, "10.1.0.1")).unwrap();
    overlay.apply(on("green", &other, "10.2.0.1")).unwrap();
    let refused = overlay.apply(OverlayChange::PutPeering(peering("red", "green"))).unwrap_err();
    assert!(matches!(refused, InvalidOverlay::VtepMacTaken { .. }), "{refused}");
    overlay.apply(on("green", &node_id(1), "10.2.0.1")).unwrap();
    overlay.apply(OverlayChange::PutPeering(peering("red", "green"))).unwrap();
    let refused = overlay.apply(on("green", &other, "10.2.0.1")).unwrap_err();
    assert!(matches!(refused, InvalidOverlay::VtepMacTaken { .. }), "{refused}");
    overlay.apply(OverlayChange::RemovePeering(peering("red", "green"))).unwrap();
    overlay.apply(on("green", &other, "10.2.0.1")).unwrap();
}

#[test]
fn what_goes_to_a_peer_keeps_its_address() {
    let transit = Transit::new(Vni::new(1001).unwrap()).with_prefix(net("100.64.0.0/24"));
    let config = OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_transit(transit);
    let mut overlay = OverlayNetwork::new(config.with_links_up_without_rules()).unwrap();
    overlay.load((1..=6).map(node).map(OverlayChange::PutNode)).unwrap();
    fill(&mut overlay);
    let plan = AddressPlan::new().with_pool(tenant("red"), net("10.1.0.0/24"));
    let leaving = network("red", 1001, &pools("red")).with_egress(plan.masquerade(&tenant("red"), true));
    overlay.load([OverlayChange::PutTenant(leaving)]).unwrap();
    let kept = |overlay: &OverlayNetwork| {
        let kernel = overlay.node_state(&node_id(1)).unwrap().into_kernel();
        let up0: LinkName = "up0".parse().unwrap();
        let router = kernel.namespaces.into_values().find(|netns| netns.links.contains_key(&up0)).unwrap();
        let tables: Vec<RuleTable> = router.tables.into_values().collect();
        let chains =
            tables.into_iter().flat_map(|table| table.chains).filter(|(name, _)| name.as_str() == "leaving");
        let rules = chains.flat_map(|(_, chain)| chain.rules);
        let accepts = rules.filter(|rule| rule.statements.contains(&Statement::Verdict(Verdict::Accept)));
        let prefixes = accepts.flat_map(|rule| rule.statements).filter_map(|statement| match statement {
            Statement::Prefix { field: Field::V4Destination, prefix, .. } => Some(prefix.to_string()),
            _ => None,
        });
        prefixes.collect::<Vec<_>>()
    };
    assert_eq!(kept(&overlay), ["10.1.0.0/24"]);
    overlay.load([OverlayChange::PutPeering(peering("red", "green"))]).unwrap();
    assert_eq!(kept(&overlay), ["10.1.0.0/24", "10.2.0.0/24"]);
}

#[test]
fn peerings_are_the_same_in_either_order_also_when_written_down() {
    assert_eq!(peering("red", "green"), peering("green", "red"));
    let text = serde_json::to_string(&[tenant("red"), tenant("green")]).unwrap();
    let read: Peering = serde_json::from_str(&text).unwrap();
    assert_eq!(read, peering("green", "red"));
    assert_eq!(serde_json::from_str::<Peering>(&serde_json::to_string(&read).unwrap()).unwrap(), read);
}

fn key() -> TableKey {
    TableKey::new(Family::Inet, "hivemind".parse().unwrap())
}

/// Rules of the tenant on a node, which know its peers or not.
fn rules(overlay: &OverlayNetwork, of: &str, on: usize, knowing: bool) -> Prepared {
    let mut engine = Engine::default();
    for own in overlay.tenants().map(|network| &network.tenant) {
        for workload in overlay.workloads(own) {
            let profile = Profile::new(own.clone(), "shop".parse().unwrap(), Labels::new());
            let endpoint = Endpoint::new(workload.id.clone(), workload.node.clone(), profile);
            engine.apply(Change::Endpoint(workload.addresses().fold(endpoint, Endpoint::at)));
        }
    }
    let mut rules = NodeRules::new(&engine, tenant(of), node_id(on));
    for workload in overlay.workloads(&tenant(of)).filter(|workload| workload.node == node_id(on)) {
        rules = rules.with_link(workload.id.clone(), workload.effective_link().unwrap());
    }
    for peer in overlay.peer_networks(&tenant(of)).unwrap().into_iter().filter(|_| knowing) {
        rules = rules.with_peer(peer);
    }
    rules.prepare().unwrap()
}

fn guarded() -> OverlayNetwork {
    let mut overlay = OverlayNetwork::new(OverlayConfig::vxlan(UnderlayFamily::V6, 1500)).unwrap();
    overlay.load((1..=6).map(node).map(OverlayChange::PutNode)).unwrap();
    fill(&mut overlay);
    overlay
}

/// Whether red's router has a way to green, and its end of the pair is up.
fn is_open(kernel: &KernelState) -> (bool, bool) {
    let pair: LinkName = "pr1002".parse().unwrap();
    let (_, router) = kernel.namespaces.iter().find(|(_, netns)| netns.links.contains_key(&pair)).unwrap();
    let pool = [net("10.2.0.0/24"), net("fd02::/64")];
    let mut to_green =
        router.routes.iter().filter(|(key, _)| pool.iter().any(|p| p.contains(&key.destination)));
    (to_green.any(|(_, route)| matches!(route.target, RouteTarget::Link { .. })), router.links[&pair].up)
}

#[test]
fn no_way_is_open_before_the_rules_know_the_peer() {
    let mut overlay = guarded();
    overlay.load([OverlayChange::PutPeering(peering("red", "green"))]).unwrap();
    for on in [1, 2] {
        let state = |knows: [bool; 2]| -> OverlayState {
            let mut state = overlay.node_state(&node_id(on)).unwrap();
            for (of, knows) in ["red", "green"].into_iter().zip(knows) {
                state.enforce(&rules(&overlay, of, on, knows), key()).unwrap();
            }
            state
        };
        // Who has no workloads here only hands on: the other's rules judge.
        let has_green = on == 2;
        let blind = state([false, false]);
        assert_eq!(blind.uncovered().count(), 0);
        assert_eq!(blind.closed_ways().count(), if has_green { 2 } else { 1 });
        let kernel = blind.into_kernel();
        kernel.validate().unwrap();
        assert_eq!(is_open(&kernel), (false, false));
        let pool = RouteKey::new(net("10.2.0.0/24"));
        assert!(
            kernel.namespaces.values().any(|netns| {
                netns.routes.get(&pool).is_some_and(|route| route.target == RouteTarget::Unreachable)
            }),
            "and not by a default route"
        );
        let half = state([true, false]);
        assert_eq!(half.closed_ways().count(), usize::from(has_green));
        let whole = state([true, true]);
        assert_eq!(whole.closed_ways().count(), 0);
        assert_eq!(is_open(&whole.into_kernel()), (true, true));
    }
    // Nor is it, as a change, for a peer that is not as the rules know it.
    let before = rules(&overlay, "red", 1, true);
    let wider = network("green", 1002, &[&pools("green")[..], &["10.4.0.0/24"]].concat());
    let mut changes = overlay.apply(OverlayChange::PutTenant(wider)).unwrap();
    let change = changes.get_mut(&node_id(1)).unwrap();
    change.enforce(Some(before.table().clone()), &before, key()).unwrap();
    assert_eq!(change.after.closed_ways().count(), 1);
    change.enforce(Some(before.table().clone()), &rules(&overlay, "red", 1, true), key()).unwrap();
    assert_eq!(change.after.closed_ways().count(), 0);
    // What is as it was stays open.
    let changes = overlay.apply(put("green", "c", 3, &["10.2.0.99"])).unwrap();
    assert_eq!(changes[&node_id(1)].after.closed_ways().count(), 0);
    assert!(is_open(&overlay_with_rules(&overlay, 1)).0);
}

fn overlay_with_rules(overlay: &OverlayNetwork, on: usize) -> KernelState {
    let mut state = overlay.node_state(&node_id(on)).unwrap();
    for of in ["red", "green", "gold"] {
        state.enforce(&rules(overlay, of, on, true), key()).unwrap();
    }
    state.into_kernel()
}

#[test]
fn a_way_comes_after_the_rules_that_know_the_peer_and_goes_before_they_forget_it() {
    let mut overlay = guarded();
    let apart = overlay_with_rules(&overlay, 2);
    overlay.load([OverlayChange::PutPeering(peering("red", "green"))]).unwrap();
    let joined = overlay_with_rules(&overlay, 2);
    let table = |op: &Op| matches!(op.action, Action::ChangeTable(..) | Action::PutTable(..));
    let comes = diff(&apart, &joined);
    let rules = comes.iter().rposition(table).unwrap();
    let pair = comes.iter().position(
        |op| matches!(&op.action, Action::CreateLink { name, .. } if name.as_str().starts_with("pr")),
    );
    assert!(rules < pair.unwrap(), "{comes:?}");
    let goes = diff(&joined, &apart);
    let rules = goes.iter().position(table).unwrap();
    let pair = goes
        .iter()
        .position(|op| matches!(&op.action, Action::DeleteLink(name) if name.as_str().starts_with("pr")));
    assert!(pair.unwrap() < rules, "{goes:?}");
}
