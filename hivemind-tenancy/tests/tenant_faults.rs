//! Tenants under conflicts, lost replies and crashes: the tree stays one, and a deletion ends.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod common;

#[path = "tenant_faults/concurrent.rs"]
mod concurrent;
#[path = "tenant_faults/pitfall_10.rs"]
mod pitfall_10;
