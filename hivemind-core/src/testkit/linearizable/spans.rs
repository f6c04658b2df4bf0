//! What times and revisions alone rule out, whatever commits of unknown outcome did. No I/O, no clock, no async.
//!
//! Each definite operation can only be between two revisions: that of the newest thing it saw, and that at which
//! something it saw was replaced. One that began after another had ended must not be before it. This finds most stale
//! reads and lost updates at once, where the search might give up.

use std::collections::BTreeSet;

use super::facts::{Fact, KeyId};
use super::problem::{Definite, Kind, Problem};
use super::{Operation, Violation};

/// Between which revisions an operation can be.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Everything up to here was before it, or is by itself.
    from: u64,
    /// Nothing after this one was before it.
    to: u64,
    /// It is what makes the revision `to`, so that this was not before it either.
    makes: bool,
}

impl Span {
    fn new(definite: &Definite, replaced: &BTreeSet<(KeyId, u64)>) -> Self {
        let (from, to) = match definite.kind {
            Kind::Look(None) => (0, u64::MAX),
            Kind::Look(Some(stamp)) | Kind::Erase(stamp) | Kind::Put(stamp) => (stamp, stamp),
        };
        let mut span = Self { from, to, makes: matches!(definite.kind, Kind::Put(_)) };
        for fact in &definite.facts {
            match fact {
                Fact::At { key, revision, .. } => {
                    span.from = span.from.max(*revision);
                    let later = (*key, revision.saturating_add(1))..=(*key, u64::MAX);
                    if let Some((_, end)) = replaced.range(later).next() {
                        // What makes a revision sees the one before.
                        let own = span.makes && *end == to;
                        span.to = span.to.min(if own { *end } else { end.saturating_sub(1) });
                    }
                }
                Fact::Reached(revision) => span.from = span.from.max(*revision),
                Fact::Absent(_) | Fact::Present(_) | Fact::Fails(_) => {}
            }
        }
        span
    }

    /// Whether what has seen `revision` can be before it.
    fn allows(self, revision: u64) -> bool {
        if self.makes { revision < self.to } else { revision <= self.to }
    }
}

/// # Errors
/// [`Violation::Contradiction`] with the operations whose times and revisions contradict each other.
pub(super) fn check(problem: &Problem) -> Result<(), Violation> {
    let mut replaced: BTreeSet<_> = problem.versions.iter().copied().collect();
    for definite in &problem.definite {
        if let Kind::Put(revision) = definite.kind {
            replaced.extend(definite.writes.iter().map(|(key, _)| (*key, revision)));
        }
    }
    let spans: Vec<_> = problem.definite.iter().map(|definite| Span::new(definite, &replaced)).collect();
    let mut ended: Vec<_> = problem.definite.iter().zip(&spans).collect();
    ended.sort_unstable_by_key(|(definite, _)| definite.completed);
    let mut ended = ended.into_iter().peekable();
    let mut furthest: Option<(&Definite, u64)> = None;
    for (definite, span) in problem.definite.iter().zip(&spans) {
        while let Some((before, span)) = ended.next_if(|(before, _)| before.completed < definite.invoked) {
            if furthest.is_none_or(|(_, from)| from < span.from) {
                furthest = Some((before, span.from));
            }
        }
        if span.from > span.to {
            let what =
                format!("revision {} was over when revision {} came, and this saw both", span.to, span.from);
            return Err(contradiction(problem, what, [definite]));
        }
        if let Some((before, from)) = furthest.filter(|(_, from)| !span.allows(*from)) {
            let end = if span.makes { "before revision" } else { "at most at revision" };
            let what = format!(
                "the first is at least at revision {from}; the second began later, and is {end} {}",
                span.to
            );
            return Err(contradiction(problem, what, [before, definite]));
        }
    }
    Ok(())
}

fn contradiction<'a>(
    problem: &Problem,
    what: String,
    definite: impl IntoIterator<Item = &'a Definite>,
) -> Violation {
    let operations: Vec<Operation> =
        definite.into_iter().filter_map(|definite| problem.evidence(definite.operation)).cloned().collect();
    Violation::Contradiction { what, operations }
}
