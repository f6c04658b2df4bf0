//! Quotas, access and placement, behaviour by behaviour.
//!
//! One program for many files: each program costs a link, and several of them cost minutes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "hash-chain")]
#[path = "../audit.rs"]
mod audit;
#[cfg(feature = "cedar")]
#[path = "../cedar.rs"]
mod cedar;
#[cfg(feature = "cedar")]
#[path = "../cedar_conformance.rs"]
mod cedar_conformance;
#[cfg(feature = "cedar")]
#[path = "../cedar_policies.rs"]
mod cedar_policies;
#[path = "../faults.rs"]
mod faults;
#[path = "../group_damage.rs"]
mod group_damage;
#[path = "../group_equal.rs"]
mod group_equal;
#[path = "../group_faults.rs"]
mod group_faults;
#[path = "../node_operations.rs"]
mod node_operations;
#[path = "../placement.rs"]
mod placement;
#[path = "../placement_gangs.rs"]
mod placement_gangs;
#[path = "../placement_guards.rs"]
mod placement_guards;
#[path = "../placement_isolation.rs"]
mod placement_isolation;
#[path = "../placement_mirror.rs"]
mod placement_mirror;
#[path = "../placement_replay.rs"]
mod placement_replay;
#[path = "../placement_rules.rs"]
mod placement_rules;
#[path = "../placement_store.rs"]
mod placement_store;
#[path = "../preemption.rs"]
mod preemption;
#[path = "../preemption_store.rs"]
mod preemption_store;
#[path = "../quota.rs"]
mod quota;
#[path = "../selectors.rs"]
mod selectors;
#[path = "../share_faults.rs"]
mod share_faults;
