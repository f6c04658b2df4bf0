//! What a change makes different is exactly what is different, whatever came before it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use crate::overlay_world;

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::NodeId;
use hivemind_net::dataplane::{KernelState, Op, diff};
use hivemind_net::overlay::{
    AddressPlan, OverlayChange, OverlayConfig, OverlayNetwork, OverlayWorkload, Transit, UnderlayFamily, Vni,
};
use overlay_world::{Wire, block, kernels, net, network, node, node_id, peering, remove, tenant, workload};
use proptest::prelude::*;

/// The first two have the same addresses.
const TENANTS: [&str; 4] = ["red", "blue", "green", "gold"];
const NODES: usize = 4;

/// Prefixes of the pools: the pools themselves, usual blocks, and blocks of one address.
const BLOCKS: [&str; 9] = [
    "10.0.0.0/27",
    "10.0.0.0/28",
    "10.0.0.16/28",
    "10.0.0.24/29",
    "10.0.0.5/32",
    "fd00::/123",
    "fd00::/124",
    "fd00::10/124",
    "fd00::5/128",
];

/// The same prefix or address in the network of the tenant.
fn of_tenant(of: usize, text: &str) -> String {
    let number = of.saturating_sub(1);
    text.replace("10.0.", &format!("10.{number}.")).replace("fd00:", &format!("fd0{number}:"))
}

fn a_workload() -> impl Strategy<Value = OverlayWorkload> {
    let address = proptest::option::weighted(0.8, 0u8..32);
    (0usize..4, 0u8..7, 1..=NODES, address.clone(), address, proptest::bool::weighted(0.1)).prop_map(
        |(of, id, on, v4, v6, named)| {
            let v4 = v4.map(|last| of_tenant(of, &format!("10.0.0.{last}")));
            let v6 = v6.map(|last| of_tenant(of, &format!("fd00::{last:x}")));
            let addresses: Vec<_> = v4.iter().chain(&v6).map(String::as_str).collect();
            let workload = workload(TENANTS[of], &format!("w{id}"), on, &addresses);
            if named { workload.with_link("tap0".parse().unwrap()) } else { workload }
        },
    )
}

fn change() -> impl Strategy<Value = OverlayChange> {
    let tenant_change = (0usize..4, 0u32..5, 0u8..4, any::<bool>()).prop_map(|(of, vni, pools, leaves)| {
        let pools: &[&str] = match pools {
            0 => &["10.0.0.0/27"],
            1 => &["10.0.0.0/28", "fd00::/123"],
            _ => &["10.0.0.0/27", "fd00::/123"],
        };
        let pools: Vec<_> = pools.iter().map(|pool| of_tenant(of, pool)).collect();
        let pools: Vec<_> = pools.iter().map(String::as_str).collect();
        let network = network(TENANTS[of], 100 + vni, &pools);
        let plan = pools
            .iter()
            .fold(AddressPlan::new(), |plan, pool| plan.with_pool(network.tenant.clone(), net(pool)));
        let masquerade = plan.masquerade(&network.tenant, true);
        OverlayChange::PutTenant(if leaves { network.with_egress(masquerade) } else { network })
    });
    let node_change = (1..=NODES, 0usize..3).prop_map(|(number, other)| {
        let moved =
            node(number).with_address(format!("2001:db8:1::{}", number + other * 10).parse().unwrap());
        OverlayChange::PutNode(moved)
    });
    prop_oneof![
        8 => a_workload().prop_map(OverlayChange::PutWorkload),
        3 => (0usize..4, 0u8..7).prop_map(|(of, id)| remove(TENANTS[of], &format!("w{id}"))),
        4 => (0usize..4, 0..BLOCKS.len(), 1..=NODES).prop_map(|(of, prefix, on)| {
            block(TENANTS[of], &of_tenant(of, BLOCKS[prefix]), on)
        }),
        2 => (0usize..4, 0..BLOCKS.len()).prop_map(|(of, prefix)| {
            let prefix = net(&of_tenant(of, BLOCKS[prefix]));
            OverlayChange::RemoveBlock { tenant: tenant(TENANTS[of]), prefix }
        }),
        4 => (0usize..4, 0usize..4).prop_map(|(one, other)| {
            OverlayChange::PutPeering(peering(TENANTS[one], TENANTS[other]))
        }),
        2 => (0usize..4, 0usize..4).prop_map(|(one, other)| {
            OverlayChange::RemovePeering(peering(TENANTS[one], TENANTS[other]))
        }),
        1 => tenant_change,
        1 => (0usize..4).prop_map(|of| OverlayChange::RemoveTenant(tenant(TENANTS[of]))),
        1 => node_change,
        1 => (1..=NODES).prop_map(|number| OverlayChange::RemoveNode(node_id(number))),
    ]
}

fn start(config: OverlayConfig) -> OverlayNetwork {
    let mut overlay = OverlayNetwork::new(config).unwrap();
    overlay.load((1..=NODES).map(node).map(OverlayChange::PutNode)).unwrap();
    for (index, of) in TENANTS.iter().enumerate() {
        let vni = 100 + u32::try_from(index).unwrap();
        let pools = ["10.0.0.0/27", "fd00::/123"].map(|pool| of_tenant(index, pool));
        // With direct routing the second is refused: both have the same addresses.
        let _ = overlay.load([OverlayChange::PutTenant(network(of, vni, &[&pools[0], &pools[1]]))]);
    }
    overlay
}

fn step(
    overlay: &mut OverlayNetwork,
    live: &mut BTreeMap<NodeId, KernelState>,
    change: OverlayChange,
) -> Result<(), TestCaseError> {
    let before = kernels(overlay);
    let Ok(changes) = overlay.apply(change.clone()) else {
        prop_assert_eq!(kernels(overlay), before, "a refusal changes nothing");
        return Ok(());
    };
    let after = kernels(overlay);
    let nothing = KernelState::new();
    let nodes: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for node in nodes {
        let (was, is) = (before.get(node).unwrap_or(&nothing), after.get(node).unwrap_or(&nothing));
        let told = changes.get(node).map(|change| change.ops()).unwrap_or_default();
        // As little as the comparison of everything with everything says.
        let in_order = |mut ops: Vec<Op>| {
            ops.sort_by_cached_key(|op| format!("{op:?}"));
            ops
        };
        prop_assert_eq!(in_order(told.clone()), in_order(diff(was, is)), "{:?} on {}", change, node);
        prop_assert_eq!(changes.contains_key(node), was != is);
        let kernel = live.entry(node.clone()).or_default();
        for op in &told {
            kernel.apply(op).unwrap();
        }
        prop_assert_eq!(&*kernel, is);
    }
    let again = overlay.apply(change.clone()).unwrap();
    prop_assert!(again.is_empty(), "{:?} twice: {:?}", change, again);

    let mut fresh = OverlayNetwork::new(overlay.config().clone()).unwrap();
    fresh.load(overlay.parts()).unwrap();
    prop_assert_eq!(kernels(&fresh), after, "the same parts in another order");
    Ok(())
}

proptest! {
    #[test]
    fn the_sum_of_changes_is_the_whole(
        direct in proptest::bool::weighted(0.3),
        v6 in any::<bool>(),
        transits in any::<bool>(),
        changes in proptest::collection::vec(change(), 1..50),
    ) {
        let family = if v6 { UnderlayFamily::V6 } else { UnderlayFamily::V4 };
        let config =
            if direct { OverlayConfig::direct(family, 1500) } else { OverlayConfig::vxlan(family, 1500) };
        let config = config.with_links_up_without_rules();
        let transit = Transit::new(Vni::new(100).unwrap()).with_prefix(net("100.64.0.0/24"));
        let mut overlay = start(if transits { config.with_transit(transit) } else { config });
        let mut live = kernels(&overlay);
        let mut past = vec![live.clone()];
        for change in changes {
            step(&mut overlay, &mut live, change)?;
            past.push(live.clone());
        }
        Wire { overlay: &overlay, kernels: &live }.check_all();

        // A node that was away finds its way from any earlier state.
        let now = kernels(&overlay);
        for old in past {
            for (node, mut kernel) in old {
                let target = now.get(&node).cloned().unwrap_or_default();
                for op in diff(&kernel, &target) {
                    kernel.apply(&op).unwrap();
                }
                prop_assert_eq!(&kernel, &target);
            }
        }
    }
}

#[test]
fn a_workload_in_the_block_of_its_node_is_news_to_that_node_alone() {
    let mut overlay = start(OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_links_up_without_rules());
    overlay.load([block("red", "10.0.0.0/28", 1), block("red", "10.0.0.16/28", 2)]).unwrap();
    let put = |id, on, address| OverlayChange::PutWorkload(workload("red", id, on, &[address]));
    overlay.load([put("a", 1, "10.0.0.1"), put("b", 2, "10.0.0.17"), put("c", 3, "10.0.0.18")]).unwrap();

    let named = |changes: BTreeMap<NodeId, _>| changes.into_keys().collect::<Vec<_>>();
    assert_eq!(named(overlay.apply(put("d", 1, "10.0.0.2")).unwrap()), [node_id(1)]);
    // Borrowed: a route of its own on all nodes of the tenant, and on no other.
    let borrowed = overlay.apply(put("e", 1, "10.0.0.19")).unwrap();
    assert_eq!(borrowed[&node_id(2)].ops().len(), 1);
    assert_eq!(named(borrowed), [node_id(1), node_id(2), node_id(3)]);
    // Moved within the tenant's nodes, one route changes elsewhere.
    let moved = overlay.apply(put("d", 2, "10.0.0.2")).unwrap();
    assert_eq!(moved[&node_id(3)].ops().len(), 1);
    assert_eq!(overlay.apply(put("d", 2, "10.0.0.2")).unwrap().len(), 0);
    let vni = Vni::new(100).unwrap();
    assert_eq!(overlay.tenants().last().unwrap().vni, vni);
}

#[test]
fn a_router_speaks_from_a_block_of_its_node_or_else_from_the_pool() {
    let mut overlay = start(OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_links_up_without_rules());
    let put = |id, on, address| OverlayChange::PutWorkload(workload("red", id, on, &[address]));
    overlay.load([put("a", 1, "fd00::1"), put("b", 2, "fd00::2")]).unwrap();
    let mut live = kernels(&overlay);
    let mut spoken = |change: OverlayChange| {
        step(&mut overlay, &mut live, change).unwrap();
        [1, 2].map(|on| {
            let links = live[&node_id(on)].namespaces.values().flat_map(|netns| netns.addresses.keys());
            let own = links.filter(|key| key.dev.as_str() == "vx100" && key.prefix_len == 128);
            own.map(|key| key.address.to_string()).collect::<Vec<_>>().join(" ")
        })
    };
    assert_eq!(spoken(put("a", 1, "fd00::3")), ["fd00::", "fd00::"]);
    assert_eq!(spoken(block("red", "10.0.0.0/28", 1)), ["fd00::", "fd00::"]);
    assert_eq!(spoken(block("red", "fd00::10/124", 1)), ["fd00::10", "fd00::"]);
    assert_eq!(spoken(block("red", "fd00::10/124", 2)), ["fd00::", "fd00::10"]);
    assert_eq!(spoken(put("c", 1, "fd00::")), ["", "fd00::10"], "it is a workload's");
    assert_eq!(spoken(remove("red", "c")), ["fd00::", "fd00::10"]);
    let gone = OverlayChange::RemoveBlock { tenant: tenant("red"), prefix: net("fd00::10/124") };
    assert_eq!(spoken(gone), ["fd00::", "fd00::"]);
}
