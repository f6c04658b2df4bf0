//! What a table does with a packet. No I/O, no clock, no async.

use std::net::IpAddr;

use super::{
    Chain, ChainKind, Comparison, ConnectionState, Data, Field, Hook, MarkSource, RuleName, RulePacket,
    RuleTable, Statement, Value, Verdict,
};

/// How deep chains may jump into chains; the kernel allows 16.
const DEEPEST: usize = 16;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Whether it passes.
    pub accepted: bool,
    /// The mark that it has now.
    pub mark: u32,
    /// The zone that its connection is in now; zero unless a rule said so.
    pub zone: u16,
    /// Where it goes instead, if a rule translated its destination.
    pub destination: Option<(IpAddr, u16)>,
    /// Whom it comes from instead, if a rule translated its source to a given address.
    pub source: Option<IpAddr>,
}

/// Sends `packet` through the chains of `table` at `hook`, in the order of their priorities.
///
/// Chains that translate see the first packet of a connection only: for the others the kernel does as it did with the
/// first.
pub fn evaluate(table: &RuleTable, hook: &Hook, packet: &RulePacket) -> Evaluation {
    let mut chains: Vec<_> = table
        .chains
        .values()
        .filter_map(|chain| chain.base.as_ref().filter(|base| base.hook == *hook).map(|base| (base, chain)))
        .collect();
    chains.sort_by_key(|(base, _)| base.priority);
    let mut run = Run { table, packet: packet.clone(), zone: 0, destination: None, source: None };
    let first = matches!(packet.connection, ConnectionState::New | ConnectionState::Related);
    let mut accepted = true;
    for (base, chain) in chains.into_iter().filter(|(base, _)| first || base.kind != ChainKind::Nat) {
        accepted = match run.chain(chain, 0) {
            Flow::Accept => true,
            Flow::Drop => false,
            Flow::Return => !base.drop_by_default,
        };
        if !accepted {
            break;
        }
    }
    let Run { packet, zone, destination, source, .. } = run;
    Evaluation { accepted, mark: packet.mark, zone, destination, source }
}

/// How a chain ended.
enum Flow {
    Accept,
    Drop,
    Return,
}

/// How a statement ended.
enum Step {
    Next,
    NoMatch,
    Decided(Verdict),
}

struct Run<'a> {
    table: &'a RuleTable,
    packet: RulePacket,
    zone: u16,
    destination: Option<(IpAddr, u16)>,
    source: Option<IpAddr>,
}

impl Run<'_> {
    fn chain(&mut self, chain: &Chain, depth: usize) -> Flow {
        // The kernel refuses tables that are deeper; fail closed where it would not be there at all.
        if depth > DEEPEST {
            return Flow::Drop;
        }
        for rule in &chain.rules {
            let mut decided = None;
            for statement in &rule.statements {
                match self.step(statement) {
                    Step::Next => {}
                    Step::NoMatch => break,
                    Step::Decided(verdict) => {
                        decided = Some(verdict);
                        break;
                    }
                }
            }
            match decided {
                None => {}
                Some(Verdict::Accept) => return Flow::Accept,
                Some(Verdict::Drop) => return Flow::Drop,
                Some(Verdict::Return) => return Flow::Return,
                Some(Verdict::Goto(name)) => return self.named(&name, depth),
                Some(Verdict::Jump(name)) => match self.named(&name, depth) {
                    Flow::Return => {}
                    ended => return ended,
                },
            }
        }
        Flow::Return
    }

    fn named(&mut self, name: &RuleName, depth: usize) -> Flow {
        match self.table.chains.get(name) {
            Some(chain) => self.chain(chain, depth.saturating_add(1)),
            None => Flow::Drop,
        }
    }

    fn step(&mut self, statement: &Statement) -> Step {
        let matched = |matches: bool| if matches { Step::Next } else { Step::NoMatch };
        match statement {
            Statement::Compare(field, comparison, value) => {
                matched(self.packet.value(*field).is_some_and(|found| compare(&found, *comparison, value)))
            }
            Statement::Prefix { field, prefix, negate } => match self.packet.value(*field) {
                Some(Value::V4(address)) => {
                    matched(prefix.contains(&std::net::IpAddr::V4(address)) != *negate)
                }
                Some(Value::V6(address)) => {
                    matched(prefix.contains(&std::net::IpAddr::V6(address)) != *negate)
                }
                _ => Step::NoMatch,
            },
            Statement::Connection(states) => matched(states.contains(&self.packet.connection)),
            Statement::InSet { fields, set, negate } => match self.values(fields) {
                Some(values) => matched(self.look_up(set, &values).is_some() != *negate),
                None => Step::NoMatch,
            },
            Statement::VerdictMap { fields, map } => {
                let Some(values) = self.values(fields) else { return Step::NoMatch };
                match self.look_up(map, &values) {
                    Some(Data::Verdict(verdict)) => Step::Decided(verdict.clone()),
                    _ => Step::NoMatch,
                }
            }
            Statement::SetMark(MarkSource::Value(mark)) => {
                self.packet.mark = *mark;
                Step::Next
            }
            Statement::SetMark(MarkSource::Map { fields, map }) => match self.mark_of(fields, map) {
                Some(mark) => {
                    self.packet.mark = mark;
                    Step::Next
                }
                None => Step::NoMatch,
            },
            Statement::SetZone(zone) => {
                self.zone = *zone;
                Step::Next
            }
            Statement::SetZoneByMap { fields, map } => match self.mark_of(fields, map) {
                Some(mark) => {
                    self.zone = u16::try_from(mark & 0xffff).unwrap_or_default();
                    Step::Next
                }
                None => Step::NoMatch,
            },
            Statement::Counter => Step::Next,
            Statement::Masquerade => Step::Decided(Verdict::Accept),
            Statement::Reject(_) => Step::Decided(Verdict::Drop),
            Statement::DestinationNat { fields, among, map, .. } => {
                match self.endpoint_of(fields, self.packet.draw % among.get(), map) {
                    Some((address, port)) => {
                        self.destination = Some((address, port));
                        (self.packet.destination, self.packet.destination_port) = (address, port);
                        Step::Decided(Verdict::Accept)
                    }
                    None => Step::NoMatch,
                }
            }
            Statement::SourceNat(to) if to.is_ipv4() == self.packet.source.is_ipv4() => {
                self.source = Some(*to);
                self.packet.source = *to;
                Step::Decided(Verdict::Accept)
            }
            Statement::SourceNat(_) => Step::NoMatch,
            Statement::Verdict(verdict) => Step::Decided(verdict.clone()),
            Statement::Unknown(_) => Step::NoMatch,
        }
    }

    fn values(&self, fields: &[Field]) -> Option<Vec<Value>> {
        fields.iter().map(|field| self.packet.value(*field)).collect()
    }

    fn look_up(&self, set: &RuleName, values: &[Value]) -> Option<&Data> {
        self.table.sets.get(set)?.get(values)
    }

    fn mark_of(&self, fields: &[Field], map: &RuleName) -> Option<u32> {
        match self.look_up(map, &self.values(fields)?)? {
            Data::Mark(mark) => Some(*mark),
            Data::Member | Data::Verdict(_) | Data::Endpoint(..) => None,
        }
    }

    fn endpoint_of(&self, fields: &[Field], number: u32, map: &RuleName) -> Option<(IpAddr, u16)> {
        let mut values = self.values(fields)?;
        values.push(Value::Mark(number));
        match self.look_up(map, &values)? {
            Data::Endpoint(address, port) => Some((*address, *port)),
            Data::Member | Data::Verdict(_) | Data::Mark(_) => None,
        }
    }
}

fn compare(found: &Value, comparison: Comparison, value: &Value) -> bool {
    match comparison {
        Comparison::Equal => found == value,
        Comparison::NotEqual => found != value,
        Comparison::AtMost => found <= value,
        Comparison::AtLeast => found >= value,
    }
}
