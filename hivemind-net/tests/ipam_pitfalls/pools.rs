//! Pools and nodes: what stays when pools go, what counts and what does not.

use std::net::IpAddr;

use hivemind_core::store::{Prefix, Txn};
use hivemind_core::{ErrorKind, StateStore, block_on};
use hivemind_net::addr::{AddressRange, IpFamily};
use hivemind_net::ipam::{Refusal, Strategy as Order};
use hivemind_net::manager::{Fenced, NodeLost, NodeState, Observation};
use hivemind_net::{AddressRequest, Lease, NetworkConfig};
use proptest::prelude::*;

use crate::world::*;

fn records(world: &World, collection: &str) -> usize {
    world.view().scan(&Prefix::new(["net", collection]).unwrap()).count()
}

fn subnets(world: &World, number: usize) -> hivemind_core::Result<NodeState> {
    world.commit(|v, t| {
        world.ipam.stage_node_subnets(v, t, &world.ctx("n"), (&pool("default"), &node(number)))
    })
}

#[test]
fn pitfall_05_epochs_outlive_the_last_pool_and_end_with_the_tenant() {
    let world = World::new([v4("10.0.0.0/24")]);
    let ctx = world.ctx("r");
    for n in 0..60 {
        world.commit(|v, t| world.ipam.stage_node_lost(v, t, &ctx, &node(n))).unwrap();
    }
    let lease = world.ask((workload(0), node(100))).unwrap();
    world.wait(COOLDOWN);
    world.see(&Observation::new(world.now()).with(workload(0), []));
    world.release(0, &lease).unwrap();
    let forget = || world.commit(|v, t| world.ipam.stage_forget(v, t, &ctx));
    assert_eq!(forget().unwrap_err().kind(), ErrorKind::Conflict, "it has a pool");
    world.commit(|v, t| world.ipam.stage_delete_pool(v, t, &ctx, &pool("default"))).unwrap();
    assert_eq!(records(&world, "nodes"), 60);

    // Another pool, and what was lost is lost still; what it believes is fenced also after its return.
    world.commit(|v, t| world.ipam.stage_create_pool(v, t, &ctx, &v4("10.0.0.0/24"))).unwrap();
    let refused = world.ask((workload(1), node(59))).unwrap_err();
    assert_eq!(refused.detail::<NodeLost>().unwrap().epoch, 1);
    world.commit(|v, t| world.ipam.stage_node_back(v, t, &ctx, &node(59))).unwrap();
    let stale = AddressRequest::new(workload(1), node(59)).with_epoch(0);
    assert!(world.ask(stale).unwrap_err().detail::<Fenced>().is_some());

    // Gone for good: in batches, each of which fits a transaction.
    world.commit(|v, t| world.ipam.stage_delete_pool(v, t, &ctx, &pool("default"))).unwrap();
    let mut calls = 1;
    while forget().unwrap() {
        calls += 1;
    }
    assert_eq!((calls, records(&world, "nodes"), records(&world, "watermarks")), (3, 0, 0));
    assert!(!forget().unwrap(), "again is nothing");
}

#[test]
fn a_subnet_that_was_seen_empty_is_not_taken_once_somebody_has_an_address_there() {
    // Of the node itself, borrowed by another, and by name: each time the sweep, or the reclaim, decided before.
    for (case, lost) in [("own", false), ("borrowed", true), ("named", true), ("named", false)] {
        let world = World::new([v4("10.0.0.0/28").node_prefix(IpFamily::V4, 29).unwrap()]);
        let first = world.ask((workload(0), node(0))).unwrap();
        if case != "own" {
            // The other subnet is another node's, and full: so the next one borrows.
            let near = |lease: &Lease| lease.v4.unwrap().octets()[3] / 8 == first.v4.unwrap().octets()[3] / 8;
            let borrowed = (1..).find_map(|n| {
                let lease = world.ask((workload(n), node(1))).unwrap();
                near(&lease).then_some((n, lease))
            });
            let (n, lease) = borrowed.unwrap();
            world.release(n, &lease).unwrap();
        }
        world.release(0, &first).unwrap();
        world.wait(COOLDOWN);
        // The block goes first; in the next request the subnet would.
        let swept = world.commit(|v, t| world.ipam.stage_sweep(v, t, &world.ctx("s"))).unwrap();
        assert!(swept.rested > 0 && swept.freed.is_empty());
        if lost {
            world.commit(|v, t| world.ipam.stage_node_lost(v, t, &world.ctx("l"), &node(0))).unwrap();
            world.wait(GRACE);
        }
        let (view, mut late) = (world.view(), Txn::new());
        if lost {
            let taken =
                world.ipam.stage_reclaim(&view, &mut late, &world.ctx("rc"), &node(0), GRACE).unwrap();
            assert_eq!(taken.freed.len(), 1);
        } else {
            let swept = world.ipam.stage_sweep(&view, &mut late, &world.ctx("s2")).unwrap();
            assert_eq!(swept.freed.len(), 1);
        }
        let asked = match case {
            "own" => AddressRequest::new(workload(9), node(0)),
            "borrowed" => AddressRequest::new(workload(9), node(1)),
            _ => AddressRequest::new(workload(9), node(1)).with_address(first.v4.unwrap().into()),
        };
        let lease = world.ask(asked).unwrap();
        let refused = block_on(world.store.commit(&late)).unwrap_err();
        assert_eq!(refused.retry(), hivemind_core::Retry::AfterReread, "{case}, lost {lost}");
        world.clean();
        world.release(9, &lease).unwrap();
    }
}

#[test]
fn a_lease_is_not_what_was_not_asked_for() {
    let other = v4("10.1.0.0/24").named("other".parse().unwrap());
    let world = World::new([v4("10.0.0.0/24"), other]);
    world.ask(AddressRequest::new(workload(0), node(0)).with_pool(pool("default"))).unwrap();
    let elsewhere = AddressRequest::new(workload(0), node(0)).with_pool(pool("other"));
    assert_eq!(world.ask(elsewhere).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let six = AddressRequest::new(workload(0), node(0)).with_address("fd00::1".parse().unwrap());
    assert_eq!(world.ask(six).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn nobody_arrives_at_a_node_that_was_lost_meanwhile() {
    let world = World::new([v4("10.0.0.0/24")]);
    world.ask((workload(0), node(0))).unwrap();
    let (ctx, w, to) = (world.ctx("m"), workload(0), node(1));
    world.commit(|v, t| world.ipam.stage_transfer(v, t, &ctx, &w, (&node(0), &to))).unwrap();
    world.commit(|v, t| world.ipam.stage_node_lost(v, t, &ctx, &to)).unwrap();
    let refused = world.commit(|v, t| world.ipam.stage_transferred(v, t, &ctx, &w, &to)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    world.commit(|v, t| world.ipam.stage_node_back(v, t, &ctx, &to)).unwrap();
    world.commit(|v, t| world.ipam.stage_transferred(v, t, &ctx, &w, &to)).unwrap();
}

#[test]
fn a_named_address_brings_no_more_subnets_than_the_pool_allows() {
    let config = v4("10.0.0.0/28").node_prefix(IpFamily::V4, 30).unwrap();
    let world = World::new([with(config, |o| o.max_subnets_per_node = Some(1))]);
    let named = |n: usize, at: usize, last: u8| {
        AddressRequest::new(workload(n), node(at)).with_address(IpAddr::from([10, 0, 0, last]))
    };
    world.ask(named(0, 0, 2)).unwrap();
    let refused = refusal(&world.ask(named(1, 0, 6)).unwrap_err());
    assert!(matches!(&refused, Refusal::Excluded { why, .. } if why.contains("as many")), "{refused}");
    assert_eq!(subnets(&world, 0).unwrap().v4.len(), 1);
    // A node that has none may have it; and the first may borrow there then.
    world.ask(named(2, 1, 6)).unwrap();
    assert_eq!(
        refusal(&world.ask(named(3, 0, 6)).unwrap_err()),
        Refusal::Taken { address: IpAddr::from([10, 0, 0, 6]), owner: workload(2) }
    );
    world.clean();
}

#[test]
fn the_addresses_of_hashed_workloads_never_change() {
    // Computed apart from this code: the place in the node's subnet, and the place in the block around it.
    for (seed, number, v4, v6) in [
        (9, 0, "10.0.0.10", "fd00::f58e:f93:4c8e:2e82"),
        (9, 1, "10.0.0.18", "fd00::1629:ad20:e7bd:2e48"),
        (10, 0, "10.0.0.47", "fd00::e2b9:7c65:ee44:5c98"),
    ] {
        let hashed = with(dual("10.0.0.0/16", "fd00::/48"), |o| o.strategy = Order::Hashed { seed });
        let lease = World::new([hashed]).ask((workload(number), node(0))).unwrap();
        assert_eq!((lease.v4, lease.v6), (Some(v4.parse().unwrap()), Some(v6.parse().unwrap())));
    }
}

#[test]
fn pitfall_10_a_node_with_subnets_that_are_drained_gets_others_and_gives_those_back() {
    let old = dual("10.0.0.0/24", "fd00::/48");
    let world = World::new([old.clone(), dual("10.7.0.0/24", "fc00::/48").named(pool("first"))]);
    let ctx = world.ctx("s");
    let first = pool("first");
    world.commit(|v, t| world.ipam.stage_node_subnets(v, t, &ctx, (&first, &node(0)))).unwrap();
    let before = subnets(&world, 0).unwrap();
    assert_eq!((before.v4.len(), before.v6.len()), (2, 2));
    let config = old.with_network("10.9.0.0/24".parse().unwrap()).unwrap();
    let config = config.with_network("fd09::/48".parse().unwrap()).unwrap();
    let config = config.draining("10.0.0.0/24".parse().unwrap(), true).unwrap();
    let config = config.draining("fd00::/48".parse().unwrap(), true).unwrap();
    world.update(&config).unwrap();
    let after = subnets(&world, 0).unwrap();
    assert_eq!((after.v4.len(), after.v6.len()), (3, 3), "what is drained does not count: {after:?}");
    assert_eq!(subnets(&world, 0).unwrap(), after, "the same again");
    let v6 = block_on(world.ipam.allocate_ipv6_node_subnet(&world.ctx("v6"), &pool("default"), &node(0)));
    assert_eq!(v6.unwrap().to_string(), "fd09::/64", "of the pool asked for, and in use");
    // What stays when it is empty goes when it is drained, so that the network can go.
    assert_eq!(world.sweep(), 2);
    let gone = config.without_network("10.0.0.0/24".parse().unwrap()).unwrap();
    world.update(&gone.without_network("fd00::/48".parse().unwrap()).unwrap()).unwrap();
    assert_eq!(world.sweep(), 0, "the others stay");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// The number of subnets that a pool says it has is the number that nodes get before it is full.
    #[test]
    fn a_pool_has_as_many_subnets_as_it_gives(
        prefix in 24u8..=28,
        bits in 0u8..=4,
        excluded in prop::collection::vec((0u8..64, 0u8..40), 0..4),
        reserved in prop::collection::vec((0u8..64, 0u8..40), 0..3),
    ) {
        let node_prefix = (prefix + bits).min(32);
        let mut config = v4(&format!("10.0.0.0/{prefix}")).node_prefix(IpFamily::V4, node_prefix).unwrap();
        let size = 1u16 << (32 - prefix);
        let range = |(first, len): (u8, u8)| {
            let last = u16::from(first.saturating_add(len)).min(255);
            (u16::from(first) < size).then(|| {
                AddressRange::new(IpAddr::from([10, 0, 0, first]), IpAddr::from([10, 0, 0, last as u8])).unwrap()
            })
        };
        for range in excluded.into_iter().filter_map(range) {
            config = config.excluding(range).unwrap();
        }
        for range in reserved.into_iter().filter_map(range) {
            config = config.reserving(range).unwrap();
        }
        let world = World::new([config]);
        let total = world.ipam.usage(&world.view(), &world.ctx("u")).unwrap().v4.subnets_total;
        let given = (0..300).take_while(|n| subnets(&world, *n).is_ok()).count();
        prop_assert_eq!(total, given as u64);
    }
}

#[test]
fn a_pool_counts_the_subnets_that_are_excluded_without_looking_at_each() {
    let range =
        |first: &str, last: &str| AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
    let config = dual("10.0.0.0/22", "fd00::/32").excluding(range("10.0.0.0", "10.0.0.255")).unwrap();
    let config = config.reserving(range("fd00::", "fd00:0:7fff:ffff:ffff:ffff:ffff:ffff")).unwrap();
    let world = World::new([config]);
    let usage = world.ipam.usage(&world.view(), &world.ctx("u")).unwrap();
    assert_eq!((usage.v4.subnets_total, usage.v6.subnets_total), (12, 1 << 31));
    let all =
        NetworkConfig::v6_only("::/0".parse().unwrap()).unwrap().node_prefix(IpFamily::V6, 128).unwrap();
    let world = World::new([all]);
    assert_eq!(world.ipam.usage(&world.view(), &world.ctx("u")).unwrap().v6.subnets_total, u64::MAX);
}

#[test]
fn a_pool_whose_ipv4_is_drained_gives_ipv6_alone_and_one_that_is_drained_whole_gives_nothing() {
    let both = dual("10.0.0.0/24", "fd00::/48");
    let world = World::new([both.clone()]);
    let old = world.ask((workload(0), node(0))).unwrap();
    let leaving = both.draining("10.0.0.0/24".parse().unwrap(), true).unwrap();
    world.update(&leaving).unwrap();
    let new = world.ask((workload(1), node(0))).unwrap();
    assert!(new.v4.is_none() && new.v6.is_some());
    assert_eq!(world.ask((workload(0), node(0))).unwrap(), old, "who has one keeps it");
    let named = AddressRequest::new(workload(2), node(0)).with_address("10.0.0.9".parse().unwrap());
    assert!(matches!(refusal(&world.ask(named).unwrap_err()), Refusal::Excluded { .. }));
    assert_eq!(subnets(&world, 7).unwrap().v4.len(), 0, "a new node gets none of a family that goes");
    // Beside another network of the family, both addresses or none.
    let more = leaving.clone().with_network("10.1.0.0/24".parse().unwrap()).unwrap();
    world.update(&more).unwrap();
    assert!(world.ask((workload(3), node(0))).unwrap().v4.is_some());
    world.clean();
    let whole = leaving.draining("fd00::/48".parse().unwrap(), true).unwrap();
    let world = World::new([whole]);
    assert_eq!(world.ask((workload(0), node(0))).unwrap_err().kind(), ErrorKind::Exhausted);
    assert_eq!(subnets(&world, 0).unwrap_err().kind(), ErrorKind::Exhausted);
}
