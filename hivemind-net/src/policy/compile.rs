//! The compiler: labels become identities, policies become tables over them, and a verdict becomes two look-ups.
//! No I/O, no clock, no async.
//!
//! Each tenant is a domain of its own, so what one tenant changes costs no other. In a domain a *peer* is a number for
//! all that policies can tell of the other end of a flow: its profile, if it is a workload, and the longest prefix
//! among those that policies name, that its address is in. A *group* is the policies that select the same workloads, a
//! *set* the groups that select a workload; workloads with the same set share its tables. A table divides ports into
//! ranges, and says for each range which peers pass, and which rules say so: a rule that comes, goes or changes edits
//! the ranges it is about.

mod bits;
mod differ;
mod domain;
mod engine;
mod export;
mod groups;
mod index;
mod keys;
mod peers;
mod policies;
mod prefixes;
mod reclass;
mod resolve;
mod selectors;
mod sets;
mod table;
mod trace;

pub(super) use domain::Domain;
pub use engine::{Engine, PeerId, SubjectId};
pub(super) use export::Run;
pub(super) use resolve::nets_of;
pub(super) use trace::Fates;
