//! Every order there is.

use std::collections::BTreeSet;

use super::model::Model;
use crate::store::{Guard, Revision};
use crate::testkit::linearizable::{Call, Operation, Outcome};

/// Whether some order of some of the unknown and all of the other operations explains everything.
pub(super) fn linearizable(operations: &[Operation]) -> bool {
    let revisions: Vec<_> =
        operations.iter().flat_map(mentioned).collect::<BTreeSet<_>>().into_iter().collect();
    let left: Vec<_> = operations.iter().filter(|operation| counts(operation)).collect();
    explained(&Model::default(), &left, &revisions)
}

fn counts(operation: &Operation) -> bool {
    match &operation.completed {
        Some((_, Outcome::NotStarted)) => false,
        None | Some((_, Outcome::Unknown)) => matches!(operation.call, Call::Commit(_)),
        Some(_) => true,
    }
}

fn ends(operation: &Operation) -> Option<u64> {
    operation.completed.as_ref().filter(|(_, outcome)| *outcome != Outcome::Unknown).map(|(end, _)| *end)
}

fn mentioned(operation: &Operation) -> Vec<Revision> {
    let mut all = Vec::new();
    if let Call::Commit(txn) = &operation.call {
        all.extend(txn.guards().filter_map(|(_, guard)| match guard {
            Guard::Unchanged(at) => Some(at),
            Guard::Absent | Guard::Exists => None,
        }));
    }
    match &operation.completed {
        Some((_, Outcome::Found(Some(record)))) => all.push(record.mod_revision),
        Some((_, Outcome::Page(page))) => all.extend(page.records.iter().map(|record| record.mod_revision)),
        Some((_, Outcome::Conflict(Some(conflict)))) => all.extend(conflict.found),
        Some((_, Outcome::Committed(revision) | Outcome::Newest(revision))) => all.push(*revision),
        _ => {}
    }
    all
}

fn explained(model: &Model, left: &[&Operation], revisions: &[Revision]) -> bool {
    let Some(deadline) = left.iter().filter_map(|operation| ends(operation)).min() else { return true };
    (0..left.len()).filter(|n| left[*n].invoked < deadline).any(|n| {
        let mut rest = left.to_vec();
        let next = rest.remove(n);
        let known = ends(next).is_some();
        let choices = revisions.iter().copied().filter(|_| !known).map(Some);
        choices
            .chain([None])
            .any(|at| model.after(next, at).is_some_and(|after| explained(&after, &rest, revisions)))
    })
}
