//! What passes between two tenants besides single packets.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hivemind_net::dataplane::state::{LinkName, Netns};
use hivemind_net::overlay::{OverlayChange, UnderlayFamily};
use hivemind_net::policy::Direction;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::behaviour::netns_of;
use crate::cluster::{Cluster, Inner, tenant};
use crate::lab::{ip, is_root, run};
use crate::probe::{Servers, inside};

const PATIENCE: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_millis(700);

/// Red may reach green. Each host of a tenant has a block of IPv6, so that routers there have an address to speak from.
fn joined(tag: &str) -> Cluster {
    let mut cluster = Cluster::neighbours(tag, UnderlayFamily::V6, Inner::Dual);
    for (of, prefix, host) in [
        ("red", "fd10::1:0/112", 1),
        ("red", "fd10::2:0/112", 2),
        ("green", "fd20::2:0/112", 2),
        ("green", "fd20::3:0/112", 3),
    ] {
        let (prefix, node) = (prefix.parse().unwrap(), cluster.node(host));
        cluster.overlay.load([OverlayChange::PutBlock { tenant: tenant(of), prefix, node }]).unwrap();
    }
    join(&mut cluster);
    cluster
}

fn join(cluster: &mut Cluster) {
    cluster.grant("red", Direction::Egress, "green");
    cluster.grant("green", Direction::Ingress, "red");
    assert_eq!(cluster.follow_grants(), 1);
    cluster.sync();
}

/// The namespaces on a host that route for tenants.
fn routers(cluster: &Cluster, host: u8) -> Vec<Netns> {
    let tunnel = |link: &LinkName| link.as_str().starts_with("vx");
    let all = cluster.desired(host).namespaces.into_iter();
    all.filter(|(_, netns)| netns.links.keys().any(tunnel)).map(|(at, _)| at).collect()
}

/// Asks by UDP from one port for as long as it is told to; the second end says whether there was an answer.
struct Asker {
    ask: std::sync::mpsc::Sender<Duration>,
    told: std::sync::mpsc::Receiver<bool>,
}

/// Who says that a packet went too far, of one that may go so far; waits for as long as `patience`.
fn who_tells(from: &Netns, to: &'static str, hops: u32, patience: Duration) -> Option<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    let teller = inside(from, move || {
        let (domain, protocol) = match to {
            SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let errors = UdpSocket::from(Socket::new(domain, Type::RAW, Some(protocol)).unwrap());
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        if to.is_ipv6() { socket.set_unicast_hops_v6(hops) } else { socket.set_ttl_v4(hops) }.unwrap();
        errors.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < patience {
            let _ = socket.send_to(b"who", &to.into());
            let mut buffer = [0; 256];
            if let Ok((_, from)) = errors.recv_from(&mut buffer) {
                // IPv4 gives its header as well.
                let start = if to.is_ipv6() { 0 } else { usize::from(buffer[0] & 15) * 4 };
                if buffer[start] == if to.is_ipv6() { 3 } else { 11 } {
                    return Some(from.ip());
                }
            }
        }
        None
    });
    teller.join().unwrap()
}

impl Asker {
    /// Sends as it is, or not at all.
    fn new(from: &Netns, to: &str, length: usize) -> Self {
        Self::sending(from, to, length, false)
    }

    /// Sends in as many pieces as its machine knows that it takes.
    fn fragmenting(from: &Netns, to: &str, length: usize) -> Self {
        Self::sending(from, to, length, true)
    }

    fn sending(from: &Netns, to: &str, length: usize, pieces: bool) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let (ask, asked) = std::sync::mpsc::channel::<Duration>();
        let (tell, told) = std::sync::mpsc::channel();
        inside(from, move || {
            let socket = UdpSocket::bind(if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
            if to.is_ipv6() && !pieces {
                setsockopt(&socket, sockopt::Ipv6DontFrag, &true).unwrap();
            }
            socket.connect(to).unwrap();
            for patience in asked {
                socket.set_read_timeout(Some(patience)).unwrap();
                let _ = socket.send(&vec![7; length]);
                tell.send(socket.recv(&mut [0; 64]).is_ok()).unwrap();
            }
        });
        Self { ask, told }
    }

    fn works(&self, patience: Duration) -> bool {
        self.ask.send(patience).unwrap();
        self.told.recv().unwrap()
    }
}

const GREEN: [&str; 2] = ["[fd20::3:2]:5353", "10.20.3.2:5353"];

#[test]
fn the_largest_packet_passes_between_tenants() {
    if !is_root() {
        return;
    }
    let cluster = joined("ptmtu");
    let mtu = usize::try_from(cluster.overlay.mtu()).unwrap();
    let _server = Servers::start(&netns_of(&cluster, "green", "w32"), "w32", &[], &[5353]);
    for (to, header) in GREEN.into_iter().zip([40, 20]) {
        let asker = Asker::new(&netns_of(&cluster, "red", "w11"), to, mtu - header - 8);
        assert!((0..5).any(|_| asker.works(PATIENCE)), "{to}");
    }
}

#[test]
fn every_router_on_the_way_to_a_peer_says_where_a_packet_ended() {
    if !is_root() {
        return;
    }
    let mut cluster = joined("pttrc");
    let from = netns_of(&cluster, "red", "w11");
    // Red's here, red's there, where it has no block, green's there. Routers have no IPv4 addresses: they speak from the
    // dummy of RFC 7600.
    let v6 = ["fd10::1:0", "fd10::", "fd20::3:0"].map(ip);
    for (to, expected) in GREEN.into_iter().zip([v6, [ip("192.0.0.8"); 3]]) {
        for (hops, expected) in (1..).zip(expected) {
            assert_eq!(who_tells(&from, to, hops, PATIENCE), Some(expected), "{to} {hops}");
        }
    }
    cluster.withdraw("red", Direction::Egress);
    cluster.sync_one(1);
    for to in GREEN {
        assert_eq!(who_tells(&from, to, 3, NEVER), None, "{to}");
    }
}

#[test]
fn a_sender_hears_of_a_smaller_link_at_a_peer() {
    if !is_root() {
        return;
    }
    let cluster = joined("ptpmt");
    let workloads: Vec<_> = cluster.overlay.workloads(&tenant("green")).collect();
    let link = workloads.iter().find(|one| one.id.as_str() == "w32").unwrap().effective_link().unwrap();
    run(&cluster.router("green", 3), &format!("ip link set {link} mtu 1300"));
    let there = netns_of(&cluster, "green", "w32");
    let _server = Servers::start(&there, "w32", &[], &[5353]);
    for to in GREEN {
        let asker = Asker::fragmenting(&netns_of(&cluster, "red", "w11"), to, 1380);
        assert!((0..5).any(|_| asker.works(Duration::from_secs(2))), "{to}");
    }
}

#[test]
fn strict_reverse_paths_are_no_hindrance_between_tenants() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::neighbours("ptrpf", UnderlayFamily::V6, Inner::Dual);
    cluster.sync();
    for at in (1..=3).flat_map(|host| routers(&cluster, host)) {
        run(&at, "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1");
    }
    join(&mut cluster);
    let _server = Servers::start(&netns_of(&cluster, "green", "w32"), "w32", &[], &[5353]);
    let asker = Asker::new(&netns_of(&cluster, "red", "w11"), GREEN[1], 3);
    assert!((0..5).any(|_| asker.works(PATIENCE)));
}

#[test]
fn an_established_connection_outlives_a_policy_and_ends_with_the_grant() {
    if !is_root() {
        return;
    }
    let mut cluster = joined("ptest");
    let _server = Servers::start(&netns_of(&cluster, "green", "w32"), "w32", &[], &[5353]);
    let askers = GREEN.map(|to| Asker::new(&netns_of(&cluster, "red", "w11"), to, 3));
    let all = |patience| askers.iter().all(|asker| asker.works(patience));
    let none = || askers.iter().all(|asker| !asker.works(NEVER));
    assert!((0..5).any(|_| all(PATIENCE)));
    let nobody = r#"{"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}"#;
    cluster.policy("green", "db", nobody);
    cluster.sync();
    assert!(all(PATIENCE), "what is established goes on");
    cluster.withdraw("green", Direction::Ingress);
    cluster.sync_one(3);
    assert!(none(), "who has no grant is a stranger, also in the middle of a connection");
    cluster.grant("green", Direction::Ingress, "red");
    cluster.sync_one(3);
    assert!(all(PATIENCE));
    // The node of the receiver alone has heard that the peering is over.
    cluster.overlay.apply(OverlayChange::RemovePeering(cluster.peering())).unwrap();
    cluster.sync_one(3);
    assert!(none(), "no way is left to who has heard, whatever the others still hold");
    cluster.sync();
    assert!(none());
}
