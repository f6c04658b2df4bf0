//! Verdicts as elements of maps. No I/O, no clock, no async.

use super::super::compile::Run;
use super::super::{Protocol, TrafficRange};
use crate::dataplane::rules::{Data, Interval, Value, Verdict};

/// The first and the last protocol, the first and the last port, and whether they pass.
pub(super) type PortRun = ((u8, u8), (u16, u16), bool);

/// The first and the last type, the first and the last code, and whether they pass.
pub(super) type MessageRun = ((u8, u8), (u8, u8), bool);

/// Verdicts for protocols with ports and for all others, but for ICMP, and for messages of ICMP and ICMPv6.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Verdicts {
    pub(super) ports: Vec<PortRun>,
    pub(super) icmp: Vec<MessageRun>,
    pub(super) icmp_v6: Vec<MessageRun>,
}

/// Messages from one number to another, as types with all their codes, and types with some codes at either end.
fn messages(first: u16, last: u16, passes: bool, into: &mut Vec<MessageRun>) {
    let ([low_type, low_code], [high_type, high_code]) = (first.to_be_bytes(), last.to_be_bytes());
    if low_type == high_type {
        into.push(((low_type, low_type), (low_code, high_code), passes));
        return;
    }
    let (mut whole_from, mut whole_to) = (u16::from(low_type), u16::from(high_type));
    if low_code > 0 {
        into.push(((low_type, low_type), (low_code, u8::MAX), passes));
        whole_from += 1;
    }
    if high_code < u8::MAX {
        into.push(((high_type, high_type), (0, high_code), passes));
        whole_to -= 1;
    }
    if let (Ok(from), Ok(to)) = (u8::try_from(whole_from), u8::try_from(whole_to))
        && from <= to
    {
        into.push(((from, to), (0, u8::MAX), passes));
    }
}

impl Verdicts {
    pub(super) fn of(runs: &[Run]) -> Self {
        let mut ports: Vec<PortRun> = Vec::new();
        let (mut icmp, mut icmp_v6) = (Vec::new(), Vec::new());
        for (first, last, passes) in runs {
            for (protocol, low, high) in (TrafficRange { first: *first, last: *last }).by_protocol() {
                match protocol {
                    Protocol::ICMP => {
                        messages(low, high, *passes, &mut icmp);
                        continue;
                    }
                    Protocol::ICMPV6 => {
                        messages(low, high, *passes, &mut icmp_v6);
                        continue;
                    }
                    _ => {}
                }
                let number = protocol.number();
                match ports.last_mut() {
                    Some((protocols, (0, u16::MAX), same))
                        if *same == *passes
                            && (low, high) == (0, u16::MAX)
                            && protocols.1.checked_add(1) == Some(number) =>
                    {
                        protocols.1 = number;
                    }
                    _ => ports.push(((number, number), (low, high), *passes)),
                }
            }
        }
        Self { ports, icmp, icmp_v6 }
    }

    /// What `own` says where `common` says otherwise.
    pub(super) fn differing(own: &[Run], common: &[Run]) -> Self {
        let mut all = Self::default();
        for run in differing(own, common) {
            let Self { ports, icmp, icmp_v6 } = Self::of(&[run]);
            all.ports.extend(ports);
            all.icmp.extend(icmp);
            all.icmp_v6.extend(icmp_v6);
        }
        all
    }

    /// Only what passes.
    pub(super) fn passing(mut self) -> Self {
        self.ports.retain(|(.., passes)| *passes);
        self.icmp.retain(|(.., passes)| *passes);
        self.icmp_v6.retain(|(.., passes)| *passes);
        self
    }
}

/// The parts of `own` where `common` says otherwise.
fn differing(own: &[Run], common: &[Run]) -> Vec<Run> {
    let mut found: Vec<Run> = Vec::new();
    for (first, last, passes) in own {
        for (from, to, _) in common.iter().filter(|(.., said)| said != passes) {
            let (from, to) = (*from.max(first), *to.min(last));
            if from <= to {
                found.push((from, to, *passes));
            }
        }
    }
    found
}

/// What passes goes back to where the chain was jumped to from, and on to the other direction.
pub(super) fn verdict(passes: bool, denied: &Verdict) -> Data {
    Data::Verdict(if passes { Verdict::Return } else { denied.clone() })
}

pub(super) fn protocols((first, last): (u8, u8)) -> Interval {
    Interval::new(Value::Protocol(first), Value::Protocol(last))
}

pub(super) fn ports((first, last): (u16, u16)) -> Interval {
    Interval::new(Value::Port(first), Value::Port(last))
}

pub(super) fn bytes(make: fn(u8) -> Value, (first, last): (u8, u8)) -> Interval {
    Interval::new(make(first), make(last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_are_those_of_the_range_each_once(one: u16, other: u16, ask: u16) {
            let (first, last) = (one.min(other), one.max(other));
            let mut found = Vec::new();
            messages(first, last, true, &mut found);
            prop_assert!(found.len() <= 3);
            for number in [ask, first, last, first.saturating_sub(1), last.saturating_add(1)] {
                let [kind, code] = number.to_be_bytes();
                let within = found.iter().filter(|(types, codes, _)| {
                    (types.0..=types.1).contains(&kind) && (codes.0..=codes.1).contains(&code)
                });
                prop_assert_eq!(within.count(), usize::from((first..=last).contains(&number)));
            }
        }
    }
}
