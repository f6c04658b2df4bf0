//! What a rule does, step by step. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{ConnectionState, Field, RuleName, Value};

/// One rule: its statements in order, until one does not match or decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rule {
    /// The statements.
    pub statements: Vec<Statement>,
}

impl Rule {
    /// A rule of these statements.
    pub fn new(statements: impl IntoIterator<Item = Statement>) -> Self {
        Self { statements: statements.into_iter().collect() }
    }
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Comparison {
    /// The same.
    Equal,
    /// Another.
    NotEqual,
    /// At most.
    AtMost,
    /// At least.
    AtLeast,
}

/// Where a mark comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MarkSource {
    /// This number.
    Value(u32),
    /// What the map gives for the fields; without an element the rule does not match.
    Map {
        /// What to look at.
        fields: Vec<Field>,
        /// The map.
        map: RuleName,
    },
}

/// How one of several is chosen for a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Choice {
    /// One after the other, counted by this statement.
    InTurn,
    /// By chance.
    AtRandom,
    /// By a hash, which is always the same for equal values.
    Hash {
        /// Whose: an address field.
        field: Field,
        /// How many of its leading bits count, at least one.
        bits: u8,
    },
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Statement {
    /// Goes on if the field compares so with the value.
    Compare(Field, Comparison, Value),
    /// Goes on if the address is (or is not) in the prefix.
    Prefix {
        /// An address field.
        field: Field,
        /// The prefix, of the same IP version.
        prefix: IpNet,
        /// Whether it must not be in it.
        negate: bool,
    },
    /// Goes on if the packet's connection is in one of these states.
    Connection(BTreeSet<ConnectionState>),
    /// Goes on if the fields are (or are not) in the set.
    InSet {
        /// What to look at.
        fields: Vec<Field>,
        /// The set.
        set: RuleName,
        /// Whether they must not be in it.
        negate: bool,
    },
    /// Does what the map says for the fields; goes on if it says nothing.
    VerdictMap {
        /// What to look at.
        fields: Vec<Field>,
        /// The map.
        map: RuleName,
    },
    /// Marks the packet.
    SetMark(MarkSource),
    /// Puts the packet's connection into a zone: connections of different zones never mix, also with equal addresses.
    SetZone(u16),
    /// Puts it into the zone that the map gives; without an element the rule does not match.
    SetZoneByMap {
        /// What to look at.
        fields: Vec<Field>,
        /// A map to marks, of which the lower 16 bits are the zone.
        map: RuleName,
    },
    /// Counts packets and bytes.
    Counter,
    /// Replaces the source address by the one of the link that it leaves by.
    Masquerade,
    /// Drops the packet and tells its sender.
    Reject(Rejection),
    /// Sends the packet's connection to what the map gives, and ends; without an element the rule does not match.
    ///
    /// The key is the fields, and after them the number of the one that is chosen, from 0 on, as a mark.
    DestinationNat {
        /// What to look at; the destination address is one of them.
        fields: Vec<Field>,
        /// How one is chosen.
        choice: Choice,
        /// Of how many.
        among: NonZeroU32,
        /// A map to addresses and ports.
        map: RuleName,
    },
    /// Replaces the source address of the packet's connection by this one, if it is of that IP version, and ends.
    SourceNat(IpAddr),
    /// Decides.
    Verdict(Verdict),
    /// Something that is not ours, as read back from a kernel: equal to nothing that we would write.
    Unknown(String),
}

/// How the sender of a packet is told that it did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Rejection {
    /// By a TCP reset. The rule must make sure before that it is TCP.
    TcpReset,
    /// By an ICMP or ICMPv6 error: destination unreachable, communication administratively prohibited.
    Prohibited,
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Verdict {
    /// It passes this chain's hook.
    Accept,
    /// It is gone.
    Drop,
    /// On with that chain, and back here after it.
    Jump(RuleName),
    /// On with that chain, and not back.
    Goto(RuleName),
    /// Back to where this chain was jumped to from.
    Return,
}
