//! What can be wrong with a network. No I/O, no clock, no async.

use crate::addr::{Cidr, HostBits, IpFamily};

/// Why a network cannot be laid out so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// The pool's name is none.
    #[error(transparent)]
    Name(#[from] hivemind_core::InvalidName),
    /// There is no pool at all.
    #[error("a network needs an IPv4 pool, an IPv6 pool, or both")]
    NoPool,
    /// A pool's address is not that of its network.
    #[error(transparent)]
    HostBits(#[from] HostBits),
    /// A node's subnet would be larger than the pool, or smaller than one address.
    #[error("a node subnet of /{node} does not fit pool {pool}: give a length of {shortest} to {longest}")]
    NodePrefix {
        /// The pool.
        pool: Cidr,
        /// The length given.
        node: u8,
        /// The shortest allowed: the pool itself.
        shortest: u8,
        /// The longest allowed: one address.
        longest: u8,
    },
    /// The pool is not for hosts: loopback, multicast, link-local or unspecified.
    #[error("{pool} is {what}: hosts cannot have addresses there")]
    NotForHosts {
        /// The pool.
        pool: Cidr,
        /// What it is.
        what: &'static str,
    },
    /// Two networks have addresses in common.
    #[error("{one} and {other} overlap: each address may be in one pool of a tenant only")]
    Overlap {
        /// One of them.
        one: Cidr,
        /// The other.
        other: Cidr,
    },
    /// A network of one family among those of the other.
    #[error("{pool} is no {expected} network: give it to the other family")]
    WrongFamily {
        /// The network.
        pool: Cidr,
        /// The family it was given as.
        expected: IpFamily,
    },
    /// A range or a network that is in no pool.
    #[error("{what} is in no pool of this network: leave it out, or add the pool first")]
    Outside {
        /// The range.
        what: String,
    },
    /// A point-to-point link has two ends.
    #[error("a point-to-point node subnet of {family} is /{shortest} or /{longest}, not /{node}")]
    PointToPoint {
        /// The family.
        family: IpFamily,
        /// The length given.
        node: u8,
        /// Two addresses.
        shortest: u8,
        /// One address.
        longest: u8,
    },
    /// The record would grow too large for a store.
    #[error("{found} {what} are too many: {most} at most; join neighbours, or make another pool")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
}
