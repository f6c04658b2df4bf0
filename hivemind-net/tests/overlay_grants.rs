//! Grants join tenants, and what rules must know follows from the overlay.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;

use hivemind_core::labels::Labels;
use hivemind_net::dataplane::rules::{Family, TableKey};
use hivemind_net::overlay::{
    InvalidOverlay, OverlayChange, OverlayConfig, OverlayNetwork, Peering, UnderlayFamily,
};
use hivemind_net::policy::{AnyPolicy, Change, Direction, Endpoint, Engine, Grant, GrantTo, Profile, World};

use crate::overlay_world::{network, node, node_id, peering, tenant, workload};

fn named(of: &str) -> GrantTo {
    GrantTo::Tenant(tenant(of))
}

fn matching(selector: &str) -> GrantTo {
    GrantTo::Matching(selector.parse().unwrap())
}

fn grant(world: &mut World, by: &str, direction: Direction, to: GrantTo) {
    let name = format!("{direction}-{}", world.policies().len()).to_lowercase().parse().unwrap();
    world.apply(Change::Policy(AnyPolicy::Grant(Grant::new(tenant(by), name, direction, to))));
}

/// A workload of a tenant, whose labels say so; red has none.
fn put(world: &mut World, of: &str, org: &str, on: usize, address: &str) {
    let labels = Labels::new().with("org", org).unwrap();
    let profile = Profile::new(tenant(of), "shop".parse().unwrap(), Labels::new()).with_tenant_labels(labels);
    let endpoint = Endpoint::new("a".parse().unwrap(), node_id(on), profile);
    world.apply(Change::Endpoint(endpoint.at(address.parse().unwrap())));
}

/// Grants as by whom, in which direction and to whom, and the peerings that they call for.
type Case<'a> = (&'a [(&'a str, Direction, GrantTo)], &'a [(&'a str, &'a str)]);

#[test]
fn grants_of_both_sides_join_two_tenants_and_nothing_else_does() {
    use Direction::{Egress, Ingress};
    let cases: [Case<'_>; 9] = [
        (&[], &[]),
        (&[("red", Egress, named("green"))], &[]),
        (&[("green", Ingress, named("red"))], &[]),
        (&[("red", Egress, named("green")), ("green", Ingress, named("red"))], &[("red", "green")]),
        (&[("red", Egress, named("green")), ("green", Egress, named("red"))], &[]),
        (&[("red", Egress, named("green")), ("green", Ingress, named("gold"))], &[]),
        // Everybody but oneself, as far as they answer.
        (
            &[
                ("red", Egress, matching("")),
                ("green", Ingress, matching("")),
                ("red", Ingress, matching("")),
            ],
            &[("red", "green")],
        ),
        // A service of green's for one organisation: blue and gold are of it, and gold does not ask for it.
        (
            &[
                ("green", Ingress, matching("org=big")),
                ("blue", Egress, named("green")),
                ("red", Egress, named("green")),
            ],
            &[("blue", "green")],
        ),
        (
            &[
                ("green", Ingress, named("blue")),
                ("gold", Ingress, named("blue")),
                ("red", Ingress, named("blue")),
                ("blue", Egress, matching("org=big")),
                ("blue", Egress, matching("org=none")),
            ],
            &[("blue", "gold")],
        ),
    ];
    for (grants, expected) in cases {
        let mut world = World::new();
        for (of, org) in [("red", "small"), ("green", "own"), ("blue", "big"), ("gold", "big")] {
            put(&mut world, of, org, 1, "10.0.0.1");
        }
        for (by, direction, to) in grants {
            grant(&mut world, by, *direction, to.clone());
        }
        let expected: BTreeSet<_> = expected.iter().map(|(one, other)| peering(one, other)).collect();
        assert_eq!(Peering::of_grants(&world), expected, "{grants:?}");
    }
}

const POOLS: [(&str, u32, &str); 3] =
    [("red", 1001, "10.1.0.0/24"), ("green", 1002, "10.2.0.0/24"), ("blue", 1003, "10.2.0.0/24")];

fn start(config: OverlayConfig, world: &mut World, tenants: usize) -> OverlayNetwork {
    let mut overlay = OverlayNetwork::new(config).unwrap();
    overlay.load((1..=3).map(node).map(OverlayChange::PutNode)).unwrap();
    for (index, (of, vni, pool)) in POOLS.into_iter().enumerate().take(tenants) {
        let address = pool.replace(".0/24", ".7");
        let one = OverlayChange::PutWorkload(workload(of, "a", index + 1, &[&address]));
        overlay.load([OverlayChange::PutTenant(network(of, vni, &[pool])), one]).unwrap();
        put(world, of, "any", index + 1, &address);
    }
    overlay
}

#[test]
fn an_overlay_follows_grants_as_far_as_it_can() {
    let mut world = World::new();
    let mut overlay = start(OverlayConfig::vxlan(UnderlayFamily::V6, 1500), &mut world, 3);
    assert!(overlay.follow_grants(&world).is_empty());
    for other in ["green", "blue", "nobody"] {
        grant(&mut world, "red", Direction::Egress, named(other));
        grant(&mut world, other, Direction::Ingress, named("red"));
    }
    // Nobody has no network. Green and blue have the same addresses, so red cannot have both as peers.
    let [blue, green] = ["blue", "green"].map(|of| OverlayChange::PutPeering(peering("red", of)));
    assert_eq!(overlay.follow_grants(&world), [blue.clone(), green.clone()]);
    overlay.apply(green).unwrap();
    assert_eq!(overlay.follow_grants(&world), std::slice::from_ref(&blue));
    let refused = overlay.apply(blue).unwrap_err();
    assert!(matches!(refused, InvalidOverlay::PeeredPoolsOverlap { .. }), "{refused}");
    let other = start(OverlayConfig::vxlan(UnderlayFamily::V6, 1500), &mut World::new(), 3);
    assert_eq!(other.follow_grants(&World::new()), []);
    let gone = OverlayChange::RemovePeering(peering("red", "green"));
    assert_eq!(overlay.follow_grants(&World::new()), std::slice::from_ref(&gone));
    overlay.apply(gone).unwrap();
    assert_eq!(overlay.follow_grants(&World::new()), []);
}

#[test]
fn the_rules_of_a_node_cover_all_that_is_on_it() {
    let mut world = World::new();
    grant(&mut world, "red", Direction::Egress, named("green"));
    grant(&mut world, "green", Direction::Ingress, named("red"));
    let family = UnderlayFamily::V6;
    for (config, tables) in
        [(OverlayConfig::vxlan(family, 1500), [2, 2, 0]), (OverlayConfig::direct(family, 1500), [1, 1, 0])]
    {
        let mut overlay = start(config, &mut world, 2);
        for change in overlay.follow_grants(&world) {
            overlay.apply(change).unwrap();
        }
        let engine = Engine::new(world.clone());
        for (on, expected) in (1..=3).zip(tables) {
            let mut state = overlay.node_state(&node_id(on)).unwrap();
            let all = overlay.node_rules(&engine, &node_id(on)).unwrap();
            assert_eq!(
                all.len(),
                expected,
                "node {on}: with direct routing, those alone who have something here"
            );
            for rules in all {
                let rules = rules.prepare().unwrap();
                let name = format!("rules-{}", rules.tenant().id).parse().unwrap();
                state.enforce(&rules, TableKey::new(Family::Inet, name)).unwrap();
            }
            assert_eq!((state.uncovered().count(), state.closed_ways().count()), (0, 0), "node {on}");
            state.into_kernel().validate().unwrap();
        }
    }
}
