//! Packet rules as values: tables with sets, maps and chains, close to what nftables has. No I/O, no clock, no async.
//!
//! One form serves three: the kernel (as netlink messages), the memory adapter (which evaluates it) and the comparison of
//! what is with what shall be. It has what policies, zones, services and masquerading need, and nothing else.

mod change;
mod eval;
mod field;
mod packet;
mod set;
mod statement;
mod table;

pub use change::{ElementChange, TableChange};
pub use eval::{Evaluation, evaluate};
pub use field::{Field, FieldType, Value};
pub use packet::{ConnectionState, RulePacket};
pub use set::{Data, DataType, Interval, NamedSet, SetKey};
pub use statement::{Choice, Comparison, MarkSource, Rejection, Rule, Statement, Verdict};
pub use table::{BaseChain, Chain, ChainKind, Family, Hook, InvalidTable, RuleName, RuleTable, TableKey};
