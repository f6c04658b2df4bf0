//! Which commits of unknown outcome are worth trying although nobody saw their revision. No I/O, no clock, no async.
//!
//! Any order stays valid if such a commit moves behind its successor, as long as neither notices; and if nobody at all
//! notices it, it need not have happened. So it is tried only directly before an operation that it matters to, which
//! keeps the search from trying every subset of them at every point.

use std::ops::Range;

use super::facts::{Change, Fact, KeyId, State};
use super::problem::{Kind, Maybe, Problem};

/// What may come directly after a commit of unknown outcome.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next<'a> {
    pub(super) facts: &'a [Fact],
    pub(super) writes: &'a [Change],
    /// Whether it wants to know if what it deletes exists.
    pub(super) erases: bool,
}

impl<'a> Next<'a> {
    fn maybe(maybe: &'a Maybe) -> Self {
        Self { facts: &maybe.facts, writes: &maybe.writes, erases: false }
    }
}

/// Whether the two cannot simply change places. Without a state, whether that can ever be.
pub(super) fn matters(first: &Maybe, next: Next<'_>, state: Option<&State>) -> bool {
    let writes = |key: KeyId| next.writes.iter().any(|(written, _)| *written == key);
    first.writes.iter().any(|change| {
        next.facts.iter().any(|fact| can_fulfil(*change, fact, state))
            || (next.erases && change.1.is_none() && writes(change.0) && changes(*change, state))
            // A single write that is overwritten unseen might as well not have happened.
            || (first.writes.len() > 1 && writes(change.0))
    }) || first.facts.iter().filter_map(guarded).any(writes)
}

/// Whether the change creates the key, or deletes what exists.
fn changes((key, put): Change, state: Option<&State>) -> bool {
    state.is_none_or(|state| state.exists(key) != put.is_some())
}

fn can_fulfil(change: Change, fact: &Fact, state: Option<&State>) -> bool {
    let (key, put) = change;
    match fact {
        Fact::Absent(keys) => put.is_none() && keys.contains(&key) && changes(change, state),
        Fact::Present(keys) => put.is_some() && keys.contains(&key) && changes(change, state),
        Fact::Fails(guards) => guards.iter().any(|(guarded, _)| *guarded == key),
        Fact::At { .. } | Fact::Reached(_) => false,
    }
}

fn guarded(fact: &Fact) -> Option<KeyId> {
    match fact {
        Fact::At { key, .. } => Some(*key),
        Fact::Absent(keys) | Fact::Present(keys) => Some(keys.start),
        Fact::Fails(_) | Fact::Reached(_) => None,
    }
}

/// For each key, whether something would change if it did not exist, or did.
struct Interest {
    absent: Vec<bool>,
    present: Vec<bool>,
}

impl Interest {
    fn new(problem: &Problem) -> Self {
        let keys = problem.names.keys.len();
        let (mut absent, mut present) = (Vec::new(), Vec::new());
        let definite = problem.definite.iter().flat_map(|definite| &definite.facts);
        for fact in definite.chain(problem.maybe.iter().flat_map(|maybe| &maybe.facts)) {
            match fact {
                Fact::Absent(range) => absent.push(range.clone()),
                Fact::Present(range) => present.push(range.clone()),
                Fact::Fails(guards) => {
                    absent.extend(guards.iter().map(|(key, _)| *key..key + 1));
                    present.extend(guards.iter().map(|(key, _)| *key..key + 1));
                }
                Fact::At { .. } | Fact::Reached(_) => {}
            }
        }
        for definite in problem.definite.iter().filter(|definite| matches!(definite.kind, Kind::Erase(_))) {
            absent.extend(definite.writes.iter().map(|(key, _)| *key..key + 1));
        }
        Self { absent: covered(&mut absent, keys), present: covered(&mut present, keys) }
    }

    fn in_any(&self, writes: &[Change]) -> bool {
        writes.iter().any(|(key, put)| {
            let of = if put.is_some() { &self.present } else { &self.absent };
            of.get(*key).copied().unwrap_or(false)
        })
    }
}

/// For each number below `len`, whether one of the ranges holds it.
fn covered(ranges: &mut [Range<usize>], len: usize) -> Vec<bool> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut ranges = ranges.iter().peekable();
    let mut end = 0;
    let covered = (0..len).map(|number| {
        while let Some(range) = ranges.next_if(|range| range.start <= number) {
            end = end.max(range.end);
        }
        number < end
    });
    covered.collect()
}

/// Finds out once what does not depend on the state.
pub(super) fn prepare(problem: &mut Problem) {
    let interest = Interest::new(problem);
    for maybe in &mut problem.maybe {
        maybe.noticeable = !maybe.seen && interest.in_any(&maybe.writes);
    }
    let before = |first: &Maybe| -> Vec<usize> {
        if !first.noticeable {
            return Vec::new();
        }
        let others = problem.maybe.iter().enumerate();
        let after = others.filter(|(_, other)| other.operation != first.operation);
        after.filter(|(_, other)| matters(first, Next::maybe(other), None)).map(|(index, _)| index).collect()
    };
    let before: Vec<_> = problem.maybe.iter().map(before).collect();
    for (maybe, before) in problem.maybe.iter_mut().zip(before) {
        maybe.before = before;
    }
}

/// Whether to try `first`, whose revision nobody saw, in this state: what may come next is `next` or, of the other
/// commits of unknown outcome, what is `open`.
pub(super) fn worth_trying<'a>(
    first: &Maybe,
    mut next: impl Iterator<Item = Next<'a>>,
    problem: &Problem,
    open: impl Fn(usize) -> bool,
    state: &State,
) -> bool {
    first.noticeable
        && (next.any(|next| matters(first, next, Some(state)))
            || first.before.iter().filter(|other| open(**other)).any(|other| {
                let other = problem.maybe.get(*other);
                other.is_some_and(|other| matters(first, Next::maybe(other), Some(state)))
            }))
}
