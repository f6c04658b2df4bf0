//! Why a tree said no.
//!
//! No I/O, no clock, no async.

use hivemind_core::resources::ResourceName;

use crate::quota::OverQuota;

/// What a tree refuses. It is final for that decision, and changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// There is not enough: every limit that is short, the tenant's own first.
    #[error("over quota: {0}")]
    Denied(OverQuota),
    /// The tenant is no longer in the tree, or it is another tree's.
    #[error("the tenant is not, or no longer, in this tree: add it again")]
    UnknownNode,
    /// The reservation's deadline passed, or the charge was given back before.
    #[error("the reservation or charge is over: reserve again")]
    Gone,
    /// The amounts were made by another tree.
    #[error("these amounts are another tree's: make them with this one's `amounts`")]
    ForeignAmounts,
    /// A resource that the tree was not made for.
    #[error("{0} is not counted by this tree: name it when the tree is made")]
    UnknownResource(ResourceName),
    /// A rule that contradicts itself.
    #[error("{0}")]
    Contradiction(String),
    /// More resources than a tree can count.
    #[error("a tree counts at most {most} resources, and these are {0}", most = super::MAX_RESOURCES)]
    TooManyResources(usize),
    /// The new parent is below the tenant that moves.
    #[error("a tenant cannot move below itself")]
    Cycle,
    /// The tenant has children or charges.
    #[error(
        "the tenant still has {children} children, {reservations} reservations and charges: remove them first"
    )]
    NotEmpty {
        /// Tenants directly below.
        children: u32,
        /// Its own reservations and charges.
        reservations: u32,
    },
}
