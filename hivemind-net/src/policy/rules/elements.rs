//! Verdicts as elements of maps. No I/O, no clock, no async.

use super::super::compile::Run;
use super::super::{Protocol, TrafficRange};
use crate::dataplane::rules::{Data, FieldType, Interval, Value, Verdict};

/// Verdicts for protocols with ports and for all others, but for ICMP, and for types of ICMP and ICMPv6.
///
/// The kernel's rules know no ICMP codes: a type passes if all of its codes do, so a rule about one code alone is kept
/// on the safe side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Verdicts {
    /// Protocols, ports, and whether they pass.
    pub(super) ports: Vec<((u8, u8), (u16, u16), bool)>,
    pub(super) icmp: Vec<(u8, u8, bool)>,
    pub(super) icmp_v6: Vec<(u8, u8, bool)>,
}

fn types(runs: &[Run], protocol: Protocol) -> Vec<(u8, u8, bool)> {
    let (first, last) = (u32::from(protocol.number()) << 16, (u32::from(protocol.number()) << 16) | 0xffff);
    let mut merged: Vec<(u8, u8, bool)> = Vec::new();
    for kind in 0..=u8::MAX {
        let (low, high) = (first | (u32::from(kind) << 8), first | (u32::from(kind) << 8) | 0xff);
        let denied = runs.iter().any(|(from, to, passes)| !passes && *from <= high.min(last) && low <= *to);
        match merged.last_mut() {
            Some((_, end, passes)) if *passes != denied => *end = kind,
            _ => merged.push((kind, kind, !denied)),
        }
    }
    merged
}

impl Verdicts {
    pub(super) fn of(runs: &[Run]) -> Self {
        let mut ports: Vec<((u8, u8), (u16, u16), bool)> = Vec::new();
        for (first, last, passes) in runs {
            for (protocol, low, high) in (TrafficRange { first: *first, last: *last }).by_protocol() {
                if protocol.is_icmp() {
                    continue;
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
        Self { ports, icmp: types(runs, Protocol::ICMP), icmp_v6: types(runs, Protocol::ICMPV6) }
    }

    /// Only what `common` does not say.
    pub(super) fn differing_from(&self, common: &[Run], own: &[Run]) -> Self {
        let differing: Vec<Run> = differing(own, common);
        let mut ports = Vec::new();
        for (first, last, passes) in differing {
            ports.extend(Self::of(&[(first, last, passes)]).ports);
        }
        let common = Self::of(common);
        let (icmp, icmp_v6) = (unlike(&self.icmp, &common.icmp), unlike(&self.icmp_v6, &common.icmp_v6));
        Self { ports, icmp, icmp_v6 }
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

fn unlike(own: &[(u8, u8, bool)], common: &[(u8, u8, bool)]) -> Vec<(u8, u8, bool)> {
    let mut found = Vec::new();
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
pub(super) fn verdict(passes: bool) -> Data {
    Data::Verdict(if passes { Verdict::Return } else { Verdict::Drop })
}

pub(super) fn protocols((first, last): (u8, u8)) -> Interval {
    Interval::new(Value::Protocol(first), Value::Protocol(last))
}

pub(super) fn ports((first, last): (u16, u16)) -> Interval {
    Interval::new(Value::Port(first), Value::Port(last))
}

pub(super) fn icmp_types(kind: FieldType, first: u8, last: u8) -> Interval {
    match kind {
        FieldType::IcmpType => Interval::new(Value::IcmpType(first), Value::IcmpType(last)),
        _ => Interval::new(Value::Icmpv6Type(first), Value::Icmpv6Type(last)),
    }
}
