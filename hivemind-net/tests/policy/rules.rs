//! The rules for a node's kernel say what the evaluator says.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hivemind_core::TenantRef;
use hivemind_net::dataplane::rules::{
    ConnectionState, Data, Hook, RulePacket, RuleTable, TableChange, Verdict, evaluate,
};
use hivemind_net::policy::rules::{
    Connection, Established, NodeRules, PeerNetwork, PeerWay, orphaned_connections, stale_connections,
};
use hivemind_net::policy::{AnyPolicy, Change, Engine, Flow, Party, Protocol, Traffic, World};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::random::{Dice, change, flow};
use crate::support::{cluster, grant, key, network, tenant};

/// The address that hosts use in random flows is whatever the flow says.
fn address(world: &World, party: &Party, flow: &Flow) -> Option<IpAddr> {
    match party {
        Party::Workload(key) => world.endpoint(key)?.address(flow.family),
        Party::Host(_, address) | Party::Outside(address) => Some(*address),
        _ => None,
    }
}

fn packet(from: IpAddr, to: IpAddr, traffic: Traffic) -> RulePacket {
    let packet = RulePacket::new(from, to, traffic.protocol().number());
    let [kind, code] = traffic.number().to_be_bytes();
    if traffic.protocol().is_icmp() {
        packet.with_icmp_type(kind).with_icmp_code(code)
    } else {
        packet.with_ports(40_000, traffic.number())
    }
}

fn passes(table: &RuleTable, packet: &RulePacket) -> bool {
    evaluate(table, &Hook::Forward, packet).accepted
}

/// Whether the kernels of both ends let the flow pass; `None` for what never goes through them.
fn simulate(engine: &Engine, flow: &Flow) -> Option<bool> {
    let world = engine.world();
    let (from, to) = (address(world, &flow.from, flow)?, address(world, &flow.to, flow)?);
    let mut all = true;
    for (end, other) in [(&flow.from, &flow.to), (&flow.to, &flow.from)] {
        let Party::Workload(own) = end else { continue };
        let node = world.endpoint(own)?.node().clone();
        let mut rules = NodeRules::new(engine, own.tenant.clone(), node.clone());
        if let Party::Host(host, address) = other
            && *host == node
            && end == &flow.to
        {
            rules = rules.with_hosts([*address]);
        }
        let (mut from, mut to) = (from, to);
        if let Party::Workload(peer) = other
            && peer.tenant != own.tenant
        {
            // Another tenant's workload has an address of its own in this network.
            let stand_in: IpAddr =
                if from.is_ipv4() { "192.0.2.1" } else { "2001:db8:ffff::1" }.parse().unwrap();
            rules = rules.with_foreign(stand_in, peer.clone());
            if end == &flow.from { to = stand_in } else { from = stand_in }
        }
        let table = rules.table().unwrap();
        table.validate().unwrap();
        let packet = packet(from, to, flow.traffic);
        let refusing = rules.with_refusals().table().unwrap();
        refusing.validate().unwrap();
        assert_eq!(
            passes(&refusing, &packet),
            passes(&table, &packet),
            "how it is denied changes no verdict"
        );
        all &= passes(&table, &packet);
    }
    Some(all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_of_both_nodes_are_the_evaluator(seeds in vec(any::<u64>(), 1..50), ask in any::<u64>()) {
        let world: World = seeds.into_iter().map(|seed| change(&mut Dice(seed))).collect();
        let engine = Engine::new(world.clone());
        let mut dice = Dice(ask);
        let mut asked = 0;
        for _ in 0..120 {
            let flow = flow(&mut dice);
            let Ok(expected) = world.reach(&flow) else { continue };
            // Two workloads with one address are no cluster, and a workload reaches itself without the kernel's rules.
            let owns = |party: &Party| match party {
                Party::Workload(key) => {
                    let at = address(&world, party, &flow);
                    let claims = world.endpoints().filter(|one| one.key().tenant == key.tenant);
                    claims.filter(|one| one.address(flow.family) == at).count() == 1
                }
                _ => true,
            };
            if flow.from == flow.to || !owns(&flow.from) || !owns(&flow.to) {
                continue;
            }
            asked += 1;
            let told = simulate(&engine, &flow).unwrap();
            prop_assert_eq!(told, expected.verdict().passes(), "{:?}\n{}", flow, world.explain(&flow).unwrap());
        }
        prop_assert!(asked < 121);
    }

    /// However the engine came to be, the tables are the same: a restart changes nothing.
    #[test]
    fn the_same_cluster_has_the_same_rules(seeds in vec(any::<u64>(), 1..40)) {
        let mut engine = Engine::default();
        for seed in seeds {
            engine.apply(change(&mut Dice(seed)));
        }
        let anew = Engine::new(engine.world().clone());
        for of in ["acme", "globex"] {
            let table = |engine| NodeRules::new(engine, tenant(of), "n1".parse().unwrap()).table().unwrap();
            prop_assert_eq!(table(&engine), table(&anew));
        }
    }
}

fn table(engine: &Engine) -> RuleTable {
    NodeRules::new(engine, tenant("acme"), "n1".parse().unwrap()).table().unwrap()
}

#[test]
fn a_change_of_policy_changes_elements_alone() {
    let mut engine = Engine::new(cluster());
    engine.apply(network("acme", "x", "p", r#"{"podSelector":{},"ingress":[{"from":[{"podSelector":{"matchLabels":{"pod":"b"}}}],"ports":[{"port":80}]}]}"#));
    let before = table(&engine);
    engine.apply(network("acme", "x", "p", r#"{"podSelector":{},"ingress":[{"from":[{"podSelector":{"matchLabels":{"pod":"b"}}}],"ports":[{"port":81}]}]}"#));
    let after = table(&engine);
    let change = TableChange::between(&before, &after).unwrap();
    assert!(!change.is_empty());
    let elements: usize = change.elements.values().map(|set| set.add.len() + set.remove.len()).sum();
    assert_eq!((change.add_chains.len(), change.rules.len(), elements), (0, 0, 2), "{change:?}");
    // A new workload like others: its address, and nothing of policies.
    let twin = engine.world().endpoint(&key("x/b")).unwrap().profile().clone();
    let twin = hivemind_net::policy::Endpoint::new("x-b2".parse().unwrap(), "n2".parse().unwrap(), twin);
    engine.apply(Change::Endpoint(twin.at("10.0.1.77".parse().unwrap())));
    let change = TableChange::between(&after, &table(&engine)).unwrap();
    assert_eq!(change.elements.keys().map(ToString::to_string).collect::<Vec<_>>(), ["peers4"]);
    assert!(TableChange::between(&after, &after.clone()).unwrap().is_empty());
}

#[test]
fn what_the_engine_does_not_know_is_dropped() {
    let world = cluster();
    let engine = Engine::new(world);
    let table = table(&engine);
    let at = |text: &str| text.parse::<IpAddr>().unwrap();
    assert!(passes(&table, &packet(at("10.0.1.1"), at("10.0.1.2"), Traffic::tcp(80))));
    assert!(!passes(&table, &packet(at("10.0.9.9"), at("10.0.9.8"), Traffic::tcp(80))), "neither is here");
    let none = NodeRules::new(&engine, tenant("nobody"), "n1".parse().unwrap()).table().unwrap();
    assert!(!passes(&none, &packet(at("10.0.1.1"), at("10.0.1.2"), Traffic::tcp(80))));
    let shared = NodeRules::new(&engine, tenant("acme"), "n1".parse().unwrap()).in_shared_namespace();
    assert!(
        passes(&shared.table().unwrap(), &packet(at("10.0.9.9"), at("10.0.9.8"), Traffic::tcp(80))),
        "not ours"
    );
}

#[test]
fn replies_pass_and_what_ip_needs_passes_and_spoofed_packets_do_not() {
    let mut engine = Engine::new(cluster());
    engine.apply(network("acme", "x", "deny", r#"{"podSelector":{},"policyTypes":["Ingress","Egress"]}"#));
    let rules = NodeRules::new(&engine, tenant("acme"), "n1".parse().unwrap());
    let rules = rules.with_link("x-a".parse().unwrap(), "veth-xa".parse().unwrap()).with_zone(7);
    let table = rules.table().unwrap();
    table.validate().unwrap();
    let (own, other): (IpAddr, IpAddr) = ("fd00::1:1".parse().unwrap(), "fd00::2:2".parse().unwrap());
    let mut reply = packet(own, other, Traffic::tcp(80)).with_connection(ConnectionState::Established);
    reply.in_link = Some("veth-xa".parse().unwrap());
    assert!(passes(&table, &reply));
    let mut spoofed = reply.clone();
    spoofed.source = other;
    assert!(!passes(&table, &spoofed), "an address that is not the link's");
    assert!(passes(&table, &packet(other, own, Traffic::icmp_v6(2, 0))), "packet too big");
    assert!(passes(&table, &packet(own, other, Traffic::icmp_v6(135, 0))), "neighbour solicitation");
    assert!(
        !passes(&table, &packet(own, other, Traffic::icmp_v6(134, 0))),
        "a router advertisement of a workload"
    );
    assert!(!passes(&table, &packet(other, own, Traffic::icmp_v6(128, 0))), "echo is for policies");
    assert_eq!(evaluate(&table, &Hook::Prerouting, &reply).zone, 7);
}

#[test]
fn pitfall_35_a_stranger_never_passes_for_somebody_outside() {
    let mut engine = Engine::new(cluster());
    let at: IpAddr = "192.0.2.1".parse().unwrap();
    let table = |engine: &Engine| {
        let rules = NodeRules::new(engine, tenant("acme"), "n1".parse().unwrap());
        rules.with_foreign(at, key("globex:x/a")).table().unwrap()
    };
    let out = packet("10.0.1.1".parse().unwrap(), at, Traffic::tcp(80));
    assert!(!passes(&table(&engine), &out), "no grant");
    engine.apply(grant(r#"{"by":"acme.0000000000000001","name":"out","direction":"Egress","to":{"tenant":"globex.0000000000000001"},"ports":[{"port":80}]}"#));
    assert!(passes(&table(&engine), &out));
    assert!(!passes(&table(&engine), &packet("10.0.1.1".parse().unwrap(), at, Traffic::tcp(81))));
    assert!(
        !passes(&table(&engine), &packet(at, "10.0.1.1".parse().unwrap(), Traffic::tcp(80))),
        "the other way"
    );
    engine.apply(Change::NoEndpoint(key("globex:x/a")));
    assert!(!passes(&table(&engine), &out), "it is gone, and its address is still nobody else's");
    let going_on = out.with_connection(ConnectionState::Established);
    assert!(!passes(&table(&engine), &going_on), "nor does what was there before go on");
}

#[test]
fn pitfall_35_every_address_of_a_peer_is_that_tenants_and_what_is_handed_on_needs_no_state() {
    let mut engine = Engine::new(cluster());
    let at = |text: &str| text.parse::<IpAddr>().unwrap();
    let profile = engine.world().endpoint(&key("globex:x/a")).unwrap().profile().clone();
    let far = hivemind_net::policy::Endpoint::new("far".parse().unwrap(), "n2".parse().unwrap(), profile);
    engine.apply(Change::Endpoint(far.at(at("10.9.0.1"))));
    let pool = "10.9.0.0/24".parse().unwrap();
    let peer = PeerNetwork::new(tenant("globex"), [pool])
        .by(PeerWay::new("vx1".parse().unwrap(), "pr2".parse().unwrap()));
    let table = |engine: &Engine| {
        let table = NodeRules::new(engine, tenant("acme"), "n1".parse().unwrap()).with_peer(peer.clone());
        let table = table.table().unwrap();
        table.validate().unwrap();
        table
    };
    let handed_on = |from: &str, to: &str, out: &str| {
        let mut packet = packet(at(from), at(to), Traffic::tcp(80)).with_connection(ConnectionState::Invalid);
        packet.in_link = Some("vx1".parse().unwrap());
        packet.out_link = Some(out.parse().unwrap());
        packet
    };
    let closed = table(&engine);
    for (from, to) in [("10.0.1.1", "10.9.0.1"), ("10.0.1.1", "10.9.0.7"), ("10.9.0.7", "10.0.1.1")] {
        let of = |traffic| packet(at(from), at(to), traffic);
        assert!(!passes(&closed, &of(Traffic::tcp(80))), "{from} to {to}");
        let going_on = of(Traffic::tcp(80)).with_connection(ConnectionState::Established);
        assert!(!passes(&closed, &going_on), "{from} to {to}");
        assert!(!passes(&closed, &of(Traffic::icmp(3, 4))), "{from} to {to}: also what IP itself needs");
    }
    assert!(!passes(&closed, &handed_on("10.0.2.2", "10.9.0.1", "pr2")));
    engine.apply(grant(r#"{"by":"acme.0000000000000001","name":"out","direction":"Egress","to":{"tenant":"globex.0000000000000001"},"ports":[{"port":80}]}"#));
    let open = table(&engine);
    assert!(passes(&open, &packet(at("10.0.1.1"), at("10.9.0.1"), Traffic::tcp(80))));
    assert!(!passes(&open, &packet(at("10.0.1.1"), at("10.9.0.1"), Traffic::tcp(81))));
    assert!(!passes(&open, &packet(at("10.0.1.1"), at("10.9.0.7"), Traffic::tcp(80))), "nobody");
    assert!(passes(&open, &handed_on("10.0.2.2", "10.9.0.1", "pr2")));
    assert!(!passes(&open, &handed_on("10.0.2.2", "10.9.0.7", "pr2")), "nobody");
    assert!(!passes(&open, &handed_on("10.0.2.2", "10.9.0.1", "elsewhere")));
}

#[test]
fn tenants_that_are_routed_together_reach_each_other_by_grants_of_both_alone() {
    let mut engine = Engine::new(cluster());
    let at = |text: &str| text.parse::<IpAddr>().unwrap();
    for (like, node, address) in [("acme:x/a", "n1", "10.8.0.1"), ("globex:x/a", "n2", "10.9.0.1")] {
        let profile = engine.world().endpoint(&key(like)).unwrap().profile().clone();
        let one =
            hivemind_net::policy::Endpoint::new("apart".parse().unwrap(), node.parse().unwrap(), profile);
        engine.apply(Change::Endpoint(one.at(at(address))));
    }
    let table = |engine: &Engine, of: &str, node: &str| {
        let rules = NodeRules::new(engine, tenant(of), node.parse().unwrap()).in_shared_namespace();
        let table = rules.table().unwrap();
        table.validate().unwrap();
        table
    };
    let over = packet(at("10.8.0.1"), at("10.9.0.1"), Traffic::tcp(80));
    let (out, into) = (
        |engine: &Engine| passes(&table(engine, "acme", "n1"), &over),
        |engine: &Engine| passes(&table(engine, "globex", "n2"), &over),
    );
    assert!(!out(&engine) && !into(&engine), "no policy selects anybody, and yet neither lets it pass");
    let going_on = over.clone().with_connection(ConnectionState::Established);
    assert!(!passes(&table(&engine, "acme", "n1"), &going_on));
    assert!(
        passes(&table(&engine, "acme", "n3"), &over),
        "where neither is, it is not for this table to decide"
    );
    let within = packet(at("10.8.0.1"), at("10.0.1.2"), Traffic::tcp(80));
    assert!(passes(&table(&engine, "acme", "n1"), &within));

    // What the engine does not know is told by pools.
    let unknown = packet(at("10.8.0.1"), at("10.9.0.2"), Traffic::tcp(80));
    assert!(passes(&table(&engine, "acme", "n1"), &unknown));
    let rules = NodeRules::new(&engine, tenant("acme"), "n1".parse().unwrap()).in_shared_namespace();
    let pool = PeerNetwork::new(tenant("globex"), ["10.9.0.0/24".parse().unwrap()]);
    assert!(!passes(&rules.with_peer(pool).table().unwrap(), &unknown));

    let of = |by: &str, direction: &str, other: &str| {
        grant(&format!(
            r#"{{"by":"{by}.0000000000000001","name":"g","direction":"{direction}","to":{{"tenant":"{other}.0000000000000001"}},"ports":[{{"port":80}}]}}"#
        ))
    };
    engine.apply(of("acme", "Egress", "globex"));
    assert!(out(&engine) && !into(&engine), "one grants it");
    engine.apply(of("globex", "Ingress", "acme"));
    assert!(out(&engine) && into(&engine), "both do");
    let other = packet(at("10.8.0.1"), at("10.9.0.1"), Traffic::tcp(81));
    assert!(!passes(&table(&engine, "acme", "n1"), &other));
}

#[test]
fn what_is_denied_is_refused_if_that_is_asked_for_but_never_to_another_tenant() {
    let verdicts = |engine: &Engine| -> BTreeSet<Verdict> {
        let rules = NodeRules::new(engine, tenant("acme"), "n1".parse().unwrap());
        let rules = rules.with_foreign("192.0.2.1".parse().unwrap(), key("globex:x/a"));
        let table = rules.with_refusals().table().unwrap();
        let said = table.sets.values().flat_map(|set| set.elements.values()).filter_map(|data| match data {
            Data::Verdict(verdict) => Some(verdict.clone()),
            _ => None,
        });
        said.filter(|verdict| !matches!(verdict, Verdict::Jump(_) | Verdict::Return)).collect()
    };
    let mut engine = Engine::new(cluster());
    let refused = Verdict::Goto("refused".parse().unwrap());
    engine.apply(grant(r#"{"by":"acme.0000000000000001","name":"out","direction":"Egress","to":{"tenant":"globex.0000000000000001"},"ports":[{"port":80}]}"#));
    assert_eq!(verdicts(&engine), BTreeSet::from([Verdict::Drop]), "all but what is granted");
    let spec = r#"{"tier":"Admin","priority":1,"name":"no","subject":{"tenantSelector":{}},"ingress":[{"action":"Deny","from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}}]}]}"#;
    engine.apply(Change::Policy(AnyPolicy::Cluster(serde_json::from_str(spec).unwrap())));
    assert_eq!(verdicts(&engine), BTreeSet::from([Verdict::Drop, refused]));
}

#[test]
fn links_of_a_tenant_of_whom_nothing_is_known_stay_shut_where_others_route_too() {
    let engine = Engine::new(cluster());
    let at = |text: &str| text.parse::<IpAddr>().unwrap();
    let rules = NodeRules::new(&engine, tenant("nobody"), "n1".parse().unwrap()).in_shared_namespace();
    let rules = rules.with_link("w".parse().unwrap(), "veth-w".parse().unwrap());
    let table = rules.with_foreign(at("192.0.2.1"), key("globex:x/a")).table().unwrap();
    table.validate().unwrap();
    let not_ours = packet(at("10.0.9.9"), at("10.0.9.8"), Traffic::tcp(80));
    assert!(passes(&table, &not_ours), "others route here too");
    let mut from_link = not_ours.clone();
    from_link.in_link = Some("veth-w".parse().unwrap());
    assert!(!passes(&table, &from_link), "the link is the tenant's");
    assert!(
        !passes(&table, &packet(at("10.0.9.9"), at("192.0.2.1"), Traffic::tcp(80))),
        "and so is the stand-in"
    );
}

#[test]
fn connections_are_kept_or_cut_as_stated() {
    let mut engine = Engine::new(cluster());
    let at = |text: &str| text.parse::<IpAddr>().unwrap();
    let of = |from: &str, to: &str| Connection::new(tenant("acme"), at(from), at(to), Traffic::tcp(80));
    let known = vec![
        of("10.0.2.2", "10.0.1.1"),
        of("fd00::2:2", "fd00::1:1"),
        of("192.168.0.9", "10.0.1.1"),
        of("10.0.1.1", "10.0.2.2"),
        of("8.8.8.8", "9.9.9.9"),
    ];
    let stale = |engine: &Engine, how| {
        let host = |address| address == at("192.168.0.9");
        stale_connections(engine, how, host, |_| None, known.clone()).collect::<BTreeSet<_>>()
    };
    assert!(stale(&engine, Established::Cut).is_empty());
    engine.apply(network("acme", "x", "deny", r#"{"podSelector":{}}"#));
    assert!(stale(&engine, Established::Keep).is_empty());
    assert_eq!(
        stale(&engine, Established::Cut),
        BTreeSet::from([of("10.0.2.2", "10.0.1.1"), of("fd00::2:2", "fd00::1:1")]),
        "both families; not the host's, not those it opened itself, not what is nobody's"
    );
}

#[test]
fn connections_of_a_workload_that_is_gone_are_orphaned_and_those_of_the_next_are_not() {
    let mut engine = Engine::new(cluster());
    let at = |text: &str| text.parse::<IpAddr>().unwrap();
    let of = |from: &str, to: &str| Connection::new(tenant("acme"), at(from), at(to), Traffic::tcp(80));
    let known = [
        of("10.0.2.2", "10.0.1.1"),
        of("10.0.1.1", "8.8.8.8"),
        of("10.0.2.2", "8.8.8.8"),
        of("fd00::2:2", "fd00::1:1"),
        of("8.8.8.8", "9.9.9.9"),
        // With a workload of a peer.
        of("10.0.2.2", "10.9.0.1"),
    ];
    let owner = |of: &TenantRef, address: IpAddr| {
        let text = address.to_string();
        let own = text.starts_with("10.0.") || text.starts_with("fd00:");
        own.then(|| of.clone()).or_else(|| text.starts_with("10.9.").then(|| tenant("globex")))
    };
    let orphaned =
        |engine: &Engine| orphaned_connections(engine, owner, known.clone()).collect::<BTreeSet<_>>();
    assert_eq!(orphaned(&engine), BTreeSet::from([known[5].clone()]), "the peer has none there");
    let there = engine.world().endpoint(&key("globex:x/a")).unwrap().clone();
    engine.apply(Change::Endpoint(there.at(at("10.9.0.1"))));
    assert!(orphaned(&engine).is_empty());
    let was = engine.world().at(&tenant("acme"), at("10.0.1.1")).unwrap().clone();
    engine.apply(Change::NoEndpoint(was.key()));
    let expected = [known[0].clone(), known[1].clone(), known[3].clone()];
    assert_eq!(orphaned(&engine), BTreeSet::from(expected));
    engine.apply(Change::Endpoint(was));
    assert!(orphaned(&engine).is_empty());
}

#[test]
fn connections_with_another_tenant_are_cut_when_a_grant_is_narrowed_or_the_other_is_gone() {
    let mut engine = Engine::new(cluster());
    let stand_in: IpAddr = "192.0.2.1".parse().unwrap();
    let one = Connection::new(tenant("acme"), "10.0.1.1".parse().unwrap(), stand_in, Traffic::tcp(80));
    let cut = |engine: &Engine| {
        let foreign = |address| (address == stand_in).then(|| key("globex:x/a"));
        stale_connections(engine, Established::Cut, |_| false, foreign, [one.clone()]).count()
    };
    assert_eq!(cut(&engine), 1, "no grant");
    for (by, direction, other, port) in [
        ("acme", "Egress", "globex", 80),
        ("globex", "Ingress", "acme", 80),
        ("acme", "Egress", "globex", 81),
    ] {
        engine.apply(grant(&format!(
            r#"{{"by":"{by}.0000000000000001","name":"g","direction":"{direction}","to":{{"tenant":"{other}.0000000000000001"}},"ports":[{{"port":{port}}}]}}"#
        )));
        if by == "globex" {
            assert_eq!(cut(&engine), 0, "both grant it");
            let mut gone = engine.clone();
            gone.apply(Change::NoEndpoint(key("globex:x/a")));
            assert_eq!(cut(&gone), 1, "the other is gone");
        }
    }
    assert_eq!(cut(&engine), 1, "another port");
}

#[test]
fn rules_about_a_code_alone_are_about_that_code() {
    let mut engine = Engine::new(cluster());
    engine.apply(network("acme", "x", "p", r#"{"podSelector":{},"ingress":[{"ports":[{"protocol":"ICMP","type":8,"code":0},{"protocol":"ICMP","type":13},{"protocol":"ICMPv6","type":128,"code":7},{"protocol":"47"}]}]}"#));
    let table = table(&engine);
    table.validate().unwrap();
    let sent =
        |traffic| passes(&table, &packet("10.0.2.1".parse().unwrap(), "10.0.1.1".parse().unwrap(), traffic));
    assert!(sent(Traffic::icmp(8, 0)));
    assert!(!sent(Traffic::icmp(8, 1)), "another code");
    assert!(sent(Traffic::icmp(13, 0)) && sent(Traffic::icmp(13, 255)), "all codes of a type");
    assert!(!sent(Traffic::icmp(14, 0)));
    assert!(sent(Traffic::new(Protocol::from_number(47), 0)));
    assert!(!sent(Traffic::tcp(80)));
    let sent = |traffic| {
        passes(&table, &packet("fd00::2:1".parse().unwrap(), "fd00::1:1".parse().unwrap(), traffic))
    };
    assert!(sent(Traffic::icmp_v6(128, 7)));
    assert!(!sent(Traffic::icmp_v6(128, 6)) && !sent(Traffic::icmp_v6(128, 8)));
}
