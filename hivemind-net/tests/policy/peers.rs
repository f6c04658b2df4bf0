//! What the rules of a tenant know of others to which there is a way.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hivemind_net::dataplane::rules::{ConnectionState, Hook, RulePacket, RuleTable, Value, evaluate};
use hivemind_net::policy::rules::{NodeRules, PeerNetwork};
use hivemind_net::policy::{Change, Endpoint, Engine, Profile, Traffic, World};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{cluster, grant, key, labels, tenant};

fn at(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Whether a set of addresses has this one.
fn has(table: &RuleTable, set: &str, address: IpAddr) -> bool {
    let set = &table.sets[&format!("{set}{}", if address.is_ipv4() { 4 } else { 6 }).parse().unwrap()];
    set.elements.keys().any(|key| key.contains(&[Value::from(address)]))
}

const TENANTS: [&str; 4] = ["acme", "globex", "initech", "hooli"];
const POOLS: [&str; 4] = ["10.0.0.0/29", "10.0.0.8/29", "fd00::/125", "10.0.0.12/30"];

fn address(last: u8) -> IpAddr {
    if last < 16 { at(&format!("10.0.0.{last}")) } else { at(&format!("fd00::{:x}", last - 16)) }
}

/// The grant of a tenant to another one, and whether it is for workloads `a` alone.
fn given(by: usize, to: usize, narrow: bool) -> Change {
    let peers = if narrow { r#","peers":"pod=a""# } else { "" };
    grant(&format!(
        r#"{{"by":"{}.0000000000000001","name":"g{to}","direction":"Egress","to":{{"tenant":"{}.0000000000000001"}}{peers}}}"#,
        TENANTS[by], TENANTS[to]
    ))
}

proptest! {
    #[test]
    fn others_are_told_apart_as_if_each_of_their_workloads_were_looked_at(
        workloads in vec((0usize..4, any::<bool>(), 0u8..24), 0..30),
        peers in vec((1usize..4, 0usize..4), 0..5),
        grants in vec((1usize..4, any::<bool>()), 0..4),
        shared in any::<bool>(),
    ) {
        let mut world = World::new();
        for (number, (of, is_a, last)) in workloads.iter().enumerate() {
            let pod = labels(if *is_a { "pod=a" } else { "pod=b" });
            let profile = Profile::new(tenant(TENANTS[*of]), "x".parse().unwrap(), pod);
            let endpoint = Endpoint::new(format!("w{number}").parse().unwrap(), "n1".parse().unwrap(), profile);
            world.apply(Change::Endpoint(endpoint.at(address(*last))));
        }
        grants.iter().for_each(|(to, narrow)| world.apply(given(0, *to, *narrow)));
        let engine = Engine::new(world.clone());
        let mut rules = NodeRules::new(&engine, tenant("acme"), "n1".parse().unwrap());
        let pools = |of: usize| -> BTreeSet<IpNet> {
            peers.iter().filter(|(peer, _)| *peer == of).map(|(_, pool)| net(POOLS[*pool])).collect()
        };
        for of in peers.iter().map(|(of, _)| *of) {
            rules = rules.with_peer(PeerNetwork::new(tenant(TENANTS[of]), pools(of)));
        }
        if shared {
            rules = rules.in_shared_namespace();
        }
        let table = rules.table().unwrap();
        if !shared && (peers.is_empty() || workloads.iter().all(|(of, ..)| *of > 0)) {
            return Ok(());
        }
        let acme = tenant("acme");
        for address in (0..24).map(address) {
            let in_pool = |of: usize| pools(of).iter().any(|pool| pool.contains(&address));
            let own = world.at(&acme, address).is_some();
            let others = (1..4).filter(|of| {
                world.at(&tenant(TENANTS[*of]), address).is_some() && (in_pool(*of) || shared && !own)
            });
            let beyond = (1..4).any(in_pool) || others.clone().next().is_some();
            prop_assert_eq!(has(&table, "beyond", address), beyond, "{}", address);
            let reached = others.clone().any(|of| {
                let means = |one: &&Endpoint| {
                    let narrow = grants.iter().rfind(|(to, _)| *to == of);
                    narrow.is_some_and(|(_, narrow)| !narrow || *one.profile().labels() == labels("pod=a"))
                };
                let there = world.endpoints().filter(|one| *one.profile().tenant() == tenant(TENANTS[of]));
                there.filter(|one| one.addresses().any(|a| a == address)).any(|one| means(&one))
            });
            prop_assert_eq!(has(&table, "reached", address), reached, "{}", address);
        }
    }
}

#[test]
fn workloads_in_the_pool_of_a_peer_that_no_grant_reaches_cost_nothing() {
    let used = |workloads: u16| {
        let mut world = cluster();
        world.apply(given(0, 1, false));
        for number in 0..workloads {
            let profile = Profile::new(tenant("hooli"), "x".parse().unwrap(), labels("pod=a"));
            let id = format!("w{number}").parse().unwrap();
            let [high, low] = number.to_be_bytes();
            let endpoint = Endpoint::new(id, "n1".parse().unwrap(), profile);
            world.apply(Change::Endpoint(endpoint.at(at(&format!("10.7.{high}.{low}")))));
        }
        let engine = Engine::new(world);
        let rules = NodeRules::new(&engine, tenant("acme"), "n1".parse().unwrap()).in_shared_namespace();
        let rules = rules.with_peer(PeerNetwork::new(tenant("hooli"), [net("10.7.0.0/16")]));
        allocation_counter::measure(|| drop(rules.table().unwrap())).bytes_total
    };
    assert_eq!(used(2), used(2000));
}

fn told(from: &str, to: &str, traffic: Traffic, connection: ConnectionState) -> RulePacket {
    let [kind, code] = traffic.number().to_be_bytes();
    let packet = RulePacket::new(at(from), at(to), traffic.protocol().number()).with_icmp_type(kind);
    packet.with_icmp_code(code).with_connection(connection)
}

#[test]
fn routers_of_a_peer_tell_about_what_was_let_through_and_of_nothing_else() {
    let mut engine = Engine::new(cluster());
    let profile = engine.world().endpoint(&key("globex:x/a")).unwrap().profile().clone();
    let far = Endpoint::new("far".parse().unwrap(), "n2".parse().unwrap(), profile);
    engine.apply(Change::Endpoint(far.at(at("10.9.0.1")).at(at("fd09::1"))));
    let others = PeerNetwork::new(tenant("initech"), [net("10.8.0.0/24"), net("fd08::/64")]);
    let peer = PeerNetwork::new(tenant("globex"), [net("10.9.0.0/24"), net("fd09::/64")]);
    let table = |engine: &Engine| {
        let rules = NodeRules::new(engine, tenant("acme"), "n1".parse().unwrap());
        let table = rules.with_peer(peer.clone()).with_peer(others.clone()).table().unwrap();
        table.validate().unwrap();
        table
    };
    let closed = table(&engine);
    engine.apply(given(0, 1, false));
    let open = table(&engine);
    let passes = |table: &RuleTable, packet: RulePacket| evaluate(table, &Hook::Forward, &packet).accepted;
    let related = ConnectionState::Related;
    for (router, own, elsewhere, stranger, essential, echo) in [
        ("10.9.0.254", "10.0.1.1", "10.0.2.2", "10.8.0.254", [(3, 4), (11, 0)], Traffic::icmp(8, 0)),
        ("fd09::", "fd00::1:1", "fd00::2:2", "fd08::", [(2, 0), (3, 0)], Traffic::icmp_v6(128, 0)),
    ] {
        for (kind, code) in essential {
            let make = if at(own).is_ipv4() { Traffic::icmp } else { Traffic::icmp_v6 };
            let error = make(kind, code);
            assert!(passes(&open, told(router, own, error, related)), "{router} {error:?}");
            for connection in [ConnectionState::New, ConnectionState::Established, ConnectionState::Invalid] {
                assert!(!passes(&open, told(router, own, error, connection)), "{connection:?}");
            }
            assert!(!passes(&closed, told(router, own, error, related)), "nobody there is reached any more");
            assert!(!passes(&open, told(stranger, own, error, related)), "nobody of that tenant is reached");
            assert!(!passes(&open, told(router, elsewhere, error, related)), "not to a workload here");
        }
        assert!(!passes(&open, told(router, own, echo, related)), "not an error");
    }
}
