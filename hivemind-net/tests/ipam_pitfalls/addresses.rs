//! What is given out, moved and taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::labels::{Labels, Selector};
use hivemind_core::store::Txn;
use hivemind_core::{ErrorKind, Retry, StateStore, block_on};
use hivemind_net::addr::{AddressRange, IpFamily};
use hivemind_net::ipam::{Profile, Refusal, Strategy as Order};
use hivemind_net::manager::{Fenced, NoAddress, NodeLost, NotFrom, Observation};
use hivemind_net::{AddressRequest, IpamManager, NetworkConfig};

use crate::world::*;

#[test]
fn pitfall_04_an_exhausted_family_leaves_nothing_of_the_other() {
    let world = World::new([dual("10.0.0.0/24", "fd00::/126")]);
    let (first, _) = (world.ask((workload(0), node(0))).unwrap(), world.ask((workload(1), node(0))).unwrap());
    let before = world.view().revision();
    let error = world.ask((workload(2), node(0))).unwrap_err();
    assert_eq!(refusal(&error), Refusal::Exhausted { family: IpFamily::V6, held: 2 });
    assert_eq!(world.view().revision(), before);
    world.clean();
    // Another pool has both, and gives both: not one of each.
    let other = dual("10.1.0.0/24", "fd01::/64").named(pool("other"));
    world.commit(|view, txn| world.ipam.stage_create_pool(view, txn, &world.ctx("p"), &other)).unwrap();
    let lease = world.ask((workload(2), node(0))).unwrap();
    assert_eq!((lease.pool.as_str(), lease.v4.unwrap().octets()[1]), ("other", 1));
    assert!(lease.v6.is_some() && first.pool.as_str() == "default");
    world.clean();
}

#[test]
fn pitfall_05_a_lost_node_keeps_its_block_until_it_is_safe() {
    let world = World::new([dual("10.0.0.0/24", "fd00::/64")]);
    let ctx = world.ctx("r");
    let leases: Vec<_> = (0..3).map(|n| world.ask((workload(n), node(1))).unwrap()).collect();
    let before = world.ipam.node_state(&world.view(), &ctx, &node(1)).unwrap();
    let lost = world.commit(|v, t| world.ipam.stage_node_lost(v, t, &ctx, &node(1))).unwrap();
    assert_eq!((lost.epoch, lost.v4.clone()), (before.epoch + 1, before.v4.clone()));
    let again = world.commit(|v, t| world.ipam.stage_node_lost(v, t, &ctx, &node(1))).unwrap();
    assert_eq!(again, lost, "declared twice, lost once");
    let refused = world.ask((workload(9), node(1))).unwrap_err();
    assert!(refused.kind() == ErrorKind::Denied && refused.detail::<NodeLost>().is_some());
    let reclaim = || world.commit(|v, t| world.ipam.stage_reclaim(v, t, &ctx, &node(1), GRACE));
    assert_eq!(reclaim().unwrap_err().kind(), ErrorKind::Conflict, "before the grace is over");

    // Back in time: everything as before, but what the node still believes is fenced.
    let back = world.commit(|v, t| world.ipam.stage_node_back(v, t, &ctx, &node(1))).unwrap();
    assert_eq!((back.v4, back.epoch, back.lost), (before.v4.clone(), 1, None));
    let stale = AddressRequest::new(workload(9), node(1)).with_epoch(0);
    assert!(world.ask(stale).unwrap_err().detail::<Fenced>().is_some());
    assert_eq!(world.ask((workload(0), node(1))).unwrap(), leases[0]);
    assert!(reclaim().is_err(), "not lost");
    world.ask(AddressRequest::new(workload(3), node(1)).with_epoch(1)).unwrap();

    // Lost for good: what has moved away stays.
    world.ask((workload(0), node(2))).unwrap();
    world.commit(|v, t| world.ipam.stage_node_lost(v, t, &ctx, &node(1))).unwrap();
    world.wait(GRACE);
    let done = reclaim().unwrap();
    assert_eq!(done.workloads, [workload(1), workload(2), workload(3)]);
    assert!(done.freed.is_empty() && done.orphaned.len() == 2 && !done.more, "{done:?}");
    assert_eq!(world.leases().keys().cloned().collect::<Vec<_>>(), [workload(0)]);
    assert_eq!(world.ask((workload(0), node(2))).unwrap(), leases[0]);
    world.clean();
    // Nobody's subnet is nobody's until it is empty; a node that returns late has nothing.
    let late = world.commit(|v, t| world.ipam.stage_node_back(v, t, &ctx, &node(1))).unwrap();
    assert!(late.v4.is_empty() && late.epoch == 2);
    world.wait(COOLDOWN);
    world.sweep();
    let routes = world.ipam.routes(&world.view(), &ctx).unwrap();
    assert!(routes.iter().all(|route| route.node == node(2)), "{routes:?}");
    world.release(0, &leases[0]).unwrap();
    world.wait(COOLDOWN);
    assert_eq!(world.sweep(), 2);
    let usage = world.ipam.usage(&world.view(), &ctx).unwrap();
    assert_eq!((usage.v4.subnets, usage.v6.subnets, usage.v4.cooling), (0, 0, 0));
}

#[test]
fn pitfall_05_a_decision_for_a_node_that_is_lost_meanwhile_does_not_commit() {
    // With a subnet, and without one, when all it can do is borrow.
    for with_subnet in [true, false] {
        let world = World::new([v4("10.0.0.0/28")]);
        world.ask((workload(0), node(usize::from(!with_subnet)))).unwrap();
        let (view, mut txn) = (world.view(), Txn::new());
        world.ipam.stage_assign(&view, &mut txn, &world.ctx("r"), &[(workload(1), node(0))]).unwrap();
        world.commit(|v, t| world.ipam.stage_node_lost(v, t, &world.ctx("l"), &node(0))).unwrap();
        assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
    }
}

#[test]
fn pitfall_06_a_released_address_rests_also_after_a_restart() {
    let world = World::new([dual("10.0.0.0/30", "fd00::/64")]);
    let first = world.ask((workload(0), node(0))).unwrap();
    world.release(0, &first).unwrap();
    world.wait(Duration::from_secs(10));
    // Another replica, which knows only the store.
    let other = IpamManager::new(Arc::new(world.store.clone()), world.clock.clone());
    let wanted = [(workload(1), node(0))];
    let refused = world.commit(|v, t| other.stage_assign(v, t, &world.ctx("r"), &wanted)).unwrap_err();
    let detail = refused.detail::<NoAddress>().unwrap();
    assert_eq!((refused.kind(), refused.retry()), (ErrorKind::Exhausted, Retry::Later));
    assert_eq!(detail.retry_after(), Some(Duration::from_secs(20)));
    let usage = other.usage(&world.view(), &world.ctx("u")).unwrap();
    assert_eq!((usage.v4.cooling, usage.v4.next_free_in), (1, Some(Duration::from_secs(20))));
    let named = AddressRequest::new(workload(1), node(0)).with_address(first.v4.unwrap().into());
    assert_eq!(world.ask(named).unwrap_err().kind(), ErrorKind::AlreadyExists);
    world.sweep();
    let urgent = world.ask(AddressRequest::new(workload(1), node(0)).with_emergency()).unwrap();
    assert!(urgent.early && urgent.v4 == first.v4);
    world.release(1, &urgent).unwrap();
    world.wait(COOLDOWN);
    assert!(!world.ask((workload(2), node(0))).unwrap().early);
}

#[test]
fn pitfall_09_a_borrowed_address_is_routed_everywhere() {
    let config = v4("10.0.0.0/28").node_prefix(IpFamily::V4, 29).unwrap();
    let world = World::new([config.clone()]);
    for n in 0..10 {
        // The first two nodes have all subnets; the third borrows.
        world.ask((workload(n), node(n % 3))).unwrap();
    }
    let routes = world.ipam.routes(&world.view(), &world.ctx("r")).unwrap();
    assert_eq!(routes.iter().filter(|route| !route.elsewhere).count(), 2);
    let borrowed: BTreeSet<_> =
        routes.iter().filter(|route| route.elsewhere).map(|route| route.node.clone()).collect();
    assert!(borrowed.contains(&node(2)));
    for (workload, lease) in world.leases() {
        let address: IpAddr = lease.v4.unwrap().into();
        let best = routes
            .iter()
            .filter(|r| r.destination.contains(&address))
            .max_by_key(|r| r.destination.prefix_len());
        let number: usize = workload.as_str()[1..].parse().unwrap();
        assert_eq!(best.unwrap().node, node(number % 3));
    }
    assert_eq!(world.ask((workload(10), node(2))).unwrap_err().kind(), ErrorKind::Exhausted);

    let strict = World::new([with(config.clone(), |o| o.strict_affinity = true)]);
    strict.ask((workload(0), node(0))).unwrap();
    strict.ask((workload(1), node(1))).unwrap();
    assert_eq!(strict.ask((workload(2), node(2))).unwrap_err().kind(), ErrorKind::Exhausted);
    let few = World::new([with(config, |o| {
        o.max_subnets_per_node = Some(1);
        o.strict_affinity = true;
    })]);
    (0..5).for_each(|n| drop(few.ask((workload(n), node(0))).unwrap()));
    assert_eq!(few.ask((workload(5), node(0))).unwrap_err().kind(), ErrorKind::Exhausted);
    assert!(few.ask((workload(5), node(1))).is_ok());
}

#[test]
fn pitfall_10_a_pool_grows_drains_and_shrinks_with_users() {
    let config = v4("10.0.0.0/29").node_prefix(IpFamily::V4, 30).unwrap();
    let world = World::new([config.clone()]);
    let first = world.ask((workload(0), node(0))).unwrap();
    world.ask((workload(1), node(1))).unwrap();
    assert_eq!(world.ask((workload(2), node(0))).unwrap_err().kind(), ErrorKind::Exhausted);
    // In place, by a network that begins before: no subnet changes its number.
    let wider = NetworkConfig::v4_only("10.0.0.8/29".parse().unwrap()).unwrap();
    assert!(wider.with_network("10.0.0.0/28".parse().unwrap()).is_ok());
    let grown = config.clone().with_network("10.0.0.0/28".parse().unwrap()).unwrap();
    world.update(&grown).unwrap();
    assert!(world.ask((workload(2), node(0))).unwrap().v4.unwrap().octets()[3] >= 8);
    let two = grown.with_network("10.9.0.0/24".parse().unwrap()).unwrap();
    let drained = two.draining("10.0.0.0/28".parse().unwrap(), true).unwrap();
    world.update(&drained).unwrap();
    assert_eq!(world.ask((workload(3), node(0))).unwrap().v4.unwrap().octets()[1], 9);
    let named =
        |last: u8| AddressRequest::new(workload(4), node(0)).with_address(IpAddr::from([10, 0, 0, last]));
    assert!(matches!(refusal(&world.ask(named(14)).unwrap_err()), Refusal::Excluded { .. }));
    assert_eq!(world.ask((workload(0), node(0))).unwrap(), first, "who has an address keeps it");
    let usage = world.ipam.usage(&world.view(), &world.ctx("u")).unwrap();
    assert_eq!((usage.v4.draining, usage.v4.addresses), (3, 4));
    let gone = drained.without_network("10.0.0.0/28".parse().unwrap()).unwrap();
    assert_eq!(world.update(&gone).unwrap_err().kind(), ErrorKind::Conflict);
    for n in 0..3 {
        let lease = world.leases()[&workload(n)].clone();
        world.release(n, &lease).unwrap();
    }
    world.wait(COOLDOWN);
    world.sweep();
    world.update(&gone).unwrap();
    assert!(matches!(refusal(&world.ask(named(2)).unwrap_err()), Refusal::Outside { .. }));
    // To both families, and then to IPv6 alone: the way of a migration.
    let both = gone.with_network("fd00::/48".parse().unwrap()).unwrap();
    world.update(&both).unwrap();
    let lease = world.ask((workload(5), node(0))).unwrap();
    assert!(lease.v4.is_some() && lease.v6.is_some());
    let old = world.leases()[&workload(3)].clone();
    assert!(old.v6.is_none(), "as it was given");
    let resized = both.clone().node_prefix(IpFamily::V4, 26).unwrap();
    assert_eq!(world.update(&resized).unwrap_err().kind(), ErrorKind::Conflict);
    world.clean();
    let error = world
        .commit(|v, t| world.ipam.stage_delete_pool(v, t, &world.ctx("d"), &pool("default")))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[test]
fn what_is_excluded_while_in_use_is_reported() {
    let config = v4("10.0.0.0/24");
    let world = World::new([config.clone()]);
    let lease = world.ask((workload(0), node(0))).unwrap();
    let address = IpAddr::from(lease.v4.unwrap());
    world.update(&config.excluding(AddressRange::new(address, address).unwrap()).unwrap()).unwrap();
    let seen = world.see(&Observation::new(world.now()).with(workload(0), [address]));
    assert_eq!(seen.misplaced, BTreeMap::from([(address, workload(0))]));
    world.release(0, &lease).unwrap();
    world.wait(COOLDOWN);
    assert!((1..20).all(|n| world.ask((workload(n), node(0))).unwrap().v4 != lease.v4));
}

#[test]
fn node_subnets_that_are_excluded_or_reserved_whole_are_passed_over() {
    let range =
        |first: &str, last: &str| AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
    // Four subnets of the first network and, of IPv6, half of it: 2^23 regions that nobody may look at one by one.
    let config = dual("10.0.0.0/22", "fd00::/32").excluding(range("10.0.0.0", "10.0.0.255")).unwrap();
    let config = config.reserving(range("fd00::", "fd00:0:7fff:ffff:ffff:ffff:ffff:ffff")).unwrap();
    let world = World::new([config]);
    let lease = world.ask((workload(0), node(0))).unwrap();
    assert_eq!((lease.v4.unwrap().octets()[2], lease.v6.unwrap().segments()[2]), (1, 0x8000));
    let state = world
        .commit(|v, t| world.ipam.stage_node_subnets(v, t, &world.ctx("n"), (&pool("default"), &node(1))))
        .unwrap();
    assert_eq!(state.v4[0].to_string(), "10.0.1.64/26");
    // What is reserved is still there for those who ask for it.
    let asked = AddressRequest::new(workload(1), node(2)).with_address("fd00::5".parse().unwrap());
    assert_eq!(world.ask(asked).unwrap().v6, Some("fd00::5".parse().unwrap()));
    world.clean();
}

#[test]
fn pools_are_chosen_by_order_labels_and_name_and_say_why_not() {
    let gpu: Selector = "zone=gpu".parse().unwrap();
    let first = with(v4("10.1.0.0/24").named(pool("gpu")), |o| o.nodes = gpu);
    let second = with(v4("10.2.0.0/24").named(pool("a-late")), |o| o.order = 2);
    let third = with(v4("10.3.0.0/24").named(pool("z-early")), |o| o.order = 1);
    let world = World::new([first, second, third]);
    let by = |request: AddressRequest| world.ask(request).map(|lease| lease.pool.to_string());
    let labels = Labels::new().with("zone", "gpu").unwrap();
    assert_eq!(by(AddressRequest::new(workload(0), node(0)).with_labels(labels)).unwrap(), "gpu");
    assert_eq!(by(AddressRequest::new(workload(1), node(0))).unwrap(), "z-early");
    assert_eq!(by(AddressRequest::new(workload(2), node(0)).with_pool(pool("a-late"))).unwrap(), "a-late");
    let error = by(AddressRequest::new(workload(3), node(0)).with_pool(pool("gpu"))).unwrap_err();
    let why: BTreeMap<_, _> = error.detail::<NoAddress>().unwrap().pools.iter().cloned().collect();
    assert_eq!(why[&pool("a-late")], NotFrom::NotNamed);
    assert!(matches!(&why[&pool("gpu")], NotFrom::OtherNodes(selector) if selector.contains("gpu")));
    let overlapping = v4("10.0.0.0/8").named(pool("wide"));
    let error =
        world.commit(|v, t| world.ipam.stage_create_pool(v, t, &world.ctx("p"), &overlapping)).unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("overlap"), "{error}");
    let explained = world.ipam.explain(&world.view(), &world.ctx("e")).unwrap();
    assert_eq!(
        explained.pools.iter().map(|p| p.config.name().as_str()).collect::<Vec<_>>(),
        ["gpu", "z-early", "a-late"]
    );
    assert_eq!(explained.pools[0].leases_by_node, BTreeMap::from([(node(0), 1)]));
}

#[test]
fn a_named_address_is_given_or_refused_for_its_reason() {
    let reserved = AddressRange::new("10.0.0.10".parse().unwrap(), "10.0.0.12".parse().unwrap()).unwrap();
    let excluded = AddressRange::new("10.0.0.20".parse().unwrap(), "10.0.0.21".parse().unwrap()).unwrap();
    let config = dual("10.0.0.0/24", "fd00::/64").reserving(reserved).unwrap().excluding(excluded).unwrap();
    let world = World::new([config]);
    let ask = |n: usize, address: &str| {
        world.ask(AddressRequest::new(workload(n), node(n)).with_address(address.parse().unwrap()))
    };
    let lease = ask(0, "10.0.0.11").unwrap();
    assert_eq!((lease.v4.unwrap().octets()[3], lease.v6.is_some()), (11, true));
    assert!(
        matches!(refusal(&ask(1, "10.0.0.11").unwrap_err()), Refusal::Taken { owner, .. } if owner == workload(0))
    );
    assert!(matches!(refusal(&ask(1, "10.0.0.20").unwrap_err()), Refusal::Excluded { .. }));
    assert!(matches!(refusal(&ask(1, "10.0.0.0").unwrap_err()), Refusal::Excluded { .. }));
    assert!(matches!(refusal(&ask(1, "10.9.0.1").unwrap_err()), Refusal::Outside { .. }));
    let another = ask(0, "10.0.0.12").unwrap_err();
    assert!(matches!(another.detail::<Refusal>(), Some(Refusal::HasAnother { .. })), "{another}");
    assert_eq!(ask(0, "10.0.0.11").unwrap(), lease, "the same again is the same");
    // Nobody gets a reserved one by chance.
    let given: Vec<_> =
        (2..60).map(|n| world.ask((workload(n), node(0))).unwrap().v4.unwrap().octets()[3]).collect();
    assert!(given.iter().all(|last| !(10..=12).contains(last) && !(20..=21).contains(last)));
    let v6 = ask(1, "fd00::1:2").unwrap();
    assert_eq!(v6.v6.unwrap().to_string(), "fd00::1:2");
    world.clean();
}

#[test]
fn kept_addresses_are_there_when_the_workload_comes_back() {
    let world = World::new([dual("10.0.0.0/24", "fd00::/64")]);
    let first = world.ask_as("life-1", (workload(0), node(0))).unwrap();
    let until = world.now().after(Duration::from_secs(600));
    world.commit(|v, t| world.ipam.stage_keep(v, t, &world.ctx("k"), (&workload(0), &first), until)).unwrap();
    assert!((1..50).all(|n| world.ask((workload(n), node(0))).unwrap().v4 != first.v4));
    let second = world.ask_as("life-2", (workload(0), node(3))).unwrap();
    assert_eq!((second.v4, second.v6), (first.v4, first.v6));
    // The handle of the first life releases nothing of the second.
    assert_eq!(world.release(0, &first).unwrap_err().kind(), ErrorKind::NotFound);
    world
        .commit(|v, t| world.ipam.stage_keep(v, t, &world.ctx("k"), (&workload(0), &second), until))
        .unwrap();
    world.wait(Duration::from_secs(600));
    world.sweep();
    assert!(!world.leases().contains_key(&workload(0)));
    world.clean();
}

#[test]
fn a_move_takes_two_steps_and_may_be_given_up() {
    let world = World::new([dual("10.0.0.0/24", "fd00::/64")]);
    let lease = world.ask((workload(0), node(0))).unwrap();
    let ctx = world.ctx("m");
    let begin = |from: usize, to: usize| {
        world.commit(|v, t| world.ipam.stage_transfer(v, t, &ctx, &workload(0), (&node(from), &node(to))))
    };
    let at = || {
        let routes = world.ipam.routes(&world.view(), &ctx).unwrap();
        routes.iter().filter(|route| route.elsewhere).map(|route| route.node.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(begin(5, 1).unwrap_err().kind(), ErrorKind::Conflict);
    begin(0, 1).unwrap();
    begin(0, 1).unwrap();
    assert_eq!(begin(0, 2).unwrap_err().kind(), ErrorKind::Conflict);
    assert!(at().is_empty(), "not there yet");
    world.commit(|v, t| world.ipam.stage_transfer_back(v, t, &ctx, &workload(0))).unwrap();
    begin(0, 2).unwrap();
    let done =
        |to: usize| world.commit(|v, t| world.ipam.stage_transferred(v, t, &ctx, &workload(0), &node(to)));
    assert_eq!(done(1).unwrap_err().kind(), ErrorKind::Conflict);
    done(2).unwrap();
    done(2).unwrap();
    assert_eq!((at(), world.leases()[&workload(0)].clone()), (BTreeSet::from([node(2)]), lease));
    world.clean();
}

#[test]
fn pitfall_08_every_size_of_pool_and_subnet_works() {
    for (len, nodes) in [
        (0, 0),
        (0, 64),
        (0, 128),
        (1, 127),
        (63, 64),
        (64, 64),
        (64, 120),
        (65, 128),
        (127, 127),
        (128, 128),
    ] {
        let net = hivemind_net::addr::Cidr::containing(IpFamily::V6, u128::MAX >> 3, len).unwrap();
        let config =
            NetworkConfig::v6_only(net.v6().unwrap()).unwrap().node_prefix(IpFamily::V6, nodes).unwrap();
        for order in [Order::Lowest, Order::Next, Order::Random { seed: 5 }, Order::Hashed { seed: 5 }] {
            let world = World::new([with(config.clone(), |o| o.strategy = order)]);
            let most = net.size().map_or(20, |size| size.min(20)) as usize;
            let all: BTreeSet<_> =
                (0..most).map(|n| world.ask((workload(n), node(n % 2))).unwrap().v6).collect();
            assert_eq!(all.len(), most, "/{len} in /{nodes} {order:?}");
            world.clean();
        }
    }
}

#[test]
fn the_static_band_and_point_to_point_links() {
    let service = with(v4("10.0.0.0/20").node_prefix(IpFamily::V4, 20).unwrap(), |o| {
        o.profile = Profile::Service;
        o.static_band = true;
    });
    let world = World::new([service]);
    let given: Vec<_> =
        (0..100).map(|n| u32::from(world.ask((workload(n), node(0))).unwrap().v4.unwrap())).collect();
    assert!(given.iter().all(|address| address & 0xfff >= 256), "the first 256 are for those who ask");
    let named = AddressRequest::new(workload(200), node(0)).with_address("10.0.0.10".parse().unwrap());
    assert!(world.ask(named).is_ok());
    let links =
        with(v4("10.0.0.0/30").node_prefix(IpFamily::V4, 31).unwrap(), |o| o.profile = Profile::PointToPoint);
    let world = World::new([links]);
    let ends: BTreeSet<_> =
        (0..4).map(|n| world.ask((workload(n), node(n / 2))).unwrap().v4.unwrap().octets()[3]).collect();
    assert_eq!(ends, BTreeSet::from([0, 1, 2, 3]));
}

#[test]
fn the_operations_of_the_plan() {
    let world = World::new([dual("10.0.0.0/24", "fd00::/48")]);
    block_on(async {
        let ipam = &world.ipam;
        let subnet =
            ipam.allocate_ipv6_node_subnet(&world.ctx("1"), &pool("default"), &node(0)).await.unwrap();
        assert_eq!(subnet.to_string(), "fd00::/64");
        let again =
            ipam.allocate_ipv6_node_subnet(&world.ctx("2"), &pool("default"), &node(0)).await.unwrap();
        assert_eq!(again, subnet);
        let v6 = ipam.allocate_container_ipv6(&world.ctx("3"), &node(0), &workload(1)).await.unwrap();
        assert!(subnet.contains(&v6));
        let v4 = ipam.allocate_container_ip(&world.ctx("4"), &node(0), &workload(1)).await.unwrap();
        assert_eq!(world.leases()[&workload(1)].v4, Some(v4));
        ipam.release_container_ip(&world.ctx("5"), &workload(1)).await.unwrap();
        ipam.release_container_ip(&world.ctx("5"), &workload(1)).await.unwrap();
        let gone = ipam.release_container_ip(&world.ctx("6"), &workload(1)).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    });
    world.wait(COOLDOWN);
    assert_eq!(world.sweep(), 0, "a subnet that was asked for stays");
}
