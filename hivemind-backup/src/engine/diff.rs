//! What changed between two sorted lists, and what several lists say together. No I/O, no clock, no async.

use std::cmp::Ordering;

use hivemind_core::store::{Key, Record, Revision};

use crate::format::Change;

/// What the heads of two sorted lists say, the base's keys and the present records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The present record is new or changed; the flag says whether the base had the key.
    Put { in_base: bool },
    /// Both have the key, unchanged.
    Same,
    /// The base's key is gone.
    Delete,
    /// The present record is older than the base, which lacks it: they are not of one history.
    Diverged,
    /// Both lists are at their end.
    End,
}

/// Compares the heads; `since` is the revision of the base.
pub(crate) fn step(base: Option<&Key>, present: Option<&Record>, since: Revision) -> Step {
    match (base, present) {
        (None, None) => Step::End,
        (Some(_), None) => Step::Delete,
        (None, Some(record)) => fresh(record, since),
        (Some(key), Some(record)) => match key.cmp(&record.key) {
            Ordering::Less => Step::Delete,
            Ordering::Equal if record.mod_revision > since => Step::Put { in_base: true },
            Ordering::Equal => Step::Same,
            Ordering::Greater => fresh(record, since),
        },
    }
}

fn fresh(record: &Record, since: Revision) -> Step {
    if record.mod_revision > since { Step::Put { in_base: false } } else { Step::Diverged }
}

/// Of the heads of a chain's lists, oldest first: the smallest key there is, and the newest list that has it.
pub(crate) fn newest(heads: &[Option<Change>]) -> Option<(Key, usize)> {
    let key = heads.iter().flatten().map(Change::key).min()?.clone();
    let index = heads.iter().rposition(|head| head.as_ref().is_some_and(|change| *change.key() == key))?;
    Some((key, index))
}
