//! Tables of ours as the kernel has them.

use std::collections::BTreeMap;

use super::consts::*;
use super::{decode, value};
use crate::adapters::linux::fault::Fault;
use crate::adapters::linux::netlink::{Attrs, Message, Parsed, Socket, list, parse, text_of, u32be_of};
use crate::dataplane::rules::{
    BaseChain, Chain, ChainKind, Data, DataType, Family, FieldType, Hook, Interval, NamedSet, RuleName,
    RuleTable, SetKey, TableKey, Value,
};

/// What marks a table as ours: a comment, as `nft` writes and shows it.
pub(in super::super) fn comment(owner: &str) -> Vec<u8> {
    let length = u8::try_from(owner.len().saturating_add(1)).unwrap_or(u8::MAX);
    let mut bytes = vec![0, length];
    bytes.extend_from_slice(owner.as_bytes());
    bytes.push(0);
    bytes
}

fn dump(
    socket: &mut Socket,
    kind: u16,
    family: u8,
    attrs: &Attrs,
    mut take: impl FnMut(u8, &Parsed<'_>),
) -> Result<(), Fault> {
    let replies = socket
        .dump(&Message::new(kind, 0, &header(family, 0), attrs))
        .map_err(|e| Fault::system("read packet rules", e))?;
    for (_, body) in &replies {
        let family = body.first().copied().unwrap_or_default();
        take(family, &parse(body.get(4..).unwrap_or_default()));
    }
    Ok(())
}

fn family_of(number: u8) -> Option<Family> {
    [Family::Inet, Family::Bridge, Family::Netdev].into_iter().find(|family| family_number(*family) == number)
}

/// A table in the kernel.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Found {
    pub(in super::super) ours: bool,
    /// It is there, and its chains are not asked.
    dormant: bool,
}

/// The tables in the socket's namespace.
pub(in super::super) fn keys(socket: &mut Socket, owner: &str) -> Result<BTreeMap<TableKey, Found>, Fault> {
    let wanted = comment(owner);
    let mut keys = BTreeMap::new();
    dump(socket, GETTABLE, 0, &Attrs::new(), |family, attrs| {
        let name = text_of(attrs, TABLE_NAME).and_then(|name| name.parse().ok());
        if let (Some(family), Some(name)) = (family_of(family), name) {
            let ours = attrs.get(&TABLE_USERDATA).is_some_and(|data| *data == wanted);
            let dormant = u32be_of(attrs, TABLE_FLAGS).unwrap_or_default() & DORMANT != 0;
            keys.insert(TableKey::new(family, name), Found { ours, dormant });
        }
    })?;
    Ok(keys)
}

/// All tables of ours.
pub(in super::super) fn read(
    socket: &mut Socket,
    owner: &str,
) -> Result<BTreeMap<TableKey, RuleTable>, Fault> {
    let mut tables = BTreeMap::new();
    for (key, found) in keys(socket, owner)? {
        if found.ours {
            // What is not in force is no rule, and is put in place anew.
            let table = if found.dormant { RuleTable::new() } else { table(socket, &key)? };
            tables.insert(key, table);
        }
    }
    Ok(tables)
}

fn table(socket: &mut Socket, key: &TableKey) -> Result<RuleTable, Fault> {
    let family = family_number(key.family);
    let mut table = RuleTable::new();
    dump(socket, GETCHAIN, family, &Attrs::new(), |_, attrs| add_chain(&mut table, key, attrs))?;
    let mut of_table = Attrs::new();
    of_table.text(TABLE_NAME, key.name.as_str());
    dump(socket, GETRULE, family, &of_table, |_, attrs| add_rule(&mut table, key, attrs))?;
    table.sets = sets(socket, key)?;
    for (name, set) in &mut table.sets {
        let mut attrs = Attrs::new();
        attrs.text(ELEMS_TABLE, key.name.as_str()).text(ELEMS_SET, name.as_str());
        let mut listing = Listing::default();
        dump(socket, GETSETELEM, family, &attrs, |_, attrs| listing.add(set, attrs))?;
        set.elements = listing.elements(set);
    }
    Ok(table)
}

/// The sets of a table, without their elements.
pub(in super::super) fn sets(
    socket: &mut Socket,
    key: &TableKey,
) -> Result<BTreeMap<RuleName, NamedSet>, Fault> {
    let mut sets = BTreeMap::new();
    let mut of_table = Attrs::new();
    of_table.text(SET_TABLE, key.name.as_str());
    let take = |_, attrs: &Parsed<'_>| add_set(&mut sets, key, attrs);
    dump(socket, GETSET, family_number(key.family), &of_table, take)?;
    Ok(sets)
}

/// Adds a chain without rules, if it is one of the table.
pub(super) fn add_chain(table: &mut RuleTable, key: &TableKey, attrs: &Parsed<'_>) {
    if text_of(attrs, CHAIN_TABLE) == Some(key.name.as_str())
        && let Some((name, chain)) = chain(attrs)
    {
        table.chains.insert(name, chain);
    }
}

/// Adds a rule to its chain, behind those that are there, if it is one of the table.
pub(super) fn add_rule(table: &mut RuleTable, key: &TableKey, attrs: &Parsed<'_>) {
    let chain = text_of(attrs, RULE_CHAIN).and_then(|name| name.parse::<RuleName>().ok());
    if text_of(attrs, RULE_TABLE) == Some(key.name.as_str())
        && let Some(chain) = chain.and_then(|name| table.chains.get_mut(&name))
    {
        let expressions = attrs.get(&RULE_EXPRESSIONS).copied().unwrap_or_default();
        chain.rules.push(decode::rule(key.family, expressions));
    }
}

/// Adds a set without elements, if it is one of the table.
pub(super) fn add_set(sets: &mut BTreeMap<RuleName, NamedSet>, key: &TableKey, attrs: &Parsed<'_>) {
    if text_of(attrs, SET_TABLE) == Some(key.name.as_str())
        && let Some((name, set)) = set(attrs)
    {
        sets.insert(name, set);
    }
}

fn chain(attrs: &Parsed<'_>) -> Option<(RuleName, Chain)> {
    let name = text_of(attrs, CHAIN_NAME)?.parse().ok()?;
    let Some(hook) = attrs.get(&CHAIN_HOOK).map(|hook| parse(hook)) else {
        return Some((name, Chain::default()));
    };
    let dev = text_of(&hook, HOOK_DEV).and_then(|dev| dev.parse().ok());
    let at = match (u32be_of(&hook, HOOK_NUMBER)?, dev) {
        (0, Some(dev)) => Hook::Ingress(dev),
        (0, None) => Hook::Prerouting,
        (1, _) => Hook::Input,
        (2, _) => Hook::Forward,
        (3, _) => Hook::Output,
        (4, _) => Hook::Postrouting,
        _ => return None,
    };
    let mut base = BaseChain::filter(at).with_priority(u32be_of(&hook, HOOK_PRIORITY)?.cast_signed());
    base.drop_by_default = u32be_of(attrs, CHAIN_POLICY) == Some(0);
    if text_of(attrs, CHAIN_TYPE) == Some("nat") {
        base.kind = ChainKind::Nat;
    }
    Some((name, Chain::base(base)))
}

fn set(attrs: &Parsed<'_>) -> Option<(RuleName, NamedSet)> {
    let name = text_of(attrs, SET_NAME)?.parse().ok()?;
    let flags = u32be_of(attrs, SET_FLAGS).unwrap_or_default();
    let data = match u32be_of(attrs, SET_DATA_TYPE) {
        _ if flags & FLAG_MAP == 0 => DataType::Member,
        Some(TYPE_VERDICT) => DataType::Verdict,
        Some(TYPE_MARK) => DataType::Mark,
        Some(TYPE_V4_ENDPOINT) => DataType::V4Endpoint,
        Some(TYPE_V6_ENDPOINT) => DataType::V6Endpoint,
        _ => return None,
    };
    let set = NamedSet::new(value::kinds_of(u32be_of(attrs, SET_KEY_TYPE)?)?, data);
    Some((name, if flags & FLAG_INTERVAL == 0 { set } else { set.with_intervals() }))
}

/// An element as the kernel lists it.
struct Listed {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    data: Data,
}

/// The elements of a set, as the kernel lists them: in several messages, in an order of its own.
#[derive(Default)]
pub(super) struct Listing {
    listed: Vec<Listed>,
    /// Where intervals of a set with one field are no longer.
    ends: Vec<Vec<u8>>,
}

impl Listing {
    /// Takes the elements of a message.
    pub(super) fn add(&mut self, set: &NamedSet, attrs: &Parsed<'_>) {
        for element in list(attrs.get(&ELEMS_LIST).copied().unwrap_or_default()) {
            let element = parse(element);
            let Some(from) = element.get(&ELEM_KEY).and_then(|data| value::value_of(data)) else { continue };
            if u32be_of(&element, ELEM_FLAGS).unwrap_or_default() & INTERVAL_END != 0 {
                self.ends.push(from);
                continue;
            }
            let to = element.get(&ELEM_KEY_END).and_then(|data| value::value_of(data));
            if let Some(data) = data_of(set.data, element.get(&ELEM_DATA).copied()) {
                self.listed.push(Listed { from, to, data });
            }
        }
    }

    /// All of them.
    pub(super) fn elements(mut self, set: &NamedSet) -> BTreeMap<SetKey, Data> {
        self.ends.sort();
        let ends = self.ends;
        let whole = |element: Listed| {
            let to = match (element.to, set.intervals, set.key.as_slice()) {
                (Some(to), ..) => to,
                (None, true, [kind]) => last_of(&element.from, *kind, &ends)?,
                _ => element.from.clone(),
            };
            let from = value::values(&set.key, &element.from)?;
            let to = value::values(&set.key, &to)?;
            let parts = from.into_iter().zip(to).map(|(from, to)| Interval::new(from, to));
            Some((SetKey::new(parts), element.data))
        };
        self.listed.into_iter().filter_map(whole).collect()
    }
}

/// The last value of the interval that begins at `from`: the one before the nearest end.
fn last_of(from: &[u8], kind: FieldType, ends: &[Vec<u8>]) -> Option<Vec<u8>> {
    let next = ends.partition_point(|end| end.as_slice() <= from);
    match ends.get(next) {
        Some(end) => value::before(end),
        None => Some(vec![0xff; value::length(kind)]),
    }
}

fn data_of(kind: DataType, data: Option<&[u8]>) -> Option<Data> {
    match kind {
        DataType::Member => Some(Data::Member),
        DataType::Mark => Some(Data::Mark(u32::from_ne_bytes(*value::value_of(data?)?.first_chunk()?))),
        DataType::Verdict => value::verdict_of(data?).map(Data::Verdict),
        DataType::V4Endpoint => endpoint_of(FieldType::V4, data?),
        DataType::V6Endpoint => endpoint_of(FieldType::V6, data?),
    }
}

fn endpoint_of(address: FieldType, data: &[u8]) -> Option<Data> {
    match *value::values(&[address, FieldType::Port], &value::value_of(data)?)? {
        [Value::V4(address), Value::Port(port)] => Some(Data::Endpoint(address.into(), port)),
        [Value::V6(address), Value::Port(port)] => Some(Data::Endpoint(address.into(), port)),
        _ => None,
    }
}
