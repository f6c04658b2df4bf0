//! Random entries, written and read back; and messages that somebody broke.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::adapters::linux::netlink::tests::{breaks, broken};
use crate::dataplane::state::Link;
use crate::dataplane::state::LinkKind;

const OURS: u8 = 109;

fn names() -> BTreeMap<u32, LinkName> {
    [(2, "eth0"), (3, "br0"), (4, "vx1001")].map(|(index, name)| (index, name.parse().unwrap())).into()
}

fn index_of(name: &LinkName) -> u32 {
    names().into_iter().find(|(_, other)| other == name).unwrap().0
}

/// What is read by names of links that are there, and are ours.
fn netns() -> NetnsState {
    let mut netns = NetnsState::default();
    for name in names().into_values() {
        netns.links.insert(name, Link::new(LinkKind::Bridge, Mac::ZERO, 1500));
    }
    netns
}

fn link() -> impl Strategy<Value = LinkName> {
    (2u32..5).prop_map(|index| names()[&index].clone())
}

fn some_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn of_family(v4: bool) -> BoxedStrategy<IpAddr> {
    if v4 {
        any::<[u8; 4]>().prop_map(IpAddr::from).boxed()
    } else {
        any::<[u8; 16]>().prop_map(IpAddr::from).boxed()
    }
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac::new)
}

fn network() -> impl Strategy<Value = IpNet> {
    (some_address(), any::<u8>()).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 33 } else { 129 };
        IpNet::new(address, length % most).unwrap().trunc()
    })
}

fn some_route() -> impl Strategy<Value = (RouteKey, Route)> {
    (network(), any::<u32>()).prop_flat_map(|(destination, table)| {
        let v4 = destination.addr().is_ipv4();
        // A next hop of the other family is possible for IPv4 alone (RFC 5549), and read for both.
        let hop = (link(), proptest::option::of(some_address()), any::<bool>());
        let target = prop_oneof![
            hop.prop_map(|(dev, gateway, onlink)| RouteTarget::Link { dev, gateway, onlink }),
            Just(RouteTarget::Blackhole),
            Just(RouteTarget::Unreachable),
        ];
        let key = RouteKey::new(destination).with_table(table);
        (target, proptest::option::of(of_family(v4)), proptest::option::of(any::<u32>()))
            .prop_map(move |(target, source, mtu)| (key.clone(), Route { target, source, mtu }))
    })
}

fn read(message: &Message) -> NetnsState {
    let names = names();
    let reader = Reader { names: &names, protocol: OURS };
    let mut netns = netns();
    let body = &message.body;
    match message.kind {
        RTM_NEWADDR => netns.addresses.extend(reader.address(body)),
        RTM_NEWROUTE => netns.routes.extend(reader.route(body)),
        _ => {
            netns.neighbours.extend(reader.neighbour(body));
            reader.forwarding(body, &mut netns);
        }
    }
    netns
}

fn route_message((key, route): &(RouteKey, Route), protocol: u8) -> Message {
    let index = match &route.target {
        RouteTarget::Link { dev, .. } => Some(index_of(dev)),
        _ => None,
    };
    super::route(Write::Add, index, key, Some(route), protocol)
}

fn some_message() -> impl Strategy<Value = Message> {
    let entry = || (link(), some_address(), mac());
    prop_oneof![
        some_route().prop_map(|route| route_message(&route, OURS)),
        entry().prop_map(|(dev, to, _)| {
            super::address(true, index_of(&dev), &AddressKey::new(dev, to, 24), Address::new(), OURS)
        }),
        entry().prop_map(|(dev, to, mac)| {
            neighbour(NEW, index_of(&dev), &NeighbourKey::new(dev, to), Neighbour::Permanent(mac), OURS)
        }),
        entry().prop_map(|(dev, to, mac)| remote(NEW, index_of(&dev), mac, to)),
        entry().prop_map(|(dev, _, mac)| bridge_mac(index_of(&dev), mac)),
    ]
}

proptest! {
    #[test]
    fn addresses_are_read_back(dev in link(), to in some_address(), length in 0u8..=32, quiet in any::<bool>()) {
        let key = AddressKey::new(dev, to, length);
        let is = if quiet { Address::new().without_prefix_route() } else { Address::new() };
        let written = super::address(true, index_of(&key.dev), &key, is, OURS);
        prop_assert_eq!(read(&written).addresses, [(key.clone(), is)].into());
        let theirs = super::address(true, index_of(&key.dev), &key, is, OURS + 1);
        prop_assert_eq!(read(&theirs), netns());
    }

    #[test]
    fn routes_are_read_back(route in some_route()) {
        prop_assert_eq!(read(&route_message(&route, OURS)).routes, [route.clone()].into());
        prop_assert_eq!(read(&route_message(&route, OURS + 1)), netns());
    }

    #[test]
    fn neighbours_are_read_back(dev in link(), to in some_address(), mac in proptest::option::of(mac())) {
        let key = NeighbourKey::new(dev, to);
        let is = mac.map_or(Neighbour::Proxy, Neighbour::Permanent);
        let written = neighbour(NEW, index_of(&key.dev), &key, is, OURS);
        prop_assert_eq!(read(&written).neighbours, [(key.clone(), is)].into());
        prop_assert_eq!(read(&neighbour(NEW, index_of(&key.dev), &key, is, OURS + 1)), netns());
    }

    #[test]
    fn forwarding_entries_are_read_back(dev in link(), to in some_address(), mac in mac()) {
        let written = remote(BESIDE, index_of(&dev), mac, to);
        prop_assert_eq!(read(&written).remotes, [(RemoteMac::new(dev.clone(), mac), BTreeSet::from([to]))].into());

        // The kernel tells which bridge the port is of.
        let mut written = bridge_mac(index_of(&dev), mac);
        let mut master = Attrs::new();
        master.u32(NDA_MASTER, 3);
        written.body.extend_from_slice(&master.0);
        let bridge = BridgeMac::new("br0".parse().unwrap(), mac);
        prop_assert_eq!(read(&written).bridge_macs, [(bridge, dev)].into());
    }

    #[test]
    fn broken_entries_are_one_entry_or_none(mut message in some_message(), breaks in breaks()) {
        message.body = broken(message.body, &breaks);
        let found = read(&message);
        let count = found.addresses.len() + found.routes.len() + found.neighbours.len();
        prop_assert!(count + found.remotes.len() + found.bridge_macs.len() <= 2, "{:?}", found);
    }

    #[test]
    fn any_bytes_are_one_entry_or_none(body in vec(any::<u8>(), 0..200), kind in prop::sample::select(vec![RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH])) {
        let found = read(&Message { kind, flags: 0, body });
        prop_assert!(found.addresses.len() + found.routes.len() + found.neighbours.len() <= 1);
    }
}
