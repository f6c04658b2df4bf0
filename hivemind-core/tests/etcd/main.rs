//! The etcd adapter against a real etcd, on loopback: the contract, and what happens when things break.
//!
//! Without `etcd` on the path the tests say loudly that they are skipped; with `CI` set they fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may panic, and these wait for processes"
)]

mod auth;
mod cluster;
mod commits;
mod conformance;
mod elections;
mod failover;
mod linearizable;
mod lost_replies;
mod namespaces;
mod proxy;
mod server;
mod support;
mod tls;
mod watches;
