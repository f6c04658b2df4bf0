//! The kernel's expressions as statements again.

use std::net::IpAddr;
use std::num::NonZeroU32;

use ipnet::IpNet;

use super::consts::*;
use super::expr::{self, Source};
use super::value;
use crate::adapters::linux::netlink::{Parsed, list, parse, text_of, u8_of, u32be_of};
use crate::dataplane::rules::{
    Choice, Comparison, Family, Field, MarkSource, Rule, RuleName, Statement, Value,
};

/// The rule that these expressions were made of. What we would never write becomes [`Statement::Unknown`].
pub(super) fn rule(family: Family, expressions: &[u8]) -> Rule {
    let mut decoder = Decoder::default();
    for expression in list(expressions) {
        let expression = parse(expression);
        let name = text_of(&expression, EXPR_NAME).unwrap_or_default();
        let data = expression.get(&EXPR_DATA).map(|data| parse(data)).unwrap_or_default();
        if decoder.step(name, &data).is_none() {
            decoder.forget(name);
        }
    }
    if !decoder.is_idle() {
        decoder.forget("an end in the middle of a statement");
    }
    let mut statements = decoder.done;
    strip_guards(family, &mut statements);
    Rule::new(statements)
}

/// Takes away the checks that every rule with these statements begins with.
fn strip_guards(family: Family, statements: &mut Vec<Statement>) {
    for count in (1..=statements.len().min(3)).rev() {
        let Some((first, rest)) = statements.split_at_checked(count) else { continue };
        let guards = expr::guards(family, rest);
        let wanted = guards.iter().map(|(f, v)| Statement::Compare(*f, Comparison::Equal, v.clone()));
        if guards.len() == count && wanted.eq(first.iter().cloned()) {
            *statements = rest.to_vec();
            return;
        }
    }
    if !expr::guards(family, statements).is_empty() {
        statements.push(Statement::Unknown("no check that packets have the fields".to_owned()));
    }
}

/// What is in the registers and not used yet.
#[derive(Default)]
struct Decoder {
    done: Vec<Statement>,
    loads: Vec<Field>,
    connection: bool,
    mask: Option<Vec<u8>>,
    map: Option<(Vec<Field>, RuleName)>,
    immediate: Option<Vec<u8>>,
    /// Whose hash is to be made, and of how many bits.
    hashed: Option<(Field, u8)>,
    chosen: Option<(Choice, NonZeroU32)>,
}

impl Decoder {
    fn is_idle(&self) -> bool {
        self.loads.is_empty()
            && !self.connection
            && self.mask.is_none()
            && self.map.is_none()
            && self.immediate.is_none()
            && self.hashed.is_none()
            && self.chosen.is_none()
    }

    fn forget(&mut self, what: &str) {
        let done = std::mem::take(&mut self.done);
        *self = Self { done, ..Self::default() };
        self.done.push(Statement::Unknown(what.to_owned()));
    }

    fn step(&mut self, name: &str, data: &Parsed<'_>) -> Option<()> {
        match name {
            "payload" => {
                let found = Source::Payload(u32be_of(data, 2)?, u32be_of(data, 3)?, u32be_of(data, 4)?);
                self.load(found, u32be_of(data, 1)?)
            }
            "meta" => match number(data, 3)? {
                None => self.load(Source::Meta(u32be_of(data, 2)?), u32be_of(data, 1)?),
                Some(from) if u32be_of(data, 2)? == expr::META_MARK => self.set_mark(from),
                Some(_) => None,
            },
            "ct" => match number(data, 4)? {
                None if u32be_of(data, 2)? == expr::CT_STATE && self.is_idle() => {
                    first(data, 1)?;
                    self.connection = true;
                    Some(())
                }
                Some(from) if u32be_of(data, 2)? == expr::CT_ZONE => self.set_zone(from),
                _ => None,
            },
            "bitwise" => self.take_bits(data),
            "cmp" => self.compare(first(data, 1).and(u32be_of(data, 2))?, &value::value_of(data.get(&3)?)?),
            "lookup" => self.look_up(data),
            "immediate" if u32be_of(data, 1)? == 0 => {
                self.idle_statement(Statement::Verdict(value::verdict_of(data.get(&2)?)?))
            }
            "immediate" if self.is_idle() => {
                first(data, 1)?;
                self.immediate = Some(value::value_of(data.get(&2)?)?);
                Some(())
            }
            "numgen" => {
                let choice = match u32be_of(data, 3)? {
                    expr::NUMGEN_IN_TURN => Choice::InTurn,
                    expr::NUMGEN_AT_RANDOM => Choice::AtRandom,
                    _ => return None,
                };
                self.choose(choice, u32be_of(data, 1)?, u32be_of(data, 2)?, number(data, 4)?)
            }
            "hash" => {
                let (field, bits) = self.hashed.take()?;
                let from = word(u32be_of(data, 1)?)?.checked_sub(1)? == self.words();
                let length = u32be_of(data, 3).and_then(|length| usize::try_from(length).ok());
                let whole = length == Some(value::length(field.kind()));
                let same =
                    u32be_of(data, 5) == Some(expr::HASH_SEED) && number(data, 7)?.unwrap_or_default() == 0;
                let choice = (from && whole && same).then_some(Choice::Hash { field, bits })?;
                self.choose(choice, u32be_of(data, 2)?, u32be_of(data, 4)?, number(data, 6)?)
            }
            "nat" => self.translate(data),
            "counter" => self.idle_statement(Statement::Counter),
            "reject" if u8_of(data, 2).is_some() || !data.contains_key(&2) => {
                let rejection = expr::rejection(u32be_of(data, 1)?, u8_of(data, 2))?;
                self.idle_statement(Statement::Reject(rejection))
            }
            // Flags or ports would make it another one.
            "masq" if data.is_empty() || (data.len() == 1 && u32be_of(data, 1) == Some(0)) => {
                self.idle_statement(Statement::Masquerade)
            }
            _ => None,
        }
    }

    fn idle_statement(&mut self, statement: Statement) -> Option<()> {
        self.is_idle().then(|| self.done.push(statement))
    }

    fn load(&mut self, found: Source, register: u32) -> Option<()> {
        // The same bytes are types and codes of ICMP and of ICMPv6: the check before tells them apart.
        let v6 = Statement::Compare(Field::Protocol, Comparison::Equal, Value::Protocol(58));
        let field = match expr::FIELDS.into_iter().find(|field| expr::source(*field) == found)? {
            Field::IcmpType if self.done.contains(&v6) => Field::Icmpv6Type,
            Field::IcmpCode if self.done.contains(&v6) => Field::Icmpv6Code,
            other => other,
        };
        let (words, at) = (self.words(), word(register)?);
        let waits = self.mask.is_some() || self.connection || self.hashed.is_some() || self.chosen.is_some();
        // It would be in place of what a map gave.
        if waits || self.map.is_some() || self.immediate.is_some() {
            return None;
        }
        // Past the place of the number that is made of it.
        if at.checked_sub(1) == Some(words) && !self.loads.is_empty() {
            self.hashed = Some((field, u8::try_from(value::length(field.kind()).checked_mul(8)?).ok()?));
            return Some(());
        }
        if at != words {
            return None;
        }
        self.loads.push(field);
        Some(())
    }

    /// Only these bits of what was loaded count.
    fn take_bits(&mut self, data: &Parsed<'_>) -> Option<()> {
        let (mask, xor) = (value::value_of(data.get(&4)?)?, value::value_of(data.get(&5)?)?);
        let (from, to) = (word(u32be_of(data, 1)?)?, word(u32be_of(data, 2)?)?);
        if from != to || xor != vec![0; mask.len()] {
            return None;
        }
        if let Some((field, bits)) = self.hashed.take() {
            let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
            let counted = u8::try_from(ones).ok().filter(|ones| (1..bits).contains(ones))?;
            let whole =
                mask.len() == value::length(field.kind()) && from.checked_sub(1) == Some(self.words());
            let fits = whole && expr::leading_bits(counted, mask.len()) == mask;
            self.hashed = fits.then_some((field, counted));
            return self.hashed.map(|_| ());
        }
        let one = self.connection || matches!(*self.loads, [_]);
        if !one || self.mask.is_some() || from != 0 {
            return None;
        }
        self.mask = Some(mask);
        Some(())
    }

    /// How many registers are taken by what was loaded.
    fn words(&self) -> u32 {
        self.loads.iter().map(|field| expr::words(*field)).sum()
    }

    fn choose(&mut self, choice: Choice, register: u32, among: u32, offset: Option<u32>) -> Option<()> {
        let fits = word(register)? == self.words() && offset.unwrap_or_default() == 0;
        if !fits || self.chosen.is_some() || self.hashed.is_some() {
            return None;
        }
        self.chosen = Some((choice, NonZeroU32::new(among)?));
        Some(())
    }

    fn translate(&mut self, data: &Parsed<'_>) -> Option<()> {
        let family = u32be_of(data, 2)?;
        let one = |from: u16, to: u16| !data.contains_key(&to) || u32be_of(data, from) == u32be_of(data, to);
        // That there is an address, and a port; anything else would make it another one.
        let plain = number(data, 7)?.unwrap_or_default() & !3 == 0;
        if !plain || !one(3, 4) || !one(5, 6) || word(u32be_of(data, 3)?)? != 0 {
            return None;
        }
        match (u32be_of(data, 1)?, self.map.take(), self.immediate.take(), self.chosen.take()) {
            (expr::NAT_DESTINATION, Some((fields, map)), None, Some((choice, among))) => {
                let (own, address) = match family {
                    expr::NAT_V4 => (Field::V4Destination, 1),
                    expr::NAT_V6 => (Field::V6Destination, 4),
                    _ => return None,
                };
                if !fields.contains(&own) || word(u32be_of(data, 5)?)? != address {
                    return None;
                }
                self.idle_statement(Statement::DestinationNat { fields, choice, among, map })
            }
            (expr::NAT_SOURCE, None, Some(bytes), None) if !data.contains_key(&5) => {
                let to = match family {
                    expr::NAT_V4 => IpAddr::from(exactly::<4>(&bytes)?),
                    expr::NAT_V6 => IpAddr::from(exactly::<16>(&bytes)?),
                    _ => return None,
                };
                self.idle_statement(Statement::SourceNat(to))
            }
            _ => None,
        }
    }

    fn compare(&mut self, operator: u32, bytes: &[u8]) -> Option<()> {
        let (loads, mask) = (std::mem::take(&mut self.loads), self.mask.take());
        if std::mem::take(&mut self.connection) {
            let bits = u32::from_ne_bytes(exactly(&mask?)?);
            let states = expr::states_of(bits);
            if operator != 1 || bytes != [0; 4] || expr::state_bits(&states) != bits {
                return None;
            }
            self.done.push(Statement::Connection(states));
            return Some(());
        }
        let [field] = *loads else { return None };
        // Of a link's name the kernel also compares the first bytes alone.
        if bytes.len() != value::length(field.kind()) {
            return None;
        }
        let found = value::value(field.kind(), bytes)?;
        let Some(mask) = mask else {
            self.done.push(Statement::Compare(field, expr::comparison(operator)?, found));
            return Some(());
        };
        let address = match found {
            Value::V4(address) => IpAddr::V4(address),
            Value::V6(address) => IpAddr::V6(address),
            _ => return None,
        };
        let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
        let prefix = IpNet::new(address, u8::try_from(ones).ok()?).ok()?;
        if expr::prefix_bytes(&prefix) != (mask, bytes.to_vec()) || operator > 1 {
            return None;
        }
        self.done.push(Statement::Prefix { field, prefix, negate: operator == 1 });
        Some(())
    }

    fn look_up(&mut self, data: &Parsed<'_>) -> Option<()> {
        let fields = std::mem::take(&mut self.loads);
        let set: RuleName = text_of(data, 1)?.parse().ok()?;
        first(data, 2)?;
        let waits = self.mask.is_some() || self.map.is_some() || self.connection || self.hashed.is_some();
        let flags = number(data, 5)?.unwrap_or_default();
        if fields.is_empty() || waits || flags > 1 {
            return None;
        }
        let negate = flags == 1;
        match number(data, 3)? {
            Some(_) if negate => return None,
            // A number is chosen for nothing but an endpoint.
            None | Some(0) if self.chosen.is_some() => return None,
            None => self.done.push(Statement::InSet { fields, set, negate }),
            Some(0) => self.done.push(Statement::VerdictMap { fields, map: set }),
            Some(_) => {
                first(data, 3)?;
                self.map = Some((fields, set));
            }
        }
        Some(())
    }

    fn set_mark(&mut self, from: u32) -> Option<()> {
        (word(from)? == 0).then_some(())?;
        let statement = match (self.map.take(), self.immediate.take()) {
            (Some((fields, map)), None) => Statement::SetMark(MarkSource::Map { fields, map }),
            (None, Some(bytes)) => {
                Statement::SetMark(MarkSource::Value(u32::from_ne_bytes(exactly(&bytes)?)))
            }
            _ => return None,
        };
        self.idle_statement(statement)
    }

    fn set_zone(&mut self, from: u32) -> Option<()> {
        (word(from)? == 0).then_some(())?;
        let statement = match (self.map.take(), self.immediate.take()) {
            (Some((fields, map)), None) => Statement::SetZoneByMap { fields, map },
            (None, Some(bytes)) => Statement::SetZone(u16::from_ne_bytes(exactly(&bytes)?)),
            _ => return None,
        };
        self.idle_statement(statement)
    }
}

/// Whether the register in an attribute is the first one.
fn first(data: &Parsed<'_>, attribute: u16) -> Option<()> {
    (word(u32be_of(data, attribute)?)? == 0).then_some(())
}

/// The number in an attribute that need not be there.
fn number(data: &Parsed<'_>, attribute: u16) -> Option<Option<u32>> {
    match data.get(&attribute) {
        None => Some(None),
        Some(_) => u32be_of(data, attribute).map(Some),
    }
}

/// `N` bytes, and not one more.
fn exactly<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// The number of the four bytes that a register begins at: the kernel has two ways of counting them.
pub(super) fn word(register: u32) -> Option<u32> {
    if register >= expr::REGISTER {
        register.checked_sub(expr::REGISTER)
    } else {
        register.checked_sub(1)?.checked_mul(4)
    }
}
