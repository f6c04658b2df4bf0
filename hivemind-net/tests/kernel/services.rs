//! Services under virtual addresses, with real packets: who answers, and who is let.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;

use hivemind_net::dataplane::services::{Backend, Frontend, ServiceProtocol, Spread, VirtualServices};
use hivemind_net::dataplane::state::Netns;
use hivemind_net::overlay::UnderlayFamily;

use crate::behaviour::netns_of;
use crate::cluster::{Cluster, Inner, TENANTS};
use crate::lab::{ip, is_root, run};
use crate::probe::{Kind, Probe, Servers, ask, inside};

const PATIENCE: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_millis(700);
const VIRTUAL: [&str; 2] = ["10.96.0.1", "fd96::1"];

fn at(address: &str, protocol: ServiceProtocol, port: u16) -> Frontend {
    Frontend::new(ip(address), protocol, NonZeroU16::new(port).unwrap())
}

fn none() -> VirtualServices {
    VirtualServices::new(["10.96.0.0/16".parse().unwrap(), "fd96::/112".parse().unwrap()])
}

/// The workloads `w<home><number>` as backends of a virtual address, on that port.
fn backends(virtually: &str, of: &[(u8, u8)], port: u16) -> Vec<Backend> {
    let of = of.iter().map(|(home, number)| match ip(virtually) {
        IpAddr::V4(_) => format!("10.10.{home}.{number}"),
        IpAddr::V6(_) => format!("fd10::{home}:{number}"),
    });
    of.map(|address| Backend::new(ip(&address), NonZeroU16::new(port).unwrap())).collect()
}

fn answers(
    from: &Netns,
    kinds: impl IntoIterator<Item = Kind>,
    to: &str,
    patience: Duration,
) -> Vec<Option<String>> {
    let probes = kinds.into_iter().map(|kind| Probe::new(kind, ip(to))).collect();
    ask(from, probes, patience).join().unwrap().into_iter().map(|probe| probe.answer).collect()
}

fn servers(cluster: &Cluster) -> Vec<Servers> {
    let all =
        TENANTS.iter().flat_map(|(of, _)| [11, 12, 21, 22, 31, 32].map(|number| (*of, format!("w{number}"))));
    all.map(|(of, id)| {
        Servers::start(&netns_of(cluster, of, &id), &format!("{of} {id}"), &[8080, 9090], &[5353])
    })
    .collect()
}

/// `red` has its `db` behind the virtual addresses, `blue` its `web`, by TCP on port 80 and by UDP on port 53.
fn with_services(tag: &str, underlay: UnderlayFamily) -> Cluster {
    let mut cluster = Cluster::new(tag, underlay, Inner::Dual);
    for (of, number) in [("red", 2), ("blue", 1)] {
        let mut services = none();
        for address in VIRTUAL {
            let behind = |port| backends(address, &[(1, number), (2, number), (3, number)], port);
            services.put(at(address, ServiceProtocol::Tcp, 80), Spread::InTurn, behind(8080)).unwrap();
            services
                .put(at(address, ServiceProtocol::Tcp, 81), Spread::BySource { bits: 32 }, behind(8080))
                .unwrap();
            services.put(at(address, ServiceProtocol::Tcp, 82), Spread::AtRandom, behind(8080)).unwrap();
            services.put(at(address, ServiceProtocol::Tcp, 83), Spread::AtRandom, []).unwrap();
            services.put(at(address, ServiceProtocol::Udp, 53), Spread::AtRandom, behind(5353)).unwrap();
        }
        cluster.services.insert(of.to_owned(), services);
    }
    cluster
}

fn every_backend_answers(tag: &str, underlay: UnderlayFamily) {
    if !is_root() {
        return;
    }
    let mut cluster = with_services(tag, underlay);
    cluster.sync();
    let _servers = servers(&cluster);
    for (of, number) in [("red", 2), ("blue", 1)] {
        let all: BTreeSet<_> = (1..=3).map(|home| format!("{of} w{home}{number}")).collect();
        for (asker, to) in ["w11", "w12", "w31"].into_iter().flat_map(|asker| VIRTUAL.map(|to| (asker, to))) {
            let from = netns_of(&cluster, of, asker);
            // In turn: nine connections, three for each. The asker itself is one of them, and answers itself.
            let mut counts = BTreeMap::new();
            for answer in answers(&from, [Kind::Tcp(80); 9], to, PATIENCE) {
                *counts.entry(answer.unwrap()).or_insert(0) += 1;
            }
            assert_eq!(counts, all.iter().map(|one| (one.clone(), 3)).collect(), "{of} {asker} to {to}");
            let by_source: BTreeSet<_> =
                answers(&from, [Kind::Tcp(81); 9], to, PATIENCE).into_iter().collect();
            assert!(
                by_source.len() == 1 && !by_source.contains(&None),
                "{of} {asker} to {to}: {by_source:?}"
            );
            for kind in [Kind::Tcp(82), Kind::Udp(53)] {
                let found: BTreeSet<_> = answers(&from, [kind; 9], to, PATIENCE).into_iter().collect();
                let known = found.iter().all(|answer| answer.as_ref().is_some_and(|one| all.contains(one)));
                assert!(known, "{of} {asker} to {to} {kind:?}: {found:?}");
            }
            // Nobody is behind it, and nothing was ever there: told at once.
            let refused = inside(&from, move || {
                [83, 99]
                    .map(|port| std::net::TcpStream::connect((to, port)).unwrap_err().raw_os_error().unwrap())
            });
            let unreachable = [nix::errno::Errno::EHOSTUNREACH as i32, nix::errno::Errno::ENETUNREACH as i32];
            let refused = refused.join().unwrap();
            assert!(
                refused.iter().all(|error| unreachable.contains(error)),
                "{of} {asker} to {to}: {refused:?}"
            );
        }
    }
    cluster.restart_agents();
    assert!(cluster.sync().values().all(Vec::is_empty), "a new agent finds everything as it shall be");
}

#[test]
fn every_backend_answers_over_an_ipv6_underlay() {
    every_backend_answers("svc6", UnderlayFamily::V6);
}

#[test]
fn every_backend_answers_over_an_ipv4_underlay() {
    every_backend_answers("svc4", UnderlayFamily::V4);
}

#[test]
fn policies_judge_whom_a_packet_gets_to() {
    if !is_root() {
        return;
    }
    let mut cluster = with_services("svcpol", UnderlayFamily::V6);
    // Said of the backend's own port, as in Kubernetes: nobody's policy knows the service's.
    let from_web = r#"{"podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]}]}"#;
    cluster.policy("red", "db", from_web);
    let to_db = r#"{"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 8080}]}]}"#;
    cluster.policy("red", "web", to_db);
    cluster.sync();
    let _servers = servers(&cluster);
    for to in VIRTUAL {
        let found = answers(&netns_of(&cluster, "red", "w11"), [Kind::Tcp(80); 6], to, PATIENCE);
        assert!(found.iter().all(Option::is_some), "web to {to}: {found:?}");
        assert_eq!(
            answers(&netns_of(&cluster, "red", "w11"), [Kind::Udp(53)], to, NEVER),
            [None],
            "web by UDP to {to}"
        );
        // Of three turns, one is the asker itself, whom no policy keeps from itself.
        let found = answers(&netns_of(&cluster, "red", "w12"), [Kind::Tcp(80); 3], to, NEVER);
        let who: Vec<_> = found.into_iter().flatten().collect();
        assert_eq!(who, ["red w12"], "db to {to}");
    }
}

#[test]
fn services_are_repaired_and_go() {
    if !is_root() {
        return;
    }
    let mut cluster = with_services("svcrep", UnderlayFamily::V6);
    cluster.sync();
    let router = cluster.router("red", 1);
    for damage in [
        "nft flush chain inet hivemind-services arriving",
        "nft delete element inet hivemind-services services-v4 { 10.96.0.1 . tcp . 80 }",
        "nft flush map inet hivemind-services backends-v6",
        "nft delete table inet hivemind-services",
        "ip -6 route del unreachable fd96::/112",
    ] {
        run(&router, damage);
        assert_eq!(cluster.sync_one(1).len(), 1, "{damage}");
    }
    let _servers = servers(&cluster);
    let from = netns_of(&cluster, "red", "w11");
    for to in VIRTUAL {
        assert!(answers(&from, [Kind::Tcp(80)], to, PATIENCE)[0].is_some());
    }
    // One backend less is one change of the table, and at once nobody gets there.
    for address in VIRTUAL {
        let less = backends(address, &[(1, 2), (3, 2)], 8080);
        let services = cluster.services.get_mut("red").unwrap();
        services.put(at(address, ServiceProtocol::Tcp, 80), Spread::InTurn, less).unwrap();
    }
    let made = cluster.sync_one(1);
    assert!(made.len() == 1 && made[0].to_string().contains("change table"), "{made:?}");
    for to in VIRTUAL {
        let found: BTreeSet<_> = answers(&from, [Kind::Tcp(80); 6], to, PATIENCE).into_iter().collect();
        assert_eq!(found, ["red w12", "red w32"].map(|one| Some(one.to_owned())).into());
    }
    cluster.services.clear();
    cluster.sync();
    for to in VIRTUAL {
        assert_eq!(answers(&from, [Kind::Tcp(80)], to, NEVER), [None]);
    }
}

#[test]
fn pitfall_15_packets_to_a_gone_backend_get_to_another_once_the_connection_is_forgotten() {
    if !is_root() {
        return;
    }
    let mut cluster = with_services("svcdns", UnderlayFamily::V6);
    for address in VIRTUAL {
        let one = backends(address, &[(2, 2)], 5353);
        let services = cluster.services.get_mut("red").unwrap();
        services.put(at(address, ServiceProtocol::Udp, 53), Spread::AtRandom, one).unwrap();
    }
    cluster.sync();
    let _servers = servers(&cluster);
    for to in VIRTUAL {
        let (question, asked) = std::sync::mpsc::channel::<Duration>();
        let (told, hear) = std::sync::mpsc::channel();
        let whom = SocketAddr::new(ip(to), 53);
        let client = inside(&netns_of(&cluster, "red", "w11"), move || {
            let socket = UdpSocket::bind(if whom.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
            socket.connect(whom).unwrap();
            for patience in asked {
                socket.set_read_timeout(Some(patience)).unwrap();
                let mut buffer = [0; 64];
                let _ = socket.send(b"who");
                let answer = socket.recv(&mut buffer).ok();
                told.send(answer.map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned()))
                    .unwrap();
            }
        });
        let answer = |patience| {
            question.send(patience).unwrap();
            hear.recv().unwrap()
        };
        assert_eq!(answer(PATIENCE).as_deref(), Some("red w22"));
        assert_eq!(cluster.forget_stale("red", 1), 0, "its backend is there");
        let other = backends(to, &[(3, 2)], 5353);
        let services = cluster.services.get_mut("red").unwrap();
        services.put(at(to, ServiceProtocol::Udp, 53), Spread::AtRandom, other).unwrap();
        cluster.sync();
        // From the same port, so the kernel takes it for the same connection, whatever the rules say by now.
        assert_eq!(answer(PATIENCE).as_deref(), Some("red w22"));
        assert_eq!(cluster.forget_stale("red", 1), 1);
        assert_eq!(answer(PATIENCE).as_deref(), Some("red w32"));
        drop(question);
        client.join().unwrap();
    }
}
