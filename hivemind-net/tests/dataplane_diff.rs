//! The way from one kernel state to another: complete, minimal, safe at every step.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;

use hivemind_net::dataplane::rules::{
    BaseChain, Chain, Comparison, Data, DataType, Family, Field, FieldType, Hook, NamedSet, RuleTable,
    SetKey, Statement, TableKey, Value, Verdict,
};
use hivemind_net::dataplane::state::{
    Address, AddressKey, BridgeMac, KernelState, Link, LinkKind, LinkName, Mac, Neighbour, NeighbourKey,
    Netns, NetnsState, PortSettings, RemoteMac, Route, RouteKey, Vxlan,
};
use hivemind_net::dataplane::{Action, Op, diff};
use proptest::prelude::*;

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, last])
}

/// A source of choices: each byte decides one thing, and the rest is zeroes.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, n: u8) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first % n
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }
}

fn netns(number: u8) -> Netns {
    ["@host", "hm-a", "hm-b"][usize::from(number)].parse().unwrap()
}

/// A valid state of up to three namespaces.
fn state(bytes: &[u8]) -> KernelState {
    let mut c = Choices(bytes);
    let mut state = KernelState::new();
    for number in 0..3 {
        if c.below(4) > 0 {
            state.namespace_mut(&netns(number)).owned = number > 0;
        }
    }
    let there: Vec<Netns> = state.namespaces.keys().cloned().collect();
    if there.is_empty() {
        return state;
    }
    for at in &there {
        links(&mut c, state.namespace_mut(at));
    }
    for pair in 0..2 {
        if c.yes() {
            let from = there[usize::from(c.below(3)) % there.len()].clone();
            let to = there[usize::from(c.below(3)) % there.len()].clone();
            let ends = (name(&format!("v{pair}a")), name(&format!("v{pair}b")));
            let one = end(&mut c, &state.namespaces[&from]);
            let other = end(&mut c, &state.namespaces[&to]);
            state.add_veth((&from, &ends.0, one), (&to, &ends.1, other));
        }
    }
    for at in &there {
        entries(&mut c, state.namespace_mut(at));
    }
    state.prune();
    state
}

fn links(c: &mut Choices<'_>, netns: &mut NetnsState) {
    for bridge in ["br0", "br1"] {
        if c.yes() {
            let link = Link::new(LinkKind::Bridge, mac(c.below(3)), 1400 + u32::from(c.below(2)));
            netns.links.insert(name(bridge), if c.yes() { link.with_up() } else { link });
        }
    }
    if c.yes() {
        let mut vxlan = Vxlan::new(1 + u32::from(c.below(2)), "fd00::1".parse().unwrap());
        if c.yes() {
            vxlan = vxlan.with_dev(name(["eth0", "br0"][usize::from(c.below(2))]));
        }
        let over_missing =
            vxlan.dev.as_ref().is_some_and(|d| *d == name("br0") && !netns.links.contains_key(d));
        if over_missing {
            vxlan.dev = None;
        }
        let link = port(c, netns, Link::new(LinkKind::Vxlan(vxlan), mac(9), 1430));
        netns.links.insert(name("vx0"), if c.yes() { link.with_up() } else { link });
    }
}

fn port(c: &mut Choices<'_>, netns: &NetnsState, link: Link) -> Link {
    let master = name(["br0", "br1"][usize::from(c.below(2))]);
    if c.yes() && netns.links.contains_key(&master) {
        let settings = if c.yes() { PortSettings::static_tunnel() } else { PortSettings::default() };
        link.with_master(master, settings)
    } else {
        link
    }
}

fn end(c: &mut Choices<'_>, netns: &NetnsState) -> Link {
    let link = Link::veth_end(mac(20 + c.below(3)), 1400);
    let link = port(c, netns, link);
    if c.yes() { link.with_up() } else { link }
}

fn entries(c: &mut Choices<'_>, netns: &mut NetnsState) {
    let up: Vec<LinkName> = netns
        .links
        .iter()
        .filter(|(_, link)| link.up)
        .map(|(name, _)| name.clone())
        .chain([name("eth0")])
        .collect();
    for number in 0..4_u8 {
        let dev = up[usize::from(c.below(8)) % up.len()].clone();
        if c.yes() {
            let key = AddressKey::new(dev.clone(), format!("fd01::{number}").parse().unwrap(), 64);
            let address = if c.yes() { Address::new() } else { Address::new().without_prefix_route() };
            netns.addresses.insert(key, address);
        }
        if c.yes() {
            let key = RouteKey::new(format!("10.{number}.0.0/16").parse().unwrap());
            let route = match c.below(4) {
                0 => Route::blackhole(),
                1 => Route::on_link(dev.clone()),
                2 => Route::unreachable(),
                _ => Route::via(dev.clone(), "10.99.0.1".parse().unwrap(), c.yes()),
            };
            netns.routes.insert(key, route);
        }
        if c.yes() {
            let key = NeighbourKey::new(dev.clone(), format!("fd01::a{number}").parse().unwrap());
            netns
                .neighbours
                .insert(key, if c.yes() { Neighbour::Permanent(mac(c.below(3))) } else { Neighbour::Proxy });
        }
        if c.yes() && netns.links.contains_key(&name("vx0")) {
            let remote = |n: u8| format!("fd00::{n}").parse().unwrap();
            let key = RemoteMac::new(name("vx0"), mac(number));
            netns.remotes.insert(key, BTreeSet::from([remote(c.below(3))]));
            let all = BTreeSet::from([remote(c.below(3)), remote(c.below(3))]);
            netns.remotes.insert(RemoteMac::new(name("vx0"), Mac::ZERO), all);
        }
    }
    let ports: Vec<_> = netns
        .links
        .iter()
        .filter_map(|(port, link)| link.master.clone().map(|bridge| (bridge, port.clone())))
        .collect();
    for (bridge, port) in ports {
        if c.yes() {
            netns.bridge_macs.insert(BridgeMac::new(bridge, mac(40 + c.below(2))), port);
        }
    }
    for sysctl in ["net/ipv4/ip_forward", "net/ipv6/conf/br0/accept_ra"] {
        let of_missing = sysctl.contains("br0") && !netns.links.contains_key(&name("br0"));
        if c.yes() && !of_missing {
            netns.sysctls.insert(sysctl.parse().unwrap(), c.below(2).to_string());
        }
    }
    for table in ["policy", "nat"] {
        if c.yes() {
            netns.tables.insert(TableKey::new(Family::Inet, table.parse().unwrap()), rules(c));
        }
    }
    let bound = Hook::Ingress(name("br0"));
    if c.yes() && netns.links.contains_key(&name("br0")) {
        let chain = Chain::base(BaseChain::filter(bound)).with_rule([Statement::Verdict(Verdict::Accept)]);
        let table = RuleTable::new().with_chain("in".parse().unwrap(), chain);
        netns.tables.insert(TableKey::new(Family::Netdev, "guard".parse().unwrap()), table);
    }
}

fn rules(c: &mut Choices<'_>) -> RuleTable {
    let mut set = NamedSet::new([FieldType::Mark, FieldType::Port], DataType::Verdict);
    if c.below(4) == 0 {
        set = set.with_intervals();
    }
    for number in 0..3 {
        if c.yes() {
            let verdict = if c.yes() { Verdict::Accept } else { Verdict::Goto("deny".parse().unwrap()) };
            set = set.with(SetKey::exact([Value::Mark(number), Value::Port(80)]), Data::Verdict(verdict));
        }
    }
    let mut base = Chain::base(BaseChain::filter(Hook::Input).with_priority(i32::from(c.below(2))));
    if c.yes() {
        base = base.with_rule([
            Statement::Compare(Field::Protocol, Comparison::Equal, Value::Protocol(6)),
            Statement::VerdictMap {
                fields: vec![Field::Mark, Field::DestinationPort],
                map: "allow".parse().unwrap(),
            },
        ]);
    }
    let deny = Chain::default().with_rule([Statement::Counter, Statement::Verdict(Verdict::Drop)]);
    let mut table = RuleTable::new().with_chain("in".parse().unwrap(), base);
    table = table.with_chain("deny".parse().unwrap(), deny).with_set("allow".parse().unwrap(), set);
    if c.yes() {
        table = table.with_chain("extra".parse().unwrap(), Chain::default());
        table = table.with_set("more".parse().unwrap(), NamedSet::new([FieldType::V4], DataType::Member));
    }
    table
}

/// Makes the changes one by one, and looks at each step.
fn run(from: &KernelState, to: &KernelState, mut look: impl FnMut(&KernelState, &Op)) -> KernelState {
    let mut state = from.clone();
    for op in diff(from, to) {
        look(&state, &op);
        state.apply(&op).unwrap_or_else(|refused| panic!("{refused}"));
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_changes_lead_from_any_state_to_any_other(
        a in prop::collection::vec(any::<u8>(), 0..220),
        b in prop::collection::vec(any::<u8>(), 0..220),
    ) {
        let (a, b) = (state(&a), state(&b));
        for netns in b.namespaces.values() {
            for table in netns.tables.values() {
                table.validate().unwrap();
            }
        }
        prop_assert_eq!(b.validate(), Ok(()));
        let reached = run(&a, &b, |_, _| {});
        prop_assert_eq!(&reached, &b);
        prop_assert!(diff(&b, &b).is_empty());
    }

    /// A link comes up only when the rules of its namespace are in force, and rules go only after the links they guarded.
    #[test]
    fn pitfall_21_no_link_is_up_without_its_rules(
        a in prop::collection::vec(any::<u8>(), 0..220),
        b in prop::collection::vec(any::<u8>(), 0..220),
    ) {
        let (a, b) = (state(&a), state(&b));
        run(&a, &b, |now, op| {
            let want = b.namespaces.get(&op.netns);
            let have = now.namespaces.get(&op.netns);
            match &op.action {
                Action::SetUp(_, true) => {
                    for (key, table) in &want.unwrap().tables {
                        assert_eq!(have.unwrap().tables.get(key), Some(table), "{op}");
                    }
                }
                Action::DeleteTable(_) => {
                    let links = &have.unwrap().links;
                    let wanted = |name| want.is_some_and(|want| want.links.contains_key(name));
                    assert!(links.keys().all(wanted), "{op} while {links:?} are there");
                }
                _ => {}
            }
        });
    }

    /// What is the same before and after is not touched.
    #[test]
    fn what_stays_is_not_touched(
        a in prop::collection::vec(any::<u8>(), 0..220),
        b in prop::collection::vec(any::<u8>(), 0..220),
    ) {
        let (a, b) = (state(&a), state(&b));
        // Everything of `a`, and what `b` has more in a namespace of its own.
        let mut more = a.clone();
        if let Some(netns) = b.namespaces.get(&netns(1)) {
            let other: Netns = "hm-more".parse().unwrap();
            let mut netns = netns.clone();
            netns.links.retain(|_, link| !matches!(link.kind, LinkKind::Veth { .. }));
            netns.addresses.clear();
            netns.routes.clear();
            netns.neighbours.clear();
            netns.bridge_macs.clear();
            more.namespaces.insert(other.clone(), netns);
            for op in diff(&a, &more).iter().chain(&diff(&more, &a)) {
                assert_eq!(op.netns, other, "{op}");
            }
        }
    }
}

#[test]
fn one_workload_more_is_a_handful_of_changes() {
    let host = Netns::Host;
    let inside: Netns = "hm-web".parse().unwrap();
    let mut before = KernelState::new();
    let bridge = Link::new(LinkKind::Bridge, mac(1), 1430).with_up();
    before.namespace_mut(&host).links.insert(name("br-red"), bridge);
    let mut after = before.clone();
    after.namespaces.insert(inside.clone(), NetnsState::owned());
    let outer = Link::veth_end(mac(2), 1430).with_master(name("br-red"), PortSettings::default()).with_up();
    let inner = Link::veth_end(mac(3), 1430).with_up();
    after.add_veth((&host, &name("v-web"), outer), (&inside, &name("eth0"), inner));
    let key = AddressKey::new(name("eth0"), "fd10::1".parse().unwrap(), 64);
    after.namespace_mut(&inside).addresses.insert(key, Address::new());
    let default = RouteKey::new("::/0".parse().unwrap());
    let route = Route::via(name("eth0"), "fd10::ff".parse().unwrap(), false);
    after.namespace_mut(&inside).routes.insert(default, route);
    let rules = TableKey::new(Family::Inet, "policy".parse().unwrap());
    after.namespace_mut(&inside).tables.insert(rules, RuleTable::new());

    let texts: Vec<_> = diff(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "hm-web: create namespace",
            "hm-web: put table policy",
            "@host: create link v-web",
            "@host: set link v-web master br-red",
            "hm-web: add address fd10::1/64 dev eth0",
            "@host: set link v-web up",
            "hm-web: set link eth0 up",
            "hm-web: add route ::/0 table 254",
        ]
    );
    let texts: Vec<_> = diff(&after, &before).iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["@host: delete link v-web", "hm-web: delete namespace"]);
}

#[test]
fn rules_are_there_before_anything_is_forwarded_and_an_uplink_knows_first_that_it_listens_on() {
    let mut after = KernelState::new();
    let host = after.namespace_mut(&Netns::Host);
    for (parameter, value) in [
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/eth9/accept_ra", "2"),
    ] {
        host.sysctls.insert(parameter.parse().unwrap(), value.to_owned());
    }
    host.tables.insert(TableKey::new(Family::Inet, "policy".parse().unwrap()), RuleTable::new());
    let texts: Vec<_> = diff(&KernelState::new(), &after).iter().map(ToString::to_string).collect();
    let at =
        |what: &str| texts.iter().position(|text| text.contains(what)).unwrap_or_else(|| panic!("{texts:?}"));
    assert!(at("put table policy") < at("accept_ra") && at("accept_ra") < at("all/forwarding"), "{texts:?}");
    assert!(at("put table policy") < at("ip_forward"), "{texts:?}");
}

#[test]
fn a_state_survives_serialization() {
    let bytes: Vec<u8> = (0..220_u32).map(|i| u8::try_from(i * 97 % 251).unwrap()).collect();
    let state = state(&bytes);
    assert!(!state.namespaces.is_empty());
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<KernelState>(&text).unwrap(), state);
}

#[test]
fn what_no_kernel_can_hold_is_told() {
    let with = |change: &dyn Fn(&mut NetnsState)| {
        let mut state = KernelState::new();
        change(state.namespace_mut(&Netns::Host));
        state.validate().map_err(|e| e.to_string())
    };
    let remotes = |mac: Mac, to: &[&str]| {
        with(&|netns| {
            let to = to.iter().map(|to| to.parse().unwrap()).collect();
            netns.remotes.insert(RemoteMac::new(name("vx0"), mac), to);
        })
    };
    assert_eq!(remotes(mac(1), &["fd00::1"]), Ok(()));
    assert_eq!(remotes(Mac::ZERO, &["fd00::1", "fd00::2"]), Ok(()));
    assert_eq!(
        remotes(mac(1), &["fd00::1", "fd00::2"]).unwrap_err(),
        "@host: 02:00:00:00:00:01 on vx0 has 2 remotes: it is in one place"
    );
    assert!(remotes(mac(1), &[]).unwrap_err().contains("has no remote: leave it out"));
    let end =
        |peer: &str| Link::new(LinkKind::Veth { peer_netns: Netns::Host, peer: name(peer) }, mac(1), 1400);
    let lonely = with(&|netns| drop(netns.links.insert(name("v0"), end("v1")))).unwrap_err();
    assert_eq!(lonely, "@host: link v0 is one end of a pair, and v1 in @host is not the other: put both in");
    let crossed = with(&|netns| {
        netns.links.insert(name("v0"), end("v1"));
        netns.links.insert(name("v1"), end("v2"));
    });
    assert!(crossed.is_err());
    let port = |master: &str| {
        Link::new(LinkKind::Bridge, mac(1), 1400).with_master(name(master), PortSettings::default())
    };
    let nowhere = with(&|netns| drop(netns.links.insert(name("br0"), port("br9")))).unwrap_err();
    assert_eq!(nowhere, "@host: link br0 cannot be a port of br9, which is no bridge of ours");
    let behind = with(&|netns| {
        netns.links.insert(name("br0"), Link::new(LinkKind::Bridge, mac(1), 1400));
        netns.links.insert(name("br1"), Link::new(LinkKind::Bridge, mac(2), 1400));
        netns.bridge_macs.insert(BridgeMac::new(name("br0"), mac(9)), name("br1"));
    });
    assert_eq!(behind.unwrap_err(), "@host: 02:00:00:00:00:09 cannot be behind br1, which is no port of br0");
}

#[test]
fn what_a_kernel_would_give_back_otherwise_is_no_rule() {
    let with = |statement: Statement| {
        let chain = Chain::base(BaseChain::filter(Hook::Input)).with_rule([statement]);
        RuleTable::new().with_chain("input".parse().unwrap(), chain).validate().map_err(|e| e.to_string())
    };
    let from = |prefix: &str| Statement::Prefix {
        field: Field::V4Source,
        prefix: prefix.parse().unwrap(),
        negate: false,
    };
    assert_eq!(with(from("10.0.0.0/8")), Ok(()));
    assert_eq!(
        with(from("10.0.0.1/8")).unwrap_err(),
        "chain input, rule 1: 10.0.0.1/8 has host bits set: its network is 10.0.0.0/8"
    );
    let version =
        |version| with(Statement::Compare(Field::IpVersion, Comparison::Equal, Value::IpVersion(version)));
    assert_eq!((version(4), version(6)), (Ok(()), Ok(())));
    assert_eq!(version(5).unwrap_err(), "chain input, rule 1: 5 is no IP version: 4 and 6 are");
    let set = NamedSet::new([FieldType::IpVersion], DataType::Member);
    let set = set.with(SetKey::exact([Value::IpVersion(5)]), Data::Member);
    let set = RuleTable::new().with_set("versions".parse().unwrap(), set);
    assert_eq!(set.validate().unwrap_err().to_string(), "set versions: 5 is no IP version: 4 and 6 are");
}
