//! The search for an order that explains every reply. No I/O, no clock, no async.
//!
//! After Wing and Gong (1993) and Lowe (2017): depth first, with every configuration visited once. A configuration is
//! which definite operations are in the order, and the state; of two that differ only in which commits of unknown
//! outcome are used up, the one that used more cannot do better.
//!
//! Four things keep it narrow. What changes nothing is put in order as soon as it fits. Revisions grow, so there is
//! at most one operation, or one tie, that can be the next to tell one. Nothing is replaced that somebody has yet to
//! see, since a revision does not come back. And a commit of unknown outcome is either one that may have written a
//! revision that somebody saw, or is tried only where it matters (see `hidden`).

use std::collections::HashMap;

use super::facts::{Cell, Change, State};
use super::hidden::{Next, worth_trying};
use super::problem::{Author, Definite, Kind, Maybe, Problem};
use super::ring::Ring;
use super::{Report, Violation};
use crate::adapters::split_mix;

/// One more operation in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Definite(usize),
    /// A commit of unknown outcome, and the revision that it is thought to have got.
    Maybe(usize, Option<u64>),
}

#[derive(Debug)]
enum Undo {
    Placed(usize),
    Used(usize),
    Cell(usize, Option<Cell>),
}

/// Where to go back to.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    trail: usize,
    order: usize,
    newest: u64,
    next_put: usize,
    next_stamped: usize,
    fingerprint: u128,
}

/// A configuration whose continuations are being tried.
#[derive(Debug)]
struct Frame {
    mark: Mark,
    steps: Vec<Step>,
    widened: bool,
}

/// The operations of which one must be next: those that began before the first of them ended.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) definite: Vec<usize>,
    pub(super) deadline: u64,
}

/// The order so far, and all that was tried.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) problem: &'a Problem,
    pub(super) state: State,
    pub(super) order: Vec<Step>,
    pub(super) next_put: usize,
    pub(super) next_stamped: usize,
    left: Ring,
    used: Vec<u64>,
    /// For each version, how many operations have yet to see it.
    expected: Vec<usize>,
    trail: Vec<Undo>,
    fingerprint: u128,
    visited: HashMap<u128, Vec<Box<[u64]>>>,
    configurations: usize,
    /// The longest order that led nowhere.
    longest: Option<(usize, Violation)>,
}

impl<'a> Search<'a> {
    pub(super) fn new(problem: &'a Problem) -> Self {
        let mut search = Self {
            problem,
            state: problem.initial.clone(),
            order: Vec::new(),
            next_put: 0,
            next_stamped: 0,
            left: Ring::new(problem.definite.len()),
            used: vec![0; problem.maybe.len().div_ceil(64)],
            expected: vec![0; problem.versions.len()],
            trail: Vec::new(),
            fingerprint: 0,
            visited: HashMap::new(),
            configurations: 0,
            longest: None,
        };
        problem.definite.iter().for_each(|definite| search.expect_versions(definite, true));
        search.advance();
        search
    }

    /// Searches until an order is found, or there is none, or `most` configurations were visited.
    pub(super) fn run(mut self, most: usize) -> Result<Report, Violation> {
        let mut frames = Vec::new();
        self.settle();
        frames.extend(self.enter());
        while self.left.iter().next().is_some() {
            let Some(frame) = frames.last_mut() else {
                let longest = self.longest.map(|(_, violation)| violation);
                return Err(longest.unwrap_or(Violation::Undecided { configurations: self.configurations }));
            };
            if self.configurations > most {
                return Err(Violation::Undecided { configurations: self.configurations });
            }
            self.rewind(frame.mark);
            if let Some(step) = frame.steps.pop() {
                self.apply(step);
                self.settle();
                frames.extend(self.enter());
            } else if frame.widened {
                frames.pop();
            } else {
                frame.widened = true;
                frame.steps = self.hidden_steps();
            }
        }
        let order = self.order.iter().filter_map(|step| self.operation_of(*step)).collect();
        Ok(Report { order, configurations: self.configurations })
    }

    /// The number of the operation in the history.
    pub(super) fn operation_of(&self, step: Step) -> Option<usize> {
        match step {
            Step::Definite(index) => self.definite(index).map(|definite| definite.operation),
            Step::Maybe(index, _) => self.maybe(index).map(|maybe| maybe.operation),
        }
    }

    pub(super) fn definite(&self, index: usize) -> Option<&'a Definite> {
        self.problem.definite.get(index)
    }

    pub(super) fn maybe(&self, index: usize) -> Option<&'a Maybe> {
        self.problem.maybe.get(index)
    }

    pub(super) fn is_used(&self, maybe: usize) -> bool {
        self.used.get(maybe / 64).is_some_and(|word| word & (1 << (maybe % 64)) != 0)
    }

    pub(super) fn window(&self) -> Window {
        let mut window = Window { definite: Vec::new(), deadline: u64::MAX };
        for index in self.left.iter() {
            let Some(definite) = self.definite(index).filter(|d| d.invoked < window.deadline) else { break };
            window.deadline = window.deadline.min(definite.completed);
            window.definite.push(index);
        }
        window
    }

    /// Puts everything in order that fits and changes nothing.
    fn settle(&mut self) {
        while let Some(index) = self.window().definite.into_iter().find(|index| self.is_free(*index)) {
            self.apply(Step::Definite(index));
        }
    }

    fn is_free(&self, index: usize) -> bool {
        let Some(definite) = self.definite(index) else { return false };
        let pure = match definite.kind {
            Kind::Look(stamp) => stamp.is_none_or(|stamp| stamp == self.state.newest),
            Kind::Erase(stamp) => stamp == self.state.newest && !self.erases_something(definite),
            Kind::Put(_) => false,
        };
        pure && definite.facts.iter().all(|fact| fact.holds(&self.state))
    }

    pub(super) fn erases_something(&self, definite: &Definite) -> bool {
        definite.writes.iter().any(|(key, _)| self.state.exists(*key))
    }

    /// Begins with a configuration, unless it was visited before.
    fn enter(&mut self) -> Option<Frame> {
        let key = self.fingerprint ^ mix([3, self.state.newest, 0, 0]);
        let visited = self.visited.entry(key).or_default();
        let no_better = |other: &[u64]| other.iter().zip(&self.used).all(|(a, b)| a & !b == 0);
        if visited.iter().any(|other| no_better(other)) {
            return None;
        }
        visited.push(self.used.clone().into_boxed_slice());
        self.configurations += 1;
        let window = self.window();
        let mut steps = self.revealing_steps(&window);
        steps.retain(|step| self.is_legal(*step));
        steps.reverse();
        let explained = if steps.is_empty() { self.explained() } else { 0 };
        if steps.is_empty() && self.longest.as_ref().is_none_or(|(longest, _)| *longest < explained) {
            self.longest = Some((explained, self.explain(&window, explained)));
        }
        Some(Frame { mark: self.mark(), steps, widened: false })
    }

    /// How many definite operations are in the order.
    fn explained(&self) -> usize {
        self.order.iter().filter(|step| matches!(step, Step::Definite(_))).count()
    }

    /// What can be the next to tell of a new revision, as far as times and revisions say.
    pub(super) fn revealing_steps(&self, window: &Window) -> Vec<Step> {
        let put = self.problem.puts.get(self.next_put);
        let stamped = self.problem.stamped.get(self.next_stamped..).unwrap_or_default();
        let in_window = |index: &usize| window.definite.contains(index);
        if let Some((stamp, _)) = stamped.first().filter(|(stamp, _)| put.is_none_or(|put| *stamp < put.0)) {
            let tie = stamped.iter().take_while(|(other, _)| other == stamp).map(|(_, index)| *index);
            return tie.filter(in_window).map(Step::Definite).collect();
        }
        match put {
            None => Vec::new(),
            Some((_, Author::Known(index))) => {
                Some(*index).filter(in_window).map(Step::Definite).into_iter().collect()
            }
            Some((revision, Author::OneOf(candidates))) => {
                let open = candidates.iter().filter(|candidate| self.is_open(**candidate, window));
                open.map(|candidate| Step::Maybe(*candidate, Some(*revision))).collect()
            }
        }
    }

    /// Whether a commit of unknown outcome may happen now, if its guards hold.
    fn is_open(&self, index: usize, window: &Window) -> bool {
        !self.is_used(index)
            && self.maybe(index).is_some_and(|maybe| {
                maybe.invoked < window.deadline && maybe.twin.is_none_or(|twin| self.is_used(twin))
            })
    }

    /// Commits of unknown outcome whose revision no definite operation saw, where they can matter.
    fn hidden_steps(&self) -> Vec<Step> {
        let window = self.window();
        let mut steps = Vec::new();
        let revealing = self.revealing_steps(&window);
        let next: Vec<_> = revealing.iter().copied().chain(self.lookers(&window)).collect();
        for (index, maybe) in self.problem.maybe.iter().enumerate() {
            if maybe.seen || !self.is_open(index, &window) || !self.is_legal(Step::Maybe(index, None)) {
                continue;
            }
            let next = next.iter().filter_map(|step| self.next(*step));
            if worth_trying(maybe, next, self.problem, |other| self.is_open(other, &window), &self.state) {
                steps.push(Step::Maybe(index, None));
            }
            let demanded = maybe.writes.iter().filter(|(_, put)| put.is_some()).flat_map(|(key, _)| {
                let between = (*key, self.state.newest.saturating_add(1))..(*key, self.next_revision());
                self.problem.demanded.range(between).map(|(_, revision)| *revision)
            });
            steps.extend(demanded.map(|revision| Step::Maybe(index, Some(revision))));
        }
        // The last is tried first: of those that do the least besides, the one that began first.
        steps.reverse();
        steps.sort_by_key(|step| std::cmp::Reverse(self.next(*step).map_or(0, |next| next.writes.len())));
        steps
    }

    fn next_revision(&self) -> u64 {
        self.problem.puts.get(self.next_put).map_or(u64::MAX, |(revision, _)| *revision)
    }

    fn lookers(&self, window: &Window) -> impl Iterator<Item = Step> {
        let looks = |index: &&usize| {
            self.definite(**index).is_some_and(|definite| !matches!(definite.kind, Kind::Put(_)))
        };
        window.definite.iter().filter(looks).map(|index| Step::Definite(*index))
    }

    fn next(&self, step: Step) -> Option<Next<'a>> {
        match step {
            Step::Definite(index) => self.definite(index).map(|definite| Next {
                facts: &definite.facts,
                writes: &definite.writes,
                erases: matches!(definite.kind, Kind::Erase(_)),
            }),
            Step::Maybe(index, _) => self.maybe(index).map(|maybe| Next {
                facts: &maybe.facts,
                writes: &maybe.writes,
                erases: false,
            }),
        }
    }

    /// Whether the state allows the step.
    fn is_legal(&self, step: Step) -> bool {
        let newest = self.state.newest;
        let (facts, writes, sees, in_order) = match step {
            Step::Definite(index) => {
                let Some(definite) = self.definite(index) else { return false };
                let in_order = match definite.kind {
                    Kind::Look(stamp) => stamp.is_none_or(|stamp| newest <= stamp),
                    Kind::Erase(stamp) if self.erases_something(definite) => newest < stamp,
                    Kind::Erase(stamp) => newest <= stamp,
                    Kind::Put(stamp) => newest < stamp,
                };
                (&definite.facts, &definite.writes, definite.sees.as_slice(), in_order)
            }
            Step::Maybe(index, revision) => {
                let Some(maybe) = self.maybe(index) else { return false };
                let in_order = revision.is_none_or(|revision| newest < revision);
                (&maybe.facts, &maybe.writes, [].as_slice(), in_order)
            }
        };
        in_order
            && facts.iter().all(|fact| fact.holds(&self.state))
            && !writes.iter().any(|(key, _)| self.is_expected(*key, sees))
    }

    /// Whether an operation, other than the one that sees `sees`, has yet to see the key as it is: it will not come back.
    fn is_expected(&self, key: usize, sees: &[usize]) -> bool {
        self.expected_version(key, sees).is_some()
    }

    fn expected_version(&self, key: usize, sees: &[usize]) -> Option<usize> {
        let version = self.state.cell(key).and_then(|cell| Some((key, cell.revision?)));
        let place = version.and_then(|version| self.problem.versions.binary_search(&version).ok());
        place.filter(|place| {
            let by_itself = usize::from(sees.contains(place));
            self.expected.get(*place).is_some_and(|expected| *expected > by_itself)
        })
    }

    /// The first operation that has yet to see what one of the writes would replace.
    pub(super) fn expecting(&self, writes: &[Change], sees: &[usize]) -> Option<&'a Definite> {
        let version = writes.iter().find_map(|(key, _)| self.expected_version(*key, sees))?;
        let mut left = self.left.iter().filter_map(|index| self.definite(index));
        left.find(|definite| definite.sees.contains(&version) && definite.sees != sees)
    }

    fn expect_versions(&mut self, definite: &Definite, expected: bool) {
        for version in &definite.sees {
            if let Some(count) = self.expected.get_mut(*version) {
                *count = if expected { *count + 1 } else { count.saturating_sub(1) };
            }
        }
    }

    fn apply(&mut self, step: Step) {
        self.order.push(step);
        match step {
            Step::Definite(index) => {
                self.left.remove(index);
                self.trail.push(Undo::Placed(index));
                self.fingerprint ^= mix([1, as_u64(index), 0, 0]);
                let Some(definite) = self.definite(index) else { return };
                self.expect_versions(definite, false);
                let revision = match definite.kind {
                    Kind::Look(stamp) => stamp,
                    Kind::Erase(stamp) | Kind::Put(stamp) => Some(stamp),
                };
                self.write(&definite.writes, revision);
            }
            Step::Maybe(index, revision) => {
                if let Some(word) = self.used.get_mut(index / 64) {
                    *word |= 1 << (index % 64);
                }
                self.trail.push(Undo::Used(index));
                let Some(maybe) = self.maybe(index) else { return };
                self.write(&maybe.writes, revision);
            }
        }
        self.advance();
    }

    fn write(&mut self, writes: &[Change], revision: Option<u64>) {
        for (key, put) in writes {
            let Some(cell) = self.state.cells.get_mut(*key) else { continue };
            let new = put.map(|value| Cell { value, revision });
            self.fingerprint ^= cell_print(*key, *cell) ^ cell_print(*key, new);
            self.trail.push(Undo::Cell(*key, std::mem::replace(cell, new)));
        }
        self.state.newest = revision.unwrap_or(self.state.newest).max(self.state.newest);
    }

    /// Finds what is next to tell a revision.
    fn advance(&mut self) {
        let newest = self.state.newest;
        while self.problem.puts.get(self.next_put).is_some_and(|(revision, _)| *revision <= newest) {
            self.next_put += 1;
        }
        let stamped = &self.problem.stamped;
        while stamped.get(self.next_stamped).is_some_and(|(_, index)| self.left.is_out(*index)) {
            self.next_stamped += 1;
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            trail: self.trail.len(),
            order: self.order.len(),
            newest: self.state.newest,
            next_put: self.next_put,
            next_stamped: self.next_stamped,
            fingerprint: self.fingerprint,
        }
    }

    fn rewind(&mut self, mark: Mark) {
        while self.trail.len() > mark.trail {
            match self.trail.pop() {
                Some(Undo::Placed(index)) => {
                    self.left.put_back(index);
                    self.definite(index)
                        .into_iter()
                        .for_each(|definite| self.expect_versions(definite, true));
                }
                Some(Undo::Used(index)) => {
                    if let Some(word) = self.used.get_mut(index / 64) {
                        *word &= !(1 << (index % 64));
                    }
                }
                Some(Undo::Cell(key, old)) => {
                    if let Some(cell) = self.state.cells.get_mut(key) {
                        *cell = old;
                    }
                }
                None => return,
            }
        }
        self.order.truncate(mark.order);
        self.state.newest = mark.newest;
        self.next_put = mark.next_put;
        self.next_stamped = mark.next_stamped;
        self.fingerprint = mark.fingerprint;
    }
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn cell_print(key: usize, cell: Option<Cell>) -> u128 {
    cell.map_or(0, |Cell { value, revision }| {
        let revision = revision.map_or(0, |revision| revision.wrapping_add(1));
        mix([2 + (as_u64(key) << 2), as_u64(value), revision, 0])
    })
}

/// 128 bits of which two different inputs will never have the same, as far as any test can tell.
fn mix(words: [u64; 4]) -> u128 {
    let (mut high, mut low) = (0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b);
    for word in words {
        high = split_mix(&mut (high ^ word));
        low = split_mix(&mut (low ^ word));
    }
    u128::from(high) << 64 | u128::from(low)
}
