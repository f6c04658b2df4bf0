//! The default route that a machine learned from its router, while the machine becomes one that forwards.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use hivemind_core::block_on;
use hivemind_net::DataplaneExt;
use hivemind_net::dataplane::state::Netns;
use hivemind_net::overlay::{
    OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, Transit, UnderlayFamily, Vni,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Lab, ip, is_root, run};
use crate::probe::inside;

/// Announces the namespace as a router on its `eth0` (RFC 4861, section 4.2), for half an hour.
fn announce(router: &Netns) {
    let line = run(router, "ip -o link show eth0");
    let index: u32 = line.split(':').next().unwrap().parse().unwrap();
    let sent = inside(router, move || {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
        socket.set_multicast_hops_v6(255).unwrap();
        let lifetime = 1800_u16.to_be_bytes();
        let message = [134, 0, 0, 0, 64, 0, lifetime[0], lifetime[1], 0, 0, 0, 0, 0, 0, 0, 0];
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        // Without a link-local address yet, there is none to send from.
        let _ = socket.send_to(&message, &SocketAddrV6::new(all_nodes, 0, 0, index).into());
    });
    sent.join().unwrap();
}

fn learned(host: &Netns) -> bool {
    run(host, "ip -6 route show default proto ra").contains("default via fe80::")
}

/// Waits until the hosts have learned the way from the router.
fn learn(router: &Netns, hosts: &[Netns]) {
    let so = (0..400).any(|_| {
        announce(router);
        std::thread::sleep(Duration::from_millis(25));
        hosts.iter().all(learned)
    });
    assert!(so, "nobody heard of the router");
}

#[test]
fn pitfall_30_a_default_route_that_was_learned_outlives_the_switch_to_forwarding() {
    if !is_root() {
        return;
    }
    let transit = Transit::new(Vni::new(1001).unwrap()).with_prefix("fd00:6::/112".parse().unwrap());
    for (tag, config) in [
        ("ravx", OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_transit(transit)),
        ("radir", OverlayConfig::direct(UnderlayFamily::V6, 1500)),
    ] {
        let lab = Lab::new(tag, 3);
        let (own, other, router) = (lab.host(1), lab.host(2), lab.host(3));
        learn(&router, &[own.clone(), other.clone()]);

        let mut overlay = OverlayNetwork::new(config).unwrap();
        let node = OverlayNode::new("n1".parse().unwrap(), 1500).with_uplink("eth0".parse().unwrap());
        overlay.load([OverlayChange::PutNode(node.with_address(ip("fd6e::1")))]).unwrap();
        let desired = overlay.node_state(&"n1".parse().unwrap()).unwrap().into_kernel();
        block_on(lab.agent(1).sync(&desired)).unwrap();
        assert_eq!(run(&own, "cat /proc/sys/net/ipv6/conf/all/forwarding"), "1\n");
        assert!(learned(&own), "{tag}: it is there, though the machine forwards now");

        // What happens to who does not know that.
        run(&other, "sysctl -qw net.ipv6.conf.all.forwarding=1");
        assert!(!learned(&other), "{tag}: the kernel drops what it learned");

        // And it goes on listening.
        run(&own, "ip -6 route del default proto ra");
        learn(&router, &[own]);
    }
}
