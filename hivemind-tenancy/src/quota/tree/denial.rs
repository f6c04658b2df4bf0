//! Why a tree said no.
//!
//! No I/O, no clock, no async.

use std::fmt;

use hivemind_core::resources::ResourceName;

use super::QuotaNode;

/// One limit that a request does not fit under.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeShortage {
    /// How far above the tenant that asked: 0 is the tenant itself.
    pub level: usize,
    /// Whose limit it is.
    pub node: QuotaNode,
    /// What is short.
    pub resource: ResourceName,
    /// The most that may be charged there, with over-commitment and borrowing.
    pub limit: u64,
    /// In use there and below.
    pub used: u64,
    /// Held there and below for requests that are not committed.
    pub reserved: u64,
    /// Kept back there for tenants below whose guarantee is not lent.
    pub held: u64,
    /// What this request would add there.
    pub asked: u64,
    /// How much is missing.
    pub short_by: u64,
}

impl fmt::Display for TreeShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let print = |amount| self.resource.print(amount);
        match self.level {
            0 => write!(f, "{}: ", self.resource)?,
            level => write!(f, "{}, {level} level(s) up: ", self.resource)?,
        }
        write!(
            f,
            "limit {}, used {}, reserved {}, held for others {}, asked {}, short by {}",
            print(self.limit),
            print(self.used),
            print(self.reserved),
            print(self.held),
            print(self.asked),
            print(self.short_by)
        )
    }
}

/// What a tree refuses. It is final for that decision, and changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// There is not enough: every limit that is short, the tenant's own first.
    #[error("over quota: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Denied(Vec<TreeShortage>),
    /// The tenant is no longer in the tree, or it is another tree's.
    #[error("the tenant is not, or no longer, in this tree: add it again")]
    UnknownNode,
    /// The reservation's deadline passed, or the charge was given back before.
    #[error("the reservation or charge is over: reserve again")]
    Gone,
    /// A resource that the tree was not made for.
    #[error("{0} is not counted by this tree: name it when the tree is made")]
    UnknownResource(ResourceName),
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
