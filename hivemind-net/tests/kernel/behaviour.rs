//! What traffic notices of us, and what not.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hivemind_core::block_on;
use hivemind_net::adapters::linux::{LinuxDataplane, LinuxOptions};
use hivemind_net::addr::IpFamily;
use hivemind_net::dataplane::Action;
use hivemind_net::dataplane::rules::{
    BaseChain, Chain, Comparison, Family, Field, Hook, RuleTable, Statement, TableKey, Value, Verdict,
};
use hivemind_net::dataplane::state::{KernelState, Netns};
use hivemind_net::overlay::{OverlayChange, OverlayNode, UnderlayFamily, Vni, link_local, vtep_mac};
use hivemind_net::{Dataplane, DataplaneExt};
use nix::sys::socket::{setsockopt, sockopt};

use crate::cluster::{Cluster, Inner, tenant};
use crate::lab::{Lab, ip, is_root, read, run};
use crate::probe::{Kind, Probe, Servers, ask, inside};

const PATIENCE: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_millis(700);

pub(crate) fn netns_of(cluster: &Cluster, of: &str, id: &str) -> Netns {
    let of = tenant(of);
    let mut all = cluster.overlay.workloads(&of);
    all.find(|workload| workload.id.as_str() == id).unwrap().effective_netns().unwrap()
}

fn echo(from: &Netns, to: &str, patience: Duration) -> bool {
    ask(from, vec![Probe::new(Kind::Echo, ip(to))], patience).join().unwrap()[0].answer.is_some()
}

/// Lets in echoes, and neighbour discovery only if asked to.
fn input_rules(discovery: bool) -> RuleTable {
    let types = |from, to, field| {
        [
            Statement::Compare(field, Comparison::AtLeast, Value::Icmpv6Type(from)),
            Statement::Compare(field, Comparison::AtMost, Value::Icmpv6Type(to)),
            Statement::Verdict(Verdict::Accept),
        ]
    };
    let mut input = Chain::base(BaseChain::filter(Hook::Input).dropping());
    input = input.with_rule(types(128, 129, Field::Icmpv6Type)).with_rule([
        Statement::Compare(Field::Protocol, Comparison::Equal, Value::Protocol(1)),
        Statement::Verdict(Verdict::Accept),
    ]);
    if discovery {
        input = input.with_rule(types(133, 136, Field::Icmpv6Type));
    }
    RuleTable::new().with_chain("input".parse().unwrap(), input)
}

#[test]
fn pitfall_12_what_was_known_of_a_peer_is_replaced_when_it_is_made_anew() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::new("anew", UnderlayFamily::V6, Inner::Dual);
    cluster.sync();
    let asker = netns_of(&cluster, "red", "w11");
    let reached =
        |patience| ["fd10::3:1", "10.10.3.1"].map(|to| echo(&asker, to, patience)).iter().all(|found| *found);
    let unreached =
        || ["fd10::3:1", "10.10.3.1"].map(|to| echo(&asker, to, NEVER)).iter().all(|found| !found);
    assert!(reached(PATIENCE));

    // The peer's tunnel is made anew, and nobody else hears of it: its MAC is what others know.
    run(&cluster.router("red", 3), "ip link del vx1001");
    assert!(unreached());
    assert!(!cluster.sync_one(3).is_empty());
    assert!(reached(PATIENCE));

    // The peer is back under another address. Others that missed that send to the old one until they look again.
    run(&cluster.lab.host(3), "ip addr add fd6e::33/64 dev eth0 nodad");
    run(&cluster.lab.host(3), "ip addr del fd6e::3/64 dev eth0");
    let node = OverlayNode::new(cluster.node(3), 1500).with_uplink("eth0".parse().unwrap());
    cluster.overlay.load([OverlayChange::PutNode(node.with_address(ip("fd6e::33")))]).unwrap();
    cluster.sync_one(3);
    assert!(unreached());
    for other in [1, 2] {
        let made = cluster.sync_one(other);
        assert!(
            made.len() == 2 && made.iter().all(|op| matches!(op.action, Action::SetRemote(..))),
            "one entry for each tenant: {made:?}"
        );
    }
    assert!(reached(PATIENCE));

    // Another MAC than the peer's is in the table, or none at all: what a lost event leaves behind.
    let router = cluster.router("red", 1);
    let peer = vtep_mac(&cluster.node(3), &tenant("red"), Vni::new(1001).unwrap());
    let next_hop = link_local(peer);
    for spoil in [
        format!("ip neigh replace {next_hop} lladdr 02:00:00:00:00:99 dev vx1001 nud permanent"),
        format!("ip neigh del {next_hop} dev vx1001"),
        format!("bridge fdb del {peer} dev vx1001 dst fd6e::33 self"),
        format!("bridge fdb replace {peer} dev vx1001 dst fd6e::2 self permanent"),
    ] {
        run(&router, &spoil);
        assert!(unreached(), "{spoil}");
        assert_eq!(cluster.sync_one(1).len(), 1, "{spoil}");
        assert!(reached(PATIENCE), "{spoil}");
    }
}

#[test]
fn pitfall_13_denying_by_default_leaves_neighbour_discovery() {
    if !is_root() {
        return;
    }
    for (tag, discovery) in [("ndy", true), ("ndn", false)] {
        let lab = Lab::new(tag, 2);
        for host in 1..=2 {
            let mut state = KernelState::new();
            let key = TableKey::new(Family::Inet, "guard".parse().unwrap());
            state.namespace_mut(&Netns::Host).tables.insert(key, input_rules(discovery));
            block_on(lab.agent(host).sync(&state)).unwrap();
        }
        // ARP is no packet of IPv4, so without discovery IPv4 alone works.
        assert!(echo(&lab.host(1), "10.255.0.2", PATIENCE));
        let patience = if discovery { PATIENCE } else { NEVER };
        assert_eq!(echo(&lab.host(1), "fd6e::2", patience), discovery);
    }
}

#[test]
fn pitfall_14_the_largest_packet_passes_and_a_larger_one_is_refused_at_once() {
    if !is_root() {
        return;
    }
    for (tag, underlay) in [("mtu6", UnderlayFamily::V6), ("mtu4", UnderlayFamily::V4)] {
        let cluster = Cluster::new(tag, underlay, Inner::Dual);
        cluster.sync();
        let mtu = usize::try_from(cluster.overlay.mtu()).unwrap();
        let receiver = inside(&netns_of(&cluster, "red", "w31"), || {
            let socket = UdpSocket::bind("[::]:5353").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut buffer = [0; 2000];
            let mut lengths = BTreeSet::new();
            while lengths.len() < 2 {
                let Ok((length, _)) = socket.recv_from(&mut buffer) else { break };
                lengths.insert(length);
            }
            lengths
        });
        let refused = inside(&netns_of(&cluster, "red", "w11"), move || {
            let send = |to: &str, header: usize, more: usize| {
                let to: SocketAddr = to.parse().unwrap();
                let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                let socket = UdpSocket::bind(any).unwrap();
                if to.is_ipv6() {
                    setsockopt(&socket, sockopt::Ipv6DontFrag, &true).unwrap();
                }
                for _ in 0..20 {
                    if let Err(error) = socket.send_to(&vec![7; mtu - header - 8 + more], to) {
                        return error.raw_os_error();
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                None
            };
            let fits = (send("[fd10::3:1]:5353", 40, 0), send("10.10.3.1:5353", 20, 0));
            (fits, send("[fd10::3:1]:5353", 40, 1))
        });
        let too_long = nix::errno::Errno::EMSGSIZE as i32;
        assert_eq!(refused.join().unwrap(), ((None, None), Some(too_long)));
        assert_eq!(receiver.join().unwrap(), BTreeSet::from([mtu - 48, mtu - 28]));
    }
}

#[test]
fn pitfall_21_nothing_passes_before_its_rules_are_in_force() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::new("t0", UnderlayFamily::V6, Inner::V6);
    cluster.policy(
        "red",
        "none",
        r#"{"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}"#,
    );
    cluster.sync();
    let flood = |cluster: &Cluster, to: &str| {
        ask(
            &netns_of(cluster, "red", "w11"),
            (0..200).map(|_| Probe::new(Kind::Echo, ip(to))).collect(),
            PATIENCE,
        )
    };
    // Of one nobody has said yet what may reach it: it is there, with its link down, and the kernel has all of that.
    cluster.put_at("red", "w38", "web", "fd10::3:8", 3);
    let unruled = cluster.overlay.node_state(&cluster.node(3)).unwrap();
    assert!(unruled.uncovered().any(|(_, id)| id.as_str() == "w38"));
    let unruled = unruled.into_kernel();
    block_on(cluster.agents[&3].sync(&unruled)).unwrap();
    assert_eq!(block_on(cluster.agents[&3].sync(&unruled)).unwrap(), []);
    assert_eq!(
        flood(&cluster, "fd10::3:8").join().unwrap().iter().filter(|probe| probe.answer.is_some()).count(),
        0
    );
    cluster.sync();
    assert_eq!(
        flood(&cluster, "fd10::3:8").join().unwrap().iter().filter(|probe| probe.answer.is_some()).count(),
        200
    );

    // One whom nobody may reach, one whom everybody may: both appear while they are being flooded.
    let (closed, open) = (flood(&cluster, "fd10::3:7"), flood(&cluster, "fd10::3:9"));
    std::thread::sleep(Duration::from_millis(200));
    cluster.put_at("red", "w37", "db", "fd10::3:7", 3);
    cluster.put_at("red", "w39", "web", "fd10::3:9", 3);
    cluster.sync();
    let answered = |probes: Vec<Probe>| probes.iter().filter(|probe| probe.answer.is_some()).count();
    assert_eq!(answered(closed.join().unwrap()), 0);
    assert_eq!(answered(open.join().unwrap()), 200);
}

#[test]
fn pitfall_24_only_our_own_thread_changes_its_namespace() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("threads", 3);
    let own = || fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = own();
    let agents: Vec<_> = (1..=3).map(|host| lab.agent(host)).collect();
    let desired = |host: u8| {
        let mut state = KernelState::new();
        let key = TableKey::new(Family::Inet, format!("on-{host}").parse().unwrap());
        state.namespace_mut(&Netns::Host).tables.insert(key, RuleTable::new());
        state
    };
    std::thread::scope(|scope| {
        for (agent, host) in agents.iter().zip(1..) {
            let (before, desired) = (before.clone(), desired(host));
            scope.spawn(move || {
                for _ in 0..20 {
                    block_on(agent.sync(&desired)).unwrap();
                    block_on(agent.uninstall(&BTreeSet::new())).unwrap();
                    assert_eq!(own(), before);
                }
                block_on(agent.sync(&desired)).unwrap();
            });
        }
    });
    for (agent, host) in agents.iter().zip(1..) {
        assert_eq!(read(agent), desired(host));
    }
    let other = LinuxDataplane::open(LinuxOptions::new().with_owner("hm-threads-none")).unwrap();
    assert_eq!(read(&other), KernelState::new(), "nothing came into the namespace of the test itself");
}

#[test]
fn a_flow_loses_nothing_while_everything_is_applied_again() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::new("noop", UnderlayFamily::V6, Inner::Dual);
    cluster.policy("red", "db", r#"{"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{}]}"#);
    cluster.sync();
    let _server = Servers::start(&netns_of(&cluster, "red", "w32"), "w32", &[], &[5353]);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let flow = inside(&netns_of(&cluster, "red", "w11"), move || {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.connect("[fd10::3:2]:5353").unwrap();
        // The links of the lab itself may take a moment until they carry anything.
        socket.set_read_timeout(Some(NEVER)).unwrap();
        let (mut sent, mut answered, mut buffer) = (0, 0, [0; 64]);
        let is_there = (0..20).any(|_| socket.send(b"who").is_ok() && socket.recv(&mut buffer).is_ok());
        assert!(is_there);
        ready.send(()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        while !stopped.load(Ordering::Relaxed) {
            socket.send(b"who").unwrap();
            sent += 1;
            answered += usize::from(socket.recv(&mut buffer).is_ok());
        }
        (sent, answered)
    });
    is_ready.recv().unwrap();
    for round in 0..15 {
        if round % 5 == 4 {
            cluster.restart_agents();
        }
        assert!(cluster.sync().values().all(Vec::is_empty));
    }
    // A change of somebody else's rules in the same table is none of its business either.
    cluster.policy("red", "web", r#"{"podSelector": {"matchLabels": {"app": "web"}}, "ingress": []}"#);
    assert!(!cluster.sync().values().all(Vec::is_empty));
    stop.store(true, Ordering::Relaxed);
    let (sent, answered) = flow.join().unwrap();
    println!("a flow during 15 re-applies and a change: {sent} packets, {} lost", sent - answered);
    assert!(sent > 100 && sent == answered, "{sent} sent, {answered} answered");
}

#[test]
fn an_established_connection_goes_on_until_it_is_forgotten() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::new("estab", UnderlayFamily::V6, Inner::Dual);
    cluster.sync();
    for (family, to) in [(IpFamily::V6, "fd10::3:2"), (IpFamily::V4, "10.10.3.2")] {
        let _server = Servers::start(&netns_of(&cluster, "red", "w32"), "w32", &[], &[5353]);
        let (ask_again, asked) = std::sync::mpsc::channel::<Duration>();
        let (told, hear) = std::sync::mpsc::channel();
        let to_whom = SocketAddr::new(ip(to), 5353);
        let client = inside(&netns_of(&cluster, "red", "w11"), move || {
            let socket = UdpSocket::bind(if to_whom.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
            socket.connect(to_whom).unwrap();
            for patience in asked {
                socket.set_read_timeout(Some(patience)).unwrap();
                let _ = socket.send(b"who");
                told.send(socket.recv(&mut [0; 64]).is_ok()).unwrap();
            }
        });
        let works = |patience| {
            ask_again.send(patience).unwrap();
            hear.recv().unwrap()
        };
        assert!(works(PATIENCE));
        let nobody = r#"{"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}"#;
        cluster.policy("red", "db", nobody);
        cluster.sync();
        assert!(!cluster.allowed("red", "w11", "w32", family, Kind::Udp(5353)));
        assert!(works(PATIENCE), "what is established goes on");
        let cut: usize = (1..=3).map(|host| cluster.forget(host, ip("fd10::3:2"), ip("10.10.3.2"))).sum();
        assert!(cut > 0);
        assert!(!works(NEVER), "and is judged anew once it is forgotten");
        cluster.policy("red", "db", r#"{"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{}]}"#);
        cluster.sync();
        assert!(works(PATIENCE));
        drop(ask_again);
        client.join().unwrap();
    }
}

#[test]
fn what_policies_deny_is_refused_at_once_if_that_is_asked_for() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::new("refuse", UnderlayFamily::V6, Inner::Dual);
    cluster.policy(
        "red",
        "db",
        r#"{"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}"#,
    );
    for refusing in [false, true] {
        cluster.refusing = refusing;
        cluster.sync();
        for to in ["[fd10::3:2]:8080", "10.10.3.2:8080"] {
            let to: SocketAddr = to.parse().unwrap();
            let patience = if refusing { PATIENCE } else { NEVER };
            let asked = inside(&netns_of(&cluster, "red", "w11"), move || {
                TcpStream::connect_timeout(&to, patience).map(drop).map_err(|error| error.kind())
            });
            let expected = if refusing { ErrorKind::ConnectionRefused } else { ErrorKind::TimedOut };
            assert_eq!(asked.join().unwrap(), Err(expected), "{to}");
        }
    }
    cluster.policy("red", "db", r#"{"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{}]}"#);
    cluster.sync();
    let _server = Servers::start(&netns_of(&cluster, "red", "w32"), "w32", &[8080], &[]);
    let probes = ["fd10::3:2", "10.10.3.2"].map(|to| Probe::new(Kind::Tcp(8080), ip(to)));
    let answers = ask(&netns_of(&cluster, "red", "w11"), probes.into(), PATIENCE).join().unwrap();
    assert!(answers.iter().all(|probe| probe.answer.is_some()), "what is allowed passes as before");
}

#[test]
fn a_rule_about_a_code_of_icmp_is_about_that_code() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::new("code", UnderlayFamily::V6, Inner::Dual);
    for (code, passes) in [(0, true), (1, false)] {
        let ports = format!(
            r#"[{{"protocol":"ICMP","type":8,"code":{code}}},{{"protocol":"ICMPv6","type":128,"code":{code}}}]"#
        );
        let spec = format!(
            r#"{{"podSelector":{{"matchLabels":{{"app":"db"}}}},"ingress":[{{"from":[{{"podSelector":{{}}}}],"ports":{ports}}}]}}"#
        );
        cluster.policy("red", "db", &spec);
        cluster.sync();
        let patience = if passes { PATIENCE } else { NEVER };
        for to in ["fd10::3:2", "10.10.3.2"] {
            // Echo requests have code 0.
            assert_eq!(echo(&netns_of(&cluster, "red", "w11"), to, patience), passes, "code {code}, {to}");
        }
    }
}

#[test]
fn a_workload_that_renames_its_link_has_it_back_and_nobody_else_notices() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::new("rename", UnderlayFamily::V6, Inner::Dual);
    cluster.sync();
    let (own, other) = (netns_of(&cluster, "red", "w11"), netns_of(&cluster, "red", "w12"));
    run(&own, "ip link set eth0 down");
    run(&own, "ip link set eth0 name mine");
    let made = cluster.sync();
    assert!(made[&2].is_empty() && made[&3].is_empty(), "{made:?}");
    let near = [own.clone(), cluster.router("red", 1)];
    assert!(made[&1].len() <= 15 && made[&1].iter().all(|op| near.contains(&op.netns)), "{made:?}");
    assert!(echo(&other, "fd10::1:1", PATIENCE) && echo(&own, "10.10.3.1", PATIENCE));
    assert!(cluster.sync().values().all(Vec::is_empty));
}

#[test]
fn the_kernel_keeps_the_contract_of_the_port() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("conf", 1);
    let (passed, failed) = block_on(hivemind_net::conformance::dataplane::run_all(|| lab.agent(1)));
    assert!(failed.is_empty(), "{failed:#?}");
    println!("conformance on the kernel: {} cases", passed.len());
    let agent = lab.agent(1);
    assert_eq!(block_on(agent.connections(&Netns::Host)).unwrap(), []);
}
