//! The data plane on the kernel of this machine: namespaces as hosts, joined by a bridge.
//!
//! Needs root. Without it the tests say loudly that they are skipped; with `CI` set they fail. Each test works in
//! namespaces of its own, called `hm-` and something, and takes them away at its end.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test may panic, start threads and talk"
)]

mod behaviour;
mod cluster;
mod direct;
mod egress;
mod enforce;
mod established;
mod kinds;
mod lab;
mod lost;
mod matrix;
mod peering;
mod probe;
mod reuse;
mod rules;
mod services;
mod uplink;
