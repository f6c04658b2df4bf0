//! Why a search could not go on. No I/O, no clock, no async.

use super::facts::{Change, Fact};
use super::problem::{Author, Definite, Kind, Maybe};
use super::search::{Search, Window};
use super::verdict::Blocked;
use super::{Operation, Violation};
use crate::store::Revision;

/// How many operations before the end are told.
const LAST: usize = 5;

/// Why something cannot be next, and what stands in its way.
type Reason<'a> = (String, Option<&'a Definite>);

impl Search<'_> {
    /// The order so far, and why none of the operations that have to be next can be.
    pub(super) fn explain(&self, window: &Window, explained: usize) -> Violation {
        let steps = self.order.get(self.order.len().saturating_sub(LAST)..).unwrap_or_default();
        let last = steps.iter().filter_map(|step| self.evidence(self.operation_of(*step)?)).collect();
        let mut blocked = Vec::new();
        for definite in window.definite.iter().filter_map(|index| self.definite(*index)) {
            let (why, other) = self.why_not(definite);
            blocked.extend(self.blocked(definite.operation, why, other));
        }
        if let Some((revision, Author::OneOf(candidates))) = self.problem.puts.get(self.next_put) {
            for candidate in candidates {
                let Some(maybe) = self.maybe(*candidate) else { continue };
                let (why, other) = self.why_not_maybe(*candidate, maybe, window);
                blocked.extend(self.blocked(
                    maybe.operation,
                    format!("as revision {revision}: {why}"),
                    other,
                ));
            }
        }
        Violation::NoOrder { explained, revision: Revision::new(self.state.newest), last, blocked }
    }

    fn evidence(&self, operation: usize) -> Option<Operation> {
        self.problem.evidence(operation).cloned()
    }

    fn blocked(&self, operation: usize, why: String, other: Option<&Definite>) -> Option<Blocked> {
        let other = other.and_then(|other| self.evidence(other.operation));
        Some(Blocked { operation: self.evidence(operation)?, why, other })
    }

    fn failing(&self, facts: &[Fact]) -> Option<String> {
        let failing = facts.iter().find(|fact| !fact.holds(&self.state))?;
        Some(failing.why_not(&self.state, &self.problem.names))
    }

    fn why_not_maybe(&self, index: usize, maybe: &Maybe, window: &Window) -> Reason<'_> {
        match self.failing(&maybe.facts) {
            _ if self.is_used(index) => ("it has happened before".to_owned(), None),
            _ if maybe.invoked > window.deadline => ("it has not begun".to_owned(), None),
            Some(why) => (why, None),
            None => self.future(&maybe.writes, &[]),
        }
    }

    fn why_not(&self, definite: &Definite) -> Reason<'_> {
        if let Some(why) = self.failing(&definite.facts) {
            return (why, None);
        }
        let newest = self.state.newest;
        let (stamp, taken) = match definite.kind {
            Kind::Look(None) => return self.future(&[], &[]),
            Kind::Look(Some(stamp)) => (stamp, false),
            Kind::Erase(stamp) => (stamp, stamp == newest && self.erases_something(definite)),
            Kind::Put(stamp) => (stamp, stamp == newest),
        };
        let first = self.first_revision().filter(|(first, _)| *first < stamp);
        match first {
            _ if stamp < newest => (format!("revision {newest} was before it"), None),
            _ if taken => (format!("revision {stamp} is another's"), None),
            Some((first, None)) => (format!("revision {first} has to come before it"), None),
            Some((_, first)) => ("before it has to come".to_owned(), first),
            None => self.future(&definite.writes, &definite.sees),
        }
    }

    /// What has to be the next to tell a revision.
    fn first_revision(&self) -> Option<(u64, Option<&Definite>)> {
        let put = self.problem.puts.get(self.next_put).map(|(revision, author)| match author {
            Author::Known(index) => (*revision, Some(*index)),
            Author::OneOf(_) => (*revision, None),
        });
        let stamped =
            self.problem.stamped.get(self.next_stamped).map(|(stamp, index)| (*stamp, Some(*index)));
        let (revision, index) = put.into_iter().chain(stamped).min_by_key(|(revision, _)| *revision)?;
        Some((revision, index.and_then(|index| self.definite(index))))
    }

    /// Nothing in the present stands in the way of the operation, so it is something that follows.
    fn future(&self, writes: &[Change], sees: &[usize]) -> Reason<'_> {
        match self.expecting(writes, sees) {
            Some(later) => ("what it replaces is yet to be seen by".to_owned(), Some(later)),
            None => ("nothing that follows fits".to_owned(), None),
        }
    }
}
