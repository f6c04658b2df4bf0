//! What goes wrong elsewhere: node loss, quarantine, borrowing, pool changes, observations.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "a test may panic"
)]

mod addresses;
mod observations;
mod pools;
mod world;
