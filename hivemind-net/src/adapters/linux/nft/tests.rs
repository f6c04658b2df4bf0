//! Random tables, written and read back; and messages that somebody broke.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::consts::*;
use super::expr::{self, FIELDS};
use super::{decode, read, value, write};
use crate::adapters::linux::netlink::tests::{breaks, broken};
use crate::adapters::linux::netlink::{Attrs, Message, list, parse, text_of};
use crate::dataplane::rules::{
    BaseChain, Chain, ChainKind, Choice, Comparison, ConnectionState, Data, DataType, Family, Field,
    FieldType, Hook, Interval, MarkSource, NamedSet, Rejection, Rule, RuleName, RuleTable, SetKey, Statement,
    TableKey, Value, Verdict,
};
use crate::dataplane::state::{LinkName, Mac};

/// What `messages` put in place, as the decoder reads a kernel that lists the same.
fn decoded(key: &TableKey, messages: &[Message]) -> RuleTable {
    let mut table = RuleTable::new();
    let of = |kind| {
        let wanted = messages.iter().filter(move |message| message.kind == kind);
        wanted.map(|message| parse(message.body.get(4..).unwrap_or_default()))
    };
    of(NEWCHAIN).for_each(|attrs| read::add_chain(&mut table, key, &attrs));
    of(NEWRULE).for_each(|attrs| read::add_rule(&mut table, key, &attrs));
    of(NEWSET).for_each(|attrs| read::add_set(&mut table.sets, key, &attrs));
    for (name, set) in &mut table.sets {
        let mut listing = read::Listing::default();
        of(NEWSETELEM)
            .filter(|attrs| text_of(attrs, ELEMS_SET) == Some(name.as_str()))
            .for_each(|attrs| listing.add(set, &attrs));
        set.elements = listing.elements(set);
    }
    table
}

fn name() -> impl Strategy<Value = RuleName> {
    "[a-zA-Z][a-zA-Z0-9_.-]{0,15}".prop_map(|text| text.parse().unwrap())
}

fn link() -> impl Strategy<Value = LinkName> {
    "[a-z][a-z0-9_.-]{0,14}".prop_filter_map("lo is no link of ours", |text| text.parse().ok())
}

fn kind() -> impl Strategy<Value = FieldType> {
    select(FIELDS.map(Field::kind).to_vec())
}

fn of_kind(kind: FieldType) -> BoxedStrategy<Value> {
    match kind {
        FieldType::V4 => any::<u32>().prop_map(|bits| Value::V4(bits.into())).boxed(),
        FieldType::V6 => any::<u128>().prop_map(|bits| Value::V6(bits.into())).boxed(),
        FieldType::IpVersion => select(vec![4, 6]).prop_map(Value::IpVersion).boxed(),
        FieldType::Protocol => any::<u8>().prop_map(Value::Protocol).boxed(),
        FieldType::Port => any::<u16>().prop_map(Value::Port).boxed(),
        FieldType::IcmpType => any::<u8>().prop_map(Value::IcmpType).boxed(),
        FieldType::Icmpv6Type => any::<u8>().prop_map(Value::Icmpv6Type).boxed(),
        FieldType::IcmpCode => any::<u8>().prop_map(Value::IcmpCode).boxed(),
        FieldType::Icmpv6Code => any::<u8>().prop_map(Value::Icmpv6Code).boxed(),
        FieldType::Mark => any::<u32>().prop_map(Value::Mark).boxed(),
        FieldType::Link => link().prop_map(Value::Link).boxed(),
        FieldType::Mac => any::<[u8; 6]>().prop_map(|bytes| Value::Mac(Mac::new(bytes))).boxed(),
        FieldType::EtherType => any::<u16>().prop_map(Value::EtherType).boxed(),
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Return),
        name().prop_map(Verdict::Jump),
        name().prop_map(Verdict::Goto),
    ]
}

fn data(kind: DataType) -> BoxedStrategy<Data> {
    match kind {
        DataType::Member => Just(Data::Member).boxed(),
        DataType::Verdict => verdict().prop_map(Data::Verdict).boxed(),
        DataType::Mark => any::<u32>().prop_map(Data::Mark).boxed(),
        DataType::V4Endpoint => {
            any::<([u8; 4], u16)>().prop_map(|(address, port)| Data::Endpoint(address.into(), port)).boxed()
        }
        DataType::V6Endpoint => {
            any::<([u8; 16], u16)>().prop_map(|(address, port)| Data::Endpoint(address.into(), port)).boxed()
        }
    }
}

type Parts = Vec<(Value, Value)>;

/// A set of these elements; those that the kernel could not have beside the others are left out.
fn set_of(key: Vec<FieldType>, intervals: bool, kind: DataType, elements: Vec<(Parts, Data)>) -> NamedSet {
    let mut set = NamedSet::new(key, kind);
    set.intervals = intervals;
    let mut all = BTreeMap::new();
    for (parts, data) in elements {
        let part = |(a, b): (Value, Value)| match intervals && a.kind().is_ordered() {
            true => Interval::new(a.clone().min(b.clone()), a.max(b)),
            false => Interval::from(a),
        };
        all.insert(SetKey::new(parts.into_iter().map(part)), data);
    }
    let mut last: Option<Vec<u8>> = None;
    let mut sorted: Vec<_> = all.into_iter().collect();
    // In the order of bytes, which is the kernel's.
    sorted.sort_by_key(|(key, _)| value::bytes(&key.parts()[0].from));
    for (key, data) in sorted {
        let (from, to) = (value::bytes(&key.parts()[0].from), value::bytes(&key.parts()[0].to));
        let beside = last.as_ref().is_none_or(|last| *last < from);
        if !intervals || set.key.len() > 1 || beside {
            last = Some(to);
            set = set.with(key, data);
        }
    }
    set
}

fn set() -> impl Strategy<Value = NamedSet> {
    let all =
        vec![DataType::Member, DataType::Verdict, DataType::Mark, DataType::V4Endpoint, DataType::V6Endpoint];
    (vec(kind(), 1..4), any::<bool>(), select(all)).prop_flat_map(|(key, intervals, kind)| {
        let parts: Vec<_> = key.iter().map(|kind| (of_kind(*kind), of_kind(*kind))).collect();
        vec((parts, data(kind)), 0..8)
            .prop_map(move |elements| set_of(key.clone(), intervals, kind, elements))
    })
}

fn prefix(field: Field) -> BoxedStrategy<IpNet> {
    match field.kind() {
        FieldType::V4 => any::<[u8; 4]>()
            .prop_flat_map(|a| (0u8..=32).prop_map(move |len| IpNet::new(a.into(), len).unwrap().trunc()))
            .boxed(),
        _ => any::<[u8; 16]>()
            .prop_flat_map(|a| (0u8..=128).prop_map(move |len| IpNet::new(a.into(), len).unwrap().trunc()))
            .boxed(),
    }
}

fn translation() -> impl Strategy<Value = Statement> {
    let family = prop_oneof![
        Just((Field::V4Destination, Field::V4Source, 32_u8)),
        Just((Field::V6Destination, Field::V6Source, 128)),
    ];
    let with = select(vec![None, Some(Field::Protocol), Some(Field::DestinationPort)]);
    (family, with, 0usize..3, any::<u8>(), 1u32..9, name()).prop_map(
        |((own, source, most), with, how, bits, among, map)| {
            let choice = match how {
                0 => Choice::InTurn,
                1 => Choice::AtRandom,
                _ => Choice::Hash { field: source, bits: bits % most + 1 },
            };
            let fields = std::iter::once(own).chain(with).collect();
            Statement::DestinationNat { fields, choice, among: NonZeroU32::new(among).unwrap(), map }
        },
    )
}

fn statement() -> impl Strategy<Value = Statement> {
    let field = || select(FIELDS.to_vec());
    let fields = || vec(field(), 1..4);
    let comparison =
        select(vec![Comparison::Equal, Comparison::NotEqual, Comparison::AtMost, Comparison::AtLeast]);
    let states = vec![
        ConnectionState::Invalid,
        ConnectionState::Established,
        ConnectionState::Related,
        ConnectionState::New,
        ConnectionState::Untracked,
    ];
    let address =
        vec![Field::V4Source, Field::V4Destination, Field::V6Source, Field::V6Destination, Field::ArpSender];
    prop_oneof![
        6 => (field(), comparison)
            .prop_flat_map(|(field, how)| of_kind(field.kind())
                .prop_map(move |value| Statement::Compare(field, how, value))),
        3 => (select(address), any::<bool>()).prop_flat_map(|(field, negate)| prefix(field)
            .prop_map(move |prefix| Statement::Prefix { field, prefix, negate })),
        2 => btree_set(select(states), 0..5).prop_map(Statement::Connection),
        2 => (fields(), name(), any::<bool>())
            .prop_map(|(fields, set, negate)| Statement::InSet { fields, set, negate }),
        2 => (fields(), name()).prop_map(|(fields, map)| Statement::VerdictMap { fields, map }),
        1 => any::<u32>().prop_map(|mark| Statement::SetMark(MarkSource::Value(mark))),
        2 => (fields(), name()).prop_map(|(fields, map)| Statement::SetMark(MarkSource::Map { fields, map })),
        1 => any::<u16>().prop_map(Statement::SetZone),
        2 => (fields(), name()).prop_map(|(fields, map)| Statement::SetZoneByMap { fields, map }),
        1 => Just(Statement::Counter),
        1 => Just(Statement::Masquerade),
        1 => select(vec![Rejection::TcpReset, Rejection::Prohibited]).prop_map(Statement::Reject),
        3 => translation(),
        1 => any::<[u8; 4]>().prop_map(|address| Statement::SourceNat(address.into())),
        1 => any::<[u8; 16]>().prop_map(|address| Statement::SourceNat(address.into())),
        3 => verdict().prop_map(Statement::Verdict),
    ]
}

/// Whether a packet could pass all of it: it is of one IP version, and of one protocol.
fn is_possible(family: Family, statements: &[Statement]) -> bool {
    let guards = expr::guards(family, statements);
    let fields: BTreeSet<_> = guards.iter().map(|(field, _)| *field).collect();
    let v6 = (Field::Protocol, Value::Protocol(58));
    let says_v6 = statements.contains(&Statement::Compare(v6.0, Comparison::Equal, v6.1.clone()));
    let v4_message = guards.contains(&(Field::Protocol, Value::Protocol(1)));
    fields.len() == guards.len() && !(says_v6 && v4_message)
}

fn rule(family: Family) -> impl Strategy<Value = Rule> {
    vec(statement(), 0..6).prop_map(move |all| {
        let mut kept = Vec::new();
        for statement in all {
            kept.push(statement);
            if !is_possible(family, &kept) {
                kept.pop();
            }
        }
        Rule::new(kept)
    })
}

fn family() -> impl Strategy<Value = Family> {
    select(vec![Family::Inet, Family::Bridge, Family::Netdev])
}

fn base() -> impl Strategy<Value = BaseChain> {
    let hook = prop_oneof![
        Just(Hook::Prerouting),
        Just(Hook::Input),
        Just(Hook::Forward),
        Just(Hook::Output),
        Just(Hook::Postrouting),
        link().prop_map(Hook::Ingress),
    ];
    (hook, any::<i32>(), any::<bool>(), any::<bool>()).prop_map(|(hook, priority, drops, nat)| {
        let mut base = BaseChain::filter(hook).with_priority(priority);
        base.drop_by_default = drops;
        base.kind = if nat { ChainKind::Nat } else { ChainKind::Filter };
        base
    })
}

fn table() -> impl Strategy<Value = (TableKey, RuleTable)> {
    (family(), name()).prop_flat_map(|(family, table_name)| {
        let chain = (proptest::option::of(base()), vec(rule(family), 0..4)).prop_map(|(base, rules)| {
            let mut chain = Chain::default();
            (chain.base, chain.rules) = (base, rules);
            chain
        });
        let sets = proptest::collection::btree_map(name(), set(), 0..4);
        let chains = proptest::collection::btree_map(name(), chain, 0..4);
        (sets, chains).prop_map(move |(sets, chains)| {
            let mut table = RuleTable::new();
            (table.sets, table.chains) = (sets, chains);
            (TableKey::new(family, table_name.clone()), table)
        })
    })
}

/// An expression by its name, and what it says by number.
type Plain = Vec<(String, BTreeMap<u16, Vec<u8>>)>;

/// Which numbers of an expression are those of registers.
fn registers(name: &str) -> &'static [u16] {
    match name {
        "payload" | "cmp" | "immediate" | "numgen" => &[1],
        "bitwise" | "hash" => &[1, 2],
        "lookup" => &[2, 3],
        "nat" => &[3, 4, 5, 6],
        "meta" => &[1, 3],
        "ct" => &[1, 4],
        _ => &[],
    }
}

/// What expressions say, without what says nothing: what counters have counted, and what is there by default.
fn plain(expressions: &[u8]) -> Plain {
    let one = |expression: &[u8]| {
        let parsed = parse(expression);
        let name = text_of(&parsed, EXPR_NAME).unwrap_or_default().to_owned();
        let data = parsed.get(&EXPR_DATA).map(|data| parse(data)).unwrap_or_default();
        let mut data: BTreeMap<_, _> = data.into_iter().map(|(kind, bytes)| (kind, bytes.to_vec())).collect();
        for register in registers(&name) {
            // The kernel has two numbers for one.
            let number = data.get(register).and_then(|bytes| Some(u32::from_be_bytes(*bytes.first_chunk()?)));
            if let Some(word) = number.and_then(decode::word) {
                data.insert(*register, (word + expr::REGISTER).to_be_bytes().to_vec());
            }
        }
        match name.as_str() {
            "counter" => data.clear(),
            "immediate" if data.get(&1).is_some_and(|register| register == &[0; 4]) => {
                let verdict = data.get(&2).and_then(|data| value::verdict_of(data));
                data.insert(2, format!("{verdict:?}").into_bytes());
            }
            "immediate" | "cmp" | "bitwise" => {
                // The number of bytes is that of the mask.
                data.remove(&3).filter(|_| name == "cmp").map(|bytes| data.insert(3, bytes));
                for bytes in data.values_mut().filter(|bytes| bytes.len() > 4) {
                    *bytes = value::value_of(bytes).unwrap_or_default();
                }
            }
            _ => data.retain(|_, bytes| *bytes != [0; 4] && *bytes != [0]),
        }
        (name, data)
    };
    list(expressions).into_iter().map(one).collect()
}

/// Expressions with one number in one of them changed, or without it.
fn changed(expressions: &Attrs, which: usize, attribute: usize, to: Option<&[u8]>) -> Attrs {
    let all = list(&expressions.0);
    let mut out = Attrs::new();
    for (number, expression) in all.iter().enumerate() {
        let parsed = parse(expression);
        let name = text_of(&parsed, EXPR_NAME).unwrap_or_default();
        let mut data = Attrs::new();
        let old = parsed.get(&EXPR_DATA).map(|data| parse(data)).unwrap_or_default();
        for (index, (kind, bytes)) in old.iter().enumerate() {
            let here = number == which % all.len() && index == attribute % old.len();
            match to {
                Some(new) if here && bytes.len() > 4 => data.nest(*kind, &value::data_value(new)),
                Some(new) if here => data.put(*kind, new),
                None if here => &mut data,
                _ => data.put(*kind, bytes),
            };
        }
        let mut expression = Attrs::new();
        expression.text(EXPR_NAME, name).nest(EXPR_DATA, &data);
        out.nest(LIST_ELEM, &expression);
    }
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read_back((key, table) in table()) {
        prop_assert_eq!(decoded(&key, &write::messages(&key, &table)), table);
    }

    /// A rule that somebody changed is never taken for one that it is not.
    #[test]
    fn a_changed_rule_is_another_rule_or_none_of_ours(
        (family, rule) in family().prop_flat_map(|family| (Just(family), rule(family))),
        which in any::<usize>(), attribute in any::<usize>(),
        to in proptest::option::of(prop_oneof![
            (0u32..24).prop_map(|number| number.to_be_bytes().to_vec()),
            vec(any::<u8>(), 0..20),
        ]),
    ) {
        let written = expr::rule(family, &rule);
        if written.0.is_empty() {
            return Ok(());
        }
        let changed = changed(&written, which, attribute, to.as_deref());
        let found = decode::rule(family, &changed.0);
        let known = !found.statements.iter().any(|one| matches!(one, Statement::Unknown(_)));
        if known && is_possible(family, &found.statements) {
            prop_assert_eq!(plain(&expr::rule(family, &found).0), plain(&changed.0), "{:?}", found);
        }
    }

    #[test]
    fn broken_messages_are_read_as_far_as_they_go((key, table) in table(), breaks in breaks(), which in any::<usize>()) {
        let mut messages = write::messages(&key, &table);
        let count = messages.len();
        let Message { body, .. } = &mut messages[which % count];
        *body = broken(std::mem::take(body), &breaks);
        let size: usize = messages.iter().map(|message| message.body.len()).sum();
        let mut found = RuleTable::new();
        let memory = allocation_counter::measure(|| found = decoded(&key, &messages));
        prop_assert!(memory.bytes_total <= 500 * size as u64 + 10_000, "{} bytes: {:?}", size, memory);
        let rules: usize = found.chains.values().flat_map(|chain| &chain.rules).map(|rule| rule.statements.len()).sum();
        let elements: usize = found.sets.values().map(|set| set.elements.len()).sum();
        prop_assert!((rules + elements) * 4 <= size, "{} bytes: {:?}", size, found);
    }

    #[test]
    fn any_bytes_are_some_rule(bytes in vec(any::<u8>(), 0..400), family in family()) {
        let mut found = Rule::default();
        let memory = allocation_counter::measure(|| found = decode::rule(family, &bytes));
        prop_assert!(found.statements.len() <= bytes.len() / 4 + 1);
        prop_assert!(memory.bytes_total <= 500 * bytes.len() as u64 + 1_000, "{:?}", memory);
    }
}
