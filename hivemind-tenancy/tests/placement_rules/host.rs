//! What hosts say beyond the rules of workloads: shares of places, and opinions of nodes.

use std::collections::BTreeMap;

use hivemind_tenancy::placement::{DomainShare, Opinion, PlacementPolicy, Rejection, WorkloadRequest};
use hivemind_tenancy::{Node, PlacementRequest, place};

use super::{World, ZONES, acme, selector, workload, zone};

#[test]
fn no_place_is_one_tenants_by_more_than_its_share() {
    let acme = acme();
    let world = World::new(&ZONES[..3]);
    let half = PlacementPolicy::default().with_domain_share(DomainShare::new(zone(), 50));
    let request = |workloads| PlacementRequest::new(&acme, false, workloads).with_policy(half.clone());
    let of = |name: &str, cores| {
        WorkloadRequest::new(name.parse().unwrap(), super::cores(cores)).on(selector("zone=b"))
    };
    // One node of eight cores is all of the zone: half of it is four.
    let two = [of("w1", 2), of("w2", 2)];
    assert!(place(&request(&two), &world.pairs()).is_ok());
    let three = [of("w1", 2), of("w2", 2), of("w3", 1)];
    let error = place(&request(&three), &world.pairs()).unwrap_err();
    assert_eq!(error.workloads[0].rejected[&Rejection::DomainShare], 1);
    assert!(error.to_string().contains("too much of the place"), "{error}");
    // The first may always be there, however large.
    let large = [of("w1", 7)];
    assert!(place(&request(&large), &world.pairs()).is_ok());
}

#[test]
fn what_the_host_thinks_of_nodes_counts() {
    let acme = acme();
    let world = World::new(&ZONES[..3]);
    let only_b = |node: &Node| (node.id.as_str() == "b1").then_some(0);
    let batch = [workload("w1"), workload("w2")];
    let request = PlacementRequest::new(&acme, false, &batch).with_opinion(Opinion::new(&only_b));
    let placed = place(&request, &world.pairs()).unwrap();
    assert!(placed.values().all(|node| node.as_str() == "b1"), "{placed:?}");
    let nothing = |_: &Node| None;
    let request = PlacementRequest::new(&acme, false, &batch).with_opinion(Opinion::new(&nothing));
    let error = place(&request, &world.pairs()).unwrap_err();
    assert_eq!(error.workloads[0].rejected, BTreeMap::from([(Rejection::Custom, 3)]));
}
