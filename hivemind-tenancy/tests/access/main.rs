//! Who may do what, and why: behaviour by behaviour, and against a naive evaluator.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod ask_first;
mod behaviour;
mod boundary;
mod changes;
#[path = "../common/mod.rs"]
mod common;
mod decide;
mod grants;
mod guards;
mod model;
mod naive;
mod stored;
