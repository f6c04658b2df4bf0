//! Isolation: what levels demand, every violation in any cluster, and changes of level that end without one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod common;

#[path = "isolation/by_hand.rs"]
mod by_hand;
#[path = "isolation/generated.rs"]
mod generated;
