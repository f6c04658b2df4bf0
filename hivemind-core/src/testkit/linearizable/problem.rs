//! A history made ready for the search: who says what, and who wrote which revision. No I/O, no clock, no async.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Cell, Change, Fact, KeyId, Names, State, ValueId};
use super::translate::{Translated, names, translate};
use super::{History, Operation, Violation};
use super::{hidden, spans};
use crate::store::Record;

/// An operation whose reply is known, so that it must be in the order.
#[derive(Debug)]
pub(super) struct Definite {
    pub(super) operation: usize,
    pub(super) invoked: u64,
    pub(super) completed: u64,
    pub(super) facts: Vec<Fact>,
    pub(super) kind: Kind,
    pub(super) writes: Vec<Change>,
    /// Which of [`Problem::versions`] it sees.
    pub(super) sees: Vec<usize>,
}

/// What an operation does, and the revision that it tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Changes nothing, and was told the newest revision, or none.
    Look(Option<u64>),
    /// Deletes: gets the revision if one of the keys exists, else was told the newest one.
    Erase(u64),
    /// Puts at least one key, at this revision.
    Put(u64),
}

/// A commit of unknown outcome, so that it may be in the order, anywhere after its beginning.
#[derive(Debug)]
pub(super) struct Maybe {
    pub(super) operation: usize,
    pub(super) invoked: u64,
    pub(super) facts: Vec<Fact>,
    pub(super) writes: Vec<Change>,
    /// The one before that asks for exactly the same: it goes first, as it could change places with this one.
    pub(super) twin: Option<usize>,
    /// Whether it must have written a revision that somebody saw, as nobody else can have.
    pub(super) seen: bool,
    /// Whether anybody could notice it although its revision was never seen.
    pub(super) noticeable: bool,
    /// Other commits of unknown outcome whose order after this one may matter.
    pub(super) before: Vec<usize>,
}

/// Who wrote a revision.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Author {
    /// This definite operation.
    Known(usize),
    /// One of these commits of unknown outcome.
    OneOf(Vec<usize>),
}

/// A reply that shows what was put at a revision.
#[derive(Debug)]
pub(super) struct Sighting {
    pub(super) operation: usize,
    pub(super) revision: u64,
    pub(super) key: KeyId,
    pub(super) value: Option<ValueId>,
}

/// Everything the search needs.
#[derive(Debug, Default)]
pub(super) struct Problem {
    pub(super) operations: Vec<Operation>,
    pub(super) names: Names,
    pub(super) initial: State,
    /// In the order in which they began.
    pub(super) definite: Vec<Definite>,
    /// In the order in which they began.
    pub(super) maybe: Vec<Maybe>,
    /// The revisions that put something, in order; all of them are in every valid order.
    pub(super) puts: Vec<(u64, Author)>,
    /// The other definite operations that tell a revision, in its order.
    pub(super) stamped: Vec<(u64, usize)>,
    /// What definite operations see: keys, and when they were last put, in order.
    pub(super) versions: Vec<(KeyId, u64)>,
    /// Revisions that a commit of unknown outcome demands of a key, and that nobody is known to have written.
    pub(super) demanded: BTreeSet<(KeyId, u64)>,
}

impl Problem {
    /// # Errors
    /// [`Violation::Contradiction`] if no order at all could help.
    pub(super) fn new(history: &History) -> Result<Self, Violation> {
        let (operations, initial) = (history.operations(), history.initial());
        let mut problem = Self { names: names(&operations, &initial), ..Self::default() };
        problem.initial = initial_state(&initial, &problem.names);
        let mut seen = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            match translate(index, operation, &problem.names, &mut seen) {
                Ok(Translated::Definite(definite)) => problem.definite.push(definite),
                Ok(Translated::Maybe(maybe)) => problem.maybe.push(maybe),
                Ok(Translated::Nothing) => {}
                Err(what) => return Err(contradiction(what.to_owned(), [operation])),
            }
        }
        problem.operations = operations;
        let mut puts = problem.owned()?;
        problem.find_authors(&seen, &mut puts)?;
        problem.puts = puts.into_iter().collect();
        problem.settle_authors();
        problem.find_stamps();
        problem.find_versions();
        spans::check(&problem)?;
        problem.find_twins();
        problem.find_demands();
        hidden::prepare(&mut problem);
        Ok(problem)
    }

    /// The operation of that number, as evidence.
    pub(super) fn evidence(&self, operation: usize) -> Option<&Operation> {
        self.operations.get(operation)
    }

    /// The revisions of the commits that succeeded.
    fn owned(&self) -> Result<BTreeMap<u64, Author>, Violation> {
        let mut puts = BTreeMap::new();
        for (index, definite) in self.definite.iter().enumerate() {
            let Kind::Put(revision) = definite.kind else { continue };
            match puts.entry(revision) {
                Entry::Vacant(slot) => {
                    slot.insert(Author::Known(index));
                }
                Entry::Occupied(slot) => {
                    let Author::Known(other) = slot.get() else { continue };
                    let other = self.definite.get(*other).and_then(|other| self.evidence(other.operation));
                    let both = other.into_iter().chain(self.evidence(definite.operation));
                    return Err(contradiction(format!("two commits got revision {revision}"), both));
                }
            }
        }
        Ok(puts)
    }

    /// Checks what was seen against who wrote it; what nobody is known to have written, somebody may have.
    fn find_authors(&self, seen: &[Sighting], puts: &mut BTreeMap<u64, Author>) -> Result<(), Violation> {
        let initial: BTreeSet<_> = self.initial.cells.iter().flatten().filter_map(|c| c.revision).collect();
        for sighting in seen.iter().filter(|sighting| !initial.contains(&sighting.revision)) {
            let all = || (0..self.maybe.len()).filter(|n| self.may_be(*n, sighting)).collect();
            let author = puts.entry(sighting.revision).or_insert_with(|| Author::OneOf(all()));
            let (fits, known) = match author {
                Author::Known(index) => {
                    let known = self.definite.get(*index);
                    (known.is_some_and(|known| explains(&known.writes, sighting)), known)
                }
                Author::OneOf(candidates) => {
                    candidates.retain(|candidate| self.may_be(*candidate, sighting));
                    (!candidates.is_empty(), None)
                }
            };
            if !fits {
                let known = known.map(|known| known.operation);
                return Err(self.unexplained(sighting, known));
            }
        }
        Ok(())
    }

    /// Who is the only candidate for one revision, is none for another.
    fn settle_authors(&mut self) {
        loop {
            let mut settled = None;
            for (_, author) in &self.puts {
                if let Author::OneOf(candidates) = author
                    && let [only] = candidates.as_slice()
                    && self.maybe.get(*only).is_some_and(|maybe| !maybe.seen)
                {
                    settled = Some(*only);
                    break;
                }
            }
            let Some(settled) = settled else { return };
            self.maybe.get_mut(settled).into_iter().for_each(|maybe| maybe.seen = true);
            for (_, author) in &mut self.puts {
                if let Author::OneOf(candidates) = author
                    && candidates.len() > 1
                {
                    candidates.retain(|candidate| *candidate != settled);
                }
            }
        }
    }

    fn may_be(&self, candidate: usize, sighting: &Sighting) -> bool {
        sighting.revision > self.initial.newest
            && self.maybe.get(candidate).is_some_and(|maybe| explains(&maybe.writes, sighting))
    }

    fn unexplained(&self, sighting: &Sighting, known: Option<usize>) -> Violation {
        let key = self.names.key_name(sighting.key);
        let at = sighting.revision;
        let what = match known {
            Some(_) => format!("what {key} is seen to be at revision {at} is not what was committed there"),
            None => format!("nobody can have put what {key} is seen to be at revision {at}"),
        };
        let both = known.into_iter().chain([sighting.operation]);
        contradiction(what, both.filter_map(|operation| self.evidence(operation)))
    }

    fn find_stamps(&mut self) {
        let stamp = |(index, definite): (usize, &Definite)| match definite.kind {
            Kind::Look(stamp) => Some((stamp?, index)),
            Kind::Erase(stamp) => Some((stamp, index)),
            Kind::Put(_) => None,
        };
        self.stamped = self.definite.iter().enumerate().filter_map(stamp).collect();
        self.stamped.sort_unstable();
    }

    fn find_versions(&mut self) {
        let seen =
            |definite: &Definite| -> Vec<_> { definite.facts.iter().filter_map(Fact::version).collect() };
        self.versions = self.definite.iter().flat_map(seen).collect::<BTreeSet<_>>().into_iter().collect();
        for definite in &mut self.definite {
            let place = |version| self.versions.binary_search(&version).ok();
            definite.sees = seen(definite).into_iter().filter_map(place).collect();
        }
    }

    fn find_twins(&mut self) {
        let twin = |index: usize| {
            let (before, from) = self.maybe.split_at_checked(index)?;
            let this = from.first()?;
            before.iter().rposition(|other| other.facts == this.facts && other.writes == this.writes)
        };
        let twins: Vec<_> = (0..self.maybe.len()).map(twin).collect();
        for (maybe, twin) in self.maybe.iter_mut().zip(twins) {
            maybe.twin = twin;
        }
    }

    fn find_demands(&mut self) {
        let known: BTreeSet<_> = self.puts.iter().map(|(revision, _)| *revision).collect();
        let demanded = self.maybe.iter().flat_map(|maybe| &maybe.facts).filter_map(Fact::version);
        self.demanded = demanded.filter(|(_, revision)| !known.contains(revision)).collect();
    }
}

fn explains(writes: &[Change], sighting: &Sighting) -> bool {
    writes.iter().any(|(key, put)| {
        *key == sighting.key && put.is_some_and(|put| sighting.value.is_none_or(|value| value == put))
    })
}

fn contradiction<'a>(what: String, operations: impl IntoIterator<Item = &'a Operation>) -> Violation {
    Violation::Contradiction { what, operations: operations.into_iter().cloned().collect() }
}

fn initial_state(records: &[Record], names: &Names) -> State {
    let mut state = State { cells: vec![None; names.keys.len()], newest: 0 };
    for record in records {
        let revision = record.mod_revision.as_u64();
        state.newest = state.newest.max(revision);
        if let Some(cell) = state.cells.get_mut(names.key(&record.key)) {
            *cell = Some(Cell { value: names.value(&record.value), revision: Some(revision) });
        }
    }
    state
}
