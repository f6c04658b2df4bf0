//! Which peers pass, for each range of ports. No I/O, no clock, no async.

use std::borrow::Cow;

use super::super::{Action, AnyPolicy, Direction, NamedPort, NamedPorts};
use super::bits::{Peers, Set};
use super::peers::PeerTable;
use super::policies::{ALL_KEYS, Policies, Rule, Stage};
use super::selectors::Selectors;

/// What tables are made of.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) selectors: &'a Selectors,
    pub(super) policies: &'a Policies,
    pub(super) peers: &'a PeerTable,
}

/// A rule of a policy, by numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) stage: Stage,
    pub(super) policy: u32,
    pub(super) rule: u32,
}

/// A line that is about a range of ports; with a named port, only for the peers that give it this number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Active {
    line: Line,
    named: Option<(NamedPort, u16)>,
}

/// The ranges that begin at `starts`, each with the peers that pass and the lines that say so.
#[derive(Debug, Clone, Default)]
pub(in crate::policy) struct Table {
    starts: Vec<u32>,
    cells: Vec<Peers>,
    active: Vec<Vec<Active>>,
    isolated: bool,
}

/// What passes, given what each line is about. The order of the lines is that in which they are asked.
fn decide<'a, T: Set + 'a>(isolated: bool, lines: impl Iterator<Item = (Stage, Action, Cow<'a, T>)>) -> T {
    let (mut allowed, mut open, mut passed) = (T::none(), T::all(), None::<T>);
    let mut tier = Stage::Admin;
    for (stage, action, about) in lines {
        if stage != tier {
            tier = stage;
            if let Some(passed) = passed.take() {
                open.join(&passed);
            }
        }
        match stage {
            Stage::Network | Stage::Grant if open.is_all() => allowed.join(&about),
            Stage::Network | Stage::Grant => {
                let mut hit = about.into_owned();
                hit.meet(&open);
                allowed.join(&hit);
            }
            Stage::Baseline if isolated => break,
            Stage::Admin | Stage::Baseline => {
                let mut hit = open.clone();
                hit.meet(&about);
                open.remove(&about);
                match action {
                    Action::Allow => allowed.join(&hit),
                    Action::Pass => passed.get_or_insert_with(T::none).join(&hit),
                    Action::Deny => {}
                }
            }
        }
    }
    if let Some(passed) = passed {
        open.join(&passed);
    }
    if !isolated {
        allowed.join(&open);
    }
    allowed
}

impl Sources<'_> {
    fn rule(&self, direction: Direction, line: Line) -> Option<&Rule> {
        self.policies.get(line.policy)?.rules(direction)?.get(line.rule as usize)
    }

    /// Whether two lines are of different policies of the cluster that have the same priority.
    pub(super) fn same_priority(&self, one: Line, other: Line) -> bool {
        let priority = |line: Line| match self.policies.get(line.policy).map(|policy| &*policy.source) {
            Some(AnyPolicy::Cluster(policy)) => Some((policy.tier(), policy.priority())),
            _ => None,
        };
        one.policy != other.policy && priority(one).is_some() && priority(one) == priority(other)
    }

    /// Whom a rule is about.
    fn all_of(&self, rule: &Rule, named: Option<&(NamedPort, u16)>) -> Cow<'_, Peers> {
        let mut about = match rule.peers.as_deref() {
            None => Cow::Owned(Peers::all()),
            Some([only]) => {
                self.selectors.get(*only).map_or_else(Cow::default, |one| Cow::Borrowed(&one.peers))
            }
            Some(several) => {
                let mut all = Peers::none();
                several
                    .iter()
                    .filter_map(|one| self.selectors.get(*one))
                    .for_each(|one| all.join(&one.peers));
                Cow::Owned(all)
            }
        };
        if let Some((name, port)) = named {
            match self.peers.named(name).and_then(|ports| ports.get(port)) {
                Some(having) => about.to_mut().meet(having),
                None => about = Cow::default(),
            }
        }
        about
    }

    /// Whether a rule is about `peer`.
    fn one_of(&self, rule: &Rule, named: Option<&(NamedPort, u16)>, peer: u32) -> bool {
        let meant = rule.peers.as_ref().is_none_or(|selectors| {
            selectors.iter().filter_map(|one| self.selectors.get(*one)).any(|one| one.peers.has(peer))
        });
        let has = |(name, port): &(NamedPort, u16)| {
            self.peers.named(name).and_then(|ports| ports.get(port)).is_some_and(|having| having.has(peer))
        };
        meant && named.is_none_or(has)
    }

    /// The ranges of a rule; `own` are the named ports of the workloads that get ingress.
    fn ranges(
        &self,
        direction: Direction,
        rule: &Rule,
        own: &NamedPorts,
        mut add: impl FnMut(u32, u32, Option<(NamedPort, u16)>),
    ) {
        rule.ranges.iter().for_each(|(first, last)| add(*first, *last, None));
        for name in &rule.names {
            let key = |port: u16| (u32::from(name.protocol.number()) << 16) | u32::from(port);
            match direction {
                Direction::Ingress => {
                    if let Some(port) = own.number(name.protocol, &name.name) {
                        add(key(port), key(port), None);
                    }
                }
                Direction::Egress => {
                    for port in self.peers.named(name).into_iter().flatten().map(|(port, _)| *port) {
                        add(key(port), key(port), Some((name.clone(), port)));
                    }
                }
            }
        }
    }
}

impl Table {
    /// The table of `policies`, in the order in which they are asked: of those at the border, or of the others.
    pub(super) fn build(
        sources: Sources<'_>,
        direction: Direction,
        policies: &[u32],
        own: &NamedPorts,
        border: bool,
    ) -> Self {
        let mut isolated = border;
        let mut ranges = Vec::new();
        for number in policies {
            let Some(policy) = sources.policies.get(*number) else { continue };
            let Some(rules) = policy.rules(direction) else { continue };
            if (policy.stage == Stage::Grant) != border {
                continue;
            }
            isolated |= policy.stage == Stage::Network;
            for (rule, index) in rules.iter().zip(0..) {
                let line = Line { stage: policy.stage, policy: *number, rule: index };
                sources.ranges(direction, rule, own, |first, last, named| {
                    ranges.push((first, last, line, named))
                });
            }
        }
        // Policies of a tenant have no order, so only the tiers are to be brought into one.
        ranges.sort_by_key(|(_, _, line, _)| line.stage);
        let mut table = Self::divided(ranges, isolated);
        table.cells = table.active.iter().map(|active| table.cell(sources, direction, active)).collect();
        table
    }

    /// The ranges cut where any begins or ends, each with its lines.
    fn divided(ranges: Vec<(u32, u32, Line, Option<(NamedPort, u16)>)>, isolated: bool) -> Self {
        let (begin, end) = ALL_KEYS;
        let mut starts = vec![begin];
        for (first, last, ..) in &ranges {
            starts.push(*first);
            if *last < end {
                starts.push(*last + 1);
            }
        }
        starts.sort_unstable();
        starts.dedup();
        let mut active = vec![Vec::new(); starts.len()];
        for (first, last, line, named) in ranges {
            let from = starts.partition_point(|start| *start < first);
            for (_, lines) in
                starts.iter().zip(&mut active).skip(from).take_while(|(start, _)| **start <= last)
            {
                lines.push(Active { line, named: named.clone() });
            }
        }
        Self { starts, cells: Vec::new(), active, isolated }
    }

    fn cell(&self, sources: Sources<'_>, direction: Direction, active: &[Active]) -> Peers {
        let lines = active.iter().filter_map(|one| {
            let rule = sources.rule(direction, one.line)?;
            Some((one.line.stage, rule.action, sources.all_of(rule, one.named.as_ref())))
        });
        decide(self.isolated, lines)
    }

    /// Decides anew for `peer` alone.
    pub(super) fn refresh(&mut self, sources: Sources<'_>, direction: Direction, peer: u32) {
        for (cell, active) in self.cells.iter_mut().zip(&self.active) {
            let lines = active.iter().filter_map(|one| {
                let rule = sources.rule(direction, one.line)?;
                let about = sources.one_of(rule, one.named.as_ref(), peer);
                Some((one.line.stage, rule.action, Cow::Owned(about)))
            });
            cell.put(peer, decide::<bool>(self.isolated, lines));
        }
    }

    /// Whether `peer` passes with the traffic of `key`.
    pub(super) fn passes(&self, peer: u32, key: u32) -> bool {
        let at = self.starts.partition_point(|start| *start <= key).wrapping_sub(1);
        self.cells.get(at).is_some_and(|cell| cell.has(peer))
    }

    /// Adds the peers about which the two differ.
    pub(super) fn differences(&self, other: &Self, found: &mut Peers) {
        let (mut mine, mut theirs) = (self.ranges().peekable(), other.ranges().peekable());
        while let (Some((_, my_last, my_cell)), Some((_, their_last, their_cell))) =
            (mine.peek(), theirs.peek())
        {
            if my_cell != their_cell {
                found.join(&my_cell.differing(their_cell));
            }
            let (my_last, their_last) = (*my_last, *their_last);
            if my_last <= their_last {
                mine.next();
            }
            if their_last <= my_last {
                theirs.next();
            }
        }
    }

    pub(super) fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// For each range, the lines that are about it, in the order in which they are asked, and whom they are about.
    pub(super) fn about(
        &self,
        sources: Sources<'_>,
        direction: Direction,
    ) -> impl Iterator<Item = Vec<(Line, Action, Peers)>> {
        self.active.iter().map(move |active| {
            let lines = active.iter().filter_map(|one| {
                let rule = sources.rule(direction, one.line)?;
                Some((one.line, rule.action, sources.all_of(rule, one.named.as_ref()).into_owned()))
            });
            lines.collect()
        })
    }

    /// The ranges, each as its first key, its last key, and who passes.
    pub(in crate::policy) fn ranges(&self) -> impl Iterator<Item = (u32, u32, &Peers)> {
        let ends = self.starts.iter().skip(1).map(|start| start - 1).chain([ALL_KEYS.1]);
        self.starts.iter().zip(ends).zip(&self.cells).map(|((start, end), cell)| (*start, end, cell))
    }
}
