//! What leaves the cluster, with real packets: under which address, and what of the world gets back in.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hivemind_core::{NodeId, block_on};
use hivemind_net::DataplaneExt;
use hivemind_net::adapters::linux::LinuxDataplane;
use hivemind_net::dataplane::state::{Mac, Netns};
use hivemind_net::overlay::{
    AddressPlan, OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayWorkload, TenantNetwork,
    Transit, UnderlayFamily, Vni, vtep_mac,
};

use crate::cluster::tenant;
use crate::lab::{Lab, ip, is_root, run};
use crate::probe::{Kind, Probe, Servers, ask, checksum, inside};

const PATIENCE: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_millis(700);

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

/// Hosts 1 and 2 are nodes; host 3 is the world, which knows no way to any address of a tenant.
struct Edge {
    lab: Lab,
    overlay: OverlayNetwork,
    agents: [LinuxDataplane; 2],
}

impl Edge {
    fn new(tag: &str, config: OverlayConfig, tenants: &[(&str, &str, &str)]) -> Self {
        let lab = Lab::new(tag, 3);
        let encapsulated = config.overhead() > 0;
        let agents = [lab.agent(1), lab.agent(2)];
        let mut edge = Self { overlay: OverlayNetwork::new(config).unwrap(), lab, agents };
        for host in 1..=2 {
            let node = OverlayNode::new(edge.node(host), 1500).with_uplink("eth0".parse().unwrap());
            let node =
                node.with_address(ip(&format!("fd6e::{host}"))).with_address(ip(&format!("10.255.0.{host}")));
            edge.overlay.load([OverlayChange::PutNode(node)]).unwrap();
        }
        for ((of, v4, v6), vni) in tenants.iter().zip(1001..) {
            let plan = AddressPlan::new()
                .with_nodes(net("fd6e::/64"))
                .with_nodes(net("10.255.0.0/24"))
                .with_transit(net("100.64.0.0/22"))
                .with_transit(net("fd00:6::/112"))
                .with_pool(tenant(of), net(&format!("{v4}0.0/16")))
                .with_pool(tenant(of), net(&format!("{v6}/64")));
            plan.validate().unwrap();
            let mut network = TenantNetwork::new(tenant(of), Vni::new(vni).unwrap())
                .with_pool(net(&format!("{v4}0.0/16")))
                .with_pool(net(&format!("{v6}/64")));
            if *of != "shut" {
                network = network.with_egress(plan.masquerade(&tenant(of), encapsulated));
            }
            edge.overlay.load([OverlayChange::PutTenant(network)]).unwrap();
            for host in 1..=2 {
                let id = format!("w{host}").parse().unwrap();
                let workload = OverlayWorkload::new(tenant(of), id, edge.node(host))
                    .with_address(ip(&format!("{v4}{host}.1")))
                    .with_address(ip(&format!("{v6}{host}:1")));
                edge.overlay.load([OverlayChange::PutWorkload(workload)]).unwrap();
            }
        }
        for (agent, host) in edge.agents.iter().zip(1..) {
            block_on(agent.sync(&edge.overlay.node_state(&edge.node(host)).unwrap().into_kernel())).unwrap();
        }
        edge
    }

    fn node(&self, host: u8) -> NodeId {
        self.lab.host(host).to_string().parse().unwrap()
    }

    fn at(&self, of: &str, host: u8) -> Netns {
        let id = format!("w{host}");
        let of = tenant(of);
        let mut all = self.overlay.workloads(&of);
        all.find(|workload| workload.id.as_str() == id).unwrap().effective_netns().unwrap()
    }
}

/// Under which address the mirror at `to` sees a packet from there; always from the same port.
fn seen(from: &Netns, to: &str, patience: Duration) -> Option<String> {
    let to = SocketAddr::new(ip(to), 5353);
    let asker = inside(from, move || {
        let any: IpAddr = if to.is_ipv6() { ip("::") } else { ip("0.0.0.0") };
        let socket = UdpSocket::bind(SocketAddr::new(any, 40_000)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut buffer = [0; 64];
        for _ in 0..patience.as_millis().div_ceil(200) {
            let _ = socket.send_to(b"who", to);
            // Nothing but what was asked for: a late answer to an earlier question comes to the same port.
            while let Ok((length, of)) = socket.recv_from(&mut buffer) {
                if (of.ip(), of.port()) != (to.ip(), to.port()) {
                    continue;
                }
                return Some(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        }
        None
    });
    asker.join().unwrap()
}

fn answered(from: &Netns, kind: Kind, to: &str, patience: Duration) -> Option<String> {
    ask(from, vec![Probe::new(kind, ip(to))], patience).join().unwrap().remove(0).answer
}

fn transit() -> Transit {
    Transit::new(Vni::new(1001).unwrap()).with_prefix(net("100.64.0.0/22")).with_prefix(net("fd00:6::/112"))
}

#[test]
fn what_leaves_has_the_address_of_its_machine_and_what_stays_has_its_own() {
    if !is_root() {
        return;
    }
    let config =
        OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_transit(transit()).with_links_up_without_rules();
    let same = |of| (of, "10.10.", "fd10::");
    let edge = Edge::new("edge", config, &[same("red"), same("blue"), same("shut")]);
    let world = edge.lab.host(3);
    let _world = Servers::mirrors(&world, &[8080], &[5353]);
    for host in 1..=2 {
        let outside = [("10.255.0.3", format!("10.255.0.{host}")), ("fd6e::3", format!("fd6e::{host}"))];
        for (to, machine) in &outside {
            // Two with equal addresses, from equal ports: each gets the answers to its own questions.
            for of in ["red", "blue"] {
                let from = edge.at(of, host);
                assert_eq!(seen(&from, to, PATIENCE).as_ref(), Some(machine), "{of} {host} udp to {to}");
                let by_tcp = answered(&from, Kind::Tcp(8080), to, PATIENCE);
                assert_eq!(by_tcp.as_ref(), Some(machine), "{of} {host} tcp to {to}");
                assert_eq!(answered(&from, Kind::Echo, to, PATIENCE), Some(String::new()), "{of} to {to}");
            }
            // Who was given no way out has none.
            assert_eq!(seen(&edge.at("shut", host), to, NEVER), None);
        }
    }
    // Within the cluster nothing is translated, also from one node to the other.
    let _inside = Servers::mirrors(&edge.at("red", 2), &[], &[5353]);
    for (to, own) in [("10.10.2.1", "10.10.1.1"), ("fd10::2:1", "fd10::1:1")] {
        assert_eq!(seen(&edge.at("red", 1), to, PATIENCE).as_deref(), Some(own));
    }
}

#[test]
fn nobody_gets_in_by_the_way_out() {
    if !is_root() {
        return;
    }
    let config =
        OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_transit(transit()).with_links_up_without_rules();
    let edge = Edge::new("edgein", config, &[("red", "10.10.", "fd10::"), ("blue", "10.10.", "fd10::")]);
    let world = edge.lab.host(3);
    for command in [
        "ip route add 100.64.0.0/22 via 10.255.0.1",
        "ip -6 route add fd00:6::/112 via fd6e::1",
        "ip route add 10.10.0.0/16 via 10.255.0.1",
        "ip -6 route add fd10::/64 via fd6e::1",
    ] {
        run(&world, command);
    }
    // The world's own answers come back, so it is not the way that is missing.
    let _mirror = Servers::mirrors(&world, &[], &[5353]);
    assert_eq!(seen(&edge.at("red", 1), "10.255.0.3", PATIENCE).as_deref(), Some("10.255.0.1"));
    // VNI 1001, the first one, has the first address of the transit network, 1002 the second.
    for to in ["100.64.0.1", "fd00:6::1", "10.10.1.1", "fd10::1:1"] {
        assert_eq!(answered(&world, Kind::Echo, to, NEVER), None, "from the world to {to}");
    }
    for to in ["100.64.0.2", "fd00:6::2"] {
        let from = edge.at("red", 1);
        assert_eq!(
            answered(&from, Kind::Echo, to, NEVER),
            None,
            "from one tenant to another's router at {to}"
        );
    }
    for to in ["100.64.0.1", "fd00:6::1"] {
        let machine = edge.lab.host(1);
        assert_eq!(answered(&machine, Kind::Echo, to, PATIENCE), Some(String::new()), "it is there: {to}");
    }
}

#[test]
fn with_direct_routing_the_machine_translates_what_leaves() {
    if !is_root() {
        return;
    }
    let config = OverlayConfig::direct(UnderlayFamily::V6, 1500).with_links_up_without_rules();
    let edge = Edge::new("edged", config, &[("red", "10.10.", "fd10::")]);
    let world = edge.lab.host(3);
    let _world = Servers::mirrors(&world, &[8080], &[5353]);
    // Nodes know the way to each other's workloads, so their own network is inside: the world is behind it.
    run(&world, "ip addr add 10.99.0.3/32 dev eth0");
    run(&world, "ip addr add fd99::3/128 dev eth0 nodad");
    for host in 1..=2 {
        run(&edge.lab.host(host), "ip route add 10.99.0.3 via 10.255.0.3");
        run(&edge.lab.host(host), "ip -6 route add fd99::3 via fd6e::3");
        for (to, machine) in [("10.99.0.3", format!("10.255.0.{host}")), ("fd99::3", format!("fd6e::{host}"))]
        {
            let from = edge.at("red", host);
            // By TCP alone: by UDP the world answers from the address that it has on the way back.
            assert_eq!(answered(&from, Kind::Tcp(8080), to, PATIENCE), Some(machine), "tcp to {to}");
        }
    }
    let _inside = Servers::mirrors(&edge.at("red", 2), &[], &[5353]);
    for (to, own) in [("10.10.2.1", "10.10.1.1"), ("fd10::2:1", "fd10::1:1")] {
        assert_eq!(seen(&edge.at("red", 1), to, PATIENCE).as_deref(), Some(own));
    }
}

/// A VXLAN packet (RFC 7348, section 5) for `vni` with a UDP packet in it, to port 5353 of 10.10.2.1.
fn tunnelled(vni: u32, to: Mac, payload: &[u8]) -> Vec<u8> {
    let length = |header: usize| u16::try_from(header + payload.len()).unwrap().to_be_bytes();
    let mut ip = vec![0x45, 0, length(28)[0], length(28)[1], 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend_from_slice(&[10, 10, 1, 1, 10, 10, 2, 1]);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = vec![8, 0, 0, 0];
    bytes.extend_from_slice(&(vni << 8).to_be_bytes());
    bytes.extend_from_slice(&[&to.octets()[..], &[2, 0, 0, 0, 9, 9], &[8, 0]].concat());
    bytes.extend_from_slice(&ip);
    bytes.extend_from_slice(&[&40_000_u16.to_be_bytes()[..], &5353_u16.to_be_bytes()].concat());
    bytes.extend_from_slice(&[length(8)[0], length(8)[1], 0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn no_workload_speaks_to_a_tunnel_end_and_what_it_sends_beside_passes() {
    if !is_root() {
        return;
    }
    let config =
        OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_transit(transit()).with_links_up_without_rules();
    let edge = Edge::new("edgevx", config, &[("red", "10.10.", "fd10::"), ("blue", "10.10.", "fd10::")]);
    let (workload, machine, world) = (edge.at("red", 1), edge.lab.host(1), edge.lab.host(3));
    let _world = Servers::start(&world, "world", &[], &[4789, 4790]);
    for to in ["10.255.0.3", "fd6e::3"] {
        let heard = |from: &Netns, port, patience| answered(from, Kind::Udp(port), to, patience).is_some();
        assert!(heard(&workload, 4790, PATIENCE), "the port beside it, {to}");
        assert!(!heard(&workload, 4789, NEVER), "the port of tunnels, {to}");
        assert!(heard(&machine, 4789, PATIENCE), "the machine itself may, {to}");
    }

    // What that prevents: a frame that red makes for blue's network, at the tunnel end of another node.
    let at_blue = inside(&edge.at("blue", 2), || {
        let socket = UdpSocket::bind("0.0.0.0:5353").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    });
    let blue = vtep_mac(&edge.node(2), &tenant("blue"), Vni::new(1002).unwrap());
    let send = |from: &Netns, text: &str| {
        let frame = tunnelled(1002, blue, text.as_bytes());
        let sent = inside(from, move || {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            for _ in 0..5 {
                socket.send_to(&frame, "[fd6e::2]:4789").unwrap();
            }
        });
        sent.join().unwrap();
    };
    send(&workload, "from red");
    // Whoever is in the underlay could: the first frame that comes in is its.
    until_heard(&at_blue, || send(&world, "from the underlay"));
    assert_eq!(at_blue.join().unwrap(), "from the underlay");
}

/// Does it until the other one has got what it waits for.
fn until_heard<T>(listener: &std::thread::JoinHandle<T>, again: impl Fn()) {
    for _ in 0..100 {
        if listener.is_finished() {
            return;
        }
        again();
        std::thread::sleep(Duration::from_millis(20));
    }
}
