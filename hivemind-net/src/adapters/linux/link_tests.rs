//! Random links, written and read back; and messages that somebody broke.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::adapters::linux::netlink::tests::{breaks, broken};

const BELOW: u32 = 2;
const BRIDGE: u32 = 3;
const OTHER_END: u32 = 9;
/// The number that the namespace being read has for the other one.
const THERE: u32 = 5;

fn other() -> Netns {
    "hm-other".parse().unwrap()
}

fn peers() -> Peers {
    let mut peers = Peers::default();
    peers.by_number.insert(THERE, other());
    for (at, index, name) in [
        (Netns::Host, BELOW, "eth0"),
        (Netns::Host, BRIDGE, "br0"),
        (Netns::Host, OTHER_END, "peer-here"),
        (other(), BELOW, "eth0"),
        (other(), OTHER_END, "peer-there"),
    ] {
        peers.names.insert((at, index), name.to_owned());
    }
    peers
}

fn vxlan() -> impl Strategy<Value = Vxlan> {
    let local =
        prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
    (1u32..1 << 24, local, any::<(bool, bool, u16, u8)>(), any::<(bool, bool, bool)>()).prop_map(
        |(vni, local, (dev, away, port, ttl), (learning, zero_checksum6, proxy))| Vxlan {
            dev: dev.then(|| "eth0".parse().unwrap()),
            underlay: away.then(other),
            port,
            ttl,
            learning,
            zero_checksum6,
            proxy,
            ..Vxlan::new(vni, local)
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    let kind = prop_oneof![
        Just(LinkKind::Bridge),
        Just(LinkKind::Dummy),
        Just(LinkKind::Veth { peer_netns: Netns::Host, peer: "peer-here".parse().unwrap() }),
        Just(LinkKind::Veth { peer_netns: other(), peer: "peer-there".parse().unwrap() }),
        vxlan().prop_map(LinkKind::Vxlan),
    ];
    let port = any::<(bool, bool, bool, bool, bool)>().prop_map(
        |(learning, flood, neigh_suppress, isolated, hairpin)| PortSettings {
            learning,
            flood,
            neigh_suppress,
            isolated,
            hairpin,
        },
    );
    let flags = any::<(bool, bool)>();
    (kind, any::<[u8; 6]>(), 68u32..65_536, flags, proptest::option::of(port)).prop_map(
        |(kind, mac, mtu, (up, link_local), port)| {
            let mut link = Link::new(kind, Mac::new(mac), mtu).with_link_local(link_local);
            link.up = up;
            if let Some(port) = port {
                link.master = Some("br0".parse().unwrap());
                link.port = port;
            }
            link
        },
    )
}

/// The link as the kernel tells of it: what was sent to make it and to set it up, and where it leads to.
fn told(link: &Link) -> Vec<u8> {
    let anything = File::open("/dev/null").unwrap();
    let name: LinkName = "vx1".parse().unwrap();
    let below = matches!(&link.kind, LinkKind::Vxlan(Vxlan { dev: Some(_), .. })).then_some(BELOW);
    let mut info = info(&name, link, Some((link, &anything)), below).unwrap();
    let mut attrs = Attrs::new();
    attrs.text(IFLA_IFNAME, "vx1").put(IFLA_ADDRESS, &link.mac.octets()).u32(IFLA_MTU, link.mtu);
    if link.master.is_some() {
        attrs.u32(IFLA_MASTER, BRIDGE);
        info.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, &port_data(link.port));
    }
    attrs.nest(IFLA_LINKINFO, &info).text(IFLA_IFALIAS, "owner");
    attrs.nest(IFLA_AF_SPEC, &address_mode(link.link_local));
    let away = match &link.kind {
        LinkKind::Veth { peer_netns, .. } => {
            attrs.u32(IFLA_LINK, OTHER_END);
            *peer_netns == other()
        }
        LinkKind::Vxlan(vxlan) => vxlan.underlay.is_some(),
        _ => false,
    };
    if away {
        attrs.u32(IFLA_LINK_NETNSID, THERE);
    }
    let mut body = header(7, if link.up { IFF_UP } else { 0 }, 0);
    body.extend_from_slice(&attrs.0);
    body
}

proptest! {
    #[test]
    fn links_are_read_back(link in link()) {
        let seen = seen(&told(&link)).unwrap();
        prop_assert_eq!((seen.index, seen.name.as_str(), seen.alias.as_str()), (7, "vx1", "owner"));
        prop_assert_eq!(seen.link(&Netns::Host, &peers()), link);
    }

    #[test]
    fn a_broken_link_is_some_link_or_none(link in link(), breaks in breaks()) {
        if let Some(seen) = seen(&broken(told(&link), &breaks)) {
            let read = seen.link(&Netns::Host, &peers());
            prop_assert!(read.master.is_none() || seen.master.is_some());
            // One that nobody knows how to make says which.
            prop_assert!(read.kind != LinkKind::Unknown(String::new()), "{:?}", read);
        }
    }

    #[test]
    fn any_bytes_are_some_link_or_none(bytes in vec(any::<u8>(), 0..300)) {
        if let Some(seen) = seen(&bytes) {
            seen.link(&Netns::Host, &peers());
        }
    }
}
