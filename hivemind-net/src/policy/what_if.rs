//! Which flows change if policies change: as pairs of what policies can tell apart, never address by address.
//! No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use hivemind_core::TenantRef;
use ipnet::IpNet;

use crate::addr::IpFamily;

use super::compile::{Domain, nets_of};
use super::eval::{End, Ends};
use super::{
    AnyPolicy, Change, Direction, Engine, Flow, InvalidFlow, PolicyRef, Profile, Protocol, Traffic, Verdict,
};

/// All that policies can tell of one end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Workloads of a profile, with addresses in a prefix and in no longer one that a policy names.
    Workloads(Arc<Profile>, Option<IpNet>),
    /// Addresses that are no workload's, in a prefix and in no longer one that a policy names, as this tenant's
    /// workloads see them.
    Outside(TenantRef, Option<IpNet>),
}

/// Consecutive traffic: all of several protocols, or some ports or ICMP types of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrafficRange {
    pub(super) first: u32,
    pub(super) last: u32,
}

/// One difference between two sets of policies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct FlowChange {
    /// Who opens the connection.
    pub from: Class,
    /// Who is to get it.
    pub to: Class,
    /// Which traffic. What IP itself needs ([`Traffic::is_essential`]) and what only routers send keep their verdict,
    /// although they may be within.
    pub traffic: Vec<TrafficRange>,
    /// What is said afterwards; before, it was the opposite.
    pub after: Verdict,
}

/// What a change of policies would do.
#[derive(Debug, Clone)]
pub struct WhatIf {
    before: Engine,
    after: Engine,
    changes: BTreeMap<(Class, Class), Vec<FlowChange>>,
}

/// An end as a subject in its own domain, and how the other end sees it.
struct Pair<'a> {
    from: &'a Class,
    to: &'a Class,
}

impl Engine {
    /// What would change if `put` were there, each in place of one of its name, and `removed` were gone. Nothing
    /// changes here.
    pub fn what_if(&self, put: &[AnyPolicy], removed: &[PolicyRef]) -> WhatIf {
        let replaced = put.iter().map(AnyPolicy::key).chain(removed.iter().cloned());
        let replaced: Vec<_> = replaced.filter_map(|key| self.world().policy(&key).cloned()).collect();
        // Both get the prefixes and foreign profiles of both, so that they tell the same things apart.
        let mut before = self.clone();
        before.pin(put.iter().chain(&replaced));
        let mut after = before.clone();
        removed.iter().for_each(|key| after.apply(Change::NoPolicy(key.clone())));
        put.iter().for_each(|policy| after.apply(Change::Policy(policy.clone())));
        let changes = compare(&before, &after);
        WhatIf { before, after, changes }
    }
}

fn families_meet(from: &Class, to: &Class) -> bool {
    let family = |class: &Class| match class {
        Class::Workloads(_, net) | Class::Outside(_, net) => net.map(|net| IpFamily::of(net.addr())),
    };
    let (one, other) = (family(from), family(to));
    one.is_none() || other.is_none() || one == other
}

fn tenant(class: &Class) -> &TenantRef {
    match class {
        Class::Workloads(profile, _) => profile.tenant(),
        Class::Outside(tenant, _) => tenant,
    }
}

impl Pair<'_> {
    /// The ranges in which an engine says the same, cut by both ends' tables.
    fn cuts(&self, engine: &Engine, cuts: &mut BTreeSet<u32>) {
        for (direction, subject, peer) in self.sides() {
            if let (Class::Workloads(profile, _), Some(domain)) = (subject, engine.domain(tenant(subject))) {
                domain.cuts(profile, direction, domain.number_of(peer), cuts);
            }
        }
    }

    fn sides(&self) -> [(Direction, &Class, &Class); 2] {
        [(Direction::Egress, self.from, self.to), (Direction::Ingress, self.to, self.from)]
    }

    fn passes(&self, engine: &Engine, key: u32) -> bool {
        self.sides().into_iter().all(|(direction, subject, peer)| {
            let Class::Workloads(profile, _) = subject else { return true };
            let domain = engine.domain(tenant(subject));
            domain.is_some_and(|domain| {
                domain.number_of(peer).is_some_and(|peer| domain.table_passes(profile, direction, peer, key))
            })
        })
    }
}

/// The pairs of which one end's tables differ.
fn candidates(before: &Engine, after: &Engine) -> BTreeSet<(Class, Class)> {
    let mut pairs = BTreeSet::new();
    for domain in before.domains() {
        let Some(then) = after.domain(&domain.tenant) else { continue };
        for profile in domain.own() {
            for direction in Direction::ALL {
                let peers = domain.differing(then, &profile, direction);
                let peers = peers.into_iter().filter_map(|number| domain.class_of(number));
                for (peer, own) in peers.flat_map(|peer| {
                    let seen =
                        before.domain(tenant(&peer)).map_or_else(Vec::new, |_| domain.classes_of(&profile));
                    seen.into_iter().map(move |own| (peer.clone(), own))
                }) {
                    let foreign = tenant(&peer) != &domain.tenant;
                    let own = match own {
                        // Another tenant sees a workload without its address.
                        Class::Workloads(profile, _) if foreign => Class::Workloads(profile, None),
                        own => own,
                    };
                    let pair = direction.of(((peer.clone(), own.clone()), (own, peer)));
                    if families_meet(&pair.0, &pair.1) {
                        pairs.insert(pair);
                    }
                }
            }
        }
    }
    pairs
}

fn compare(before: &Engine, after: &Engine) -> BTreeMap<(Class, Class), Vec<FlowChange>> {
    let mut changes = BTreeMap::new();
    for (from, to) in candidates(before, after) {
        let pair = Pair { from: &from, to: &to };
        let mut cuts = BTreeSet::from([0]);
        pair.cuts(before, &mut cuts);
        pair.cuts(after, &mut cuts);
        let ends = cuts.iter().skip(1).map(|cut| cut - 1).chain([TrafficRange::ALL.last]);
        let (mut opened, mut closed) = (Vec::new(), Vec::new());
        for (first, last) in cuts.iter().copied().zip(ends) {
            let (was, is) = (pair.passes(before, first), pair.passes(after, first));
            match (was, is) {
                (false, true) => TrafficRange { first, last }.join(&mut opened),
                (true, false) => TrafficRange { first, last }.join(&mut closed),
                _ => {}
            }
        }
        let told = [(opened, Verdict::Allow), (closed, Verdict::Deny)].into_iter();
        let told = told.filter(|(traffic, _)| !traffic.is_empty()).map(|(traffic, after)| FlowChange {
            from: from.clone(),
            to: to.clone(),
            traffic,
            after,
        });
        let told: Vec<_> = told.collect();
        if !told.is_empty() {
            changes.insert((from, to), told);
        }
    }
    changes
}

impl WhatIf {
    /// Every difference, in the order of its ends.
    pub fn changes(&self) -> impl Iterator<Item = &FlowChange> {
        self.changes.values().flatten()
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The policies as they would be.
    pub fn after(&self) -> &Engine {
        &self.after
    }

    /// What would be said of `flow` that is not said now; `None` if it would stay the same.
    ///
    /// # Errors
    /// [`InvalidFlow`]: there is no such flow.
    pub fn of(&self, flow: &Flow) -> Result<Option<Verdict>, InvalidFlow> {
        let ends = Ends::find(self.before.world(), flow)?;
        let fixed = flow.traffic.is_essential() || flow.traffic.is_from_routers();
        if fixed || ends.is_always_open() {
            let same = self.before.reach(flow)?;
            return Ok(Some(self.after.reach(flow)?).filter(|after| *after != same));
        }
        let class = |end: End<'_>, other: End<'_>| match (end, other) {
            (End::Workload(one), other) => {
                let foreign = matches!(other, End::Workload(other) if other.profile().tenant() != one.profile().tenant());
                let domain = self.before.domain(one.profile().tenant())?;
                let address = one.address(flow.family).filter(|_| !foreign);
                let net = address.and_then(|address| domain.longest_prefix(address));
                Some(Class::Workloads(one.profile().clone(), net))
            }
            (End::Host(_, address) | End::Outside(address), End::Workload(other)) => {
                let domain = self.before.domain(other.profile().tenant())?;
                Some(Class::Outside(domain.tenant.clone(), domain.longest_prefix(address)))
            }
            _ => None,
        };
        let (from, to) = ends.both();
        let Some(pair) = class(from, to).zip(class(to, from)) else { return Ok(None) };
        let found = self.changes.get(&pair).into_iter().flatten();
        let found = found.filter(|change| change.traffic.iter().any(|range| range.contains(flow.traffic)));
        Ok(found.map(|change| change.after).next())
    }
}

impl TrafficRange {
    /// All traffic.
    pub const ALL: Self = Self { first: 0, last: 0x00ff_ffff };

    /// Whether `traffic` is in it.
    pub fn contains(&self, traffic: Traffic) -> bool {
        (self.first..=self.last).contains(&traffic.key())
    }

    /// Adds it to ranges before it.
    pub(super) fn join(self, ranges: &mut Vec<Self>) {
        match ranges.last_mut() {
            Some(before) if before.last.checked_add(1) == Some(self.first) => before.last = self.last,
            _ => ranges.push(self),
        }
    }

    /// It cut at the borders of protocols: each with its first and last [`Traffic::number`]. Whole protocols between
    /// are told one by one.
    pub fn by_protocol(self) -> impl Iterator<Item = (Protocol, u16, u16)> {
        let [_, first, ..] = self.first.to_be_bytes();
        let [_, last, ..] = self.last.to_be_bytes();
        (first..=last).map(move |number| {
            let (base, end) = (u32::from(number) << 16, (u32::from(number) << 16) | 0xffff);
            let low = |key: u32| u16::try_from(key & 0xffff).unwrap_or(u16::MAX);
            (Protocol::from_number(number), low(self.first.max(base)), low(self.last.min(end)))
        })
    }
}

impl fmt::Display for TrafficRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("any traffic");
        }
        let parts: Vec<_> = self.by_protocol().collect();
        let whole = |(_, first, last): &(Protocol, u16, u16)| (*first, *last) == (0, u16::MAX);
        match parts.as_slice() {
            [(protocol, first, last)] if !whole(&(*protocol, *first, *last)) && first == last => {
                write!(f, "{protocol} {first}")
            }
            [one @ (protocol, first, last)] if !whole(one) => write!(f, "{protocol} {first}-{last}"),
            [(protocol, ..)] => write!(f, "{protocol}"),
            [(first, low, _), .., (last, _, high)] => write!(f, "{first} {low} to {last} {high}"),
            [] => Ok(()),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let net = match self {
            Self::Workloads(profile, net) => {
                write!(f, "{} {{{}}} of {}", profile.namespace(), profile.labels(), profile.tenant().id)?;
                net
            }
            Self::Outside(_, net) => {
                f.write_str("outside")?;
                net
            }
        };
        net.map_or(Ok(()), |net| write!(f, " in {net}"))
    }
}

impl fmt::Display for FlowChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}, ", self.from, self.to)?;
        for (index, range) in self.traffic.iter().enumerate() {
            write!(f, "{}{range}", if index == 0 { "" } else { ", " })?;
        }
        write!(f, ": {}", self.after)
    }
}

impl Engine {
    /// Makes the engine tell apart all that `policies` tell apart, without having them.
    fn pin<'a>(&mut self, policies: impl Iterator<Item = &'a AnyPolicy>) {
        for policy in policies {
            let only = match policy {
                AnyPolicy::Network(one) => Some(one.tenant()),
                AnyPolicy::Grant(one) => Some(one.by()),
                AnyPolicy::Cluster(_) => None,
            };
            let nets: Vec<_> = nets_of(policy).collect();
            self.each_domain(only, |domain, world| {
                nets.iter().for_each(|net| domain.acquire_prefix(world, *net));
            });
            if let AnyPolicy::Grant(grant) = policy {
                let others: Vec<_> = self.domains().flat_map(Domain::own).collect();
                self.each_domain(only, |domain, _| {
                    let reached = others.iter().filter(|profile| grant.reaches(profile));
                    reached.for_each(|profile| domain.put_foreign(profile));
                });
            }
        }
    }
}
