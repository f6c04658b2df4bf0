//! Statements as the kernel's expressions.
//!
//! Values are loaded into registers from number 8 on, four bytes each; a rule that looks at a field of one IP version or
//! at ICMP types or codes begins with a check that the packet is of that kind.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;

use ipnet::IpNet;

use super::consts::*;
use super::value;
use crate::adapters::linux::netlink::Attrs;
use crate::dataplane::rules::{
    Choice, Comparison, ConnectionState, Family, Field, MarkSource, Rejection, Rule, RuleName, Statement,
    Value, Verdict,
};

pub(super) const REGISTER: u32 = 8;
pub(super) const META_PROTOCOL: u32 = 1;
pub(super) const META_MARK: u32 = 3;
pub(super) const META_IIFNAME: u32 = 6;
pub(super) const META_OIFNAME: u32 = 7;
pub(super) const META_NFPROTO: u32 = 15;
pub(super) const META_L4PROTO: u32 = 16;
pub(super) const CT_STATE: u32 = 0;
pub(super) const CT_ZONE: u32 = 17;
pub(super) const NUMGEN_IN_TURN: u32 = 0;
pub(super) const NUMGEN_AT_RANDOM: u32 = 1;
/// The same on every node and after every change, so that the same one is chosen.
pub(super) const HASH_SEED: u32 = 0x6869_7665;
pub(super) const NAT_SOURCE: u32 = 0;
pub(super) const NAT_DESTINATION: u32 = 1;
pub(super) const NAT_V4: u32 = 2;
pub(super) const NAT_V6: u32 = 10;

/// Where a field is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// In the packet: base, offset, length.
    Payload(u32, u32, u32),
    /// About the packet.
    Meta(u32),
}

pub(super) const FIELDS: [Field; 19] = [
    Field::V4Source,
    Field::V4Destination,
    Field::V6Source,
    Field::V6Destination,
    Field::IpVersion,
    Field::Protocol,
    Field::SourcePort,
    Field::DestinationPort,
    Field::IcmpType,
    Field::Icmpv6Type,
    Field::IcmpCode,
    Field::Icmpv6Code,
    Field::InLink,
    Field::OutLink,
    Field::Mark,
    Field::MacSource,
    Field::MacDestination,
    Field::EtherType,
    Field::ArpSender,
];

pub(super) fn source(field: Field) -> Source {
    match field {
        Field::V4Source => Source::Payload(1, 12, 4),
        Field::V4Destination => Source::Payload(1, 16, 4),
        Field::V6Source => Source::Payload(1, 8, 16),
        Field::V6Destination => Source::Payload(1, 24, 16),
        Field::ArpSender => Source::Payload(1, 14, 4),
        Field::SourcePort => Source::Payload(2, 0, 2),
        Field::DestinationPort => Source::Payload(2, 2, 2),
        Field::IcmpType | Field::Icmpv6Type => Source::Payload(2, 0, 1),
        Field::IcmpCode | Field::Icmpv6Code => Source::Payload(2, 1, 1),
        Field::MacDestination => Source::Payload(0, 0, 6),
        Field::MacSource => Source::Payload(0, 6, 6),
        Field::IpVersion => Source::Meta(META_NFPROTO),
        Field::Protocol => Source::Meta(META_L4PROTO),
        Field::InLink => Source::Meta(META_IIFNAME),
        Field::OutLink => Source::Meta(META_OIFNAME),
        Field::Mark => Source::Meta(META_MARK),
        Field::EtherType => Source::Meta(META_PROTOCOL),
    }
}

/// A check that a rule begins with, because of what it looks at.
pub(super) type Guard = (Field, Value);

fn guards_of(family: Family, field: Field) -> Option<Guard> {
    let version = |version: u8, ether: u16| match family {
        Family::Inet => (Field::IpVersion, Value::IpVersion(version)),
        Family::Bridge | Family::Netdev => (Field::EtherType, Value::EtherType(ether)),
    };
    match field {
        Field::V4Source | Field::V4Destination => Some(version(4, 0x0800)),
        Field::V6Source | Field::V6Destination => Some(version(6, 0x86dd)),
        Field::ArpSender => Some((Field::EtherType, Value::EtherType(0x0806))),
        Field::IcmpType | Field::IcmpCode => Some((Field::Protocol, Value::Protocol(1))),
        Field::Icmpv6Type | Field::Icmpv6Code => Some((Field::Protocol, Value::Protocol(58))),
        _ => None,
    }
}

/// The checks that these statements need before them.
pub(super) fn guards(family: Family, statements: &[Statement]) -> Vec<Guard> {
    let mut needed = BTreeSet::new();
    for statement in statements {
        let fields: &[Field] = match statement {
            Statement::Compare(field, ..) | Statement::Prefix { field, .. } => std::slice::from_ref(field),
            Statement::InSet { fields, .. }
            | Statement::VerdictMap { fields, .. }
            | Statement::SetMark(MarkSource::Map { fields, .. })
            | Statement::DestinationNat { fields, .. }
            | Statement::SetZoneByMap { fields, .. } => fields,
            _ => &[],
        };
        needed.extend(fields.iter().filter_map(|field| guards_of(family, *field)));
    }
    needed.into_iter().collect()
}

/// The expressions of a rule.
pub(super) fn rule(family: Family, rule: &Rule) -> Attrs {
    let mut out = Expressions(Attrs::new());
    for (field, value) in guards(family, &rule.statements) {
        out.statement(&Statement::Compare(field, Comparison::Equal, value));
    }
    for statement in &rule.statements {
        out.statement(statement);
    }
    out.0
}

struct Expressions(Attrs);

impl Expressions {
    fn add(&mut self, name: &str, fill: impl FnOnce(&mut Attrs) -> &mut Attrs) {
        let mut data = Attrs::new();
        fill(&mut data);
        let mut expression = Attrs::new();
        expression.text(EXPR_NAME, name).nest(EXPR_DATA, &data);
        self.0.nest(LIST_ELEM, &expression);
    }

    fn load(&mut self, field: Field, register: u32) {
        match source(field) {
            Source::Payload(base, offset, length) => self.add("payload", |data| {
                data.u32be(1, register).u32be(2, base).u32be(3, offset).u32be(4, length)
            }),
            Source::Meta(key) => self.add("meta", |data| data.u32be(2, key).u32be(1, register)),
        }
    }

    fn load_all(&mut self, fields: &[Field]) {
        let mut register = REGISTER;
        for field in fields {
            self.load(*field, register);
            register = register.saturating_add(words(*field));
        }
    }

    fn mask(&mut self, register: u32, mask: &[u8]) {
        let length = u32::try_from(mask.len()).unwrap_or_default();
        self.add("bitwise", |data| {
            data.u32be(1, register).u32be(2, register).u32be(3, length);
            data.nest(4, &value::data_value(mask)).nest(5, &value::data_value(&vec![0; mask.len()]))
        });
    }

    fn compare(&mut self, operator: u32, bytes: &[u8]) {
        self.add("cmp", |data| data.u32be(1, REGISTER).u32be(2, operator).nest(3, &value::data_value(bytes)));
    }

    fn look_up(&mut self, set: &RuleName, to: Option<u32>, negate: bool) {
        self.add("lookup", |data| {
            data.text(1, set.as_str()).u32be(2, REGISTER);
            if let Some(register) = to {
                data.u32be(3, register);
            }
            if negate {
                data.u32be(5, 1);
            }
            data
        });
    }

    fn immediate(&mut self, register: u32, value: &Attrs) {
        self.add("immediate", |data| data.u32be(1, register).nest(2, value));
    }

    /// The number of the chosen one, behind the fields.
    fn choose(&mut self, fields: &[Field], choice: Choice, among: NonZeroU32) {
        let number = fields.iter().fold(REGISTER, |register, field| register.saturating_add(words(*field)));
        let count = |this: &mut Self, kind: u32| {
            this.add("numgen", |data| data.u32be(1, number).u32be(2, among.get()).u32be(3, kind));
        };
        match choice {
            Choice::InTurn => count(self, NUMGEN_IN_TURN),
            Choice::AtRandom => count(self, NUMGEN_AT_RANDOM),
            Choice::Hash { field, bits } => {
                let (of, length) = (number.saturating_add(1), value::length(field.kind()));
                self.load(field, of);
                if usize::from(bits) < length.saturating_mul(8) {
                    self.mask(of, &leading_bits(bits, length));
                }
                let length = u32::try_from(length).unwrap_or_default();
                self.add("hash", |data| {
                    data.u32be(1, of).u32be(2, number).u32be(3, length).u32be(4, among.get());
                    data.u32be(5, HASH_SEED).u32be(7, 0)
                });
            }
        }
    }

    fn translate_destination(&mut self, fields: &[Field]) {
        let (family, address) = match fields.iter().find(|field| **field == Field::V6Destination) {
            Some(field) => (NAT_V6, *field),
            None => (NAT_V4, Field::V4Destination),
        };
        let port = REGISTER.saturating_add(words(address));
        self.add("nat", |data| {
            data.u32be(1, NAT_DESTINATION).u32be(2, family).u32be(3, REGISTER).u32be(5, port)
        });
    }

    fn translate_source(&mut self, to: IpAddr) {
        self.immediate(REGISTER, &value::data_value(&value::bytes(&to.into())));
        let family = if to.is_ipv4() { NAT_V4 } else { NAT_V6 };
        self.add("nat", |data| data.u32be(1, NAT_SOURCE).u32be(2, family).u32be(3, REGISTER));
    }

    fn set_zone(&mut self) {
        self.add("ct", |data| data.u32be(2, CT_ZONE).u32be(4, REGISTER));
    }

    fn set_mark(&mut self) {
        self.add("meta", |data| data.u32be(2, META_MARK).u32be(3, REGISTER));
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Compare(field, comparison, value) => {
                self.load(*field, REGISTER);
                self.compare(operator(*comparison), &value::bytes(value));
            }
            Statement::Prefix { field, prefix, negate } => {
                self.load(*field, REGISTER);
                let (mask, network) = prefix_bytes(prefix);
                self.mask(REGISTER, &mask);
                self.compare(u32::from(*negate), &network);
            }
            Statement::Connection(states) => {
                self.add("ct", |data| data.u32be(2, CT_STATE).u32be(1, REGISTER));
                self.mask(REGISTER, &state_bits(states).to_ne_bytes());
                self.compare(1, &[0; 4]);
            }
            Statement::InSet { fields, set, negate } => {
                self.load_all(fields);
                self.look_up(set, None, *negate);
            }
            Statement::VerdictMap { fields, map } => {
                self.load_all(fields);
                self.look_up(map, Some(0), false);
            }
            Statement::SetMark(MarkSource::Value(mark)) => {
                self.immediate(REGISTER, &value::data_value(&mark.to_ne_bytes()));
                self.set_mark();
            }
            Statement::SetMark(MarkSource::Map { fields, map }) => {
                self.load_all(fields);
                self.look_up(map, Some(REGISTER), false);
                self.set_mark();
            }
            Statement::SetZone(zone) => {
                self.immediate(REGISTER, &value::data_value(&zone.to_ne_bytes()));
                self.set_zone();
            }
            Statement::SetZoneByMap { fields, map } => {
                self.load_all(fields);
                self.look_up(map, Some(REGISTER), false);
                self.set_zone();
            }
            Statement::Counter => self.add("counter", |data| data.put(1, &[0; 8]).put(2, &[0; 8])),
            Statement::Masquerade => self.add("masq", |data| data),
            Statement::Reject(rejection) => {
                let (kind, code) = reject(*rejection);
                self.add("reject", |data| data.u32be(1, kind).u8(2, code));
            }
            Statement::DestinationNat { fields, choice, among, map } => {
                self.load_all(fields);
                self.choose(fields, *choice, *among);
                self.look_up(map, Some(REGISTER), false);
                self.translate_destination(fields);
            }
            Statement::SourceNat(to) => self.translate_source(*to),
            Statement::Verdict(verdict) => self.verdict(verdict),
            // A table with such a statement is refused before it is written.
            Statement::Unknown(_) => {}
        }
    }

    fn verdict(&mut self, verdict: &Verdict) {
        self.immediate(0, &value::data_verdict(verdict));
    }
}

/// The kernel's type and code.
fn reject(rejection: Rejection) -> (u32, u8) {
    match rejection {
        Rejection::TcpReset => (1, 0),
        Rejection::Prohibited => (2, 3),
    }
}

/// The rejection of the kernel's type and code; a reset has none.
pub(super) fn rejection(kind: u32, code: Option<u8>) -> Option<Rejection> {
    let all = [Rejection::TcpReset, Rejection::Prohibited];
    all.into_iter().find(|one| reject(*one) == (kind, code.unwrap_or_default()))
}

/// How many registers of four bytes a field takes.
pub(super) fn words(field: Field) -> u32 {
    u32::try_from(value::length(field.kind()).div_ceil(4)).unwrap_or(1)
}

/// A mask of `length` bytes for the first `bits`.
pub(super) fn leading_bits(bits: u8, length: usize) -> Vec<u8> {
    let ones = |byte: usize| {
        u32::from(bits).saturating_sub(u32::try_from(byte.saturating_mul(8)).unwrap_or(u32::MAX))
    };
    let byte = |byte: usize| u8::MAX.checked_shr(ones(byte)).map_or(u8::MAX, |rest| !rest);
    (0..length).map(byte).collect()
}

fn operator(comparison: Comparison) -> u32 {
    match comparison {
        Comparison::Equal => 0,
        Comparison::NotEqual => 1,
        Comparison::AtMost => 3,
        Comparison::AtLeast => 5,
    }
}

/// The comparison of the kernel's number.
pub(super) fn comparison(operator: u32) -> Option<Comparison> {
    let all = [Comparison::Equal, Comparison::NotEqual, Comparison::AtMost, Comparison::AtLeast];
    all.into_iter().find(|comparison| self::operator(*comparison) == operator)
}

pub(super) fn prefix_bytes(prefix: &IpNet) -> (Vec<u8>, Vec<u8>) {
    match prefix {
        IpNet::V4(net) => (net.netmask().octets().to_vec(), net.network().octets().to_vec()),
        IpNet::V6(net) => (net.netmask().octets().to_vec(), net.network().octets().to_vec()),
    }
}

fn state_bit(state: ConnectionState) -> u32 {
    match state {
        ConnectionState::Invalid => 1,
        ConnectionState::Established => 2,
        ConnectionState::Related => 4,
        ConnectionState::New => 8,
        ConnectionState::Untracked => 64,
    }
}

pub(super) fn state_bits(states: &BTreeSet<ConnectionState>) -> u32 {
    states.iter().fold(0, |bits, state| bits | state_bit(*state))
}

/// The states of the kernel's bits.
pub(super) fn states_of(bits: u32) -> BTreeSet<ConnectionState> {
    let all = [
        ConnectionState::Invalid,
        ConnectionState::Established,
        ConnectionState::Related,
        ConnectionState::New,
        ConnectionState::Untracked,
    ];
    all.into_iter().filter(|state| bits & state_bit(*state) != 0).collect()
}
