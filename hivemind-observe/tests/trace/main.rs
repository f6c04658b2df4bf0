//! Traces, as a host uses them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod export;
mod otlp;
mod spans;
mod w3c;
