//! A VNI that another tenant has now, and a node that has not heard of it.

use std::net::UdpSocket;
use std::time::Duration;

use hivemind_core::block_on;
use hivemind_net::DataplaneExt;
use hivemind_net::dataplane::state::Netns;
use hivemind_net::overlay::{
    OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayWorkload, TenantNetwork,
    UnderlayFamily, Vni,
};

use crate::cluster::tenant;
use crate::lab::{Lab, ip, is_root};
use crate::probe::inside;

const PATIENCE: Duration = Duration::from_secs(5);

/// Two nodes, and workloads of one tenant with VNI 1001 on the hosts that are named, `10.10.0.N` each.
fn overlay(of: &str, workloads: &[(u8, u8)]) -> OverlayNetwork {
    let config = OverlayConfig::vxlan(UnderlayFamily::V6, 1500).with_links_up_without_rules();
    let mut overlay = OverlayNetwork::new(config).unwrap();
    for host in 1..=2 {
        let node = OverlayNode::new(format!("reuse-{host}").parse().unwrap(), 1500);
        overlay.load([OverlayChange::PutNode(node.with_address(ip(&format!("fd6e::{host}"))))]).unwrap();
    }
    let network = TenantNetwork::new(tenant(of), Vni::new(1001).unwrap());
    overlay.load([OverlayChange::PutTenant(network.with_pool("10.10.0.0/16".parse().unwrap()))]).unwrap();
    for (number, host) in workloads {
        let node = format!("reuse-{host}").parse().unwrap();
        let workload = OverlayWorkload::new(tenant(of), format!("w{number}").parse().unwrap(), node);
        let workload = workload.with_address(ip(&format!("10.10.0.{number}")));
        overlay.load([OverlayChange::PutWorkload(workload)]).unwrap();
    }
    overlay
}

fn at(overlay: &OverlayNetwork, of: &str, id: &str) -> Netns {
    let of = tenant(of);
    let mut all = overlay.workloads(&of);
    all.find(|workload| workload.id.as_str() == id).unwrap().effective_netns().unwrap()
}

/// What comes to port 5353 in the namespace first, while others send there.
fn first_heard(at: &Netns, sending: impl Fn()) -> String {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let listener = inside(at, move || {
        let socket = UdpSocket::bind("0.0.0.0:5353").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 64];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    });
    is_ready.recv().unwrap();
    while !listener.is_finished() {
        sending();
        std::thread::sleep(Duration::from_millis(20));
    }
    listener.join().unwrap()
}

fn send(from: &Netns, text: &'static str) {
    let sent = inside(from, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let _ = socket.send_to(text.as_bytes(), "10.10.0.1:5353");
    });
    sent.join().unwrap();
}

#[test]
fn a_node_that_was_away_is_not_in_the_network_of_the_next_tenant() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("reuse", 2);
    let agents = [lab.agent(1), lab.agent(2)];
    let red = overlay("red", &[(1, 1), (2, 2)]);
    for (agent, node) in agents.iter().zip(["reuse-1", "reuse-2"]) {
        let state = red.node_state(&node.parse().unwrap()).unwrap().into_kernel();
        block_on(agent.sync(&state)).unwrap();
    }
    let old = at(&red, "red", "w2");
    assert_eq!(first_heard(&at(&red, "red", "w1"), || send(&old, "from red")), "from red");

    // Blue has the VNI and the addresses now, and only the other node was told.
    let blue = overlay("blue", &[(1, 1), (3, 1)]);
    let state = blue.node_state(&"reuse-1".parse().unwrap()).unwrap().into_kernel();
    block_on(agents[0].sync(&state)).unwrap();
    let (own, heard_by) = (at(&blue, "blue", "w3"), at(&blue, "blue", "w1"));
    let heard = first_heard(&heard_by, || {
        // What red sends is on its way first, and would be there first.
        send(&old, "from red");
        send(&own, "from blue");
    });
    assert_eq!(heard, "from blue");
}
