//! Tenants: the tree, delegation, states, deletion; by behaviour, through the manager.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod common;

#[path = "tenants/boundaries.rs"]
mod boundaries;
#[path = "tenants/delegation.rs"]
mod delegation;
#[path = "tenants/deletion.rs"]
mod deletion;
#[path = "tenants/sizes.rs"]
mod sizes;
#[path = "tenants/states.rs"]
mod states;
#[path = "tenants/tree.rs"]
mod tree;
