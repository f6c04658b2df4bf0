//! The suite against providers and node sides with one bug each: every bug is found, and by the cases that are about it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod node;
mod provider;
#[path = "../suite/mod.rs"]
mod suite;

use std::collections::BTreeSet;

use hivemind_core::block_on;
use hivemind_storage::conformance::{self, Fixture};

/// The cases that fail.
fn failed(make: impl Fn() -> Fixture) -> BTreeSet<&'static str> {
    let report = block_on(conformance::run_all(|| async { make() }));
    report.failed.into_iter().map(|(name, _)| name).collect()
}
