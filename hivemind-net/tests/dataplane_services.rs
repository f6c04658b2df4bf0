//! Services under virtual addresses, without a kernel: what is asked of one arrives at a backend, and policies judge that.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use hivemind_core::labels::Labels;
use hivemind_core::{Generation, NodeId, TenantRef};
use hivemind_net::addr::IpFamily;
use hivemind_net::dataplane::rules::{
    BaseChain, Chain, Choice, ConnectionState, Family, Field, Hook, RulePacket, RuleTable, Statement,
    TableChange, TableKey, evaluate,
};
use hivemind_net::dataplane::services::{
    Backend, Frontend, InvalidService, ServiceProtocol, Spread, VirtualServices,
};
use hivemind_net::dataplane::state::Netns;
use hivemind_net::dataplane::{Cluster, Connection, Fate, KernelState};
use hivemind_net::overlay::{
    OverlayChange, OverlayConfig, OverlayNetwork, OverlayNode, OverlayWorkload, TenantNetwork,
    UnderlayFamily, Vni,
};
use hivemind_net::policy::rules::NodeRules;
use hivemind_net::policy::{AnyPolicy, Change, Endpoint, Engine, NetworkPolicy, PolicySpec, Profile, World};
use hivemind_net::{Service, ServiceEndpoint};
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn prefixes() -> [ipnet::IpNet; 2] {
    ["10.96.0.0/16".parse().unwrap(), "fd96::/112".parse().unwrap()]
}

/// `which` of a few: two addresses, of both IP versions, two protocols, two ports.
fn frontend(which: u8) -> Frontend {
    let address = ["10.96.0.1", "10.96.0.2", "fd96::1", "fd96::2"][usize::from(which % 4)];
    let protocol = [ServiceProtocol::Tcp, ServiceProtocol::Udp][usize::from(which / 4 % 2)];
    Frontend::new(ip(address), protocol, port(80 + u16::from(which / 8 % 2)))
}

fn backend(of: &Frontend, number: u8) -> Backend {
    let address = if of.address.is_ipv4() { format!("10.10.0.{number}") } else { format!("fd10::{number}") };
    Backend::new(ip(&address), port(8080 + u16::from(number % 3)))
}

fn spread(number: u8) -> Spread {
    [Spread::AtRandom, Spread::InTurn, Spread::BySource { bits: 20 }, Spread::BySource { bits: 32 }]
        [usize::from(number % 4)]
}

type Drawn = Vec<(u8, u8, BTreeSet<u8>)>;

fn drawn() -> impl Strategy<Value = Drawn> {
    let backends = prop::collection::btree_set(1..9_u8, 0..5);
    prop::collection::vec((0..16_u8, any::<u8>(), backends), 0..12)
}

/// The services, and what they are as a plain map.
fn made(drawn: &Drawn) -> (VirtualServices, BTreeMap<Frontend, BTreeSet<Backend>>) {
    let (mut services, mut model) = (VirtualServices::new(prefixes()), BTreeMap::new());
    for (which, how, numbers) in drawn {
        let at = frontend(*which);
        let backends: BTreeSet<_> = numbers.iter().map(|number| backend(&at, *number)).collect();
        services.put(at, spread(*how), backends.clone()).unwrap();
        model.insert(at, backends);
    }
    (services, model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn each_packet_goes_where_the_plain_map_says(
        drawn in drawn(), asked in 0..16_u8, draw in any::<u32>(), established in any::<bool>()
    ) {
        let (services, model) = made(&drawn);
        let table = services.table().unwrap();
        table.validate().unwrap();
        let at = frontend(asked);
        let from = if at.address.is_ipv4() { "10.10.0.99" } else { "fd10::99" };
        let mut packet = RulePacket::new(ip(from), at.address, at.protocol.number())
            .with_ports(40_000, at.port.get())
            .with_draw(draw);
        if established {
            packet = packet.with_connection(ConnectionState::Established);
        }
        let backends: Vec<_> = model.get(&at).into_iter().flatten().collect();
        let chosen = (!established && !backends.is_empty()).then(|| {
            let chosen = backends[usize::try_from(draw).unwrap() % backends.len()];
            (chosen.address, chosen.port.get())
        });
        let found = evaluate(&table, &Hook::Prerouting, &packet);
        prop_assert!(found.accepted);
        prop_assert_eq!(found.destination, chosen);
        prop_assert_eq!(found.source, None);
        // On its way out it keeps its source, unless it is on its way back to where it is from.
        if let Some((address, port)) = chosen {
            let out = |from| RulePacket::new(from, address, at.protocol.number()).with_ports(40_000, port);
            prop_assert_eq!(evaluate(&table, &Hook::Postrouting, &out(ip(from))).source, None);
            let back = evaluate(&table, &Hook::Postrouting, &out(address)).source.unwrap();
            prop_assert!(prefixes().iter().any(|prefix| prefix.contains(&back)));
        }
    }

    #[test]
    fn any_services_become_any_others_by_one_change(a in drawn(), b in drawn()) {
        let (a, b) = (made(&a).0.table().unwrap(), made(&b).0.table().unwrap());
        let change = TableChange::between(&a, &b).unwrap();
        let mut changed = a.clone();
        change.apply(&mut changed);
        prop_assert_eq!(changed, b);
    }

    #[test]
    fn pitfall_15_exactly_the_connections_to_gone_backends_are_stale(
        before in drawn(), after in drawn(), asked in 0..16_u8, choice in any::<u8>()
    ) {
        let ((_, before), (services, after)) = (made(&before), made(&after));
        let at = frontend(asked);
        let Some(old) = before.get(&at).filter(|backends| !backends.is_empty()) else { return Ok(()) };
        let old = old.iter().nth(usize::from(choice) % old.len()).unwrap();
        let from = if at.address.is_ipv4() { "10.10.0.99" } else { "fd10::99" };
        let connection = Connection::new(ip(from), at.address, at.protocol.number())
            .with_ports(40_000, at.port.get())
            .with_translated(old.address, old.port.get());
        let direct = Connection::new(ip(from), old.address, at.protocol.number()).with_ports(40_000, old.port.get());
        let still = after.get(&at).is_some_and(|backends| backends.contains(old));
        let stale = services.stale([&connection, &direct]);
        prop_assert_eq!(stale, if still { vec![] } else { vec![connection] }, "what is asked directly is not ours");
    }
}

#[test]
fn a_service_that_cannot_be_is_refused_and_changes_nothing() {
    let mut services = VirtualServices::new(prefixes());
    let web = frontend(0);
    services.put(web, Spread::AtRandom, [backend(&web, 1)]).unwrap();
    let before = services.clone();
    let elsewhere = Frontend::new(ip("10.97.0.1"), ServiceProtocol::Tcp, port(80));
    let outside = services.put(elsewhere, Spread::AtRandom, []).unwrap_err();
    assert_eq!(
        outside.to_string(),
        "10.97.0.1 tcp 80: the address is in no prefix for services: take one that is, or add its prefix"
    );
    for bad in ["fd10::1", "0.0.0.0", "127.0.0.1", "224.0.0.1", "10.96.0.9"] {
        let refused = services.put(web, Spread::AtRandom, [Backend::new(ip(bad), port(1))]).unwrap_err();
        assert_eq!(refused, InvalidService::BadBackend { frontend: web, backend: ip(bad) });
    }
    for (at, bits, fits) in [(0, 0, false), (0, 33, false), (0, 32, true), (2, 64, true), (2, 129, false)] {
        let mut other = services.clone();
        let put = other.put(frontend(at), Spread::BySource { bits }, []);
        assert_eq!(put.is_ok(), fits, "{put:?}");
    }
    assert_eq!(services, before);
    assert!(services.remove(&web) && !services.remove(&web));
}

#[test]
fn pitfall_31_how_much_of_a_source_counts_is_said() {
    let mut services = VirtualServices::new(prefixes());
    services.put(frontend(2), Spread::BySource { bits: 64 }, [backend(&frontend(2), 1)]).unwrap();
    let table = services.table().unwrap();
    let statements = table.chains.values().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements);
    let hash = Choice::Hash { field: Field::V6Source, bits: 64 };
    let choices =
        statements.filter(|one| matches!(one, Statement::DestinationNat { choice, .. } if *choice == hash));
    assert_eq!(choices.count(), 1);
}

#[test]
fn what_cannot_translate_is_no_table() {
    let services = || made(&vec![(0, 0, BTreeSet::from([1, 2]))]).0.table().unwrap();
    let translate = || {
        let chains = services().chains;
        chains
            .values()
            .flat_map(|chain| chain.rules.clone())
            .flat_map(|rule| rule.statements)
            .find(|statement| matches!(statement, Statement::DestinationNat { .. }))
    };
    let refused = |change: &dyn Fn(&mut RuleTable)| {
        let mut table = services();
        change(&mut table);
        table.validate().unwrap_err().to_string()
    };
    let filter = refused(&|table| {
        let chain = Chain::base(BaseChain::filter(Hook::Forward)).with_rule([translate().unwrap()]);
        table.chains.insert("more".parse().unwrap(), chain);
    });
    assert!(filter.contains("chain more, rule 1: a Filter chain at Forward cannot translate so"), "{filter}");
    let behind = refused(&|table| {
        let chain = Chain::base(BaseChain::source_nat()).with_rule([translate().unwrap()]);
        table.chains.insert("more".parse().unwrap(), chain);
    });
    assert!(behind.contains("a Nat chain at Postrouting cannot translate so"), "{behind}");
    let no_map = refused(&|table| {
        table.sets.remove(&"backends-v4".parse().unwrap());
    });
    assert!(no_map.contains("there is no set backends-v4"), "{no_map}");
    let other = refused(&|table| {
        let chain = table.chains.get_mut(&"random-v4-2".parse().unwrap()).unwrap();
        if let Statement::DestinationNat { choice, .. } = &mut chain.rules[0].statements[0] {
            *choice = Choice::Hash { field: Field::V6Source, bits: 64 };
        }
    });
    assert!(other.contains("64 bits of V6Source are no choice for V4: 1 to 32 are"), "{other}");
}

#[test]
fn a_service_of_names_gives_its_backends() {
    let endpoint: ServiceEndpoint = serde_json::from_str(r#"{"v4": "10.10.0.1", "v6": "fd10::1"}"#).unwrap();
    let only_v6: ServiceEndpoint = serde_json::from_str(r#"{"v4": null, "v6": "fd10::2"}"#).unwrap();
    let service = Service::new([("a".parse().unwrap(), endpoint), ("b".parse().unwrap(), only_v6)]);
    let of = |family| service.backends(family, port(80)).map(|one| one.address).collect::<Vec<_>>();
    assert_eq!(of(IpFamily::V4), [ip("10.10.0.1")]);
    assert_eq!(of(IpFamily::V6), [ip("fd10::1"), ip("fd10::2")]);
}

fn tenant() -> TenantRef {
    TenantRef::new("red".parse().unwrap(), Generation::from_u64(1))
}

fn node(number: u8) -> NodeId {
    format!("n{number}").parse().unwrap()
}

/// `web` on node 1 asks; `db1` and `db2` on nodes 1 and 2 answer, on port 8080 and only to whom is labelled `web`.
fn cluster() -> (OverlayNetwork, World) {
    let mut overlay = OverlayNetwork::new(OverlayConfig::vxlan(UnderlayFamily::V6, 1500)).unwrap();
    for number in 1..=2 {
        let at = OverlayNode::new(node(number), 1500).with_address(ip(&format!("fd6e::{number}")));
        overlay.load([OverlayChange::PutNode(at)]).unwrap();
    }
    let network = TenantNetwork::new(tenant(), Vni::new(1001).unwrap());
    let network = network.with_pool("fd10::/64".parse().unwrap()).with_pool("10.10.0.0/16".parse().unwrap());
    overlay.load([OverlayChange::PutTenant(network)]).unwrap();
    let mut world = World::new();
    for (id, app, on, last) in
        [("web", "web", 1, 1), ("other", "other", 1, 2), ("db1", "db", 1, 3), ("db2", "db", 2, 4)]
    {
        let profile =
            Profile::new(tenant(), "shop".parse().unwrap(), Labels::new().with("app", app).unwrap());
        let mut workload = OverlayWorkload::new(tenant(), id.parse().unwrap(), node(on));
        let mut endpoint = Endpoint::new(id.parse().unwrap(), node(on), profile);
        for address in [ip(&format!("fd10::{last}")), ip(&format!("10.10.0.{last}"))] {
            workload = workload.with_address(address);
            endpoint = endpoint.at(address);
        }
        overlay.load([OverlayChange::PutWorkload(workload)]).unwrap();
        world.apply(Change::Endpoint(endpoint));
    }
    let spec: PolicySpec = serde_json::from_str(
        r#"{"podSelector": {"matchLabels": {"app": "db"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]}]}"#,
    )
    .unwrap();
    let policy = NetworkPolicy::new(tenant(), "shop".parse().unwrap(), "db".parse().unwrap(), spec);
    world.apply(Change::Policy(AnyPolicy::Network(policy)));
    (overlay, world)
}

fn kernels(overlay: &OverlayNetwork, world: &World, services: &VirtualServices) -> [KernelState; 2] {
    let engine = Engine::new(world.clone());
    [1, 2].map(|number| {
        let mut state = overlay.node_state(&node(number)).unwrap();
        let of = tenant();
        let here = overlay.workloads(&of).filter(|w| w.node == node(number));
        let links: Vec<_> = here.map(|w| (w.id.clone(), w.effective_link().unwrap())).collect();
        let rules = NodeRules::new(&engine, tenant(), node(number));
        let rules = links.iter().fold(rules, |rules, (id, link)| rules.with_link(id.clone(), link.clone()));
        let key = TableKey::new(Family::Inet, "hivemind".parse().unwrap());
        state.enforce(&rules.prepare().unwrap(), key).unwrap();
        services.add_to(state.router(&of).unwrap()).unwrap();
        state.into_kernel()
    })
}

#[test]
fn policies_judge_whom_a_packet_gets_to() {
    let (overlay, world) = cluster();
    let mut services = VirtualServices::new(prefixes());
    for (address, of) in [("10.96.0.1", "10.10.0."), ("fd96::1", "fd10::")] {
        let at = |number| Frontend::new(ip(address), ServiceProtocol::Tcp, port(number));
        let db = |to| [3, 4].map(|last| Backend::new(ip(&format!("{of}{last}")), port(to)));
        services.put(at(80), Spread::AtRandom, db(8080)).unwrap();
        services.put(at(81), Spread::InTurn, db(9090)).unwrap();
        services.put(at(82), Spread::AtRandom, []).unwrap();
    }
    let kernels = kernels(&overlay, &world, &services);
    let mut wire = Cluster::new();
    for (kernel, number) in kernels.iter().zip(1..) {
        wire = wire.with_node(node(number), kernel, [ip(&format!("fd6e::{number}"))]);
    }
    let at = |id: &str| {
        let of = tenant();
        let mut all = overlay.workloads(&of);
        all.find(|workload| workload.id.as_str() == id).unwrap().effective_netns().unwrap()
    };
    let delivered = |on: u8, id: &str| Fate::Delivered { node: node(on), netns: at(id) };
    for (own, virtually) in [(["10.10.0.1", "10.10.0.2"], "10.96.0.1"), (["fd10::1", "fd10::2"], "fd96::1")] {
        let [web, other] = own;
        let send = |netns: &Netns, from: &str, to: u16, draw| {
            let packet = RulePacket::new(ip(from), ip(virtually), 6).with_ports(40_000, to).with_draw(draw);
            wire.send(&node(1), netns, &packet, 100)
        };
        // The port that the backend has is the one that counts, not the service's.
        assert_eq!(send(&at("web"), web, 80, 0), delivered(1, "db1"));
        assert_eq!(send(&at("web"), web, 80, 7), delivered(2, "db2"));
        assert!(matches!(send(&at("web"), web, 81, 0), Fate::Filtered { .. }));
        for draw in [0, 1] {
            let refused = send(&at("other"), other, 80, draw);
            assert!(matches!(refused, Fate::Filtered { .. }), "{refused:?}");
        }
        for nobody in [82, 83] {
            assert_eq!(send(&at("web"), web, nobody, 0), Fate::Unreachable { node: node(1) });
        }
    }
}
