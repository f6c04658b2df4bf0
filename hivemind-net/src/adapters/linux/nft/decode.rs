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
            "meta" => match u32be_of(data, 3) {
                None => self.load(Source::Meta(u32be_of(data, 2)?), u32be_of(data, 1)?),
                Some(_) if u32be_of(data, 2)? == expr::META_MARK => self.set_mark(),
                Some(_) => None,
            },
            "ct" => match u32be_of(data, 4) {
                None if u32be_of(data, 2)? == expr::CT_STATE && self.is_idle() => {
                    self.connection = true;
                    Some(())
                }
                Some(_) if u32be_of(data, 2)? == expr::CT_ZONE => self.set_zone(),
                _ => None,
            },
            "bitwise" => {
                let xor = value::value_of(data.get(&5)?)?;
                if let Some((field, bits)) = self.hashed.take() {
                    let mask = value::value_of(data.get(&4)?)?;
                    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
                    let counted = u8::try_from(ones).ok().filter(|ones| (1..bits).contains(ones))?;
                    let fits =
                        expr::leading_bits(counted, mask.len()) == mask && xor.iter().all(|byte| *byte == 0);
                    self.hashed = fits.then_some((field, counted));
                    return self.hashed.map(|_| ());
                }
                if self.mask.is_some() || xor.iter().any(|byte| *byte != 0) {
                    return None;
                }
                self.mask = Some(value::value_of(data.get(&4)?)?);
                Some(())
            }
            "cmp" => self.compare(u32be_of(data, 2)?, &value::value_of(data.get(&3)?)?),
            "lookup" => self.look_up(data),
            "immediate" if u32be_of(data, 1)? == 0 => {
                self.idle_statement(Statement::Verdict(value::verdict_of(data.get(&2)?)?))
            }
            "immediate" if self.is_idle() => {
                self.immediate = Some(value::value_of(data.get(&2)?)?);
                Some(())
            }
            "numgen" => {
                let choice = match u32be_of(data, 3)? {
                    expr::NUMGEN_IN_TURN => Choice::InTurn,
                    expr::NUMGEN_AT_RANDOM => Choice::AtRandom,
                    _ => return None,
                };
                self.choose(choice, u32be_of(data, 1)?, u32be_of(data, 2)?, u32be_of(data, 4))
            }
            "hash" => {
                let (field, bits) = self.hashed.take()?;
                let from = word(u32be_of(data, 1)?)?.checked_sub(1)? == self.words();
                let length = u32be_of(data, 3).and_then(|length| usize::try_from(length).ok());
                let whole = length == Some(value::length(field.kind()));
                let same =
                    u32be_of(data, 5) == Some(expr::HASH_SEED) && u32be_of(data, 7).unwrap_or_default() == 0;
                let choice = (from && whole && same).then_some(Choice::Hash { field, bits })?;
                self.choose(choice, u32be_of(data, 2)?, u32be_of(data, 4)?, u32be_of(data, 6))
            }
            "nat" => self.translate(data),
            "counter" => self.idle_statement(Statement::Counter),
            "reject" => {
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
        if self.mask.is_some() || self.connection || self.hashed.is_some() || self.chosen.is_some() {
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
        let one = |from: u16, to: u16| u32be_of(data, to).is_none_or(|to| u32be_of(data, from) == Some(to));
        // That there is an address, and a port; anything else would make it another one.
        let plain = u32be_of(data, 7).unwrap_or_default() & !3 == 0;
        if !plain || !one(3, 4) || !one(5, 6) || word(u32be_of(data, 3)?)? != 0 {
            return None;
        }
        match (u32be_of(data, 1)?, self.map.take(), self.immediate.take(), self.chosen.take()) {
            (expr::NAT_DESTINATION, Some((fields, map)), None, Some((choice, among))) => {
                let (own, address) = match family {
                    expr::NAT_V4 => (Field::V4Destination, 1),
                    _ => (Field::V6Destination, 4),
                };
                if !fields.contains(&own) || word(u32be_of(data, 5)?)? != address {
                    return None;
                }
                self.idle_statement(Statement::DestinationNat { fields, choice, among, map })
            }
            (expr::NAT_SOURCE, None, Some(bytes), None) if u32be_of(data, 5).is_none() => {
                let to = match family {
                    expr::NAT_V4 => IpAddr::from(*bytes.first_chunk::<4>()?),
                    _ => IpAddr::from(*bytes.first_chunk::<16>()?),
                };
                self.idle_statement(Statement::SourceNat(to))
            }
            _ => None,
        }
    }

    fn compare(&mut self, operator: u32, bytes: &[u8]) -> Option<()> {
        let (loads, mask) = (std::mem::take(&mut self.loads), self.mask.take());
        if std::mem::take(&mut self.connection) {
            let bits = u32::from_ne_bytes(*mask?.first_chunk()?);
            if operator != 1 || bytes.iter().any(|byte| *byte != 0) {
                return None;
            }
            self.done.push(Statement::Connection(expr::states_of(bits)));
            return Some(());
        }
        let [field] = *loads else { return None };
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
        if word(u32be_of(data, 2)?)? != 0 || fields.is_empty() || self.mask.is_some() || self.map.is_some() {
            return None;
        }
        let negate = u32be_of(data, 5).unwrap_or_default() & 1 != 0;
        match u32be_of(data, 3) {
            // A number is chosen for nothing but an endpoint.
            None | Some(0) if self.chosen.is_some() => return None,
            None => self.done.push(Statement::InSet { fields, set, negate }),
            Some(0) => self.done.push(Statement::VerdictMap { fields, map: set }),
            Some(_) => self.map = Some((fields, set)),
        }
        Some(())
    }

    fn set_mark(&mut self) -> Option<()> {
        let statement = match (self.map.take(), self.immediate.take()) {
            (Some((fields, map)), None) => Statement::SetMark(MarkSource::Map { fields, map }),
            (None, Some(bytes)) => {
                Statement::SetMark(MarkSource::Value(u32::from_ne_bytes(*bytes.first_chunk()?)))
            }
            _ => return None,
        };
        self.idle_statement(statement)
    }

    fn set_zone(&mut self) -> Option<()> {
        let statement = match (self.map.take(), self.immediate.take()) {
            (Some((fields, map)), None) => Statement::SetZoneByMap { fields, map },
            (None, Some(bytes)) => Statement::SetZone(u16::from_ne_bytes(*bytes.first_chunk()?)),
            _ => return None,
        };
        self.idle_statement(statement)
    }
}

/// The number of the four bytes that a register begins at: the kernel has two ways of counting them.
fn word(register: u32) -> Option<u32> {
    if register >= expr::REGISTER {
        register.checked_sub(expr::REGISTER)
    } else {
        register.checked_sub(1)?.checked_mul(4)
    }
}
