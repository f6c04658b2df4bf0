//! What one operation says about the state at its instant. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::ops::{Bound, Range};

use super::facts::{Change, Fact, KeyId, Names};
use super::problem::{Definite, Kind, Maybe, Sighting};
use super::{Call, Operation, Outcome};
use crate::store::{Conflict, Guard, Key, Record, ScanPage, ScanRequest, Txn, Write};

/// What an operation means for the search.
pub(super) enum Translated {
    /// It is in every order.
    Definite(Definite),
    /// It may be in an order.
    Maybe(Maybe),
    /// It did nothing and says nothing.
    Nothing,
}

/// All keys and values that occur.
pub(super) fn names(operations: &[Operation], initial: &[Record]) -> Names {
    let (mut keys, mut values) = (BTreeSet::new(), BTreeSet::new());
    let mut records: Vec<&Record> = initial.iter().collect();
    for operation in operations {
        match &operation.call {
            Call::Commit(txn) => {
                keys.extend(txn.guards().map(|(key, _)| key.clone()));
                for (key, write) in txn.writes() {
                    keys.insert(key.clone());
                    values.extend(match write {
                        Write::Put(value) => Some(value.clone()),
                        Write::Delete => None,
                    });
                }
            }
            Call::Get(key, _) => {
                keys.insert(key.clone());
            }
            Call::Scan(_) | Call::Revision => {}
        }
        match &operation.completed {
            Some((_, Outcome::Found(Some(record)))) => records.push(record),
            Some((_, Outcome::Page(page))) => records.extend(&page.records),
            Some((_, Outcome::Conflict(Some(conflict)))) => {
                keys.insert(conflict.key.clone());
            }
            _ => {}
        }
    }
    for record in records {
        keys.insert(record.key.clone());
        values.insert(record.value.clone());
    }
    Names { keys: keys.into_iter().collect(), values: values.into_iter().collect() }
}

/// What `operation` says; the revisions that it shows are added to `seen`.
///
/// # Errors
/// What is wrong with the reply in itself.
pub(super) fn translate(
    index: usize,
    operation: &Operation,
    names: &Names,
    seen: &mut Vec<Sighting>,
) -> Result<Translated, &'static str> {
    let Some((completed, outcome)) = &operation.completed else {
        return Ok(unknown(index, operation, names));
    };
    let (mut facts, mut writes) = (Vec::new(), Vec::new());
    let kind = match (&operation.call, outcome) {
        (_, Outcome::NotStarted) => return Ok(Translated::Nothing),
        (_, Outcome::Unknown) => return Ok(unknown(index, operation, names)),
        (Call::Commit(txn), Outcome::Committed(revision)) => {
            facts = guards(txn, names);
            writes = changes(txn, names);
            let revision = revision.as_u64();
            match writes.as_slice() {
                [] => Kind::Look(Some(revision)),
                writes if writes.iter().all(|(_, put)| put.is_none()) => Kind::Erase(revision),
                _ => Kind::Put(revision),
            }
        }
        (Call::Commit(txn), Outcome::Conflict(conflict)) => {
            facts = refusal(txn, conflict.as_ref(), names)?;
            Kind::Look(None)
        }
        (Call::Get(key, at), Outcome::Found(found)) => {
            facts = found_at(key, found.as_ref(), names)?;
            if at.is_some() {
                facts = past(index, &facts, seen);
            }
            Kind::Look(None)
        }
        (Call::Scan(request), Outcome::Page(page)) => {
            facts = listed(request, page, names)?;
            if request.at.is_some() {
                facts = past(index, &facts, seen);
            }
            Kind::Look(request.at.is_none().then_some(page.revision.as_u64()))
        }
        (Call::Revision, Outcome::Newest(revision)) => Kind::Look(Some(revision.as_u64())),
        _ => return Err("the reply does not fit the call"),
    };
    seen.extend(facts.iter().filter_map(|fact| sighting(index, fact)));
    let (operation, invoked) = (index, operation.invoked);
    let (completed, sees) = (*completed, Vec::new());
    Ok(Translated::Definite(Definite { operation, invoked, completed, facts, kind, writes, sees }))
}

fn unknown(index: usize, operation: &Operation, names: &Names) -> Translated {
    let Call::Commit(txn) = &operation.call else { return Translated::Nothing };
    Translated::Maybe(Maybe {
        operation: index,
        invoked: operation.invoked,
        facts: guards(txn, names),
        writes: changes(txn, names),
        twin: None,
        seen: false,
        noticeable: false,
        before: Vec::new(),
    })
}

fn guards(txn: &Txn, names: &Names) -> Vec<Fact> {
    txn.guards().map(|(key, guard)| Fact::of_guard(names.key(key), guard)).collect()
}

fn changes(txn: &Txn, names: &Names) -> Vec<Change> {
    let change = |write: &Write| match write {
        Write::Put(value) => Some(names.value(value)),
        Write::Delete => None,
    };
    txn.writes().map(|(key, write)| (names.key(key), change(write))).collect()
}

/// What a conflict says: the guards before the named one hold, and that one does not.
fn refusal(txn: &Txn, conflict: Option<&Conflict>, names: &Names) -> Result<Vec<Fact>, &'static str> {
    let Some(Conflict { key: named, found }) = conflict else {
        let all: Vec<_> = txn.guards().map(|(key, guard)| (names.key(key), guard)).collect();
        return Ok(vec![Fact::Fails(all)]);
    };
    let mut facts = Vec::new();
    for (key, guard) in txn.guards() {
        let id = names.key(key);
        if key != named {
            facts.push(Fact::of_guard(id, guard));
            continue;
        }
        if guard.holds(*found) {
            return Err("the guard holds of what the conflict found");
        }
        facts.push(Fact::of_guard(id, found.map_or(Guard::Absent, Guard::Unchanged)));
        return Ok(facts);
    }
    Err("the conflict names a key that has no guard")
}

fn of_record(record: &Record, names: &Names) -> Fact {
    Fact::At {
        key: names.key(&record.key),
        revision: record.mod_revision.as_u64(),
        value: Some(names.value(&record.value)),
    }
}

fn found_at(key: &Key, found: Option<&Record>, names: &Names) -> Result<Vec<Fact>, &'static str> {
    match found {
        Some(record) if record.key != *key => Err("the get found another key"),
        Some(record) => Ok(vec![of_record(record, names)]),
        None => Ok(vec![Fact::of_guard(names.key(key), Guard::Absent)]),
    }
}

/// The keys that a page may show.
fn asked(request: &ScanRequest, names: &Names) -> Range<KeyId> {
    let place = |bound: Bound<Key>, open: usize| match bound {
        Bound::Unbounded => open,
        Bound::Included(bound) | Bound::Excluded(bound) => names.keys.partition_point(|key| *key < bound),
    };
    let (first, last) = request.prefix.range();
    let after = request.after.as_ref().map_or(0, |after| names.keys.partition_point(|key| key <= after));
    let start = place(first, 0).max(after);
    start..place(last, names.keys.len()).max(start)
}

fn listed(request: &ScanRequest, page: &ScanPage, names: &Names) -> Result<Vec<Fact>, &'static str> {
    let Range { mut start, end } = asked(request, names);
    let mut facts = Vec::new();
    for record in &page.records {
        let key = names.key(&record.key);
        if !(start..end).contains(&key) {
            return Err("the page is out of order, or shows keys that were not asked for");
        }
        facts.extend((start < key).then_some(Fact::Absent(start..key)));
        facts.push(of_record(record, names));
        start = key + 1;
    }
    match page.more {
        true => facts.push(Fact::Present(start..end)),
        false => facts.extend((start < end).then_some(Fact::Absent(start..end))),
    }
    Ok(facts)
}

/// What a read of the past says about the present: that what it saw has been committed.
fn past(index: usize, facts: &[Fact], seen: &mut Vec<Sighting>) -> Vec<Fact> {
    let sightings = facts.iter().filter_map(|fact| sighting(index, fact));
    let reached = sightings.map(|sighting| {
        let revision = sighting.revision;
        seen.push(sighting);
        Fact::Reached(revision)
    });
    reached.collect()
}

fn sighting(operation: usize, fact: &Fact) -> Option<Sighting> {
    let Fact::At { key, revision, value } = *fact else { return None };
    Some(Sighting { operation, revision, key, value })
}
