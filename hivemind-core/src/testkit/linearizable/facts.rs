//! The model that a history is held against: a map, and what a reply says about it. No I/O, no clock, no async.

use std::ops::Range;

use bytes::Bytes;

use super::history::shown;
use crate::store::{Guard, Key};

/// A key, by its place in the order of all keys of the history.
pub(super) type KeyId = usize;
/// A value, by its place among all values of the history.
pub(super) type ValueId = usize;
/// What becomes of a key; `None` deletes it.
pub(super) type Change = (KeyId, Option<ValueId>);

/// All keys and values of a history, in order.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) keys: Vec<Key>,
    pub(super) values: Vec<Bytes>,
}

impl Names {
    pub(super) fn key(&self, key: &Key) -> KeyId {
        self.keys.binary_search(key).unwrap_or_else(|place| place)
    }

    pub(super) fn value(&self, value: &Bytes) -> ValueId {
        self.values.binary_search(value).unwrap_or_else(|place| place)
    }

    pub(super) fn key_name(&self, key: KeyId) -> String {
        self.keys.get(key).map_or_else(|| "?".to_owned(), ToString::to_string)
    }

    fn cell_name(&self, key: KeyId, cell: Option<Cell>) -> String {
        let name = self.key_name(key);
        let Some(Cell { value, revision }) = cell else { return format!("there is no {name}") };
        let value = self.values.get(value).map_or_else(|| "?".to_owned(), |value| shown(value));
        match revision {
            Some(revision) => format!("there is {name}={value}@{revision}"),
            None => format!("there is {name}={value} at a revision that nobody saw"),
        }
    }
}

/// A key that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) value: ValueId,
    /// `None` if it was put by a commit of unknown outcome, and nobody was ever told at which revision.
    pub(super) revision: Option<u64>,
}

/// The state of the store, at some point of an order.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) cells: Vec<Option<Cell>>,
    /// The newest revision that somebody was told of.
    pub(super) newest: u64,
}

impl State {
    pub(super) fn cell(&self, key: KeyId) -> Option<Cell> {
        self.cells.get(key).copied().flatten()
    }

    pub(super) fn exists(&self, key: KeyId) -> bool {
        self.cell(key).is_some()
    }

    fn first_in(&self, range: &Range<KeyId>) -> Option<KeyId> {
        let cells = self.cells.get(range.clone()).unwrap_or_default();
        cells.iter().position(Option::is_some).map(|offset| range.start + offset)
    }

    fn guard_holds(&self, key: KeyId, guard: Guard) -> bool {
        match (guard, self.cell(key)) {
            (Guard::Absent, cell) => cell.is_none(),
            (Guard::Exists, cell) => cell.is_some(),
            (Guard::Unchanged(at), cell) => cell.is_some_and(|cell| cell.revision == Some(at.as_u64())),
        }
    }
}

/// Something that is true at the instant at which an operation takes effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact {
    /// The key was last put at this revision, and has this value if that was told.
    At { key: KeyId, revision: u64, value: Option<ValueId> },
    /// None of the keys exists.
    Absent(Range<KeyId>),
    /// At least one of the keys exists.
    Present(Range<KeyId>),
    /// At least one of the guards does not hold.
    Fails(Vec<(KeyId, Guard)>),
    /// This revision, at which something was put, is no longer in the future.
    Reached(u64),
}

impl Fact {
    pub(super) fn of_guard(key: KeyId, guard: Guard) -> Self {
        match guard {
            Guard::Absent => Self::Absent(key..key + 1),
            Guard::Exists => Self::Present(key..key + 1),
            Guard::Unchanged(at) => Self::At { key, revision: at.as_u64(), value: None },
        }
    }

    /// The key, and the revision at which it must last have been put.
    pub(super) fn version(&self) -> Option<(KeyId, u64)> {
        match self {
            Self::At { key, revision, .. } => Some((*key, *revision)),
            _ => None,
        }
    }

    pub(super) fn holds(&self, state: &State) -> bool {
        match self {
            Self::At { key, revision, value } => state.cell(*key).is_some_and(|cell| {
                cell.revision == Some(*revision) && value.is_none_or(|value| value == cell.value)
            }),
            Self::Absent(keys) => state.first_in(keys).is_none(),
            Self::Present(keys) => state.first_in(keys).is_some(),
            Self::Fails(guards) => guards.iter().any(|(key, guard)| !state.guard_holds(*key, *guard)),
            Self::Reached(revision) => state.newest >= *revision,
        }
    }

    /// Why it does not hold.
    pub(super) fn why_not(&self, state: &State, names: &Names) -> String {
        match self {
            Self::At { key, .. } => names.cell_name(*key, state.cell(*key)),
            Self::Absent(keys) => {
                let key = state.first_in(keys).unwrap_or(keys.start);
                names.cell_name(key, state.cell(key))
            }
            Self::Present(keys) if keys.len() == 1 => names.cell_name(keys.start, None),
            Self::Present(_) => "there are no more keys".to_owned(),
            Self::Fails(_) => "every guard holds".to_owned(),
            Self::Reached(revision) => format!("revision {revision} has not been committed"),
        }
    }
}
