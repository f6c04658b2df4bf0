//! Rule tables: what was written is what is read, and `nft` understands it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use hivemind_core::block_on;
use hivemind_net::DataplaneExt;
use hivemind_net::dataplane::rules::{
    BaseChain, Chain, Choice, Comparison, ConnectionState, Data, DataType, Family, Field, FieldType, Hook,
    Interval, MarkSource, NamedSet, Rejection, RuleName, RuleTable, SetKey, Statement, TableKey, Value,
    Verdict,
};
use hivemind_net::dataplane::state::{KernelState, Mac, NetnsState};
use hivemind_net::dataplane::{Action, diff};

use crate::lab::{Lab, ip, is_root, name, read, run};

fn rn(text: &str) -> RuleName {
    text.parse().unwrap()
}

fn sets() -> Vec<(&'static str, NamedSet)> {
    let net = |text: &str| SetKey::new([Interval::from(text.parse::<ipnet::IpNet>().unwrap())]);
    let exact = |values: &[Value]| SetKey::exact(values.iter().cloned());
    let jump = || Data::Verdict(Verdict::Goto(rn("deny")));
    let accept = || Data::Verdict(Verdict::Accept);
    let port = |from, to| Interval::new(Value::Port(from), Value::Port(to));
    vec![
        (
            "hosts",
            NamedSet::new([FieldType::V4], DataType::Member)
                .with(exact(&[ip("10.10.1.1").into()]), Data::Member),
        ),
        (
            "nets6",
            NamedSet::new([FieldType::V6], DataType::Member)
                .with_intervals()
                .with(net("fd10::/64"), Data::Member)
                .with(net("fd10:0:0:1::/64"), Data::Member)
                .with(net("ffff::/16"), Data::Member),
        ),
        (
            "nets4",
            NamedSet::new([FieldType::V4], DataType::Mark)
                .with_intervals()
                .with(net("0.0.0.0/8"), Data::Mark(1))
                .with(net("10.0.0.0/8"), Data::Mark(2))
                .with(net("255.0.0.0/8"), Data::Mark(3)),
        ),
        (
            "ids",
            NamedSet::new([FieldType::V6], DataType::Mark)
                .with(exact(&[ip("fd10::1:1").into()]), Data::Mark(101)),
        ),
        (
            "allow",
            NamedSet::new([FieldType::Mark, FieldType::Protocol, FieldType::Port], DataType::Verdict)
                .with(exact(&[Value::Mark(101), Value::Protocol(6), Value::Port(80)]), accept())
                .with(exact(&[Value::Mark(101), Value::Protocol(17), Value::Port(53)]), jump()),
        ),
        (
            "ranges",
            NamedSet::new([FieldType::Mark, FieldType::Protocol, FieldType::Port], DataType::Verdict)
                .with_intervals()
                .with(
                    SetKey::new([Value::Mark(101).into(), Value::Protocol(6).into(), port(1000, 1999)]),
                    accept(),
                )
                .with(
                    SetKey::new([Value::Mark(102).into(), Value::Protocol(6).into(), port(0, 65535)]),
                    jump(),
                ),
        ),
        (
            "messages",
            NamedSet::new([FieldType::Mark, FieldType::Icmpv6Type, FieldType::Icmpv6Code], DataType::Verdict)
                .with_intervals()
                .with(
                    SetKey::new([
                        Value::Mark(101).into(),
                        Interval::new(Value::Icmpv6Type(128), Value::Icmpv6Type(129)),
                        Interval::new(Value::Icmpv6Code(0), Value::Icmpv6Code(7)),
                    ]),
                    accept(),
                ),
        ),
        (
            "ends4",
            NamedSet::new([FieldType::V4, FieldType::Port, FieldType::Mark], DataType::V4Endpoint)
                .with(
                    exact(&[ip("10.96.0.1").into(), Value::Port(80), Value::Mark(0)]),
                    Data::Endpoint(ip("10.10.1.1"), 8080),
                )
                .with(
                    exact(&[ip("10.96.0.1").into(), Value::Port(80), Value::Mark(1)]),
                    Data::Endpoint(ip("10.10.1.2"), 443),
                ),
        ),
        (
            "ends6",
            NamedSet::new([FieldType::V6, FieldType::Protocol, FieldType::Mark], DataType::V6Endpoint).with(
                exact(&[ip("fd96::1").into(), Value::Protocol(17), Value::Mark(1)]),
                Data::Endpoint(ip("fd10::1:1"), 53),
            ),
        ),
        (
            "zones",
            NamedSet::new([FieldType::Link], DataType::Mark)
                .with(exact(&[Value::Link(name("br-red"))]), Data::Mark(7)),
        ),
    ]
}

/// A table with every kind of set and statement.
pub(crate) fn every_statement() -> BTreeMap<TableKey, RuleTable> {
    let eq = |field, value| Statement::Compare(field, Comparison::Equal, value);
    let states = BTreeSet::from([ConnectionState::Established, ConnectionState::Related]);
    let mut table = RuleTable::new();
    for (name, set) in sets() {
        table = table.with_set(rn(name), set);
    }
    let input = Chain::base(BaseChain::filter(Hook::Input).dropping())
        .with_rule([Statement::Connection(states), Statement::Verdict(Verdict::Accept)])
        .with_rule([eq(Field::Icmpv6Type, Value::Icmpv6Type(135)), Statement::Verdict(Verdict::Accept)])
        .with_rule([
            eq(Field::IcmpType, Value::IcmpType(8)),
            Statement::Compare(Field::IcmpCode, Comparison::AtMost, Value::IcmpCode(3)),
            Statement::Counter,
            Statement::Verdict(Verdict::Return),
        ])
        .with_rule([
            Statement::Prefix {
                field: Field::V4Source,
                prefix: "10.10.0.0/20".parse().unwrap(),
                negate: true,
            },
            Statement::Compare(Field::DestinationPort, Comparison::AtLeast, Value::Port(1024)),
            Statement::Compare(Field::SourcePort, Comparison::AtMost, Value::Port(2000)),
            Statement::Verdict(Verdict::Jump(rn("deny"))),
        ])
        .with_rule([
            Statement::Prefix {
                field: Field::V6Destination,
                prefix: "fd10::/64".parse().unwrap(),
                negate: false,
            },
            Statement::InSet { fields: vec![Field::V6Source], set: rn("nets6"), negate: true },
        ])
        .with_rule([Statement::InSet { fields: vec![Field::V4Source], set: rn("hosts"), negate: false }])
        .with_rule([Statement::SetMark(MarkSource::Map { fields: vec![Field::V6Source], map: rn("ids") })])
        .with_rule([Statement::SetMark(MarkSource::Map { fields: vec![Field::V4Source], map: rn("nets4") })])
        .with_rule([eq(Field::Mark, Value::Mark(9)), Statement::SetMark(MarkSource::Value(10))])
        .with_rule([Statement::VerdictMap {
            fields: vec![Field::Mark, Field::Protocol, Field::DestinationPort],
            map: rn("allow"),
        }])
        .with_rule([Statement::VerdictMap {
            fields: vec![Field::Mark, Field::Protocol, Field::DestinationPort],
            map: rn("ranges"),
        }])
        .with_rule([Statement::VerdictMap {
            fields: vec![Field::Mark, Field::Icmpv6Type, Field::Icmpv6Code],
            map: rn("messages"),
        }])
        .with_rule([
            Statement::Compare(Field::InLink, Comparison::NotEqual, Value::Link(name("eth9"))),
            eq(Field::IpVersion, Value::IpVersion(6)),
            Statement::Counter,
        ]);
    let zone = Chain::base(BaseChain::filter(Hook::Prerouting).with_priority(-300))
        .with_rule([Statement::SetZoneByMap { fields: vec![Field::InLink], map: rn("zones") }])
        .with_rule([eq(Field::InLink, Value::Link(name("eth8"))), Statement::SetZone(5)]);
    let protocol = |number| eq(Field::Protocol, Value::Protocol(number));
    let to4 = |choice, among| Statement::DestinationNat {
        fields: vec![Field::V4Destination, Field::DestinationPort],
        choice,
        among: NonZeroU32::new(among).unwrap(),
        map: rn("ends4"),
    };
    let to6 = |choice| Statement::DestinationNat {
        fields: vec![Field::V6Destination, Field::Protocol],
        choice,
        among: NonZeroU32::new(3).unwrap(),
        map: rn("ends6"),
    };
    let translate = Chain::base(BaseChain::destination_nat())
        .with_rule([protocol(6), to4(Choice::InTurn, 2)])
        .with_rule([protocol(6), to4(Choice::AtRandom, 1)])
        .with_rule([protocol(6), to4(Choice::Hash { field: Field::V4Source, bits: 32 }, 1)])
        .with_rule([protocol(6), to4(Choice::Hash { field: Field::V4Source, bits: 21 }, 7)])
        .with_rule([protocol(17), to6(Choice::AtRandom)])
        .with_rule([to6(Choice::InTurn)])
        .with_rule([to6(Choice::Hash { field: Field::V6Source, bits: 64 })])
        .with_rule([to6(Choice::Hash { field: Field::V6Source, bits: 128 }), Statement::Counter]);
    let back = Chain::base(BaseChain::source_nat())
        .with_rule([
            Statement::InSet { fields: vec![Field::V4Source], set: rn("hosts"), negate: false },
            Statement::SourceNat(ip("10.96.0.1")),
        ])
        .with_rule([Statement::SourceNat(ip("fd96::1"))]);
    let table = table.with_chain(rn("translate"), translate).with_chain(rn("back"), back);
    let deny = Chain::default().with_rule([Statement::Counter, Statement::Verdict(Verdict::Drop)]);
    let refuse = Chain::default()
        .with_rule([eq(Field::Protocol, Value::Protocol(6)), Statement::Reject(Rejection::TcpReset)])
        .with_rule([Statement::Reject(Rejection::Prohibited)]);
    let table = table.with_chain(rn("refuse"), refuse);
    let table =
        table.with_chain(rn("input"), input).with_chain(rn("deny"), deny).with_chain(rn("zone"), zone);
    let nat = Chain::base(BaseChain::source_nat()).with_rule([
        Statement::Compare(Field::OutLink, Comparison::Equal, Value::Link(name("eth0"))),
        Statement::Masquerade,
    ]);
    let nat = RuleTable::new().with_chain(rn("out"), nat);
    BTreeMap::from([
        (TableKey::new(Family::Inet, rn("tenant")), table),
        (TableKey::new(Family::Inet, rn("nat")), nat),
    ])
}

#[test]
fn every_set_and_statement_is_read_back_as_it_was_written() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("rules", 1);
    let agent = lab.agent(1);
    let at = lab.netns("rules");
    let mut desired = KernelState::new();
    desired.namespaces.insert(at.clone(), NetnsState::owned());
    desired.namespace_mut(&at).tables = every_statement();
    block_on(agent.sync(&desired)).unwrap();
    assert_eq!(read(&agent), desired);

    let shown = run(&at, "nft list ruleset");
    for expected in [
        "type mark . inet_proto . inet_service : verdict",
        "0x00000065 . tcp . 80 : accept",
        ". tcp . 1000-1999 : accept",
        "\"br-red\" : 0x00000007",
        "ct state established,related accept",
        "icmpv6 type nd-neighbor-solicit accept",
        "ip saddr != 10.10.0.0/20",
        "ip6 saddr != @nets6",
        "meta mark set ip6 saddr map @ids",
        "ct zone set 5",
        "meta l4proto tcp reject with tcp reset",
        "reject with icmpx admin-prohibited",
        "fd10:0:0:1::/64",
        "oifname \"eth0\" masquerade",
        "dnat ip to ip daddr . tcp dport . numgen inc mod 2 map @ends4",
        "snat ip6 to fd96::1",
        "comment \"hm-rules-1\"",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }

    // What we would never write is seen, and goes.
    run(&at, "nft add rule inet tenant deny ip6 daddr fd99::1 limit rate 1/second accept");
    let seen = read(&agent);
    let deny = &seen.namespaces[&at].tables[&TableKey::new(Family::Inet, rn("tenant"))].chains[&rn("deny")];
    assert!(deny.rules[1].statements.iter().any(|s| matches!(s, Statement::Unknown(_))), "{deny:?}");
    assert_eq!(block_on(agent.sync(&desired)).unwrap().len(), 1);
}

#[test]
fn a_change_of_one_element_is_one_small_change() {
    if !is_root() {
        return;
    }
    let lab = Lab::new("elem", 1);
    let agent = lab.agent(1);
    let at = lab.netns("elem");
    let mut desired = KernelState::new();
    desired.namespaces.insert(at.clone(), NetnsState::owned());
    let key = TableKey::new(Family::Inet, rn("tenant"));
    let mut big = NamedSet::new([FieldType::V6], DataType::Mark);
    for number in 0..5000_u32 {
        let address = std::net::Ipv6Addr::from((0xfd10_u128 << 112) + u128::from(number));
        big = big.with(SetKey::exact([Value::V6(address)]), Data::Mark(number));
    }
    let guard = Chain::base(BaseChain::filter(Hook::Input)).with_rule([
        Statement::Compare(Field::MacSource, Comparison::Equal, Value::Mac(Mac::new([2, 0, 0, 0, 0, 1]))),
        Statement::Verdict(Verdict::Accept),
    ]);
    let table = RuleTable::new().with_set(rn("ids"), big).with_chain(rn("input"), guard);
    desired.namespace_mut(&at).tables.insert(key.clone(), table);
    block_on(agent.sync(&desired)).unwrap();
    assert_eq!(read(&agent), desired);

    let mut after = desired.clone();
    let set = &mut after
        .namespace_mut(&at)
        .tables
        .get_mut(&key)
        .unwrap()
        .sets
        .get_mut(&rn("ids"))
        .unwrap()
        .elements;
    set.remove(&SetKey::exact([ip("fd10::7").into()]));
    set.insert(SetKey::exact([ip("fd10::8").into()]), Data::Mark(9));
    set.insert(SetKey::exact([ip("fd10:1::8").into()]), Data::Mark(10));
    let ops = diff(&desired, &after);
    let [op] = ops.as_slice() else { panic!("{ops:?}") };
    assert!(
        matches!(&op.action, Action::ChangeTable(_, change) if change.elements[&rn("ids")].add.len() == 2)
    );
    block_on(agent.sync(&after)).unwrap();
    assert_eq!(read(&agent), after);
}
