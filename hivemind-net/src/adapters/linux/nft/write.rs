//! Whole tables, and changes of them, as one transaction each.

use std::collections::BTreeMap;

use hivemind_core::ErrorKind;

use super::consts::*;
use super::{expr, value};
use crate::adapters::linux::fault::Fault;
use crate::adapters::linux::netlink::consts::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use crate::adapters::linux::netlink::{Attrs, Message, Socket};
use crate::dataplane::rules::{
    Chain, ChainKind, Data, DataType, FieldType, Hook, NamedSet, Rule, RuleName, RuleTable, SetKey,
    TableChange, TableKey, Value,
};

/// How many bytes of elements go into one message; an attribute has 65,535 at most.
const ELEMENT_BYTES: usize = 32_000;

/// A transaction being written.
struct Batch<'a> {
    key: &'a TableKey,
    messages: Vec<Message>,
    /// What each message is about.
    what: Vec<String>,
    sets: u32,
}

impl<'a> Batch<'a> {
    fn new(key: &'a TableKey) -> Self {
        Self { key, messages: Vec::new(), what: Vec::new(), sets: 0 }
    }

    fn add(&mut self, kind: u16, flags: u16, what: String, attrs: &Attrs) {
        let family = family_number(self.key.family);
        self.messages.push(Message::new(kind, flags, &header(family, 0), attrs));
        self.what.push(what);
    }

    /// Attributes that begin with the table's name.
    fn attrs(&self) -> Attrs {
        let mut attrs = Attrs::new();
        attrs.text(TABLE_NAME, self.key.name.as_str());
        attrs
    }

    fn chain(&mut self, name: &RuleName, chain: &Chain) {
        let mut attrs = self.attrs();
        attrs.text(CHAIN_NAME, name.as_str());
        if let Some(base) = &chain.base {
            let mut hook = Attrs::new();
            hook.u32be(HOOK_NUMBER, hook_number(&base.hook)).put(HOOK_PRIORITY, &base.priority.to_be_bytes());
            if let Hook::Ingress(dev) = &base.hook {
                hook.text(HOOK_DEV, dev.as_str());
            }
            attrs.nest(CHAIN_HOOK, &hook).u32be(CHAIN_POLICY, u32::from(!base.drop_by_default));
            let kind = match base.kind {
                ChainKind::Filter => "filter",
                ChainKind::Nat => "nat",
            };
            attrs.text(CHAIN_TYPE, kind);
        }
        self.add(NEWCHAIN, NLM_F_CREATE, format!("chain {name}"), &attrs);
    }

    fn rules(&mut self, name: &RuleName, rules: &[Rule]) {
        for (number, rule) in rules.iter().enumerate() {
            let mut attrs = self.attrs();
            attrs.text(RULE_CHAIN, name.as_str());
            attrs.nest(RULE_EXPRESSIONS, &expr::rule(self.key.family, rule));
            let what = format!("rule {} of chain {name}", number.saturating_add(1));
            self.add(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, what, &attrs);
        }
    }

    fn flush(&mut self, name: &RuleName) {
        let mut attrs = self.attrs();
        attrs.text(RULE_CHAIN, name.as_str());
        self.add(DELRULE, 0, format!("rules of chain {name}"), &attrs);
    }

    fn set(&mut self, name: &RuleName, set: &NamedSet) {
        let mut flags = if set.intervals { FLAG_INTERVAL } else { 0 };
        if set.data != DataType::Member {
            flags |= FLAG_MAP;
        }
        let several = set.key.len() > 1;
        if several && set.intervals {
            flags |= FLAG_CONCAT;
        }
        let number = set.key.iter().fold(0, |number: u32, kind| number << 6 | value::type_number(*kind));
        let length = u32::try_from(value::key_length(&set.key)).unwrap_or_default();
        self.sets = self.sets.saturating_add(1);
        let mut attrs = self.attrs();
        attrs.text(SET_NAME, name.as_str()).u32be(SET_FLAGS, flags);
        attrs.u32be(SET_KEY_TYPE, number).u32be(SET_KEY_LEN, length).u32be(SET_ID, self.sets);
        match set.data {
            DataType::Member => {}
            DataType::Verdict => {
                attrs.u32be(SET_DATA_TYPE, TYPE_VERDICT).u32be(SET_DATA_LEN, 16);
            }
            DataType::Mark => {
                attrs.u32be(SET_DATA_TYPE, TYPE_MARK).u32be(SET_DATA_LEN, 4);
            }
            DataType::V4Endpoint => {
                attrs.u32be(SET_DATA_TYPE, TYPE_V4_ENDPOINT).u32be(SET_DATA_LEN, 8);
            }
            DataType::V6Endpoint => {
                attrs.u32be(SET_DATA_TYPE, TYPE_V6_ENDPOINT).u32be(SET_DATA_LEN, 20);
            }
        }
        if several && set.intervals {
            let mut fields = Attrs::new();
            for kind in &set.key {
                let mut field = Attrs::new();
                field.u32be(FIELD_LEN, u32::try_from(value::length(*kind)).unwrap_or_default());
                fields.nest(LIST_ELEM, &field);
            }
            let mut description = Attrs::new();
            description.nest(DESC_CONCAT, &fields);
            attrs.nest(SET_DESC, &description);
        }
        attrs.put(SET_USERDATA, &byte_orders(set));
        self.add(NEWSET, NLM_F_CREATE, format!("set {name}"), &attrs);
    }

    fn elements(&mut self, add: bool, name: &RuleName, set: &NamedSet, elements: &BTreeMap<SetKey, Data>) {
        let mut chunk = Attrs::new();
        for (key, data) in elements {
            element(&mut chunk, set, key, data);
            if chunk.0.len() >= ELEMENT_BYTES {
                self.element_message(add, name, &chunk);
                chunk = Attrs::new();
            }
        }
        if !chunk.0.is_empty() {
            self.element_message(add, name, &chunk);
        }
    }

    fn element_message(&mut self, add: bool, name: &RuleName, elements: &Attrs) {
        let mut attrs = self.attrs();
        attrs.text(ELEMS_SET, name.as_str()).nest(ELEMS_LIST, elements);
        let (kind, flags) = if add { (NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL) } else { (DELSETELEM, 0) };
        self.add(kind, flags, format!("elements of {name}"), &attrs);
    }

    fn named(&mut self, kind: u16, what: &str, attribute: u16, name: &RuleName) {
        let mut attrs = self.attrs();
        attrs.text(attribute, name.as_str());
        self.add(kind, 0, format!("{what} {name}"), &attrs);
    }

    fn commit(self, socket: &mut Socket) -> Result<(), Fault> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let frame = |kind| Message::new(kind, 1, &header(0, SUBSYSTEM >> 8), &Attrs::new());
        socket.transaction(&frame(BATCH_BEGIN), &self.messages, &frame(BATCH_END)).map_err(
            |(number, errno)| {
                let what = self.what.get(number).map_or("the whole", String::as_str);
                Fault::system(format!("table {}, {what}", self.key.name), errno)
            },
        )
    }
}

/// Tells `nft`, for people who look, in which order the bytes of keys and data are.
fn byte_orders(set: &NamedSet) -> Vec<u8> {
    let host = |host: bool| if host { 1_u32 } else { 2 };
    let key = host(matches!(set.key.as_slice(), [FieldType::Mark | FieldType::Link]));
    let data = host(set.data == DataType::Mark);
    let mut bytes = vec![0, 4];
    bytes.extend_from_slice(&key.to_ne_bytes());
    bytes.extend_from_slice(&[1, 4]);
    bytes.extend_from_slice(&data.to_ne_bytes());
    bytes
}

fn hook_number(hook: &Hook) -> u32 {
    match hook {
        Hook::Prerouting | Hook::Ingress(_) => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

/// Adds an element; an interval of a set with one field is two: where it begins, and where it no longer is.
fn element(out: &mut Attrs, set: &NamedSet, key: &SetKey, data: &Data) {
    let from = value::key(key.parts().iter().map(|part| &part.from));
    let to = value::key(key.parts().iter().map(|part| &part.to));
    let mut attrs = Attrs::new();
    attrs.nest(ELEM_KEY, &value::data_value(&from));
    match data {
        Data::Member => {}
        Data::Mark(mark) => {
            attrs.nest(ELEM_DATA, &value::data_value(&mark.to_ne_bytes()));
        }
        Data::Verdict(verdict) => {
            attrs.nest(ELEM_DATA, &value::data_verdict(verdict));
        }
        Data::Endpoint(address, port) => {
            let parts = [Value::from(*address), Value::Port(*port)];
            attrs.nest(ELEM_DATA, &value::data_value(&value::key(parts.iter())));
        }
    }
    if set.intervals && set.key.len() > 1 {
        attrs.nest(ELEM_KEY_END, &value::data_value(&to));
    }
    out.nest(LIST_ELEM, &attrs);
    if set.intervals
        && set.key.len() == 1
        && let Some(end) = value::after(&to)
    {
        let mut attrs = Attrs::new();
        attrs.nest(ELEM_KEY, &value::data_value(&end)).u32be(ELEM_FLAGS, INTERVAL_END);
        out.nest(LIST_ELEM, &attrs);
    }
}

/// A whole table in place of the one before; `there` says whether there is one, which is ours.
pub(in super::super) fn put(
    socket: &mut Socket,
    key: &TableKey,
    table: &RuleTable,
    there: bool,
    owner: &str,
) -> Result<(), Fault> {
    table.validate().map_err(|e| Fault::new(ErrorKind::Invalid, format!("table {}: {e}", key.name)))?;
    whole(key, table, there, owner).commit(socket)
}

fn whole<'a>(key: &'a TableKey, table: &RuleTable, there: bool, owner: &str) -> Batch<'a> {
    let mut batch = Batch::new(key);
    if there {
        let attrs = batch.attrs();
        batch.add(DELTABLE, 0, "the one before".to_owned(), &attrs);
    }
    let mut attrs = batch.attrs();
    attrs.put(TABLE_USERDATA, &super::read::comment(owner));
    batch.add(NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, "the new one".to_owned(), &attrs);
    for (name, chain) in &table.chains {
        batch.chain(name, chain);
    }
    for (name, set) in &table.sets {
        batch.set(name, set);
        batch.elements(true, name, set, &set.elements);
    }
    for (name, chain) in &table.chains {
        batch.rules(name, &chain.rules);
    }
    batch
}

/// The messages that put a table in place.
#[cfg(test)]
pub(super) fn messages(key: &TableKey, table: &RuleTable) -> Vec<Message> {
    whole(key, table, false, "owner").messages
}

/// Parts of a table; `sets` are those that are in it, without their elements.
pub(in super::super) fn change(
    socket: &mut Socket,
    key: &TableKey,
    change: &TableChange,
    sets: &BTreeMap<RuleName, NamedSet>,
) -> Result<(), Fault> {
    let mut batch = Batch::new(key);
    for (name, chain) in &change.add_chains {
        batch.chain(name, chain);
    }
    for (name, set) in &change.add_sets {
        batch.set(name, set);
    }
    for (name, elements) in &change.elements {
        let set = change.add_sets.get(name).or_else(|| sets.get(name)).ok_or_else(|| {
            Fault::new(ErrorKind::NotFound, format!("table {} has no set {name} of ours", key.name))
        })?;
        batch.elements(false, name, set, &elements.remove);
        batch.elements(true, name, set, &elements.add);
    }
    for (name, rules) in &change.rules {
        if !change.add_chains.contains_key(name) {
            batch.flush(name);
        }
        batch.rules(name, rules);
    }
    for name in &change.remove_chains {
        batch.named(DELCHAIN, "chain", CHAIN_NAME, name);
    }
    for name in &change.remove_sets {
        batch.named(DELSET, "set", SET_NAME, name);
    }
    batch.commit(socket)
}

pub(in super::super) fn delete(socket: &mut Socket, key: &TableKey) -> Result<(), Fault> {
    let mut batch = Batch::new(key);
    let attrs = batch.attrs();
    batch.add(DELTABLE, 0, "the whole".to_owned(), &attrs);
    batch.commit(socket)
}
