//! Which peers pass, for each range of ports. No I/O, no clock, no async.

mod draft;

use std::borrow::Cow;
use std::ops::Range;

use super::super::{Action, AnyPolicy, Direction, NamedPort, NamedPorts};
use super::bits::{Bits, Peers, Set};
use super::index::OneOrMore;
use super::keys::Keys;
use super::peers::PeerTable;
use super::policies::{ALL_KEYS, Policies, Policy, Rule, Stage};
use super::selectors::Selectors;

pub(super) use self::draft::Draft;

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
    /// The selector of whom it allows, if that is all that its rule says of peers; or [`NO_SELECTOR`]: ask the rule.
    selector: u32,
    named: Option<Box<(NamedPort, u16)>>,
}

/// No selector has this number.
const NO_SELECTOR: u32 = u32::MAX;

impl Active {
    fn new(line: Line, rule: &Rule, named: Option<(NamedPort, u16)>) -> Self {
        let selector = match (rule.action, rule.peers.as_deref(), &named) {
            (Action::Allow, Some([only]), None) => *only,
            _ => NO_SELECTOR,
        };
        Self { line, selector, named: named.map(Box::new) }
    }

    /// Its place among others of its cell. Rules of the cluster come in the order in which they are asked; of others it
    /// does not matter, so it is that of their numbers, and equal cells are equal.
    fn place(&self) -> (Stage, u32, u32) {
        let Line { stage, policy, rule } = self.line;
        match stage {
            Stage::Admin | Stage::Baseline => (stage, 0, 0),
            Stage::Network | Stage::Grant => (stage, policy, rule),
        }
    }
}

/// The first and the last key of a line, and the named port that it is for.
type LineRange = (u32, u32, Active);

/// What is said of a range of keys.
#[derive(Debug, Clone, Default)]
struct Cell {
    /// Who passes.
    peers: Peers,
    /// The lines that say so.
    active: OneOrMore<Active>,
    /// Whether they have changed since.
    stale: bool,
}

/// Ranges of keys, each with what is said of it. Without any, all of them have no line.
#[derive(Debug, Clone, Default)]
pub(in crate::policy) struct Table {
    keys: Keys,
    cells: Vec<Cell>,
    /// How many policies isolate the workloads: what no rule allows is denied.
    isolating: usize,
}

/// What decides about a peer and some traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deciding {
    /// This line does this.
    Line(Line, Action),
    /// Policies isolate the workload, and none allows it.
    Isolation,
    /// No line.
    Nothing,
}

static EVERYBODY: Peers = Peers { all_but: true, bits: Bits::NONE };
static NOBODY: Peers = Peers { all_but: false, bits: Bits::NONE };

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

    /// When a line is asked, what it does, and about whom.
    fn about(&self, direction: Direction, one: &Active) -> Option<(Stage, Action, Cow<'_, Peers>)> {
        if let Some(selector) = self.selectors.get(one.selector) {
            return Some((one.line.stage, Action::Allow, Cow::Borrowed(&selector.peers)));
        }
        let rule = self.rule(direction, one.line)?;
        Some((one.line.stage, rule.action, self.all_of(rule, one.named.as_deref())))
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

/// One if `policy` isolates those it selects: what none like it allows is denied.
fn isolates(policy: &Policy, direction: Direction, border: bool) -> usize {
    usize::from(!border && policy.stage == Stage::Network && policy.rules(direction).is_some())
}

/// The ranges of a policy, if it belongs to the table of the border, or to the other.
fn lines(
    sources: Sources<'_>,
    direction: Direction,
    (number, policy): (u32, &Policy),
    own: &NamedPorts,
    border: bool,
    mut add: impl FnMut(u32, u32, Active),
) {
    let rules = policy.rules(direction).filter(|_| (policy.stage == Stage::Grant) == border);
    for (rule, index) in rules.unwrap_or_default().iter().zip(0..) {
        let line = Line { stage: policy.stage, policy: number, rule: index };
        sources.ranges(direction, rule, own, |first, last, named| {
            add(first, last, Active::new(line, rule, named));
        });
    }
}

impl Table {
    /// Takes the lines of one policy out, and puts those of another in. Neither is one of the cluster.
    pub(super) fn edit(
        &mut self,
        sources: Sources<'_>,
        direction: Direction,
        own: &NamedPorts,
        border: bool,
        (out, put): (Option<u32>, Option<u32>),
    ) {
        let before = self.is_isolated();
        let with = |number: u32| Some((number, sources.policies.get(number)?));
        if let Some((number, policy)) = out.and_then(with) {
            self.isolating = self.isolating.saturating_sub(isolates(policy, direction, border));
            lines(sources, direction, (number, policy), own, border, |first, last, _| {
                for cell in self.between(first, last) {
                    let count = cell.active.len();
                    cell.active.retain(|one| one.line.policy != number);
                    cell.stale |= cell.active.len() != count;
                }
            });
        }
        if let Some((number, policy)) = put.and_then(with) {
            self.isolating += isolates(policy, direction, border);
            lines(sources, direction, (number, policy), own, border, |first, last, active| {
                self.cut(first);
                self.cut(last.saturating_add(1));
                for cell in self.between(first, last) {
                    let at = cell.active.partition_point(|one| one.place() <= active.place());
                    cell.active.insert(at, active.clone());
                    cell.stale = true;
                }
            });
        }
        if before != self.is_isolated() {
            self.cells.iter_mut().for_each(|cell| cell.stale = true);
        }
        self.join_alike();
        self.settle(sources, direction);
    }

    /// Which cells have ranges that begin from `first` to `last`.
    fn within(&self, first: u32, last: u32) -> Range<usize> {
        let starts = self.keys.starts();
        let from = starts.partition_point(|start| *start < first);
        from..starts.partition_point(|start| *start <= last)
    }

    /// The cells whose ranges begin from `first` to `last`.
    fn between(&mut self, first: u32, last: u32) -> impl Iterator<Item = &mut Cell> {
        let within = self.within(first, last);
        self.cells.get_mut(within).into_iter().flatten()
    }

    /// Lets a range begin at `key`.
    fn cut(&mut self, key: u32) {
        let starts = self.keys.starts_mut();
        if starts.is_empty() {
            starts.push(ALL_KEYS.0);
            self.cells.push(Cell { stale: true, ..Cell::default() });
        }
        let at = starts.partition_point(|start| *start < key);
        if key > ALL_KEYS.1 || starts.get(at) == Some(&key) {
            return;
        }
        if let Some(cell) = self.cells.get(at.wrapping_sub(1)).cloned() {
            starts.insert(at, key);
            self.cells.insert(at, cell);
        }
    }

    /// Makes one range of neighbours with the same lines.
    fn join_alike(&mut self) {
        let mut at = 1;
        while at < self.cells.len() {
            if !matches!(self.cells.get(at - 1..=at), Some([one, next]) if one.active == next.active) {
                at += 1;
                continue;
            }
            self.keys.starts_mut().remove(at);
            let next = self.cells.remove(at);
            if let Some(one) = self.cells.get_mut(at - 1) {
                one.stale |= next.stale;
            }
        }
        if matches!(self.cells.as_slice(), [only] if only.active.is_empty()) {
            self.keys.starts_mut().clear();
            self.cells.clear();
        }
        self.keys.index();
    }

    /// Decides anew where lines have changed.
    fn settle(&mut self, sources: Sources<'_>, direction: Direction) {
        let isolated = self.is_isolated();
        for cell in self.cells.iter_mut().filter(|cell| cell.stale) {
            let lines = cell.active.iter().filter_map(|one| sources.about(direction, one));
            cell.peers = decide(isolated, lines);
            cell.stale = false;
        }
    }

    /// Decides anew for `peer` alone, where `policy` has a say.
    pub(super) fn refresh(
        &mut self,
        sources: Sources<'_>,
        direction: Direction,
        own: &NamedPorts,
        border: bool,
        (peer, policy): (u32, u32),
    ) {
        let isolated = self.is_isolated();
        let Some(found) = sources.policies.get(policy) else { return };
        lines(sources, direction, (policy, found), own, border, |first, last, _| {
            for cell in self.between(first, last) {
                let lines = cell.active.iter().filter_map(|one| {
                    let rule = sources.rule(direction, one.line)?;
                    let about = sources.one_of(rule, one.named.as_deref(), peer);
                    Some((one.line.stage, rule.action, Cow::Owned(about)))
                });
                cell.peers.put(peer, decide::<bool>(isolated, lines));
            }
        });
    }

    fn at(&self, key: u32) -> Option<&Cell> {
        self.cells.get(self.keys.at(key)?)
    }

    /// Whether `peer` passes with the traffic of `key`.
    pub(super) fn passes(&self, peer: u32, key: u32) -> bool {
        self.at(key).map_or(!self.is_isolated(), |cell| cell.peers.has(peer))
    }

    /// What decides about `peer` and the traffic of `key`.
    pub(super) fn deciding(
        &self,
        sources: Sources<'_>,
        direction: Direction,
        peer: u32,
        key: u32,
    ) -> Deciding {
        let lines = self.at(key).map_or(&[][..], |cell| &cell.active);
        let about = |stage: Stage| {
            let tier = lines.iter().filter(move |one| one.line.stage == stage);
            tier.filter_map(|one| {
                let rule = sources.rule(direction, one.line)?;
                sources.one_of(rule, one.named.as_deref(), peer).then_some((one.line, rule.action))
            })
        };
        let first = |stage| about(stage).next().filter(|(_, action)| *action != Action::Pass);
        if let Some((line, action)) = first(Stage::Admin) {
            return Deciding::Line(line, action);
        }
        // All are of one namespace, so their names are their order.
        let order = |line: Line| match sources.policies.get(line.policy).map(|policy| &*policy.source) {
            Some(AnyPolicy::Network(policy)) => Some((policy.name(), line.rule)),
            _ => None,
        };
        let allowing = about(Stage::Network).min_by(|(one, _), (other, _)| order(*one).cmp(&order(*other)));
        match allowing.or_else(|| first(Stage::Baseline).filter(|_| !self.is_isolated())) {
            Some((line, action)) => Deciding::Line(line, action),
            None if self.is_isolated() => Deciding::Isolation,
            None => Deciding::Nothing,
        }
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
        self.isolating > 0
    }

    /// For each range, the lines that are about it, in the order in which they are asked, and whom they are about.
    pub(super) fn about(
        &self,
        sources: Sources<'_>,
        direction: Direction,
    ) -> impl Iterator<Item = Vec<(Line, Action, Peers)>> {
        self.cells.iter().map(move |cell| {
            let lines = cell.active.iter().filter_map(|one| {
                let (_, action, about) = sources.about(direction, one)?;
                Some((one.line, action, about.into_owned()))
            });
            lines.collect()
        })
    }

    /// The ranges, each as its first key, its last key, and who passes.
    pub(in crate::policy) fn ranges(&self) -> impl Iterator<Item = (u32, u32, &Peers)> {
        let all = if self.is_isolated() { &NOBODY } else { &EVERYBODY };
        let starts = self.keys.starts();
        let undivided = starts.is_empty().then_some((ALL_KEYS.0, ALL_KEYS.1, all));
        let ends = starts.iter().skip(1).map(|start| start - 1).chain([ALL_KEYS.1]);
        let divided = starts.iter().zip(ends).zip(&self.cells);
        undivided.into_iter().chain(divided.map(|((start, end), cell)| (*start, end, &cell.peers)))
    }
}
