//! Network policy: the model, what it means, and that the tables mean the same.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test may panic"
)]

mod compiled;
mod in_force;
mod kubernetes;
mod model;
mod peers;
mod questions;
mod random;
mod rules;
mod support;
mod tenants;
