//! Why a resource is left as it is. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::store::Key;
use hivemind_core::{Error, TenantRef};
use serde::{Deserialize, Serialize};

/// The longest explanation that is kept, in characters.
const MAX_TEXT: usize = 300;

/// Why a resource is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AdoptionProblem {
    /// The host cannot read the record.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Rules give it to several tenants.
    #[error("rules give it to {}: narrow them down", .0.iter().map(|t| t.id.as_str()).collect::<Vec<_>>().join(" and to "))]
    Ambiguous(BTreeSet<TenantRef>),
    /// The tenant is gone, or being deleted.
    #[error("tenant {} takes nothing: it is gone, created anew, or being deleted", .0.id)]
    TenantGone(TenantRef),
    /// The host cannot make it the tenant's.
    #[error("it cannot become the tenant's: {0}")]
    Refused(String),
    /// There is something else where it would go.
    #[error("it would go to {0}, where there is something else: move that away")]
    TargetTaken(Key),
    /// It is too large to be moved and kept for an undo in one transaction.
    #[error("it takes {bytes} bytes in one transaction, {allowed} are allowed: move it by hand")]
    TooLarge {
        /// What the transaction would hold of it.
        bytes: usize,
        /// What it may hold.
        allowed: usize,
    },
    /// It was put, or put again, after the plan was made.
    #[error("it changed since the plan: plan again")]
    ChangedSincePlan,
    /// What the adoption made of it has been changed or removed since, or its old place is taken.
    #[error("it changed since it was adopted: put it back by hand")]
    ChangedSinceAdoption,
}

impl AdoptionProblem {
    pub(super) fn unreadable(error: &Error) -> Self {
        Self::Unreadable(cut(&error.to_string()))
    }

    pub(super) fn refused(why: impl ToString) -> Self {
        Self::Refused(cut(&why.to_string()))
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// A resource that is left as it is, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LeftBehind {
    /// Where it is.
    pub key: Key,
    /// Why.
    pub problem: AdoptionProblem,
}

impl LeftBehind {
    pub(super) fn new(key: Key, problem: AdoptionProblem) -> Self {
        Self { key, problem }
    }
}

/// A plan leaves resources behind that its rules want moved. Detail of an
/// [`Invalid`](hivemind_core::ErrorKind::Invalid) error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{count} resources cannot be adopted, the first is {}: {}. Set it right and plan again, or leave them with \
     leaving_problems",
    .first.key, .first.problem
)]
#[non_exhaustive]
pub struct Unresolved {
    /// How many.
    pub count: usize,
    /// The first, in key order.
    pub first: LeftBehind,
}
