//! What passes between two tenants besides single packets.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use hivemind_net::dataplane::state::{LinkName, Netns};
use hivemind_net::overlay::{OverlayChange, UnderlayFamily};
use hivemind_net::policy::Direction;
use nix::sys::socket::{setsockopt, sockopt};

use crate::behaviour::netns_of;
use crate::cluster::{Cluster, Inner};
use crate::lab::{is_root, run};
use crate::probe::{Servers, inside};

const PATIENCE: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_millis(700);

/// Red may reach green.
fn joined(tag: &str) -> Cluster {
    let mut cluster = Cluster::neighbours(tag, UnderlayFamily::V6, Inner::Dual);
    join(&mut cluster);
    cluster
}

fn join(cluster: &mut Cluster) {
    cluster.overlay.apply(OverlayChange::PutPeering(cluster.peering())).unwrap();
    cluster.grant("red", Direction::Egress, "green");
    cluster.grant("green", Direction::Ingress, "red");
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

impl Asker {
    fn new(from: &Netns, to: &str, length: usize) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let (ask, asked) = std::sync::mpsc::channel::<Duration>();
        let (tell, told) = std::sync::mpsc::channel();
        inside(from, move || {
            let socket = UdpSocket::bind(if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
            if to.is_ipv6() {
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
