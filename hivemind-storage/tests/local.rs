//! The local provider: as root, on file systems of its own. Without root there is little of it to see.
#![cfg(all(feature = "csi", feature = "local", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

#[path = "local/conformance.rs"]
mod conformance;
#[path = "local/directories.rs"]
mod directories;
#[path = "local/foreign.rs"]
mod foreign;
#[path = "local/ground.rs"]
mod ground;
#[path = "local/images.rs"]
mod images;
#[path = "local/power.rs"]
mod power;
#[path = "local/side.rs"]
mod side;
#[path = "local/streams.rs"]
mod streams;
#[path = "local/subvolumes.rs"]
mod subvolumes;
#[path = "local/turns.rs"]
mod turns;
