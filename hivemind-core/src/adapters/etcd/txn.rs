//! A transaction as etcd runs it, and what its reply means. No I/O, no clock, no async.

use bytes::Bytes;

use crate::store::{Conflict, Guard, Key, Limits, OverLimit, Revision, Txn, Write};
use crate::{Error, ErrorKind, Result};

/// etcd's `--max-txn-ops`, as it is by default.
const MAX_OPS: usize = 128;

/// If all of `when` holds, `then` is done, else `otherwise`.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    pub(super) when: Vec<(&'a Key, Guard)>,
    pub(super) then: Vec<Step<'a>>,
    pub(super) otherwise: Vec<Step<'a>>,
}

/// One operation.
#[derive(Debug)]
pub(super) enum Step<'a> {
    Put(&'a Key, &'a Bytes),
    Delete(&'a Key),
    /// Puts the clock: the transaction changes something. It comes last, so that a watch knows a transaction's end.
    Tick {
        deletes: usize,
    },
    /// Reads when the clock was last put.
    Newest,
    /// Reads when a key was last put.
    Find(&'a Key),
    Nested(Plan<'a>),
}

/// What etcd did.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) succeeded: bool,
    pub(super) answers: Vec<Answer>,
}

/// What one operation came to.
#[derive(Debug)]
pub(super) enum Answer {
    Written,
    /// When the key was last put, if it exists.
    Found(Option<Revision>),
    Nested(Reply),
}

impl<'a> Plan<'a> {
    /// How to commit `txn`.
    ///
    /// Deletes of missing keys change nothing, and only etcd knows whether the keys are missing. So a transaction that
    /// does nothing but delete asks first, within etcd.
    pub(super) fn of(txn: &'a Txn) -> Result<Self> {
        let guards: Vec<_> = txn.guards().collect();
        let certain = |(key, write): (&Key, &Write)| {
            let exists = |(guarded, guard): &(&Key, Guard)| *guarded == key && *guard != Guard::Absent;
            matches!(write, Write::Put(_)) || guards.iter().any(exists)
        };
        let deletes = txn.writes().filter(|(_, write)| **write == Write::Delete).count();
        let mut writes: Vec<_> = txn.writes().map(Step::of).collect();
        let then = if writes.is_empty() {
            vec![Step::Newest]
        } else {
            writes.push(Step::Tick { deletes });
            if txn.writes().any(certain) {
                writes
            } else {
                let when = txn.writes().map(|(key, _)| (key, Guard::Absent)).collect();
                let unless_missing = Plan { when, then: vec![Step::Newest], otherwise: writes };
                if guards.is_empty() {
                    return Ok(unless_missing);
                }
                vec![Step::Nested(unless_missing)]
            }
        };
        let otherwise = guards.iter().map(|(key, _)| Step::Find(key)).collect();
        let plan = Plan { when: guards, then, otherwise };
        match plan.operations() {
            found if found > MAX_OPS => {
                let what = "guards and deletes together, as etcd counts them";
                let detail = OverLimit { what, found, allowed: MAX_OPS };
                Err(Error::of(ErrorKind::Invalid, "commit", detail))
            }
            _ => Ok(plan),
        }
    }

    /// What etcd counts: the longest list here, and the longest below it.
    fn operations(&self) -> usize {
        let longest = self.when.len().max(self.then.len()).max(self.otherwise.len());
        let nested = self.then.iter().map(|step| match step {
            Step::Nested(plan) => plan.operations(),
            _ => 0,
        });
        longest + nested.max().unwrap_or(0)
    }

    /// Whether it writes in any case.
    pub(super) fn writes(&self) -> bool {
        self.then.iter().chain(&self.otherwise).any(|step| match step {
            Step::Put(..) | Step::Delete(_) | Step::Tick { .. } => true,
            Step::Newest | Step::Find(_) => false,
            Step::Nested(plan) => plan.writes(),
        })
    }

    /// What the commit answers: `reply`, from an etcd that is at `revision` now.
    pub(super) fn outcome(&self, reply: &Reply, revision: Revision) -> Result<Revision> {
        let steps = if reply.succeeded { &self.then } else { &self.otherwise };
        if steps.len() != reply.answers.len() {
            return Err(strange("it answered other operations than it was asked for"));
        }
        for (step, answer) in steps.iter().zip(&reply.answers) {
            match (step, answer) {
                (Step::Tick { .. }, Answer::Written) => return Ok(revision),
                (Step::Newest, Answer::Found(Some(newest))) => return Ok(*newest),
                (Step::Newest, _) => return Err(no_clock("commit")),
                (Step::Nested(plan), Answer::Nested(reply)) => return plan.outcome(reply, revision),
                _ => {}
            }
        }
        for ((key, guard), answer) in self.when.iter().zip(&reply.answers) {
            if let Answer::Found(found) = answer
                && !guard.holds(*found)
            {
                let detail = Conflict::new((*key).clone(), *found);
                return Err(Error::of(ErrorKind::Conflict, "commit", detail));
            }
        }
        Err(strange("it refused the guards, and all of them hold"))
    }
}

impl<'a> Step<'a> {
    fn of((key, write): (&'a Key, &'a Write)) -> Self {
        match write {
            Write::Put(value) => Self::Put(key, value),
            Write::Delete => Self::Delete(key),
        }
    }
}

/// The limits of an etcd with default settings; one operation is the clock's.
pub(super) fn limits() -> Limits {
    Limits::default()
}

/// The namespace has lost its clock.
pub(super) fn no_clock(operation: &'static str) -> Error {
    let message = "the clock of the namespace is gone: somebody emptied this etcd; connect anew";
    Error::new(ErrorKind::Corrupt, operation, message)
}

fn strange(what: &str) -> Error {
    Error::internal("commit", format!("etcd's reply makes no sense: {what}"))
}

#[cfg(test)]
mod tests;
