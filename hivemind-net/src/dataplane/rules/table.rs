//! Tables and chains, and what makes a table valid. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Choice, Comparison, Data, DataType, Field, FieldType, MarkSource, NamedSet, Rule, Statement, Value,
    Verdict,
};
use crate::dataplane::state::{InvalidKernelName, LinkName};

/// The name of a table, chain, set or map: 1 to 64 letters, digits, `_`, `-` and `.`, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleName(Arc<str>);

impl RuleName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RuleName {
    type Err = InvalidKernelName;

    fn from_str(text: &str) -> Result<Self, InvalidKernelName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let letter = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
        if letter && text.len() <= 64 && text.chars().all(plain) {
            Ok(Self(text.into()))
        } else {
            let rule = "1 to 64 letters, digits, '_', '-' and '.', beginning with a letter";
            Err(InvalidKernelName::new("name of a rule table, chain, set or map", rule, text))
        }
    }
}

impl TryFrom<String> for RuleName {
    type Error = InvalidKernelName;
    fn try_from(text: String) -> Result<Self, InvalidKernelName> {
        text.parse()
    }
}

impl From<RuleName> for String {
    fn from(name: RuleName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// Frames that a bridge forwards; knows no connections.
    Bridge,
    /// Frames as a link receives them.
    Netdev,
}

/// Which table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableKey {
    /// Which packets it sees.
    pub family: Family,
    /// Its name.
    pub name: RuleName,
}

impl TableKey {
    /// The table `name` of `family`.
    pub fn new(family: Family, name: RuleName) -> Self {
        Self { family, name }
    }
}

/// Where packets enter a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Hook {
    /// All that arrive, before routing.
    Prerouting,
    /// Those for this namespace itself.
    Input,
    /// Those that pass through.
    Forward,
    /// Those of this namespace itself.
    Output,
    /// All that leave, after routing.
    Postrouting,
    /// Those that the link receives, before all else; for [`Family::Netdev`] only.
    Ingress(LinkName),
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChainKind {
    /// Let pass or not.
    Filter,
    /// Translate addresses.
    Nat,
}

/// What makes a chain one that packets enter by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BaseChain {
    /// What it may do.
    pub kind: ChainKind,
    /// Where.
    pub hook: Hook,
    /// Before chains with a higher number.
    pub priority: i32,
    /// What happens to packets for which no rule decides.
    pub drop_by_default: bool,
}

impl BaseChain {
    /// A filter at `hook` with priority 0 that accepts by default.
    pub fn filter(hook: Hook) -> Self {
        Self { kind: ChainKind::Filter, hook, priority: 0, drop_by_default: false }
    }

    /// A translator of destination addresses at prerouting.
    pub fn destination_nat() -> Self {
        Self { kind: ChainKind::Nat, hook: Hook::Prerouting, priority: -100, drop_by_default: false }
    }

    /// A translator of source addresses at postrouting.
    pub fn source_nat() -> Self {
        Self { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: 100, drop_by_default: false }
    }

    /// The same, dropping by default.
    #[must_use]
    pub fn dropping(mut self) -> Self {
        self.drop_by_default = true;
        self
    }

    /// The same, with another priority.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }
}

/// Rules in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Chain {
    /// Where packets enter it by themselves; without, they come by a jump.
    pub base: Option<BaseChain>,
    /// The rules.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A chain that packets enter at a hook.
    pub fn base(base: BaseChain) -> Self {
        Self { base: Some(base), rules: Vec::new() }
    }

    /// The same, with one rule more at the end.
    #[must_use]
    pub fn with_rule(mut self, statements: impl IntoIterator<Item = Statement>) -> Self {
        self.rules.push(Rule::new(statements));
        self
    }
}

/// A whole table: put in force at once, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RuleTable {
    /// Sets and maps.
    pub sets: BTreeMap<RuleName, NamedSet>,
    /// Chains.
    pub chains: BTreeMap<RuleName, Chain>,
}

impl RuleTable {
    /// A table without anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with one set more.
    #[must_use]
    pub fn with_set(mut self, name: RuleName, set: NamedSet) -> Self {
        self.sets.insert(name, set);
        self
    }

    /// The same, with one chain more.
    #[must_use]
    pub fn with_chain(mut self, name: RuleName, chain: Chain) -> Self {
        self.chains.insert(name, chain);
        self
    }

    /// Whether everything that it names is there and of the right type.
    ///
    /// # Errors
    /// Says where what is wrong.
    pub fn validate(&self) -> Result<(), InvalidTable> {
        for (name, set) in &self.sets {
            self.check_set(set).map_err(|problem| InvalidTable { place: format!("set {name}"), problem })?;
        }
        for (name, chain) in &self.chains {
            for (index, rule) in chain.rules.iter().enumerate() {
                for statement in &rule.statements {
                    let checked =
                        check_place(chain, statement).and_then(|()| self.check_statement(statement));
                    checked.map_err(|problem| InvalidTable {
                        place: format!("chain {name}, rule {}", index.saturating_add(1)),
                        problem,
                    })?;
                }
            }
        }
        Ok(())
    }

    fn check_set(&self, set: &NamedSet) -> Result<(), String> {
        if !(1..=5).contains(&set.key.len()) {
            return Err(format!("its key has {} parts, 1 to 5 are possible", set.key.len()));
        }
        for (key, data) in &set.elements {
            if key.0.len() != set.key.len() {
                return Err(format!("an element has {} parts, the key {}", key.0.len(), set.key.len()));
            }
            for (part, kind) in key.0.iter().zip(&set.key) {
                if part.from.kind() != *kind || part.to.kind() != *kind {
                    return Err(format!("{part:?} is no {kind:?}"));
                }
                check_value(&part.from)?;
                check_value(&part.to)?;
                if part.from > part.to {
                    return Err(format!("{part:?} ends before it begins"));
                }
                if !(part.is_single() || set.intervals && kind.is_ordered()) {
                    return Err(format!("{part:?} is an interval, which this set cannot have"));
                }
            }
            if let Data::Endpoint(address, 0) = data {
                return Err(format!("an element gives port 0 of {address}, which is none"));
            }
            if data.kind() != set.data {
                return Err(format!("an element gives {:?}, the set {:?}", data.kind(), set.data));
            }
            if let Data::Verdict(verdict) = data {
                self.check_verdict(verdict)?;
            }
        }
        Ok(())
    }

    fn check_verdict(&self, verdict: &Verdict) -> Result<(), String> {
        match verdict {
            Verdict::Jump(chain) | Verdict::Goto(chain) => match self.chains.get(chain) {
                None => Err(format!("there is no chain {chain}")),
                Some(chain_found) if chain_found.base.is_some() => {
                    Err(format!("chain {chain} is entered at a hook, and cannot be jumped to"))
                }
                Some(_) => Ok(()),
            },
            Verdict::Accept | Verdict::Drop | Verdict::Return => Ok(()),
        }
    }

    fn check_statement(&self, statement: &Statement) -> Result<(), String> {
        match statement {
            Statement::Compare(field, _, value) if field.kind() != value.kind() => {
                Err(format!("{field:?} is never {value:?}"))
            }
            Statement::Compare(field, Comparison::AtMost | Comparison::AtLeast, _)
                if !field.kind().is_ordered() =>
            {
                Err(format!("{field:?} can only be equal or not"))
            }
            Statement::Compare(_, _, value) => check_value(value),
            Statement::Prefix { prefix, .. } if prefix.trunc() != *prefix => {
                Err(format!("{prefix} has host bits set: its network is {}", prefix.trunc()))
            }
            Statement::Prefix { field, prefix, .. } => {
                let kind = Value::from(prefix.addr()).kind();
                if field.kind() == kind { Ok(()) } else { Err(format!("{field:?} is never in {prefix}")) }
            }
            Statement::InSet { fields, set, .. } => self.check_lookup(fields, set, DataType::Member),
            Statement::VerdictMap { fields, map } => self.check_lookup(fields, map, DataType::Verdict),
            Statement::SetMark(MarkSource::Map { fields, map }) | Statement::SetZoneByMap { fields, map } => {
                self.check_lookup(fields, map, DataType::Mark)
            }
            Statement::DestinationNat { fields, choice, map, .. } => {
                self.check_translation(fields, *choice, map)
            }
            Statement::Verdict(verdict) => self.check_verdict(verdict),
            Statement::Unknown(what) => Err(format!("an unknown statement cannot be written: {what}")),
            Statement::Connection(_)
            | Statement::SetMark(MarkSource::Value(_))
            | Statement::SetZone(_)
            | Statement::Counter
            | Statement::Reject(_)
            | Statement::SourceNat(_)
            | Statement::Masquerade => Ok(()),
        }
    }

    fn check_translation(&self, fields: &[Field], choice: Choice, map: &RuleName) -> Result<(), String> {
        let found = fields.iter().find_map(|field| match field {
            Field::V4Destination => Some((DataType::V4Endpoint, FieldType::V4, 32)),
            Field::V6Destination => Some((DataType::V6Endpoint, FieldType::V6, 128)),
            _ => None,
        });
        let Some((data, address, bits)) = found else {
            return Err(format!("{fields:?} has no destination address to translate"));
        };
        if let Choice::Hash { field, bits: counted } = choice
            && (field.kind() != address || !(1..=bits).contains(&counted))
        {
            return Err(format!(
                "{counted} bits of {field:?} are no choice for {address:?}: 1 to {bits} are"
            ));
        }
        self.check_key(fields.iter().map(|field| field.kind()).chain([FieldType::Mark]), map, data)
    }

    fn check_lookup(&self, fields: &[Field], name: &RuleName, data: DataType) -> Result<(), String> {
        self.check_key(fields.iter().map(|field| field.kind()), name, data)
    }

    fn check_key(
        &self,
        kinds: impl Iterator<Item = FieldType>,
        name: &RuleName,
        data: DataType,
    ) -> Result<(), String> {
        let Some(set) = self.sets.get(name) else { return Err(format!("there is no set {name}")) };
        let kinds: Vec<_> = kinds.collect();
        if kinds != set.key {
            return Err(format!("{kinds:?} is looked up in {name}, whose key is {:?}", set.key));
        }
        if set.data != data {
            return Err(format!("{name} gives {:?}, not {data:?}", set.data));
        }
        Ok(())
    }
}

/// Whether a kernel gives the value back as it is.
fn check_value(value: &Value) -> Result<(), String> {
    match value {
        Value::IpVersion(version) if !matches!(version, 4 | 6) => {
            Err(format!("{version} is no IP version: 4 and 6 are"))
        }
        _ => Ok(()),
    }
}

/// Whether the statement can be in a chain of that kind; one that is jumped to is of the kind of where it is from.
fn check_place(chain: &Chain, statement: &Statement) -> Result<(), String> {
    let Some(base) = &chain.base else { return Ok(()) };
    let hooks: &[Hook] = match statement {
        Statement::DestinationNat { .. } => &[Hook::Prerouting, Hook::Output],
        Statement::SourceNat(_) => &[Hook::Postrouting, Hook::Input],
        Statement::Masquerade => &[Hook::Postrouting],
        _ => return Ok(()),
    };
    if base.kind == ChainKind::Nat && hooks.contains(&base.hook) {
        return Ok(());
    }
    Err(format!(
        "a {:?} chain at {:?} cannot translate so: one that translates at {hooks:?} can",
        base.kind, base.hook
    ))
}

/// Why a table cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct InvalidTable {
    place: String,
    problem: String,
}
