//! What a backend needs of a domain's tables. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::{Direction, NamedPorts, PolicyRef, Traffic, TrafficRange, World};
use super::domain::Domain;
use crate::addr::IpFamily;

/// Keys from one to another, and whether they pass.
pub(in crate::policy) type Run = (u32, u32, bool);

fn push(runs: &mut Vec<Run>, first: u32, last: u32, passes: bool) {
    match runs.last_mut() {
        Some((_, before, same)) if *same == passes => *before = last,
        _ => runs.push((first, last, passes)),
    }
}

/// What IP itself needs, as runs.
fn essential() -> Vec<Run> {
    let mut runs = Vec::new();
    let mut next = TrafficRange::ALL.first;
    for make in [Traffic::icmp, Traffic::icmp_v6] {
        for kind in (0..=u8::MAX).filter(|kind| make(*kind, 0).is_essential()) {
            let (first, last) = (make(kind, 0).key(), make(kind, u8::MAX).key());
            if next < first {
                push(&mut runs, next, first - 1, false);
            }
            push(&mut runs, first, last, true);
            next = last + 1;
        }
    }
    push(&mut runs, next, TrafficRange::ALL.last, false);
    runs
}

/// What `join` makes of both, cut where either changes.
fn joined(one: &[Run], other: &[Run], join: fn(bool, bool) -> bool) -> Vec<Run> {
    let mut runs = Vec::new();
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    let mut first = TrafficRange::ALL.first;
    while let (Some((_, left_last, left_passes)), Some((_, right_last, right_passes))) =
        (left.peek(), right.peek())
    {
        let (left_last, right_last) = (*left_last, *right_last);
        let last = left_last.min(right_last);
        push(&mut runs, first, last, join(*left_passes, *right_passes));
        first = last.saturating_add(1);
        if left_last == last {
            left.next();
        }
        if right_last == last {
            right.next();
        }
    }
    runs
}

impl Domain {
    /// What makes a set that set: the names of its policies, and the ports that they name.
    pub(in crate::policy) fn set_parts(&self, set: u32) -> Option<(Vec<PolicyRef>, &NamedPorts)> {
        let key = &self.sets.get(set)?.key;
        let policies = self.policies.of_groups(&key.groups).map(|(_, policy)| policy);
        let mut names: Vec<_> = policies.map(|policy| policy.source.key()).collect();
        // Their numbers are of this engine alone.
        names.sort_unstable();
        Some((names, &key.ports))
    }

    /// What passes with `peer`; or with a peer that nothing is said of.
    pub(in crate::policy) fn runs(&self, set: u32, direction: Direction, peer: Option<u32>) -> Vec<Run> {
        let Some(set) = self.sets.get(set) else { return Vec::new() };
        let of = |table: &super::table::Table| {
            let mut runs = Vec::new();
            for (first, last, cell) in table.ranges() {
                push(&mut runs, first, last, peer.map_or(cell.all_but, |peer| cell.has(peer)));
            }
            runs
        };
        let runs = of(set.table(direction));
        let foreign = peer.and_then(|peer| self.peers.peer(peer)).is_some_and(|entry| entry.foreign);
        if !foreign {
            return runs;
        }
        // The border comes before what IP needs.
        let inside = joined(&runs, &essential(), |one, other| one || other);
        joined(&inside, &of(set.border(direction)), |one, other| one && other)
    }

    /// The peers of which something is said; those of other tenants are among them.
    pub(in crate::policy) fn named_peers(&self, set: u32, direction: Direction) -> BTreeSet<u32> {
        let cells = self.sets.get(set).into_iter().flat_map(|set| set.table(direction).ranges());
        let named = cells.flat_map(|(_, _, cell)| cell.bits.iter());
        let foreign = self.peers.peers().filter(|(_, entry)| entry.foreign).map(|(number, _)| number);
        named.chain(foreign).collect()
    }

    /// Every address of a family, as ranges without gaps, each with its peer. Addresses of `others` are those peers.
    pub(in crate::policy) fn address_map(
        &self,
        world: &World,
        family: IpFamily,
        others: &BTreeMap<IpAddr, u32>,
    ) -> Vec<(IpAddr, IpAddr, u32)> {
        let number = |address: IpAddr| crate::addr::address_number(address);
        let mut cuts = BTreeSet::from([0]);
        let mut cut = |net: IpNet| {
            cuts.insert(number(net.network()));
            cuts.extend(number(net.broadcast()).checked_add(1).filter(|after| *after <= family.max()));
        };
        let mut exact: BTreeMap<IpAddr, u32> = BTreeMap::new();
        let whole = family.address(0).zip(family.address(family.max()));
        for (address, mut owners) in whole.into_iter().flat_map(|whole| world.claims(&self.tenant, whole)) {
            let first = owners.next().and_then(|owner| self.own_peer(owner.profile(), address));
            exact.extend(first.map(|peer| (address, peer)));
        }
        exact.extend(others.iter().filter(|(a, _)| IpFamily::of(**a) == family).map(|(a, p)| (*a, *p)));
        exact.keys().for_each(|address| cut(IpNet::from(*address)));
        let prefixes = self.prefixes.iter().map(|(_, prefix)| prefix.net);
        prefixes.filter(|net| IpFamily::of(net.addr()) == family).for_each(cut);
        let ends = cuts.iter().skip(1).map(|cut| cut - 1).chain([family.max()]);
        let mut map: Vec<(IpAddr, IpAddr, u32)> = Vec::new();
        for (first, last) in cuts.iter().zip(ends) {
            let (Some(first), Some(last)) = (family.address(*first), family.address(last)) else { continue };
            let Some(peer) = exact.get(&first).copied().or_else(|| self.outside_peer(first)) else {
                continue;
            };
            match map.last_mut() {
                Some((_, end, same)) if *same == peer => *end = last,
                _ => map.push((first, last, peer)),
            }
        }
        map
    }
}
