//! The kernel's expressions as statements again.

use ipnet::IpNet;

use super::consts::*;
use super::expr::{self, Source};
use super::value;
use crate::adapters::linux::netlink::{Parsed, list, parse, text_of, u32be_of};
use crate::dataplane::rules::{Comparison, Family, Field, MarkSource, Rule, RuleName, Statement, Value};

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
}

impl Decoder {
    fn is_idle(&self) -> bool {
        self.loads.is_empty()
            && !self.connection
            && self.mask.is_none()
            && self.map.is_none()
            && self.immediate.is_none()
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
            "counter" => self.idle_statement(Statement::Counter),
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
        // The same bytes are types of ICMP and of ICMPv6: the check before tells them apart.
        let v6 = Statement::Compare(Field::Protocol, Comparison::Equal, Value::Protocol(58));
        let field = if found == expr::source(Field::Icmpv6Type) && self.done.contains(&v6) {
            Field::Icmpv6Type
        } else {
            expr::FIELDS.into_iter().find(|field| expr::source(*field) == found)?
        };
        let words: usize = self.loads.iter().map(|field| value::length(field.kind()).div_ceil(4)).sum();
        if usize::try_from(word(register)?).ok()? != words || self.mask.is_some() || self.connection {
            return None;
        }
        self.loads.push(field);
        Some(())
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
            Value::V4(address) => std::net::IpAddr::V4(address),
            Value::V6(address) => std::net::IpAddr::V6(address),
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
