//! What a check finds. No I/O, no clock, no async.

use std::fmt;

use super::Operation;
use crate::store::Revision;

/// The history is linearizable, and this is how.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// An order that explains everything, as indices into [`History::operations`](super::History::operations).
    ///
    /// Calls that did nothing are not in it, nor those of unknown outcome that need not have happened.
    pub order: Vec<usize>,
    /// How many configurations the search went through.
    pub configurations: usize,
}

/// The history is not linearizable, as far as the check could tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// These replies cannot be true together, whatever the order.
    Contradiction {
        /// What is wrong with them.
        what: String,
        /// The operations that contradict each other.
        operations: Vec<Operation>,
    },
    /// No order explains all replies.
    NoOrder {
        /// How many operations the longest order that was found explains.
        explained: usize,
        /// The newest revision at its end.
        revision: Revision,
        /// The last operations in it.
        last: Vec<Operation>,
        /// Those of which one has to be next, and why it cannot.
        blocked: Vec<Blocked>,
    },
    /// The search was given up, after so many configurations.
    Undecided {
        /// How many.
        configurations: usize,
    },
}

/// An operation that cannot be next in the order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocked {
    /// Which operation.
    pub operation: Operation,
    /// Why it cannot be next.
    pub why: String,
    /// The operation that stands in its way, if there is one.
    pub other: Option<Operation>,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.why)?;
        self.other.as_ref().map_or(Ok(()), |other| write!(f, "\n    {other}"))
    }
}

impl Violation {
    /// The operations that cannot be ordered; none if the search was given up.
    pub fn operations(&self) -> Vec<&Operation> {
        match self {
            Self::Contradiction { operations, .. } => operations.iter().collect(),
            Self::NoOrder { blocked, .. } => {
                blocked.iter().flat_map(|one| std::iter::once(&one.operation).chain(&one.other)).collect()
            }
            Self::Undecided { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contradiction { what, operations } => {
                write!(f, "not linearizable: {what}")?;
                operations.iter().try_for_each(|operation| write!(f, "\n  {operation}"))
            }
            Self::NoOrder { explained, revision, last, blocked } => {
                write!(
                    f,
                    "not linearizable: at best {explained} operations can be ordered, up to revision "
                )?;
                write!(f, "{revision}; the last of them:")?;
                last.iter().try_for_each(|operation| write!(f, "\n  {operation}"))?;
                write!(f, "\nthen one of these has to be next, and none can:")?;
                blocked.iter().try_for_each(|one| write!(f, "\n  {one}"))
            }
            Self::Undecided { configurations } => {
                write!(
                    f,
                    "undecided after {configurations} configurations: record fewer unknown outcomes, "
                )?;
                f.write_str("write unique values, or allow more")
            }
        }
    }
}

impl std::error::Error for Violation {}
